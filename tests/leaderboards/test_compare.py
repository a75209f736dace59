"""Two rows against each other."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from tgfbench.benchmark.errors import UsageError
from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.compare import compare
from tgfbench.leaderboards.console import comparisons_to_console


@pytest.fixture
def pair(store):
    rng = np.random.default_rng(0)
    base = rng.random(20)
    store.metric("VIF")
    store.metric("MSE", higher=False)
    store.metric("EN", higher=None)
    store.run("tesg", {"VIF": base.tolist(), "MSE": base.tolist(), "EN": base.tolist()}, weights="tiny")
    noisy = base + rng.normal(0.01, 0.2, 20)
    store.run("average", {"VIF": noisy.tolist(), "MSE": (base + 1).tolist(), "EN": (base - 1).tolist()})
    return store


def test_effect_interval_p_and_wins(pair):
    (found,) = compare(build_boards(*pair.frames), "tesg", "average")
    assert found.labels == ("tesg@tiny", "average")
    board, table = found.board, found.table
    a, b = (board.per_image("VIF").to_numpy()[:, list(board.rows["label"]).index(name)] for name in found.labels)
    row = table.loc["VIF"]
    assert row["difference"] == pytest.approx((a - b).mean())
    assert row["low"] < row["difference"] < row["high"]
    assert row["p"] == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)
    assert (row["wins_a"], row["equal"], row["wins_b"]) == ((a > b).sum(), 0, (a < b).sum())
    assert row["better"] == ""
    assert row["needed"] > 20
    assert table.loc["MSE", ["wins_a", "wins_b", "better", "effect"]].tolist() == [20, 0, "a", -1.0]
    assert table.loc["EN", ["wins_a", "better"]].tolist() == [20, ""]
    assert math.isnan(table.loc["MSE", "needed"])


def test_an_exchange_of_the_two_changes_signs_only(pair):
    boards = build_boards(*pair.frames)
    (one,), (two,) = compare(boards, "tesg", "average"), compare(boards, "average", "tesg")
    assert (one.table["difference"] == -two.table["difference"]).all()
    assert np.allclose(one.table["low"], -two.table["high"])
    assert (one.table["wins_a"] == two.table["wins_b"]).all()
    assert (one.table[["p", "p_holm", "images"]] == two.table[["p", "p_holm", "images"]]).all().all()


def test_equal_runs_one_image_and_missing_values(store):
    store.run("a", {"VIF": [1.0, 2.0, math.nan], "CC": [1.0, 1.0, 1.0], "EN": [1.0, 1.0, 1.0]})
    store.run("b", {"VIF": [1.0, 2.0, 5.0], "CC": [1.0, 1.0, 2.0]})
    (found,) = compare(build_boards(*store.frames), "a", "b")
    assert list(found.table.index) == ["CC", "VIF"] or list(found.table.index) == ["VIF", "CC"]
    assert found.table.loc["VIF", ["images", "equal", "p"]].tolist() == [2, 2, 1.0]
    store.run("c", {"VIF": [1.0]}, dataset="tno")
    store.run("d", {"VIF": [2.0]}, dataset="tno")
    (single,) = compare(build_boards(*store.frames), "c", "d")
    assert math.isnan(single.table.loc["VIF", "low"])
    assert single.table.loc["VIF", "p"] == 1.0


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_cuts_nothing(pair, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(comparisons_to_console(compare(build_boards(*pair.frames), "tesg", "average")))
    text = console.export_text()
    assert "…" not in text
    assert all(words in text for words in ("A : = : B", "verdict", "20 : 0 : 0", "effect", "-1.00", "A is better"))
    assert "not separated by 20 images; about" in " ".join(text.split())


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"dataset": "tno"}, r"dataset \(roadscene, tno\)"),
        ({"split": "val"}, r"split \(test, val\)"),
        ({"protocol": "vifb"}, r"protocol \(core, vifb\)"),
        ({"keys": ["x", "y", "z"]}, r"images \(3 and 3, 0 in common\)"),
        ({"versions": {"VIF": 2}}, r"the version of VIF \(1, 2\)"),
        ({"fingerprint": "a" * 64}, "the content of the images"),
    ],
)
def test_rows_that_share_no_board_are_refused_with_the_reason(store, facts, words):
    store.run("a", {"VIF": [1.0, 2.0, 3.0]})
    store.run("b", {"VIF": [1.0, 2.0, 3.0]}, **facts)
    with pytest.raises(UsageError, match=words) as raised:
        compare(build_boards(*store.frames), "a", "b")
    assert raised.value.exit_code == 2


def test_names_that_are_unknown_ambiguous_or_equal_are_refused(pair):
    pair.run("tesg", {"VIF": [0.0] * 20}, weights="base")
    boards = build_boards(*pair.frames)
    with pytest.raises(UsageError, match=r"(?s)no row is called averge.*did you mean average"):
        compare(boards, "averge", "tesg@tiny")
    with pytest.raises(UsageError, match=r"(?s)2 rows of that name.*tesg@tiny.*tesg@base.*run id"):
        compare(boards, "tesg", "average")
    with pytest.raises(UsageError, match="one and the same row"):
        compare(boards, "average", "Average")
    with pytest.raises(UsageError, match=r"(?s)no score on the dataset tno.*roadscene"):
        compare(boards, "average", "tesg@tiny", dataset="tno")
    assert compare(boards, "run-00", "average")[0].labels == ("tesg@tiny", "average")
