"""The engine of downstream evaluation: nothing trained twice, honest sets, labels that cannot be used, boards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tgfbench.benchmark.cli import main
from tgfbench.benchmark.downstream.sets import hold_out
from tgfbench.benchmark.downstream.store import Work, find_works
from tgfbench.benchmark.images import read_label_map, write_png
from tgfbench.benchmark.results import store_frames
from tgfbench.leaderboards.board import build_boards

HERE = Path(__file__).resolve().parent
PLUGINS = "tasks:stub-brightness=stub_tasks:Brightness,tasks:stub-maps=stub_tasks:Maps"
SIZE = (48, 64)

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Register the stub tasks, with their recipes in a folder of their own."""
    from tgfbench.benchmark.registry import Registry
    from tgfbench.metrics.downstream import TASKS

    monkeypatch.setenv("TGFBENCH_PLUGINS", PLUGINS)
    monkeypatch.setenv("TGFBENCH_OFFLINE", "1")  # leave the environment of the other tests alone
    monkeypatch.setenv("STUB_RECIPES", str(tmp_path))
    monkeypatch.syspath_prepend(str(HERE))
    fresh: Registry[Any] = Registry("tasks")
    monkeypatch.setattr(TASKS, "_entries", fresh._entries, raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """MSRS in small: four training and three test pairs, one person on each."""
    root = tmp_path / "data"
    for split, count in (("train", 4), ("test", 3)):
        for index in range(count):
            add_pair(root, split, f"{index:05d}D", 20 * index + (10 if split == "test" else 0))
    return root


def add_pair(root: Path, split: str, key: str, level: int, box: str = "0 0.5 0.5 0.25 0.25\n") -> None:
    folder = root / "msrs" / split
    write_png(folder / "vi" / f"{key}.png", np.full((*SIZE, 3), level + 40, np.uint8))
    write_png(folder / "ir" / f"{key}.png", np.full(SIZE, level, np.uint8))
    label_file(root, split, key).parent.mkdir(parents=True, exist_ok=True)
    label_file(root, split, key).write_text(box)


def label_file(root: Path, split: str, key: str) -> Path:
    return root / "msrs" / "detection_lele3" / "fusion" / split / f"{key}.txt"


def add_map(root: Path, split: str, key: str, value: int = 1) -> None:
    write_png(root / "msrs" / split / "Segmentation_labels" / f"{key}.png", np.full(SIZE, value, np.uint8))


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the small MSRS; returns the exit code."""

    def call(*arguments: str, task: str = "stub-brightness", methods: str = "average,visible") -> int:
        places = ["-d", "msrs", "--data-root", str(data), "--out", str(tmp_path / "runs"), "--device", "cpu"]
        monkeypatch.setattr("sys.argv", ["tgfbench", "downstream", task, "-m", methods, *places, *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return call


def works(tmp_path: Path) -> dict[str, Work]:
    found = {}
    for work in find_works(tmp_path / "runs"):
        content = work.read_json()
        found[f"{content['identity']['method']} {content['unit']} {content['identity']['protocol']}"] = work
    return found


def trainings(tmp_path: Path) -> list[str]:
    """What every training wrote about its beginnings."""
    return sorted(path.read_text() for path in (tmp_path / "runs").rglob("training-*/library/log"))


def test_methods_are_trained_and_tested_on_their_own_images(run: Run, tmp_path: Path) -> None:
    assert run() == 0
    found = works(tmp_path)
    assert set(found) == {f"{name} seed 0 stub-brightness quick retrain" for name in ("average", "visible")}
    # The visible images are brighter by 40 than the infrared ones; train levels are 0 to 60, test levels 10 to 50.
    visible = found["visible seed 0 stub-brightness quick retrain"].read_metrics()
    average = found["average seed 0 stub-brightness quick retrain"].read_metrics()
    assert visible["", "Level"] == pytest.approx(70)
    assert visible["", "Trained"] == pytest.approx(70)
    assert average["", "Level"] == pytest.approx(50, abs=1)
    assert visible["person", "Level"] == visible["", "Level"]
    assert np.isnan(visible["car", "Level"])


def test_a_second_time_nothing_is_done(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "downstream").rglob("*") if path.is_file()}
    assert run() == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "downstream").rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} == set()
    again = capsys.readouterr().out
    assert "Nothing was computed" in again
    assert first[first.index("method") : first.index("written")] in again


def test_numbers_that_are_gone_are_computed_again(run: Run, tmp_path: Path) -> None:
    assert run(methods="visible") == 0
    (work,) = works(tmp_path).values()
    before = (work.folder / "metrics.csv").read_text()
    (work.folder / "metrics.csv").write_text(before.splitlines(keepends=True)[0])
    assert run(methods="visible") == 0
    assert (work.folder / "metrics.csv").read_text() == before
    assert len(trainings(tmp_path)) == 1


def test_another_seed_trains_again_and_gives_rows_of_its_own(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert run("--seeds", "0,4", methods="visible") == 0
    shown = capsys.readouterr().out
    assert trainings(tmp_path) == ["from 0\n"] * 3
    # Seeds 0 and 4 move what is learnt by 0 and 4: mean 72, standard deviation sqrt(8).
    assert "72.0000 ± 2.8284" in shown
    assert "seed 4" in shown


@pytest.mark.parametrize("changed", [["-R", "epochs=5"], ["-R", "train_images=2"]], ids=" ".join)
def test_another_recipe_trains_again_under_another_name(run: Run, tmp_path: Path, changed: list[str]) -> None:
    assert run(methods="visible") == 0
    assert run(*changed, methods="visible") == 0
    assert len(trainings(tmp_path)) == 2
    assert f"visible seed 0 stub-brightness quick {changed[1]} retrain" in works(tmp_path)


def test_another_content_behind_the_name_of_a_model_trains_again(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "network.yaml"
    for content in ("first", "second", "second"):
        model.write_text(content)
        assert run("-R", f"model={model}", methods="visible") == 0
    assert len(trainings(tmp_path)) == len(find_works(tmp_path / "runs")) == 2


def test_the_plan_tells_how_often_images_are_really_seen(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tgfbench.metrics.downstream.base.Recipe.epochs_over", lambda self, images: 10 * images)
    assert run(methods="visible") == 0
    assert "none, 40 epochs" in capsys.readouterr().out


def test_other_test_images_do_not_train_again(run: Run, tmp_path: Path) -> None:
    assert run("--limit", "2", methods="visible") == 0
    assert run(methods="visible") == 0
    assert trainings(tmp_path) == ["from 0\n"]
    assert len(find_works(tmp_path / "runs")) == 2


@pytest.mark.parametrize("split", ["train", "test"])
def test_other_labels_make_other_work(run: Run, data: Path, tmp_path: Path, split: str) -> None:
    assert run(methods="visible") == 0
    label_file(data, split, "00001D").write_text("2 0.5 0.5 0.5 0.5\n")
    assert run(methods="visible") == 0
    assert len(find_works(tmp_path / "runs")) == 2
    boards = build_boards(*store_frames(tmp_path / "runs"))
    assert len(boards) == 2
    assert [board.protocol.partition(" [earlier")[0] for board in boards] == ["stub-brightness quick retrain"] * 2
    assert len({board.protocol for board in boards}) == 2
    assert not any(board.differences for board in boards)


def test_a_training_that_was_cut_off_goes_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_STOP_AT", "2")
    assert run(methods="visible") == 1
    assert find_works(tmp_path / "runs") == []
    monkeypatch.delenv("STUB_STOP_AT")
    assert run(methods="visible") == 0
    assert trainings(tmp_path) == ["from 0\nfrom 2\n"]


def test_a_failure_is_named_and_the_rest_is_stored(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(methods="visible") == 0
    monkeypatch.setenv("STUB_STOP_AT", "0")
    assert run() == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "failed average, seed 0" in shown
    assert "MemoryError: on purpose" in shown
    assert "Level" in shown


def test_several_trainings_at_a_time_give_what_one_at_a_time_gives(run: Run, tmp_path: Path) -> None:
    assert run("--jobs", "2") == 0
    together = {name: work.read_metrics() for name, work in works(tmp_path).items()}
    shutil.rmtree(tmp_path / "runs" / "downstream")
    assert run("--jobs", "1") == 0
    alone = {name: work.read_metrics() for name, work in works(tmp_path).items()}
    assert len(alone) == 2
    np.testing.assert_equal(together, alone)


def test_a_failure_in_another_process_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUB_STOP_AT", "1")
    assert run("--jobs", "2") == 1
    shown = " ".join(capsys.readouterr().out.split())
    for method in ("average", "visible"):
        assert f"failed {method}, seed 0: evaluating stub-brightness on {method}, seed 0; found: MemoryError" in shown


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_command_goes_on_where_it_was(run: Run, data: Path, tmp_path: Path, jobs: str) -> None:
    out = tmp_path / "runs"
    # Fused beforehand, so that the kill comes in the training.
    assert run("-R", "epochs=1") == 0
    command = [sys.executable, "-m", "tgfbench.benchmark.cli", "downstream", "stub-brightness", "-m", "average,visible"]
    command += ["-d", "msrs", "--data-root", str(data), "--out", str(out), "--device", "cpu", "--jobs", jobs]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [*command, "-R", "epochs=60"], env={**os.environ, "STUB_DELAY": "0.3", "PYTHONPATH": path}, cwd=tmp_path
    )
    begun: list[Path] = []
    while process.poll() is None and not begun:
        time.sleep(0.05)
        begun = [state for state in out.rglob("library/state") if state.read_text() in ("2", "3", "4")]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert begun
    (log,) = {state.parent / "log" for state in begun[:1]}
    time.sleep(2)  # a process that was left behind notices it and ends
    assert run("-R", "epochs=60", "--jobs", jobs) == 0
    first, second = log.read_text().splitlines()
    assert first == "from 0"
    assert 2 <= int(second.removeprefix("from ")) < 60


def test_fused_images_are_those_of_the_store(run: Run, data: Path, tmp_path: Path) -> None:
    """A run made before is used, and images of other choices are added to it."""
    assert run("-R", "train_images=1", "--limit", "1", methods="visible") == 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "msrs").rglob("fused/*.png")}
    assert len(made) == 2
    assert run(methods="visible") == 0
    later = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "msrs").rglob("fused/*.png")}
    assert len(later) == 7
    assert {path: later[path] for path in made} == made


def test_changed_fused_images_are_made_again_and_trained_on(run: Run, tmp_path: Path) -> None:
    assert run("--seeds", "0", methods="visible") == 0
    victim = next((tmp_path / "runs" / "msrs").rglob("fused/*.png"))
    right = victim.read_bytes()
    victim.write_bytes(b"damaged")
    assert run("--seeds", "1", methods="visible") == 0
    assert victim.read_bytes() == right


def test_without_a_training_split_every_third_image_is_held_out(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((data / "msrs" / "train").rglob("*.png")):
        path.unlink()
    assert run(methods="visible") == 0
    (work,) = find_works(tmp_path / "runs")
    content = work.read_json()
    assert content["counts"]["training images"], content["counts"]["test images"] == (2, 1)
    assert "no labelled pair of split train here" in " ".join(capsys.readouterr().out.split())
    lines = (work.predictions / "boxes.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == sorted(hold_out(f"{i:05d}D" for i in range(3)))


@pytest.mark.parametrize("count", [2, 3, 10, 100])
def test_held_out_images_are_a_third_whatever_their_order(count: int) -> None:
    keys = [f"{index:05d}D" for index in range(count)]
    held_out = hold_out(keys)
    assert len(held_out) == -(-count // 3)
    assert hold_out(reversed(keys)) == held_out


def test_images_of_the_test_are_not_learnt_from(run: Run, data: Path, tmp_path: Path) -> None:
    add_pair(data, "train", "00009D", 30)  # the pixels of test 00001D
    assert run(methods="visible") == 0
    (work,) = find_works(tmp_path / "runs")
    content = work.read_json()
    # Levels are 20 apart and test levels lie between: only the added pair is a twin.
    assert content["counts"]["training images"] == 4
    assert any("00009D" in note and "test" in note for note in content["notes"])
    assert "a stub measured this" in content["notes"]


def test_labels_that_cannot_be_used_are_counted_and_named(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = "0 0.5 0.5 0.25 0.25\n"
    label_file(data, "train", "00000D").write_text(good + "7 0.5 0.5 0.25 0.25\n")
    label_file(data, "train", "00001D").write_text(good + "0 3.5 0.5 0.25 0.25\n")
    label_file(data, "train", "00002D").unlink()
    label_file(data, "test", "00002D").write_text("")
    assert run(methods="visible") == 0
    (work,) = find_works(tmp_path / "runs")
    content = work.read_json()
    assert content["label_problems"] == {
        "box outside its image or empty": 1,
        "class out of range": 1,
        "image without box file": 1,
    }
    # An image without a box file is not learnt from; one with an empty file is tested on.
    assert content["counts"] == {
        "test images": 3, "test boxes": 2, "training images": 3, "training boxes": 3, "images": 3, "labels": 2
    }  # fmt: skip
    shown = " ".join(capsys.readouterr().out.split())
    for named in ("00000D.txt: line 2: class 7", "00001D.txt: line 2: box", "00002D (no box file)"):
        assert named in shown


def test_label_maps_without_ids_of_the_dataset_are_left_out(run: Run, data: Path, tmp_path: Path) -> None:
    for index in range(4):
        add_map(data, "train", f"{index:05d}D", 1 if index else 77)
    for index in range(2):
        add_map(data, "test", f"{index:05d}D")
    assert run(task="stub-maps", methods="visible") == 0
    (work,) = find_works(tmp_path / "runs")
    content = work.read_json()
    assert content["counts"]["training images"], content["counts"]["test images"] == (3, 2)
    assert content["label_problems"] == {"image without label map": 1, "label map unusable": 1}
    (written,) = (tmp_path / "runs" / "labels" / "msrs").glob("test-*")
    assert np.array_equal(read_label_map(written / "segmentation" / "00001D.png"), np.full(SIZE, 1))


@pytest.mark.parametrize("damage", ["boxes cut off", "boxes moved", "map cut off", "another map"])
def test_stored_labels_that_changed_are_not_used(
    run: Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    for split, count in (("train", 4), ("test", 3)):
        for index in range(count):
            add_map(data, split, f"{index:05d}D")
    task = "stub-maps" if "map" in damage else "stub-brightness"
    assert run(task=task, methods="visible") == 0
    shutil.rmtree(tmp_path / "runs" / "downstream")
    (written,) = (tmp_path / "runs" / "labels" / "msrs").glob("train-*")
    boxes, stored = written / "boxes.jsonl", written / "segmentation" / "00001D.png"
    if damage == "another map":
        write_png(stored, np.full(SIZE, 2, np.uint8))
    elif damage == "boxes moved":
        boxes.write_text(boxes.read_text().replace("[[24.0", "[[25.0"))
    else:
        path = boxes if "boxes" in damage else stored
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run(task=task, methods="visible") == 2
    said = capsys.readouterr().err
    assert str(written) in said
    assert "remove this folder" in said
    shutil.rmtree(written)
    assert run(task=task, methods="visible") == 0


def test_unknown_boxes_are_not_taken_for_no_boxes(run: Run, data: Path, tmp_path: Path) -> None:
    """A pair with a label map and no box file has labels, but nobody drew boxes."""
    add_map(data, "train", "00000D")
    label_file(data, "train", "00000D").unlink()
    assert run(methods="visible") == 0
    (work,) = find_works(tmp_path / "runs")
    assert work.read_json()["counts"]["training images"] == 3


def test_frozen_and_retrained_never_share_a_board(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "given.json"
    model.write_text('{"level": 7.0}')
    assert run() == 0
    assert run("--mode", "frozen", "--task-weights", str(model), methods="average,visible,infrared") == 0
    boards = build_boards(*store_frames(tmp_path / "runs"))
    assert {board.protocol: len(board.rows) for board in boards} == {
        "stub-brightness quick retrain": 2,
        "stub-brightness quick frozen given.json": 3,
    }
    frozen = next(board for board in boards if "frozen" in board.protocol)
    assert list(frozen.keys) == ["given weights"]
    assert set(frozen.means["Trained"]) == {7.0}
    assert trainings(tmp_path) == ["from 0\n"] * 2


def test_boards_hold_the_seeds_as_units(run: Run, tmp_path: Path) -> None:
    assert run("--seeds", "1,0") == 0
    (board,) = build_boards(*store_frames(tmp_path / "runs"))
    assert board.keys == ("seed 0", "seed 1")
    assert list(board.metrics.index) == ["Level", "Trained"]
    assert list(board.metrics["version"]) == [3, 3]
    assert list(board.metrics["higher_is_better"]) == [True, True]
    visible = board.rows.index[board.rows["method"] == "visible"][0]
    assert board.per_image("Trained")[visible].tolist() == [70.0, 71.0]
    assert "source" in board.rows.loc[visible, "tags"].split(",")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--mode", "frozen"], "--task-weights"),
        (["--mode", "frozen", "--task-weights", "nowhere.pt"], "nowhere.pt"),
        (["--mode", "frozen", "--task-weights", __file__, "--seeds", "1,2"], "--seeds 1,2"),
        (["--mode", "frozen", "--task-weights", __file__, "--train-split", "train"], "--train-split train"),
        (["--task-weights", "model.pt"], "--mode frozen"),
        (["--seeds", "0,0"], "different seeds"),
        (["--seeds", "-1"], "whole numbers"),
        (["--recipe", "quik"], "did you mean quick"),
        (["-R", "epoch=3"], "did you mean epochs"),
        (["-R", "epochs=many"], "epochs"),
        (["-R", "start=nowhere.pt"], "nowhere.pt"),
        (["--limit", "0"], "positive"),
        (["--train-split", "trian"], "trian"),
    ],
    ids=lambda given: " ".join(given).replace(__file__, "here") if isinstance(given, list) else given,
)
def test_wrong_usage_is_refused_before_anything_is_done(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert run(*arguments) == 2
    assert told in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("fused"))


def test_a_dataset_without_labels_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task="stub-maps") == 2
    assert "Segmentation_labels" in capsys.readouterr().err


def test_without_the_library_the_command_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUB_NO_LIBRARY", "1")
    assert run() == 2
    assert "tgfbench[downstream]" in capsys.readouterr().err
