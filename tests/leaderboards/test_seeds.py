"""Boards whose numbers come from trainings with different seeds instead of images."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console

from tgfbench.benchmark.downstream.store import Work
from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.results import store_frames
from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.compare import compare
from tgfbench.leaderboards.console import boards_to_console, comparisons_to_console
from tgfbench.leaderboards.layout import lay_out
from tgfbench.leaderboards.overall import overall_boards
from tgfbench.leaderboards.render import RENDERERS
from tgfbench.metrics.downstream.base import Outcome

SEEDS = ["seed 0", "seed 1", "seed 2"]
DETECTION = {"protocol": "detection quick retrain"}


def test_where_keys_are_seeds_every_output_speaks_of_seeds(store):
    keys = [f"seed {number}" for number in range(3)]
    facts = {"protocol": "detection quick retrain", "keys": keys}
    store.run("a", {"AP50": [0.5, 0.6, 0.7], "AP75": [0.1, 0.2, 0.3]}, **facts)
    store.run("b", {"AP50": [0.4, 0.5, 0.65], "AP75": [0.2, 0.1, 0.4]}, seen_in_training=7, **facts)
    store.run("c", {"AP50": [0.3], "AP75": [0.4]}, **facts)
    (board,) = build_boards(*store.frames)
    assert (board.unit, board.counted, board.compared) == ("seed", "1 to 3 seeds", tuple(keys))
    layout = lay_out(board)
    assert layout.heading.startswith("roadscene (test, 1 to 3 seeds)")
    assert np.isfinite(board.evidence.intervals.place[:, :2]).all()
    words = " ".join([layout.heading, *layout.findings, *layout.footnotes, *layout.differences])
    assert "image" not in words, words
    assert "not ranked: c: 1 of 3 seeds (seed 0), without seed 1, seed 2" in layout.footnotes
    assert "b: seen in training: 7" in layout.footnotes
    assert any("3 seeds are not enough" in sentence for sentence in layout.findings)
    (found,) = compare([board], "a", "b")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(comparisons_to_console([found]))
    assert "not separated by 3 seeds" in console.export_text()


def test_each_row_shows_its_own_seeds_and_ranks_are_over_those_that_most_rows_have(store):
    a, b = [0.5, 0.6, 0.7], [0.4, 0.5, 0.96]
    store.run("a", {"AP50": a}, keys=SEEDS, **DETECTION)
    store.run("b", {"AP50": b}, keys=SEEDS, **DETECTION)
    (alone,) = build_boards(*store.frames)
    store.run("lucky", {"AP50": [0.99]}, keys=["seed 0"], **DETECTION)
    (board,) = build_boards(*store.frames)
    assert dict(zip(board.rows["label"], board.units, strict=True)) == {"a": 3, "b": 3, "lucky": 1}
    assert board.rows["ranked"].tolist() == [True, True, False]
    assert board.means["AP50"].tolist() == pytest.approx([np.mean(b), np.mean(a), 0.99])
    assert board.deviations[:2, 0] == pytest.approx([np.std(b, ddof=1), np.std(a, ddof=1)])
    assert np.isnan(board.deviations[2, 0])
    assert lay_out(board).findings == lay_out(alone).findings, "a row with few seeds takes nothing from the others"
    assert [(row.seeds, row.rank, row.cells[0].emphasis) for row in lay_out(board).rows] == [
        ("3", "1.00", "best"),
        ("3", "2.00", "second"),
        ("1", "–", ""),
    ]


def test_rows_with_more_seeds_than_most_are_ranked_over_the_common_ones(store):
    store.run("more", {"AP50": [0.5, 0.9, 0.9]}, keys=SEEDS, **DETECTION)
    store.run("b", {"AP50": [0.6]}, keys=["seed 0"], **DETECTION)
    store.run("c", {"AP50": [0.4]}, keys=["seed 0"], **DETECTION)
    (board,) = build_boards(*store.frames)
    assert board.compared == ("seed 0",)
    assert list(board.rows["label"]) == ["b", "more", "c"], "by seed 0 alone"
    assert board.means["AP50"].tolist() == pytest.approx([0.6, 2.3 / 3, 0.4]), "but each mean over its own seeds"
    assert np.isnan(board.mean_intervals).all()
    assert lay_out(board).footnotes == (
        "ranks, marks and tests are over seed 0, which more than half of the rows have; "
        "means are over each row's own seeds",
        "fewer seeds than other rows: b (seed 0), c (seed 0)",
    )


def test_seeds_that_nobody_shares_rank_nothing_and_compare_says_so(store):
    for number, method in enumerate("abc"):
        store.run(method, {"AP50": [0.5 + number]}, keys=[f"seed {number}"], **DETECTION)
    (board,) = build_boards(*store.frames)
    assert board.compared == ()
    assert not board.rows["ranked"].any()
    assert lay_out(board).findings == ()
    assert "nothing is ranked: more than half of the rows have no seed in common" in lay_out(board).footnotes
    for render in RENDERERS.values():
        assert "0.5" in render([board], ())
    with pytest.raises(UsageError, match=r"no seed in common .* a has seed 0, b seed 1"):
        compare([board], "a", "b")


def test_two_rows_are_compared_over_the_seeds_that_both_have(store):
    store.run("a", {"AP50": [0.5, 0.6, 0.7, 0.1]}, keys=[*SEEDS, "seed 3"], **DETECTION)
    store.run("b", {"AP50": [0.4, 0.5, 0.6]}, keys=SEEDS, **DETECTION)
    (found,) = compare(build_boards(*store.frames), "a", "b")
    assert found.table.loc["AP50", ["images", "wins_a"]].tolist() == [3, 3]
    assert found.table.loc["AP50", "difference"] == pytest.approx(0.1)


def test_every_output_tells_the_seeds_of_a_row_and_their_deviation(store):
    store.run("a", {"AP50": [0.5, 0.6, 0.7]}, keys=SEEDS, **DETECTION)
    store.run("b", {"AP50": [0.4, 0.5, 0.96]}, keys=SEEDS, **DETECTION)
    store.run("c", {"AP50": [0.3]}, keys=["seed 0"], **DETECTION)
    boards = build_boards(*store.frames)
    text = {name: render(boards, ()) for name, render in RENDERERS.items()}
    lines = list(csv.DictReader(io.StringIO(text["csv"])))
    assert [(line["method"], line["images"], line["unit"]) for line in lines] == [
        *(("b", "3", "seed"), ("a", "3", "seed"), ("c", "1", "seed"))
    ]
    assert [line["AP50 std"] for line in lines] == [
        repr(float(np.std([0.4, 0.5, 0.96], ddof=1))),
        "0.09999999999999998",
        "",
    ]
    assert "| Method | Seeds | Average rank ↓ | Place |" in text["md"]
    assert "0.6000</u>" in text["md"]
    assert "<sub>± 0.1000</sub>" in text["md"]
    assert r"{\tiny \(\pm\)0.1000}" in text["tex"]
    (found,) = json.loads(text["json"])["boards"]
    assert [(row["units"], row["values"]["AP50"]["deviation"] is None) for row in found["rows"]] == [
        *((3, False), (3, False), (1, True))
    ]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(boards_to_console(boards))
    assert "0.6000 ± 0.1000" in console.export_text()


def test_the_number_of_a_paper_stands_beside_the_mean_over_seeds(store):
    claims = [{"dataset": "roadscene", "metric": name, "value": 0.7, "source": "re-test"} for name in ("ap50", "vif")]
    store.run("a", {"AP50": [0.5, 0.6, 0.7]}, keys=SEEDS, reported=json.dumps(claims), **DETECTION)
    (found,) = lay_out(*build_boards(*store.frames)).reported
    assert (found.metric, found.value, found.measured, found.gap) == ("AP50", "0.7", "0.6", "-0.1")


def test_two_generations_of_one_method_are_told_apart_by_their_runs(store):
    store.run("a", {"AP50": [0.5, 0.6]}, keys=SEEDS[:2], run_id="old", **DETECTION)
    newer = {"finished_at": "2025-04-01T12:00:00+00:00", "run_id": "new"}
    store.run("a", {"AP50": [0.7]}, keys=["seed 0"], **newer, **DETECTION)
    (board,) = build_boards(*store.frames)
    assert set(board.rows["label"]) == {"a [run old]", "a [run new]"}


def test_downstream_protocols_have_an_overall_board_of_their_own(store):
    for dataset in ("sample", "msrs"):
        for method, shift in (("a", 0.0), ("b", 0.1)):
            facts = {"dataset": dataset, "keys": ["seed 0", "seed 1"], "fingerprint": dataset}
            store.run(method, {"mIoU": [0.5 + shift, 0.6 + shift]}, protocol="segmentation quick retrain", **facts)
    (overall,) = overall_boards(build_boards(*store.frames))
    assert (overall.group, list(overall.table.index)) == ("downstream", ["b", "a"])


def test_one_model_for_all_is_neither_image_nor_seed(store):
    for method in ("a", "b"):
        store.run(method, {"AP50": [0.5]}, protocol="detection standard frozen", keys=["given weights"])
    (board,) = build_boards(*store.frames)
    assert lay_out(board).heading == "roadscene (test, 1 model), protocol detection standard frozen"


def test_source_images_are_rivals_in_downstream_tasks(store):
    facts = {"protocol": "detection quick retrain", "keys": ["seed 0", "seed 1"]}
    store.run("fused", {"AP50": [0.5, 0.6]}, **facts)
    store.run("visible", {"AP50": [0.7, 0.8]}, tags="source", **facts)
    (board,) = build_boards(*store.frames)
    assert list(board.rows["label"]) == ["visible", "fused"]
    assert board.rows["ranked"].all()


@pytest.mark.parametrize(("origin", "shown"), [("authors", 1), ("project", 0)])
def test_numbers_of_papers_belong_to_works_with_the_authors_weights(tmp_path, origin, shown):
    card = {"name": "AP50", "title": "AP50", "higher_is_better": True}
    claim = {"dataset": "sample", "metric": "ap50", "value": 0.75, "source": "re-test"}
    identity = {"task": "detection", "task_version": 1, "dataset": "sample", "split": "test", "method": "m"}
    identity |= {"weights": origin, "protocol": "detection quick retrain", "seed": 0}
    work = Work.of(tmp_path, identity)
    facts = {"title": "M", "weights_origin": origin, "reconstruction": False, "seen_in_training": 0, "tags": []}
    made = {"card": {"reported": [claim]}}
    run = {"options": {}, "text_policy": "none", "masks": "none"}
    facts |= {"run_identity": run, "data_options": {}, "provenance": made, "metrics": [card], "unit": "seed 0"}
    work.write_json({"identity": identity, "board": "b", "finished_at": "2025-03-01", "run_id": "r", **facts})
    work.write_metrics(Outcome({"AP50": 0.5}, {}))
    (board,) = build_boards(*store_frames(tmp_path))
    assert [found.gap for found in lay_out(board).reported] == ["-0.25"] * shown
