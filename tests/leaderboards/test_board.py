"""Which runs share a board, what is averaged and how rows are ranked."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.findings import findings

NAN = math.nan


def _labels(board) -> list[str]:
    return list(board.rows["label"])


def _rank(board) -> dict[str, float]:
    return dict(zip(board.rows["label"], board.rows["average_rank"], strict=True))


def _mean(board, metric: str) -> dict[str, float]:
    return dict(zip(board.rows["label"], board.means[metric], strict=True))


def test_means_are_over_images_and_columns_follow_the_protocols_order(store):
    store.metric("VIF")
    store.metric("MSE", higher=False, title="mean squared error")
    store.metric("EN", higher=None)
    store.run("average", {"EN": [1, 2, 6], "MSE": [3, 3, 0], "VIF": [0.5, 0.25, 0.75]})
    (board,) = build_boards(*store.frames)
    assert list(board.metrics.index) == ["VIF", "MSE", "EN"]
    assert list(board.metrics["title"]) == ["VIF", "mean squared error", "EN"]
    assert list(board.metrics["higher_is_better"]) == [True, False, None]
    assert board.means.iloc[0].tolist() == [0.5, 2.0, 3.0]
    assert (board.dataset, board.split, board.protocol, board.images) == ("roadscene", "test", "core", 3)
    assert board.keys == ("test-0000", "test-0001", "test-0002")
    assert board.differences == board.notes == ()
    assert board.per_image("EN")["run-00"].tolist() == [1, 2, 6]


def test_average_rank_follows_directions_shares_ties_and_ignores_metrics_without_one(store):
    store.metric("VIF")
    store.metric("MSE", higher=False)
    store.metric("EN", higher=None)
    store.run("a", {"VIF": [0.9], "MSE": [5.0], "EN": [9.0]})
    store.run("b", {"VIF": [0.5], "MSE": [1.0], "EN": [5.0]})
    store.run("c", {"VIF": [0.5], "MSE": [2.0], "EN": [1.0]})
    (board,) = build_boards(*store.frames)
    assert _rank(board) == {"b": (2.5 + 1) / 2, "a": (1 + 3) / 2, "c": (2.5 + 2) / 2}
    assert _labels(board) == ["b", "a", "c"]
    assert list(board.metrics["counts"]) == [True, True, False]


def test_equal_average_ranks_are_ordered_by_label(store):
    for method in ("zeta", "Beta", "alpha"):
        store.run(method, {"VIF": [0.5, 0.5]})
    (board,) = build_boards(*store.frames)
    assert _labels(board) == ["alpha", "Beta", "zeta"]
    assert set(board.rows["average_rank"]) == {2.0}


def test_source_rows_come_last_and_do_not_touch_the_ranks(store):
    store.run("visible", {"VIF": [9.0]}, tags="baseline,source")
    store.run("infrared", {"VIF": [8.0]}, tags="source")
    store.run("worse", {"VIF": [1.0]})
    store.run("better", {"VIF": [2.0]}, tags="outsourced")
    (board,) = build_boards(*store.frames)
    assert _labels(board) == ["better", "worse", "infrared", "visible"]
    assert board.rows["average_rank"].tolist()[:2] == [1.0, 2.0]
    assert board.rows["average_rank"].isna().tolist() == [False, False, True, True]
    assert not board.rows["ranked"].iloc[2:].any()


def test_source_rows_come_after_unranked_rows(store):
    for method in ("a", "b", "c"):
        store.run(method, {"VIF": [1.0], "CC": [1.0]})
    store.run("unranked", {"VIF": [1.0], "CC": [NAN]})
    store.run("infrared", {"VIF": [1.0], "CC": [1.0]}, tags="source")
    (board,) = build_boards(*store.frames)
    assert _labels(board) == ["a", "b", "c", "unranked", "infrared"]


def test_a_lone_row_is_not_ranked(store):
    store.run("alone", {"VIF": [1.0]})
    store.run("visible", {"VIF": [2.0]}, tags="source")
    (board,) = build_boards(*store.frames)
    assert board.rows["average_rank"].isna().all()


@pytest.mark.parametrize("what", ["dataset", "split"])
def test_datasets_and_splits_get_boards_of_their_own_in_alphabetical_order(store, what):
    store.run("a", {"VIF": [1.0]}, **{what: "zoo"})
    store.run("a", {"VIF": [1.0]}, **{what: "ark"})
    first, second = build_boards(*store.frames)
    assert (getattr(first, what), getattr(second, what)) == ("ark", "zoo")
    assert first.differences == second.differences == ()


def test_protocols_are_never_mixed(store):
    run = store.run("a", {"VIF": [1.0, 2.0]})
    store.score(run, {"VIF": [30.0, 40.0]}, protocol="vifb")
    store.run("b", {"VIF": [5.0, 6.0]}, protocol="vifb")
    core, vifb = build_boards(*store.frames)
    assert (core.protocol, vifb.protocol) == ("core", "vifb")
    assert _mean(core, "VIF") == {"a": 1.5}
    assert _mean(vifb, "VIF") == {"a": 35.0, "b": 5.5}
    assert core.notes == ()


def test_a_limited_run_gets_its_own_board_that_says_so(store):
    store.run("limited", {"VIF": [0.9] * 12}, fingerprint="a" * 64)
    store.run("whole", {"VIF": [0.1] * 24})
    main, other = build_boards(*store.frames)
    assert (_labels(main), main.images, main.differences) == (["whole"], 24, ())
    assert (_labels(other), other.images) == (["limited"], 12)
    assert other.differences == ("12 of 24 images (as run with --limit 12)",)


def test_a_folder_with_a_few_of_the_images_does_not_take_the_board_of_those_who_were_asked_for_these(store):
    for method in "ab":
        store.run(method, {"EN": [1, 2]}, fingerprint="1" * 64)
    store.run("folder", {"EN": [3, 4]}, fingerprint="2" * 64, images=50, finished_at="2025-04-01T12:00:00+00:00")
    main, other = build_boards(*store.frames)
    assert set(main.rows["method"]) == {"a", "b"}
    assert main.differences == ()
    assert other.differences == (
        "asked for 50 images instead of 2",
        "missing scores for 48 images: 48 that no run has scored",
    )


def test_other_content_under_the_same_names_is_another_image_set(store):
    store.run("a", {"VIF": [1.0, 1.0]}, fingerprint="1" * 64, finished_at="2025-01-01T00:00:00Z")
    store.run("b", {"VIF": [2.0, 2.0]}, fingerprint="2" * 64, finished_at="2025-01-02T00:00:00Z")
    main, other = build_boards(*store.frames)
    assert _labels(main) == ["b"], "the newest content is the main board"
    assert other.differences == (
        "other image content under the same names: data fingerprint 111111111111 instead of 222222222222",
    )


def test_overlapping_image_sets_are_counted(store):
    store.run("a", {"VIF": [1.0] * 3}, keys=["x", "y", "z"], fingerprint="1")
    store.run("b", {"VIF": [1.0] * 2}, keys=["w", "x"], fingerprint="2")
    _, other = build_boards(*store.frames)
    assert other.differences == ("other images: 2, of which 1 are also among the main board's 3",)


def test_a_run_with_missing_images_is_named_and_set_apart(store):
    whole = [0.5] * 24
    gaps = [None if i in (3, 7) else 0.9 for i in range(24)]
    store.run("whole", {"VIF": whole})
    store.run("gaps", {"VIF": gaps})
    main, other = build_boards(*store.frames)
    assert _labels(main) == ["whole"]
    assert main.notes == ("not ranked: gaps: 2 of 24 images missing (test-0003, test-0007)",)
    assert (_labels(other), other.images, other.asked) == (["gaps"], 22, 24)
    assert other.differences == ("missing scores for 2 images: test-0003, test-0007",)
    assert "test-0003" not in other.keys


def test_images_that_no_run_has_scored_are_counted(store):
    store.run("a", {"VIF": [0.5, 0.5, 0.5]}, images=5)
    store.run("b", {"VIF": [0.5, None, 0.5]}, images=5)
    main, other = build_boards(*store.frames)
    assert main.notes == (
        "not ranked: b: 3 of 5 images missing (test-0001 and 2 that no run has scored)",
        "missing scores for 2 images: 2 that no run has scored",
    )
    assert other.differences == ("missing scores for 3 images: test-0001 and 2 that no run has scored",)


def test_a_missing_image_is_named_even_if_only_another_protocol_scored_it(store):
    store.run("a", {"VIF": [0.5, None]})
    store.run("b", {"VIF": [0.5, 0.5]}, protocol="vifb")
    core, _ = build_boards(*store.frames)
    assert core.notes == ("missing scores for 1 image: test-0001",)


def test_a_run_without_any_score_is_named(store):
    store.run("a", {"VIF": [0.5, 0.5]})
    store.run("broken", images=2)
    (board,) = build_boards(*store.frames)
    assert board.notes == ("not ranked: broken (run run-01): 2 of 2 images missing",)


def test_metric_versions_are_never_mixed(store):
    store.run("old", {"VIF": [0.9, 0.9], "EN": [1, 1]})
    store.run("older still", {"VIF": [0.8, 0.8], "EN": [1, 1]})
    store.run("new", {"VIF": [0.1, 0.1], "EN": [1, 1]}, versions={"VIF": 2})
    main, other = build_boards(*store.frames)
    assert (_labels(main), dict(main.metrics["version"])) == (["new"], {"VIF": 2, "EN": 1})
    assert sorted(_labels(other)) == ["old", "older still"]
    assert other.differences == ("metric VIF version 1 instead of 2",)


def test_versions_that_overtake_each_other_are_separated(store):
    store.run("a", {"VIF": [1.0], "EN": [1.0]}, versions={"VIF": 2})
    store.run("b", {"VIF": [1.0], "EN": [1.0]}, versions={"EN": 2})
    assert [_labels(board) for board in build_boards(*store.frames)] == [["a"], ["b"]]


def test_a_half_remeasured_run_keeps_only_the_newest_version(store):
    run = store.run("a", {"VIF": [0.1, 0.1], "EN": [1, 1]})
    store.score(run, {"VIF": [0.9]}, versions={"VIF": 2})
    (board,) = build_boards(*store.frames)
    assert math.isnan(_mean(board, "VIF")["a"])
    assert board.notes == ("VIF: n/a for a, no finite value on 1 of 2 images (test-0001)",)


def test_runs_of_one_label_show_the_text_policy_that_differs(store):
    store.run("tesg", {"VIF": [1.0]}, weights="tiny", text_policy="dataset")
    store.run("tesg", {"VIF": [2.0]}, weights="tiny", text_policy="none")
    store.run("tesg", {"VIF": [3.0]}, weights="base", text_policy="none")
    (board,) = build_boards(*store.frames)
    assert _labels(board) == ["tesg@base", "tesg@tiny (text: none)", "tesg@tiny (text: dataset)"]


def test_runs_of_one_label_show_only_the_options_that_differ(store):
    store.run("dwt", {"VIF": [1.0]}, options='{"levels": 3, "wavelet": "db2"}')
    store.run("dwt", {"VIF": [2.0]}, options='{"wavelet": "db2"}')
    store.run("dwt", {"VIF": [3.0]}, options='{"wavelet": "db2", "levels": [4]}')
    (board,) = build_boards(*store.frames)
    assert _labels(board) == ["dwt (levels=[4])", "dwt (levels unset)", "dwt (levels=3)"]


def test_long_prompts_are_shortened_and_labels_stay_unique(store):
    prompt = "a very long prompt about pedestrians " * 5
    first = store.run("tesg", {"VIF": [1.0]}, text_policy=prompt + "at night")
    second = store.run("tesg", {"VIF": [2.0]}, text_policy=prompt + "at noon")
    (board,) = build_boards(*store.frames)
    assert len(set(_labels(board))) == 2
    assert all(len(label) < 80 for label in _labels(board))
    assert {label.split("[run ")[1].rstrip("]") for label in _labels(board)} == {first, second}


def test_of_runs_alike_the_newest_is_shown_and_named(store):
    store.run("dwt", {"VIF": [9.0]}, run_id="old", options='{"a": 1, "b": 2}', finished_at="2025-01-01T10:00:00+02:00")
    store.run("dwt", {"VIF": [1.0]}, run_id="new", options='{"b":2,"a":1}', finished_at="2025-01-01T09:00:00+00:00")
    (board,) = build_boards(*store.frames)
    assert _mean(board, "VIF") == {"dwt": 1.0}
    assert board.notes == ("dwt: the newest of 2 runs alike is shown (run new), not run old",)


def test_an_incomplete_newer_run_does_not_hide_a_complete_older_one(store):
    store.run("dwt", {"VIF": [9.0, 9.0]}, run_id="old", finished_at="2025-01-01T00:00:00Z")
    store.run("dwt", {"VIF": [1.0, None]}, run_id="new", finished_at="2025-01-02T00:00:00Z")
    main, other = build_boards(*store.frames)
    assert list(main.rows.index) == ["old"]
    assert main.notes == ("not ranked: dwt (run new): 1 of 2 images missing (test-0001)",)
    assert list(other.rows.index) == ["new"]


def test_an_image_undefined_for_every_row_leaves_the_mean_of_every_row(store):
    store.run("a", {"CC": [0.25, NAN, 0.75]})
    store.run("b", {"CC": [0.5, NAN, 0.0]})
    (board,) = build_boards(*store.frames)
    assert _mean(board, "CC") == {"a": 0.5, "b": 0.25}
    assert board.notes == ("CC: undefined on 1 of 3 images for every row (test-0001), the mean is over the other 2",)


def test_a_row_without_a_value_where_no_row_has_one_shares_the_mean_over_the_others(store):
    """A run of before an image was found too small for the metric has no score there, the others have NaN."""
    store.run("a", {"EN": [1.0, 1.0, 1.0], "CC": [0.25, NAN, 0.75]})
    store.run("b", {"EN": [1.0, 1.0, 1.0], "CC": [0.5, None, 0.0]})
    (board,) = build_boards(*store.frames)
    assert _mean(board, "CC") == {"a": 0.5, "b": 0.25}
    assert board.notes == ("CC: undefined on 1 of 3 images for every row (test-0001), the mean is over the other 2",)


@pytest.mark.parametrize("bad", [NAN, math.inf, None], ids=["nan", "inf", "absent"])
def test_an_image_undefined_for_one_row_only_gives_that_row_no_mean_and_no_rank(store, bad):
    fine = [1.0, 1.0, 1.0]
    store.run("a", {"EN": fine, "CC": [0.5, NAN, 0.5]})
    store.run("b", {"EN": fine, "CC": [0.4, NAN, bad]})
    store.run("c", {"EN": fine, "CC": [0.3, NAN, 0.3]})
    (board,) = build_boards(*store.frames)
    means = _mean(board, "CC")
    assert (means["a"], means["c"]) == (0.5, 0.3)
    assert math.isnan(means["b"])
    assert "CC: n/a for b, no finite value on 1 of 3 images (test-0002)" in board.notes
    assert "not ranked: b: no value for CC" in board.notes
    assert _labels(board) == ["a", "c", "b"]
    assert board.rows["ranked"].tolist() == [True, True, False]


def test_a_metric_that_is_undefined_everywhere_does_not_count(store):
    store.run("a", {"EN": [1.0, 1.0], "CC": [NAN, NAN]})
    store.run("b", {"EN": [2.0, 2.0], "CC": [NAN, NAN]})
    (board,) = build_boards(*store.frames)
    assert board.means["CC"].isna().all()
    assert _rank(board) == {"b": 1.0, "a": 2.0}
    assert "CC: n/a for every row, undefined on 2 of 2 images" in board.notes
    assert "not part of the average rank: CC (a value in 0 of 2 rows)" in board.notes


def test_a_metric_taken_for_few_rows_is_shown_but_does_not_count(store):
    store.run("a", {"EN": [1.0], "LPIPS": [0.5]})
    store.run("b", {"EN": [2.0]})
    (board,) = build_boards(*store.frames)
    assert _mean(board, "LPIPS")["a"] == 0.5
    assert _rank(board) == {"b": 1.0, "a": 2.0}
    assert board.notes == (
        "LPIPS: n/a for b, not measured",
        "not part of the average rank: LPIPS (a value in 1 of 2 rows)",
    )


def test_a_metric_that_is_no_longer_registered_keeps_its_numbers_without_a_direction(store):
    store.run("a", {"EN": [1.0], "GONE": [0.5]})
    runs, scores, metrics = store.frames
    (board,) = build_boards(runs, scores, metrics[metrics["metric"] != "GONE"])
    assert list(board.metrics["higher_is_better"]) == [True, None]
    assert board.notes == ("not registered here, so without a direction: GONE",)


def test_the_order_of_the_input_does_not_matter(store):
    rng = np.random.default_rng(3)
    for method in "abcdef":
        store.run(method, {"VIF": rng.random(7).tolist(), "EN": rng.random(7).tolist()}, weights="w" * (method < "c"))
    store.run("a", {"VIF": [None, *rng.random(6)]}, weights="w", text_policy="none")
    store.run("b", {"VIF": rng.random(3).tolist()}, fingerprint="3", images=3)
    runs, scores, metrics = store.frames
    expected = build_boards(runs, scores, metrics)
    for seed in range(3):
        shuffled = [frame.sample(frac=1, random_state=seed) for frame in (runs, scores, metrics)]
        for board, other in zip(expected, build_boards(*shuffled), strict=True):
            pd.testing.assert_frame_equal(board.rows, other.rows)
            pd.testing.assert_frame_equal(board.means, other.means, check_exact=True)
            assert (board.differences, board.notes) == (other.differences, other.notes)


def test_another_row_never_moves_a_mean_by_a_single_bit(store):
    rng = np.random.default_rng(4)
    store.run("a", {"VIF": rng.random(1001).tolist()})
    alone = build_boards(*store.frames)[0].means.loc["run-00", "VIF"]
    for number in range(5):
        store.run(f"b{number}", {"VIF": rng.random(1001).tolist()})
    assert build_boards(*store.frames)[0].means.loc["run-00", "VIF"] == alone


def test_an_empty_store_says_what_to_run(store):
    store.metric("VIF")
    with pytest.raises(UsageError, match="tgfbench run"):
        build_boards(*store.frames)
    store.run("a", images=3)
    with pytest.raises(UsageError, match="1 run but no score"):
        build_boards(*store.frames)


def test_contradictory_frames_are_refused_by_name(store):
    run = store.run("a", {"VIF": [1.0]})
    runs, scores, metrics = store.frames
    with pytest.raises(DataError, match=f"run {run} twice"):
        build_boards(pd.concat([runs, runs]), scores, metrics)
    with pytest.raises(DataError, match="stranger"):
        build_boards(runs, scores.assign(run_id="stranger"), metrics)
    with pytest.raises(DataError, match=f"{run} / test-0000 / VIF"):
        build_boards(runs, pd.concat([scores, scores.assign(value=2.0)]), metrics)
    with pytest.raises(DataError, match="metric_version"):
        build_boards(runs, scores.drop(columns="metric_version"), metrics)
    (board,) = build_boards(runs, pd.concat([scores, scores]), metrics)
    assert board.means.iloc[0, 0] == 1.0


def test_missing_texts_and_ids_read_back_as_numbers_are_accepted(store):
    store.run("a", {"VIF": [1.0]}, weights=None, tags=NAN, options=None, seen_in_training=None, finished_at=None)
    (board,) = build_boards(*store.frames)
    assert _labels(board) == ["a"]


def test_infinite_scores_are_undefined_and_break_nothing(store):
    for method in ("a", "b"):
        store.run(method, {"PSNR": [math.inf, 1.0, 2.0]})
    store.run("copy", {"PSNR": [math.inf] * 3})
    (board,) = build_boards(*store.frames)
    assert _mean(board, "PSNR") == pytest.approx({"a": 1.5, "b": 1.5, "copy": NAN}, nan_ok=True)
    assert np.isfinite(board.evidence.intervals.mean[:, :2]).all()
    assert "PSNR: n/a for copy, no finite value on 2 of 3 images (test-0001, test-0002)" in board.notes


def test_one_pair_of_neighbours_differs_and_several_differ(store):
    values = [index / 100 for index in range(20)]
    for method, scores in {
        "low": values,
        "high": [1 + v for v in values],
        "as high": [1.19 - v for v in values],
    }.items():
        store.run(method, {"EN": scores})
    (board,) = build_boards(*store.frames)
    assert findings(board)[0].startswith("Of 2 pairs of neighbours over 1 metric, 1 differs significantly")


def test_of_many_images_a_note_names_the_first_and_counts_the_rest(store):
    nothing = [NAN] * 8
    store.run("whole", {"EN": [1.0] * 20, "CC": [*nothing, *[1.0] * 12]})
    store.run("half", {"EN": [1.0] * 10 + [None] * 10, "CC": [*nothing, 1.0, 1.0] + [None] * 10})
    main, _ = build_boards(*store.frames)
    first = ", ".join(f"test-{number:04d}" for number in range(10, 15))
    assert f"not ranked: half: 10 of 20 images missing ({first}, … (10 in all))" in main.notes
    undefined = ", ".join(f"test-{number:04d}" for number in range(5))
    assert any(f"every row ({undefined}, … (8 in all))" in note for note in main.notes)
