"""The store read as frames."""

from __future__ import annotations

import json
import math

import pytest

from tgfbench.benchmark.boards_perf import write_store
from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.records import write_json
from tgfbench.benchmark.results import PREDICTION_COLUMNS, prediction_frame, store_frames
from tgfbench.benchmark.store import SCORES, find_runs


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


def _work(root, task, name, **content):
    folder = root / "downstream" / task / "sample" / "m@none" / name
    (folder / "predictions").mkdir(parents=True)
    identity = {"task": task, "dataset": "sample", "split": "test", "method": "m", "weights": "", "mode": "retrain"}
    identity |= {"recipe": "quick", "seed": 3}
    write_json(folder / "work.json", 1, {"identity": identity, "run_id": "run", "finished_at": "2025-03-01", **content})
    return folder


def test_predictions_are_read_from_finished_works_only(tmp_path):
    boxes = _work(tmp_path, "detection", "one", classes=["car"]) / "predictions" / "boxes.jsonl"
    line = {"key": "a", "boxes": [[1, 2, 3, 4.5]], "classes": [0], "scores": [0.5]}
    boxes.write_text(json.dumps(line) + "\n" + json.dumps({"key": "b", "boxes": [], "classes": [], "scores": []}))
    masks = (
        _work(tmp_path, "segmentation", "two", classes=["road"], palette=[[1, 2, 3]]) / "predictions" / "segmentation"
    )
    masks.mkdir()
    (masks / "a.png").write_bytes(b"")
    _work(tmp_path, "detection", "begun", finished_at="")
    frame = prediction_frame(tmp_path)
    assert list(frame.columns) == list(PREDICTION_COLUMNS)
    assert frame.to_dict("list") == {
        "run_id": ["run"] * 3,
        "key": ["a", "b", "a"],
        "task": ["detection", "detection", "segmentation"],
        "variant": ["quick retrain, seed 3"] * 3,
        "boxes": ["[[1.0, 2.0, 3.0, 4.5, 0, 0.5]]", "[]", ""],
        "mask": ["", "", str(masks / "a.png")],
        "classes": ['["car"]', '["car"]', '["road"]'],
        "palette": ["[]", "[]", "[[1, 2, 3]]"],
    }


def test_damaged_predictions_are_named(tmp_path):
    folder = _work(tmp_path, "detection", "one", classes=["car"])
    (folder / "predictions" / "boxes.jsonl").write_text('{"key": "a", "boxes": [[1, 2, 3, 4]], "classes": []')
    with pytest.raises(DataError, match="one"):
        prediction_frame(tmp_path)


def test_a_store_without_downstream_works_has_no_predictions(tmp_path):
    assert prediction_frame(tmp_path).empty
