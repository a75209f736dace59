"""How metrics agree, and how much one of them decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.meta import analyse_metrics, kendall_taus, render_meta


def test_kendalls_tau_equals_scipys_ties_included():
    values = np.random.default_rng(0).integers(0, 4, (9, 5)).astype(float)
    found = kendall_taus(values)
    for i in range(5):
        for j in range(5):
            assert found[i, j] == pytest.approx(kendalltau(values[:, i], values[:, j]).statistic)


@pytest.fixture
def board(store):
    store.metric("VIF")
    store.metric("MSE", higher=False)
    store.metric("CC")
    store.metric("EN", higher=None)
    values = {"a": (3.0, 1.0, 1.0), "b": (2.0, 2.0, 2.0), "c": (1.0, 3.0, 3.0)}
    for method, (vif, mse, cc) in values.items():
        store.run(method, {"VIF": [vif, vif], "MSE": [mse, mse], "CC": [cc, cc + 0.1], "EN": [1.0, 2.0]})
    store.run("visible", {"VIF": [9.0, 9.0], "MSE": [0.0, 0.0], "CC": [9.0, 9.0], "EN": [0.0, 0.0]}, tags="source")
    (built,) = build_boards(*store.frames)
    return built


def test_directions_count_and_sources_do_not(board):
    found = analyse_metrics(board)
    assert list(found.on_means.index) == ["VIF", "MSE", "CC"]
    assert found.on_means.loc["VIF", "MSE"] == pytest.approx(1.0)
    assert found.on_means.loc["VIF", "CC"] == pytest.approx(-1.0)
    assert found.on_images.loc["MSE", "CC"] == pytest.approx(-1.0)


def test_leaving_a_metric_out_shows_what_it_decides(board):
    found = analyse_metrics(board)
    assert found.without.loc["CC", ["winner", "changed", "tau"]].tolist() == ["a", False, pytest.approx(1.0)]
    assert math.isnan(found.without.loc["VIF", "tau"])
    assert found.without.loc["VIF", "largest_move"] == 1.0


def test_the_page_names_the_most_opposed_metrics_and_escapes(board, store):
    for method in ("a", "b", "c"):
        store.run(f"{method}|<i>", {"VIF": [1.0], "x|<b>": [2.0]}, dataset="tno|")
    text = render_meta(build_boards(*store.frames))
    assert "Most opposed: VIF and CC (-1.00)" in text
    assert "<b>" not in text
    assert "tno\\|" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows


def test_boards_too_small_for_an_analysis_are_left_out(store):
    store.run("a", {"VIF": [1.0]})
    boards = build_boards(*store.frames)
    assert analyse_metrics(boards[0]) is None
    assert "No board" in render_meta(boards)


def test_equal_scores_have_no_order(store):
    for method in ("a", "b", "c"):
        store.run(method, {"VIF": [1.0, 1.0], "CC": [1.0, 2.0]})
    found = analyse_metrics(build_boards(*store.frames)[0])
    assert np.isnan(found.on_means.to_numpy()).all()
    assert "n/a" in render_meta(build_boards(*store.frames))
