"""The two tasks in the engine, on rendered pairs: trained, tested, stored, shown, and not done twice."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tgfbench.benchmark.cli import main
from tgfbench.benchmark.downstream.plan import DownstreamRequest, Evaluation, content_hash, plan_evaluation
from tgfbench.benchmark.downstream.store import find_works
from tgfbench.benchmark.errors import WeightsError
from tgfbench.benchmark.images import read_label_map, write_text
from tgfbench.benchmark.plan import DatasetRequest
from tgfbench.benchmark.results import prediction_frame, store_frames
from tgfbench.leaderboards.board import build_boards
from tgfbench.metrics.downstream import recipes
from tgfbench.metrics.downstream.detection import Detection

TASKS = {
    "detection": ("ultralytics", "AP50", ["image_size=64", "epochs=1", "least_steps=1", "train_images=4", "batch=2"]),
    "segmentation": ("mmseg", "mIoU", ["image_size=64", "epochs=1", "train_images=4", "batch=2", "crop=[48,64]"]),
}


def test_another_content_of_the_shipped_network_is_another_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name stays, so that without the content an old result would stand for the new network."""
    recipe = Detection.recipe("quick", {})
    sets: Any = SimpleNamespace(train=None, test=SimpleNamespace(labels_hash=""))

    def board() -> str:
        request = DownstreamRequest("detection", DatasetRequest("sample"))
        return Evaluation(request, Detection(), recipe, sets, [], tmp_path).board()

    before = board()
    copy = tmp_path / recipe.model
    copy.write_text((recipes.FOLDER / recipe.model).read_text())
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    assert board() == before
    copy.write_text(copy.read_text().replace("0.125", "0.25"))
    assert board() != before
    assert Detection.recipe("standard", {}).model_path() is None, "a name of ultralytics'"


def test_a_given_segmenter_may_be_a_name_of_the_local_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("mmseg") is None:
        pytest.skip("mmseg is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    dataset = DatasetRequest("sample", options={"count": 2, "width": 64, "height": 48})
    request = DownstreamRequest("segmentation", dataset, mode="frozen", model=Path("hf:someone/tiny"))
    with pytest.raises(WeightsError, match="nor a name in the local hub cache"):
        plan_evaluation(request, [], tmp_path / "runs")
    revision = "a" * 40
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / revision
    write_text(snapshot / "config.json", "{}")
    write_text(tmp_path / "hub" / "models--someone--tiny" / "refs" / "main", revision)
    planned = plan_evaluation(request, [], tmp_path / "runs")
    assert planned.conditions["model_sha256"] == content_hash(snapshot)
    assert planned.protocol.startswith("segmentation quick frozen tiny")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_in_the_engine(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library, metric, fields = TASKS[task]
    # Not imported here: ultralytics changes PIL for the whole process unless our own import undoes it.
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    sizes = [f"-D{field}" for field in ("width=96", "height=72", "count=6")]
    recipe = [part for field in fields for part in ("-R", field)]
    out = tmp_path / "runs"
    command = ["tgfbench", "downstream", task, "-m", "visible", "-d", "sample", *sizes, *recipe, "--limit", "2"]
    monkeypatch.setattr("sys.argv", [*command, "--device", "cpu", "--out", str(out)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert metric in capsys.readouterr().out
    (work,) = find_works(out)
    assert work.read_json()["counts"]["test images"] == 2
    if task == "detection":
        lines = (work.predictions / "boxes.jsonl").read_text().splitlines()
        assert [json.loads(line)["key"] for line in lines] == ["test-0000", "test-0001"]
    else:
        assert read_label_map(work.predictions / "segmentation" / "test-0001.png").shape == (72, 96)
    assert set(prediction_frame(out)["key"]) <= {"test-0000", "test-0001"}
    (board,) = build_boards(*store_frames(out))
    assert metric in board.metrics.index
    state = {path: path.stat().st_mtime_ns for path in (out / "downstream").rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "downstream").rglob("*") if path.is_file()} == state
