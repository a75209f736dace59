"""The store read as frames."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from tgfbench.benchmark.boards_perf import write_store
from tgfbench.benchmark.downstream.store import Work
from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import write_png
from tgfbench.benchmark.results import PREDICTION_COLUMNS, image_frame, prediction_frame, store_frames
from tgfbench.benchmark.store import SCORES, Image, Run, find_runs
from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.layout import lay_out


@pytest.fixture
def run(tmp_path):
    write_store(tmp_path, images=2, methods=1, metrics=2)
    return find_runs(tmp_path)[0]


def _values(root):
    _, scores, _ = store_frames(root)
    return {(row.key, row.metric): row.value for row in scores.itertuples()}


def test_names_and_values_are_read_as_they_were_written(run, tmp_path):
    numbers = {"007": 0.1 + 0.2, "NA": math.inf, "nan": -math.inf, "1e3": 5e-324, 'a,"b"\nc': 1 / 3, "x y": 1e22}
    run.scores = {(key, "EN", "correct"): value for key, value in numbers.items()}
    run.scores["undefined", "EN", "correct"] = math.nan
    run.save(list(numbers), {"correct": ["EN"]})
    found = _values(tmp_path)
    assert math.isnan(found.pop(("undefined", "EN")))
    assert found == {(key, "EN"): value for key, value in numbers.items()}


def test_versions_belong_to_their_metric_and_protocol(run, tmp_path):
    run.scores = {("a", "EN", "correct"): 1.0, ("a", "SD", "correct"): 2.0, ("a", "EN", "vifb"): 3.0}
    run.save(["a"], {})
    run.write_json(run.read_json() | {"metrics": {"vifb": {"EN": 7}, "correct": {"SD": 3}}})
    _, scores, _ = store_frames(tmp_path)
    found = {(row.metric, row.protocol): row.metric_version for row in scores.itertuples()}
    assert found == {("EN", "correct"): 0, ("SD", "correct"): 3, ("EN", "vifb"): 7}


def test_scores_that_still_stand_in_the_journal_count(run, tmp_path):
    before = _values(tmp_path)
    run.add_scores("00000", "correct", {"EN": 5.0})
    run.add_scores("another", "correct", {"EN": 6.0})
    after = _values(tmp_path)
    assert after == before | {("00000", "EN"): 5.0, ("another", "EN"): 6.0}


@pytest.mark.parametrize("line", ["a,EN,correct", "a,EN,correct,1,2", "a,EN,correct,good", "a,EN,correct,"])
def test_a_damaged_file_is_named_with_its_line(run, tmp_path, line):
    path = run.folder / SCORES
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"per_image\.csv") as error:
        store_frames(tmp_path)
    assert "line 6" in str(error.value)


@pytest.mark.parametrize(("origin", "shown"), [("authors", ["0.5"]), ("project", [])])
def test_numbers_of_the_paper_stand_beside_the_authors_weights_only(run, tmp_path, origin, shown):
    claim = {"dataset": "made-up", "metric": "EN", "value": 0.5, "source": "Table 2"}
    content = run.read_json() | {"weights_origin": origin, "provenance": {"card": {"reported": [claim]}}}
    run.write_json(content)
    (board,) = build_boards(*store_frames(tmp_path))
    found = lay_out(board).reported
    assert [row.value for row in found] == shown
    assert all(row.source == "Table 2" and float(row.gap) for row in found)


def test_runs_with_other_choices_of_texts_are_rows_of_their_own(run, tmp_path):
    other = Run(run.folder.with_name("other-texts"))
    shutil.copytree(run.folder, other.folder)
    identity = run.read_json()["identity"]
    other.write_json(run.read_json() | {"identity": identity | {"text_seed": 1}})
    (board,) = build_boards(*store_frames(tmp_path))
    name = identity["method"]
    assert sorted(row.label for row in lay_out(board).rows) == [f"{name} (text_seed unset)", f"{name} (text_seed=1)"]
    assert not [note for note in board.notes if "runs alike" in note]


def _work(root, task, name, seed=3, **content):
    folder = root / "downstream" / task / "sample" / "m@none" / name
    (folder / "predictions").mkdir(parents=True)
    identity = {"task": task, "dataset": "sample", "split": "test", "protocol": f"{task} quick retrain", "seed": seed}
    facts = {"run_id": "run", "unit": f"seed {seed}", "finished_at": "2025-03-01", "palette": [[1, 2, 3]]}
    Work(folder).write_json({"identity": identity, **facts, **content})
    (folder / "metrics.csv").write_text("class,metric,value\n")
    return folder


def test_predictions_are_read_from_finished_works_and_also_belong_to_the_row_of_their_board(tmp_path):
    boxes = _work(tmp_path, "detection", "one", classes=["car"]) / "predictions" / "boxes.jsonl"
    line = {"key": "a", "boxes": [[1, 2, 3, 4.5]], "classes": [0], "scores": [0.5]}
    boxes.write_text(json.dumps(line) + "\n" + json.dumps({"key": "b", "boxes": [], "classes": [], "scores": []}))
    masks = _work(tmp_path, "segmentation", "two", classes=["road"]) / "predictions" / "segmentation"
    masks.mkdir()
    (masks / "a.png").write_bytes(b"")
    _work(tmp_path, "detection", "begun", finished_at="")
    frame = prediction_frame(tmp_path)
    assert list(frame.columns) == list(PREDICTION_COLUMNS)
    fused = frame[frame["run_id"] == "run"]
    assert fused.drop(columns="palette").to_dict("list") == {
        "run_id": ["run"] * 3,
        "key": ["a", "b", "a"],
        "task": ["detection", "detection", "segmentation"],
        "variant": ["quick retrain, seed 3"] * 3,
        "boxes": ["[[1.0, 2.0, 3.0, 4.5, 0, 0.5]]", "[]", ""],
        "mask": ["", "", str(masks / "a.png")],
        "classes": ['["car"]', '["car"]', '["road"]'],
    }
    rows = frame[frame["run_id"] != "run"]
    assert rows["run_id"].nunique() == 2
    assert rows.drop(columns="run_id").to_dict("list") == fused.drop(columns="run_id").to_dict("list")


def test_seeds_of_one_row_share_its_run_id_and_the_newest_of_works_alike_is_shown(tmp_path):
    for number, (name, seed) in enumerate([("z", 0), ("a", 0), ("b", 1)]):
        folder = _work(tmp_path, "detection", name, seed, classes=[name], finished_at=f"2025-03-0{number + 1}")
        found = {"key": "k", "boxes": [], "classes": [], "scores": []}
        (folder / "predictions" / "boxes.jsonl").write_text(json.dumps(found))
    frame = prediction_frame(tmp_path)
    assert frame["run_id"].nunique() == 2
    here = frame[frame["run_id"] == "run"]
    assert dict(zip(here["variant"], here["classes"], strict=True)) == {
        "quick retrain, seed 0": '["a"]',
        "quick retrain, seed 1": '["b"]',
    }


def test_tested_images_are_images_of_the_row_of_their_board_too(run, tmp_path):
    write_png(run.image_path("k"), np.zeros((4, 4, 3), dtype=np.uint8))
    run.add_image("k", Image("a prompt", "0" * 64))
    run.add_image("gone", Image("", "0" * 64))
    folder = _work(tmp_path, "detection", "one", classes=[], run_id=run.folder.name)
    lines = [json.dumps({"key": key, "boxes": [], "classes": [], "scores": []}) for key in ("k", "gone")]
    (folder / "predictions" / "boxes.jsonl").write_text("\n".join(lines))
    images = image_frame(tmp_path)
    assert list(images["key"]) == ["k", "k"]
    assert set(images["run_id"]) == set(prediction_frame(tmp_path)["run_id"])
    assert set(images["text"]) == {"a prompt"}


def test_damaged_predictions_are_named(tmp_path):
    folder = _work(tmp_path, "detection", "one", classes=["car"])
    (folder / "predictions" / "boxes.jsonl").write_text('{"key": "a", "boxes": [[1, 2, 3, 4]], "classes": []')
    with pytest.raises(DataError, match="one"):
        prediction_frame(tmp_path)


def test_a_store_without_downstream_works_has_no_predictions(tmp_path):
    assert prediction_frame(tmp_path).empty
