"""Detection as a task: training, continuing, testing, and what it leaves behind."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.benchmark.images import read_visible, write_png
from tgfbench.metrics.downstream.base import LabelledImage, LabelledSet
from tgfbench.metrics.downstream.detection import WEIGHTS, Detection, DetectionRecipe
from tgfbench.metrics.downstream.recipes import recipe_names

# Not importorskip: importing it without its switches would write into the home folder.
if find_spec("ultralytics") is None:
    pytest.skip("ultralytics is not installed", allow_module_level=True)

TINY = """
nc: 80
scales: {tiny: [0.33, 0.0625, 128]}
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 1, Conv, [512, 3, 2]]
head:
  - [[2, 3], 1, Detect, [nc]]
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """Six dark images with one or two bright rectangles: wide ones are cars, tall ones persons."""
    folder, rng, made = tmp_path_factory.mktemp("images"), np.random.default_rng(0), []
    for number in range(6):
        pixels = rng.integers(0, 60, (72, 96, 3)).astype(np.uint8)
        boxes, classes = [], []
        for class_id in range(1 + number % 2):
            width, height = ((10, 24), (30, 12))[class_id]
            x, y = int(rng.integers(2, 50)), int(rng.integers(2, 40))
            pixels[y : y + height, x : x + width] = 220
            boxes.append((x, y, x + width, y + height))
            classes.append(class_id)
        path = folder / f"{number}.png"
        write_png(path, pixels)
        made.append(LabelledImage(str(number), path, (96, 72), np.float32(boxes), np.int64(classes)))
    return LabelledSet(tuple(made), ("person", "car"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> DetectionRecipe:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "tiny.yaml").write_text(TINY)
    return DetectionRecipe(
        name="tiny",
        model=str(folder / "tiny.yaml"),
        image_size=96,
        epochs=3,
        batch=2,
        nominal_batch=2,
        learning_rate=0.01,
        optimizer="AdamW",
        momentum=0.9,
        warmup_epochs=1,
        close_mosaic=1,
        max_detections=20,
    )


@pytest.fixture(scope="module")
def trained(images: LabelledSet, recipe: DetectionRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Detection().train(images, recipe, 0, tmp_path_factory.mktemp("trained"), "cpu", lambda done, total: None)


class KilledError(Exception):
    """Stands for a kill."""


def test_a_killed_training_continues_to_the_same_weights(
    images: LabelledSet, recipe: DetectionRecipe, trained: Path, tmp_path: Path
) -> None:
    def kill(done: int, total: int) -> None:
        assert total == 9
        if done == 5:
            raise KilledError

    with pytest.raises(KilledError):
        Detection().train(images, recipe, 0, tmp_path, "cpu", kill)
    assert not (tmp_path / WEIGHTS).exists()
    steps: list[int] = []
    weights = Detection().train(images, recipe, 0, tmp_path, "cpu", lambda done, total: steps.append(done))
    assert steps == [4, 5, 6, 7, 8, 9], "the first epoch was finished and must not be done again"
    assert weights.read_bytes() == trained.read_bytes()
    assert not (tmp_path / "state.pt").exists()


def test_a_finished_training_is_found_again(images: LabelledSet, recipe: DetectionRecipe, trained: Path) -> None:
    def never(done: int, total: int) -> None:
        raise AssertionError("trained again")

    assert Detection().train(images, recipe, 0, trained.parent, "cpu", never) == trained


def test_another_seed_gives_other_weights_and_leaves_the_process_as_it_was(
    images: LabelledSet, recipe: DetectionRecipe, trained: Path, tmp_path: Path
) -> None:
    import torch

    alone = recipe.model_copy(update={"cpu_threads": 1})
    state, threads, within = np.random.get_state()[1].copy(), torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        other = Detection().train(
            images, alone, 1, tmp_path, "cpu", lambda done, total: within.add(torch.get_num_threads())
        )
        assert (within, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(threads)
    assert other.read_bytes() != trained.read_bytes()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_a_test_stores_boxes_inside_the_images_and_counts(
    images: LabelledSet, recipe: DetectionRecipe, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[int, int]] = []
    result = Detection().test(trained, images, recipe, tmp_path, "cpu", lambda done, total: steps.append((done, total)))
    assert steps == [(number, 6) for number in range(1, 7)]
    assert set(result.values) == {card.name for card in Detection.metrics}
    assert set(result.per_class) == {(c, m) for c in ("person", "car") for m in ("AP50", "AP50:95", "AP75")}
    assert result.counts["images"] == 6 and result.counts["labels"] == 9
    lines = [json.loads(line) for line in (tmp_path / "predictions" / "boxes.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [image.key for image in images.images]
    for line in lines:
        boxes = np.asarray(line["boxes"]).reshape(-1, 4)
        assert len(boxes) == len(line["classes"]) == len(line["scores"]) <= 20
        assert line["scores"] == sorted(line["scores"], reverse=True)
        assert (boxes >= 0).all() and (boxes <= [96, 72, 96, 72]).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    assert capfd.readouterr().out == ""


def test_the_library_leaves_the_readers_of_the_process_alone(trained: Path, tmp_path: Path) -> None:
    import torch
    from PIL import Image

    assert (Image.open.__module__, torch.save.__module__) == ("PIL.Image", "torch.serialization")
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        read_visible(tmp_path / "broken.png")


def test_boxes_come_back_where_they_were_after_scaling_and_padding() -> None:
    from tgfbench.metrics.downstream.detection_prediction import letterbox

    pixels = np.zeros((75, 100, 3), np.uint8)
    pixels[30:45, 20:60] = 255
    canvas, ratio, (left, top) = letterbox(pixels, 160, 32)
    assert canvas.shape == (128, 160, 3)
    rows, columns = np.where(canvas[..., 0] > 200)
    np.testing.assert_allclose((columns.min() - left) / ratio[0], 20, atol=1)
    np.testing.assert_allclose((columns.max() + 1 - left) / ratio[0], 60, atol=1)
    np.testing.assert_allclose((rows.min() - top) / ratio[1], 30, atol=1)
    np.testing.assert_allclose((rows.max() + 1 - top) / ratio[1], 45, atol=1)


def ultralytics_checkpoint(trained: Path, path: Path, classes: tuple[str, ...]) -> Path:
    """The same network as ultralytics would save it: a pickled module."""
    import torch

    from tgfbench.metrics.downstream.detector import load_detector

    network = load_detector(trained).network
    network.names = dict(enumerate(classes))
    torch.save({"model": network.half(), "ema": None, "train_args": {"data": "x"}}, path)
    return path


def test_a_given_detector_is_matched_by_names_and_what_it_lacks_is_named(
    images: LabelledSet, recipe: DetectionRecipe, trained: Path, tmp_path: Path
) -> None:
    given = ultralytics_checkpoint(trained, tmp_path / "given.pt", ("traffic light", "Pedestrians"))
    result = Detection().test(given, images, recipe, tmp_path / "work", "cpu", lambda done, total: None)
    assert math.isnan(result.per_class["car", "AP50"]) and not math.isnan(result.per_class["person", "AP50"])
    assert result.notes and "car" in result.notes[0]
    lines = (tmp_path / "work" / "predictions" / "boxes.jsonl").read_text().splitlines()
    assert {name for line in lines for name in json.loads(line)["classes"]} == {0}


@pytest.mark.parametrize("name", ["yolov5n.pt", "it's.pt"])
def test_a_given_detector_is_read_whatever_its_name(trained: Path, tmp_path: Path, name: str) -> None:
    """The library changes some names, and then looks for the file on the network."""
    from tgfbench.metrics.downstream.detector import load_detector

    given = ultralytics_checkpoint(trained, tmp_path / name, ("person", "car"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("the network was asked for"))
        assert load_detector(given).classes == ("person", "car")


def test_a_given_detector_of_other_classes_is_refused(
    images: LabelledSet, recipe: DetectionRecipe, trained: Path, tmp_path: Path
) -> None:
    given = ultralytics_checkpoint(trained, tmp_path / "given.pt", ("cat", "dog"))
    with pytest.raises(WeightsError, match=r"(?s)given\.pt.*cat, dog.*person, car"):
        Detection().test(given, images, recipe, tmp_path / "work", "cpu", lambda done, total: None)


class RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused(
    images: LabelledSet, recipe: DetectionRecipe, tmp_path: Path, how: str
) -> None:
    import torch

    given, touched = tmp_path / "given.pt", tmp_path / "touched"
    if how == "torch":
        torch.save({"model": RunsCode(touched)}, given)
    else:
        given.write_bytes(pickle.dumps({"model": RunsCode(touched)}))
    with pytest.raises(WeightsError, match=r"given\.pt"):
        Detection().test(given, images, recipe, tmp_path / "work", "cpu", lambda done, total: None)
    assert not touched.exists()


def test_an_architecture_that_would_run_code_is_refused(
    images: LabelledSet, recipe: DetectionRecipe, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    evil = tmp_path / "evil.yaml"
    evil.write_text(f"{TINY}activation: \"open('{touched}', 'w')\"\n")
    with pytest.raises(UsageError, match=r"evil\.yaml"):
        Detection().train(
            images, recipe.model_copy(update={"model": str(evil)}), 0, tmp_path, "cpu", lambda done, total: None
        )
    assert not touched.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "text", "absent"])
def test_a_file_that_is_no_detector_is_refused(
    images: LabelledSet, recipe: DetectionRecipe, tmp_path: Path, content: bytes | None
) -> None:
    given = tmp_path / "given.pt"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(WeightsError, match=r"given\.pt"):
        Detection().test(given, images, recipe, tmp_path / "work", "cpu", lambda done, total: None)


def test_training_starts_from_given_weights(
    images: LabelledSet, recipe: DetectionRecipe, trained: Path, tmp_path: Path
) -> None:
    from tgfbench.metrics.downstream.detector import load_detector

    given = ultralytics_checkpoint(trained, tmp_path / "given.pt", ("person", "car"))
    values = recipe.model_dump() | {"model": str(given), "start": None, "epochs": 1, "learning_rate": 1e-9}
    start = DetectionRecipe.model_validate(values)
    assert (start.model, start.start) == ("given.pt", given)
    weights = Detection().train(images, start, 0, tmp_path / "work", "cpu", lambda done, total: None)
    before, after = (load_detector(path).network.state_dict() for path in (given, weights))
    key = next(key for key in before if key.endswith("conv.weight"))
    np.testing.assert_allclose(after[key].numpy(), before[key].numpy(), atol=1e-4)


@pytest.mark.parametrize("model", ["yolo11n.pt", "yolov8n", "https://example.org/yolov8n.yaml", "yolo99z.yaml"])
def test_nothing_is_downloaded(images: LabelledSet, recipe: DetectionRecipe, tmp_path: Path, model: str) -> None:
    with pytest.raises(UsageError, match="nothing is downloaded"):
        given = Detection.recipe("quick", {"model": model})
        Detection().train(images, given, 0, tmp_path, "cpu", lambda done, total: None)


def test_few_images_are_seen_more_often(recipe: DetectionRecipe) -> None:
    eager = recipe.model_copy(update={"least_steps": 7})
    assert recipe.epochs_over(1) == recipe.epochs_over(100) == eager.epochs_over(6) == 3
    assert eager.epochs_over(3) == 4
    assert eager.epochs_over(1) == 7


@pytest.mark.parametrize("name", recipe_names("detection"))
def test_recipes_name_architectures_that_exist(name: str, tmp_path: Path) -> None:
    from tgfbench.metrics.downstream.detector import build_detector, read_architecture

    given = Detection.recipe(name, {})
    detector = build_detector(read_architecture(given.model), ("person", "car"), name)
    assert detector.classes == ("person", "car")
    assert given.purpose


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("optimizer", "Magic"), ("mosaic", 2), ("iou", -0.1), ("image_size", "big")]
)
def test_a_field_out_of_range_is_named(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field):
        Detection.recipe("quick", {field: value})


def test_two_starts_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "given.pt"
    weights.write_bytes(b"")
    assert Detection.recipe("quick", {"model": str(weights)}).start == weights
    with pytest.raises(UsageError, match="either start, or"):
        Detection.recipe("quick", {"model": str(weights), "start": str(weights)})


def test_a_set_without_boxes_is_refused(images: LabelledSet) -> None:
    Detection().check(images)
    with pytest.raises(DataError, match="no detection classes"):
        Detection().check(LabelledSet(images.images, ()))
    bare = LabelledImage("k", images.images[0].path, (96, 72), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    with pytest.raises(DataError, match=r"no box in 1 image\b"):
        Detection().check(LabelledSet((bare,), images.classes))
    with pytest.raises(DataError, match="class 1"):
        Detection().check(LabelledSet(images.images, ("person",)))


SCRIPT = """
import socket, sys
from pathlib import Path
def refuse(*a, **k): raise SystemExit(f"network: {a}")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
work_root = sys.argv[1]
import numpy as np
from tgfbench.metrics.downstream.base import LabelledImage, LabelledSet
from tgfbench.metrics.downstream.detection import Detection, DetectionRecipe
from tgfbench.benchmark.images import write_png
work = Path(sys.argv[2])
write_png(work / "a.png", np.zeros((64, 64, 3), np.uint8))
image = LabelledImage("a", work / "a.png", (64, 64), np.float32([[5, 5, 20, 30]]), np.int64([0]))
images = LabelledSet((image, image), ("person",))
recipe = DetectionRecipe(name="t", model=sys.argv[3], image_size=64, epochs=1, batch=2, learning_rate=1e-3)
task, quiet = Detection(), lambda done, total: None
weights = task.train(images, recipe, 0, work / "training", "cpu", quiet)
task.test(weights, images, recipe, work, "cpu", quiet)
"""


def test_it_stays_off_the_network_silent_and_out_of_the_home_folder(recipe: DetectionRecipe, tmp_path: Path) -> None:
    home, work, elsewhere = tmp_path / "home", tmp_path / "work", tmp_path / "elsewhere"
    for folder in (home, work, elsewhere):
        folder.mkdir()
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("YOLO", "XDG", "PYTEST", "TGF", "MPL"))
    }
    root = str(Path(__file__).resolve().parents[3].parent)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, root, str(work), recipe.model],
        env=kept | {"HOME": str(home)},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout == ""
    assert [str(path) for path in (*home.rglob("*"), *elsewhere.rglob("*"))] == []
    assert (work / "training" / WEIGHTS).is_file()


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    Detection.require()
    monkeypatch.setattr(Detection, "packages", ("json", "no_such_package"))
    with pytest.raises(UsageError, match=r"(?s)no_such_package not installed.*tgfbench\[downstream\]"):
        Detection.require()
