"""Intervals, tests and ties of a board."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.intervals import image_draws, resampled_means

NAN = math.nan


def _board(store):
    (board,) = build_boards(*store.frames)
    return board


def test_mean_intervals_are_those_of_scipys_percentile_bootstrap(store):
    values = np.random.default_rng(4).gamma(2.0, 1.0, 40)
    store.run("a", {"VIF": values.tolist()})
    low, high = _board(store).evidence.intervals.mean[:, 0, 0]
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20000, rng=1).confidence_interval
    width = theirs.high - theirs.low
    assert low == pytest.approx(theirs.low, abs=0.05 * width)
    assert high == pytest.approx(theirs.high, abs=0.05 * width)


def test_an_interval_does_not_depend_on_the_other_rows_to_the_last_bit(store):
    rng = np.random.default_rng(0)
    store.run("a", {"VIF": rng.random(21).tolist(), "CC": rng.random(21).tolist()})
    alone = _board(store).evidence.intervals.mean[:, 0]
    for number in range(6):
        store.run(f"b{number}", {"VIF": rng.random(21).tolist(), "CC": rng.random(21).tolist()})
    board = _board(store)
    row = list(board.rows["label"]).index("a")
    assert (board.evidence.intervals.mean[:, row] == alone).all()


def test_rank_and_place_intervals_show_what_the_images_can_tell(store):
    rng = np.random.default_rng(1)
    base = rng.random(30)
    store.run("clear", {"VIF": (base + 1).tolist(), "MSE": (base - 1).tolist()})
    store.run("close", {"VIF": base.tolist(), "MSE": base.tolist()})
    store.run("closer", {"VIF": (base + rng.normal(0, 0.1, 30)).tolist(), "MSE": rng.permutation(base).tolist()})
    store.metric_rows[1]["higher_is_better"] = False
    board = _board(store)
    found = board.evidence.intervals
    assert board.rows["label"].iloc[0] == "clear"
    assert found.place[:, 0].tolist() == [1, 1]
    assert found.place[:, 1:].tolist() == [[2, 2], [3, 3]]
    assert found.rank[:, 0].tolist() == [[1, 1], [1, 1]]
    assert (found.average_rank[0] <= board.rows["average_rank"]).all()
    assert (found.average_rank[1] >= board.rows["average_rank"]).all()


def test_equal_scores_share_every_rank_of_every_resample(store):
    values = np.random.default_rng(2).random(17).tolist()
    for method in ("a", "b", "c"):
        store.run(method, {"VIF": values})
    found = _board(store).evidence
    assert found.intervals.average_rank.tolist() == [[2.0] * 3] * 2
    assert found.intervals.place.tolist() == [[1.0] * 3] * 2
    assert found.metrics["VIF"].tied_with_best == (1, 2)
    assert found.separated_neighbours == (2, 0, 0)


def test_one_image_has_neither_intervals_nor_tests(store):
    store.run("a", {"VIF": [1.0]})
    store.run("b", {"VIF": [2.0]})
    found = _board(store).evidence
    assert np.isnan(found.intervals.mean).all()
    assert np.isnan(found.intervals.place).all()
    assert (found.metrics, found.overall) == ({}, None)


def test_an_image_undefined_for_all_and_a_row_without_a_mean(store):
    store.run("a", {"VIF": [1.0, NAN, 2.0, 3.0], "CC": [0.1, 0.2, 0.3, 0.4]})
    store.run("b", {"VIF": [2.0, NAN, 1.0, 2.0], "CC": [0.3, 0.1, 0.2, 0.1]})
    store.run("c", {"VIF": [2.0, NAN, NAN, 2.0], "CC": [0.1, 0.1, 0.1, 0.1]})
    board = _board(store)
    found = board.evidence
    row = list(board.rows["label"]).index("c")
    assert np.isnan(found.intervals.mean[:, row, 0]).all()
    assert np.isfinite(np.delete(found.intervals.mean, row, axis=1)).all()
    assert found.metrics["VIF"].friedman.images == 3
    assert len(found.metrics["VIF"].rows) == 2
    assert np.isnan(found.intervals.place[:, row]).all()


def test_a_metric_undefined_everywhere_leaves_the_others_alone(store):
    store.run("a", {"VIF": [NAN, NAN], "CC": [0.1, 0.2]})
    store.run("b", {"VIF": [NAN, NAN], "CC": [0.2, 0.4]})
    found = _board(store).evidence
    assert list(found.metrics) == ["CC"]
    assert found.overall is not None
    assert np.isfinite(found.intervals.average_rank).all()


def test_ties_with_the_best_end_where_the_test_sees_a_difference(store):
    rng = np.random.default_rng(5)
    base = rng.random(40)
    store.run("first", {"VIF": (base + 0.02 + rng.normal(0, 0.2, 40)).tolist()})
    store.run("second", {"VIF": base.tolist()})
    store.run("third", {"VIF": (base - 1).tolist()})
    board = _board(store)
    found = board.evidence.metrics["VIF"]
    assert found.tied_with_best == (1,)
    assert found.separated_neighbours[:2] == (2, 1)
    assert found.images_to_separate_the_first_two > 40
    store.run_rows = [row for row in store.run_rows if row["method"] != "second"]
    store.score_rows = [row for row in store.score_rows if row[0] != "run-01"]
    assert _board(store).evidence.metrics["VIF"].images_to_separate_the_first_two is None


def test_draws_take_as_many_images_as_there_are_and_streams_differ():
    drawn = image_draws(9, draws=50)
    assert (drawn.sum(axis=1) == 9).all()
    assert (drawn == image_draws(9, draws=50)).all()
    assert (drawn != image_draws(9, draws=50, stream=1)).any()


def test_resampled_means_are_means_of_the_drawn_images():
    values = np.array([[1.0, 2.0, NAN, 4.0], [2.0, 2.0, NAN, 2.0]])
    drawn = np.array([[2.0, 1.0, 1.0, 0.0], [0.0, 0.0, 4.0, 0.0]])
    found = resampled_means(values, drawn)
    assert found[0].tolist() == pytest.approx([4 / 3, 2.0])
    assert np.isnan(found[1]).all()
