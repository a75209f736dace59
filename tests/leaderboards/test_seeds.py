"""Boards whose numbers come from trainings with different seeds instead of images."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.compare import compare
from tgfbench.leaderboards.console import comparisons_to_console
from tgfbench.leaderboards.layout import lay_out
from tgfbench.leaderboards.overall import overall_boards


def test_where_keys_are_seeds_every_output_speaks_of_seeds(store):
    keys = [f"seed {number}" for number in range(3)]
    facts = {"protocol": "detection quick retrain", "keys": keys}
    store.run("a", {"AP50": [0.5, 0.6, 0.7], "AP75": [0.1, 0.2, 0.3]}, **facts)
    store.run("b", {"AP50": [0.4, 0.5, 0.65], "AP75": [0.2, 0.1, 0.4]}, seen_in_training=7, **facts)
    store.run("c", {"AP50": [0.3], "AP75": [0.4]}, **facts)
    boards = build_boards(*store.frames)
    assert [(board.unit, board.counted) for board in boards] == [("seed", "3 seeds"), ("seed", "1 seed")]
    assert lay_out(boards[1]).heading.startswith("roadscene (test, 1 of 3 seeds)")
    assert np.isfinite(boards[0].evidence.intervals.mean).all()
    assert np.isnan(boards[1].evidence.intervals.mean).all()
    for layout in map(lay_out, boards):
        words = " ".join([layout.heading, *layout.findings, *layout.footnotes, *layout.differences])
        assert "seed" in words
        assert "image" not in words, words
    assert "not ranked: c: 2 of 3 seeds missing (seed 1, seed 2)" in lay_out(boards[0]).footnotes
    assert "b: seen in training: 7" in lay_out(boards[0]).footnotes
    (found,) = compare(boards, "a", "b")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(comparisons_to_console([found]))
    assert "not separated by 3 seeds" in console.export_text()


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
