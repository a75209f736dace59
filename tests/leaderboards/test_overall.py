"""Boards over several datasets, and presets."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tgfbench.benchmark.errors import UsageError
from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.latex import render_latex
from tgfbench.leaderboards.machine import render_json
from tgfbench.leaderboards.overall import COST, DOWNSTREAM, QUALITY, SECONDS, TEXT, group_of, overall_boards
from tgfbench.leaderboards.presets import PRESETS, find_preset
from tgfbench.leaderboards.render import render_markdown, write_boards


@pytest.fixture
def two(store):
    rng = np.random.default_rng(0)
    for dataset in ("roadscene", "tno"):
        for number, method in enumerate(("first", "second", "third")):
            values = (rng.random(15) - number).tolist()
            facts = {"dataset": dataset, "seconds": 0.5 + number, "device": "cpu"}
            store.run(method, {"VIF": values, "MSE": values, "EN": values}, protocol="correct", **facts)
    store.metric_rows[1]["higher_is_better"] = False
    return store


def test_datasets_weigh_the_same_and_rows_come_best_first(two):
    two.run("only-here", {"VIF": [9.0] * 15, "MSE": [9.0] * 15, "EN": [9.0] * 15}, protocol="correct", dataset="tno")
    found, cost = overall_boards(build_boards(*two.frames))
    assert cost.group == COST
    assert (found.group, found.datasets, found.protocol) == (QUALITY, ("roadscene", "tno"), "correct")
    assert list(found.table.index) == ["first", "second", "third"]
    assert found.table.loc["first", ["roadscene", "tno"]].tolist() == pytest.approx([5 / 3, 5 / 3])
    assert found.table["average_rank"].tolist() == pytest.approx([5 / 3, 2, 7 / 3])
    assert (found.table["place_low"] <= [1, 2, 3]).all()
    assert (found.table["low"] <= found.table["average_rank"]).all()
    assert found.table[SECONDS].tolist() == [0.5, 1.5, 2.5]
    assert found.notes[0] == "not in this table: only-here: not ranked on roadscene"


def test_nothing_is_averaged_over_protocols_splits_or_a_single_dataset(two):
    assert overall_boards(build_boards(*two.frames)[:1]) == []
    for row in two.run_rows[3:]:
        row["split"] = "val"
    assert overall_boards(build_boards(*two.frames)) == []


def test_seconds_of_different_machines_are_not_compared(two):
    two.run_rows[0]["device"] = "cuda"
    (found,) = overall_boards(build_boards(*two.frames))
    assert found.table[SECONDS].isna().all()
    assert "different machines" in found.notes[-1]


def test_cost_ranks_by_seconds_on_one_machine_once_for_all_protocols(store):
    for dataset in ("roadscene", "tno"):
        for number, method in enumerate(("slow", "fast", "untimed")):
            seconds = math.nan if method == "untimed" and dataset == "tno" else 3.0 - number
            facts = {"dataset": dataset, "seconds": seconds, "device": "cpu"}
            run = store.run(method, {"VIF": [0.1 * number] * 2}, **facts)
            store.score(run, {"VIF": [0.1 * number] * 2}, protocol="vifb")
    (cost,) = [found for found in overall_boards(build_boards(*store.frames)) if found.group == COST]
    assert cost.table["average_rank"].to_dict() == {"fast": 1.0, "slow": 2.0}
    assert cost.table[SECONDS].tolist() == [2.0, 3.0]
    assert cost.notes[0] == "not in this table: untimed: not timed on tno"
    assert [row[0] for row in cost.cells()] == ["Method", "fast", "slow"]


def test_metric_groups_get_boards_of_their_own():
    assert group_of("correct", "VIF") == QUALITY
    assert group_of("textfusion", "VIF+") == TEXT
    assert group_of("audit", "obedience") == TEXT
    assert group_of("downstream-frozen", "AP50") == DOWNSTREAM


def test_every_format_holds_the_overall_board(two):
    boards = build_boards(*two.frames)
    assert "## Overall, quality: 2 datasets (test), protocol correct" in render_markdown(boards)
    assert "tab:tgfbench-overall-1" in render_latex(boards)
    found, _ = json.loads(render_json(boards))["overall"]
    assert [row["label"] for row in found["rows"]] == ["first", "second", "third"]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_takes_its_datasets_protocol_and_metrics_only(two, preset):
    two.run("first", {"VIF": [1.0]}, dataset=preset.datasets[0], protocol="correct")
    two.run("first", {"VIF": [1.0], "Odd": [2.0]}, dataset=preset.datasets[0], protocol="vifb")
    runs, scores, metrics = preset.select(*two.frames)
    assert set(runs["dataset"]) <= set(preset.datasets)
    assert set(scores["protocol"]) == {"correct"}
    assert set(metrics["metric"]) <= set(preset.metrics["correct"])
    (purpose, *lacking) = preset.introduction(runs)
    assert preset.purpose in purpose
    assert preset.datasets[-1] in lacking[0]


AUDITED = {"Specificity": [0.1, 0.2], "Text moves": [3.0, 4.0]}


def test_the_text_guided_preset_holds_the_audit_beside_the_quality(store):
    for dataset in ("sample", "vlf"):
        for method in ("first", "second"):
            store.run(method, {"VIF": [1.0, 2.0]}, protocol="correct", dataset=dataset)
            for day, factor in (("02", 1.0), ("01", 9.0)):
                values = {name: [factor * value for value in column] for name, column in AUDITED.items()}
                facts = {
                    "options": '{"prompts": "generated, version 1"}',
                    "card": json.dumps({"verdict": "does little"}),
                }
                store.run(method, values, protocol="audit", dataset=dataset, finished_at=f"2025-03-{day}", **facts)
    preset = find_preset("text-guided")
    frames = preset.select(*store.frames)
    boards = build_boards(*frames)
    assert [(board.dataset, board.protocol) for board in boards] == [("sample", "correct"), ("vlf", "correct")]
    assert list(boards[0].means.columns) == ["VIF", "audit Specificity"]
    assert boards[0].means["audit Specificity"].tolist() == pytest.approx([0.15, 0.15]), "the newest audit"
    assert [overall.group for overall in overall_boards(boards)] == [QUALITY, TEXT]
    assert "on sample: first: does little; second: does little." in preset.introduction(frames[0])[2]


def test_an_audit_of_other_images_or_options_keeps_its_own_board(store):
    store.run("first", {"VIF": [1.0, 2.0]}, protocol="correct", dataset="ivt")
    store.run("first", AUDITED, protocol="audit", dataset="ivt", fingerprint="0" * 64)
    store.run("first", AUDITED, protocol="audit", dataset="ivt", options='{"masks": "labels", "prompts": "file"}')
    frames = find_preset("text-guided").select(*store.frames)
    boards = build_boards(*frames)
    assert {board.protocol for board in boards} == {"audit", "correct"}
    assert [list(board.means.columns) for board in boards if board.protocol == "correct"] == [["VIF"]]
    assert set(frames[0]["run_id"]) == set(store.frames[0]["run_id"])


def test_an_audit_counts_whichever_of_its_texts_a_pair_was_given(store):
    store.run("first", {"VIF": [1.0, 2.0]}, protocol="correct", dataset="ivt", options='{"text_seed": 1}')
    store.run("first", AUDITED, protocol="audit", dataset="ivt", options='{"prompts": "generated, version 1"}')
    (board,) = build_boards(*find_preset("text-guided").select(*store.frames))
    assert list(board.means.columns) == ["VIF", "audit Specificity"]


def test_a_prompted_preset_leaves_out_steered_methods_without_the_datasets_texts(store):
    for policy, use in (("dataset", "test"), ("none", "test"), ("none", "none")):
        store.run(f"{use}-{policy}", {"VIF": [1.0]}, protocol="correct", dataset="ivt", text_policy=policy,
                  card=json.dumps({"text_use": use}))  # fmt: skip
    runs, _, _ = find_preset("Text_Guided").select(*store.frames)
    assert list(runs["method"]) == ["test-dataset", "none-none"]


def test_presets_that_do_not_exist_or_hold_nothing_are_refused(two):
    with pytest.raises(UsageError, match=r"(?s)no preset.*did you mean ivif-core"):
        find_preset("ivif-kore")
    with pytest.raises(UsageError, match=r"(?s)no score.*ems-lite"):
        find_preset("degradation").select(*two.frames)


def test_files_of_a_preset_carry_its_name_and_introduction(two, tmp_path):
    preset = find_preset("ivif-core")
    frames = preset.select(*two.frames)
    (path,) = write_boards(build_boards(*frames), tmp_path, ["md"], preset.introduction(frames[0]), "leaderboard-x")
    assert path.name == "leaderboard-x.md"
    assert "Preset ivif-core" in path.read_text(encoding="utf-8")


def test_overall_needs_two_common_rows(store):
    for dataset, methods in (("roadscene", "ab"), ("tno", "bc")):
        for method in methods:
            store.run(method, {"VIF": [1.0, 2.0 + math.pi]}, dataset=dataset)
    assert overall_boards(build_boards(*store.frames)) == []
