"""The shared training loop: crops, resuming, what it writes, what it refuses."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tgfbench.benchmark import crops as crops_of_samples
from tgfbench.benchmark import train as training
from tgfbench.benchmark.cli import main
from tgfbench.benchmark.crops import CropPool, Source, decode, object_masks
from tgfbench.benchmark.errors import MethodError, UsageError
from tgfbench.benchmark.train import TrainRequest, learning_rate, load_objective, train
from tgfbench.benchmark.weights import read_checkpoint
from tgfbench.datasets import Labels, Sample, Texts, load_dataset
from tgfbench.datasets.base import DatasetInfo
from tgfbench.methods.objective import Objective, TrainingBatch

INFO = DatasetInfo(
    name="toy",
    title="Toy",
    source="",
    licence="",
    classes=("person", "car"),
    segmentation_classes=("none", "car", "bike"),
)


class Blend(nn.Module):
    """The smallest network: a 3x3 convolution over both images."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return self.mix(torch.cat([visible.mean(1, keepdim=True), infrared], dim=1))


class ToyObjective(Objective):
    method, checkpoint_name = "toy", "toy-net"

    def __init__(self, scale: float = 1.0) -> None:
        self.config = {"scale": scale}

    def build(self) -> nn.Module:
        return Blend()

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        noise = float(random.normal(0, 0.01))
        fused = network(batch.visible, batch.infrared)
        error = (fused - batch.infrared - noise).abs().mean() * self.config["scale"]
        return {"error": error, "flat": 0.1 * fused.std()}

    def card(self) -> dict[str, Any]:
        return {"toy": True, "scale": self.config["scale"]}


class Toy:
    """What the loop needs of a method's class."""

    info = INFO
    objective = ToyObjective


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the toy method, and let ``sample`` render few and small scenes."""
    real = training.METHODS.load
    monkeypatch.setattr(training.METHODS, "load", lambda name: Toy if name == "toy" else real(name))
    small = {"count": 6, "width": 96, "height": 72}
    monkeypatch.setattr(
        crops_of_samples, "load_dataset", lambda *names, **options: load_dataset(*names, **options, **small)
    )


def request(out: Path, **changes: Any) -> TrainRequest:
    plain = TrainRequest("toy", steps=12, batch=2, crop=32, warmup=3, checkpoint_every=5, device="cpu", out=out)
    return dataclasses.replace(plain, **changes)


def state(path: Path) -> dict[str, Tensor]:
    return read_checkpoint(path)[0]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(request(tmp_path / "whole"), progress=False)
    calls = 0
    step = training._step

    def dying(*arguments: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(training, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(request(tmp_path / "parts"), progress=False)
    stored, _ = read_checkpoint(tmp_path / "parts/checkpoint.pt")
    assert stored["step"] == 5
    monkeypatch.setattr(training, "_step", step)
    (tmp_path / "parts/.checkpoint.pt.abc.part").write_bytes(b"cut off by a kill")
    parts = train(request(tmp_path / "parts", resume=True), progress=False)
    assert not list((tmp_path / "parts").glob(".*"))
    assert parts.history == whole.history
    assert parts.curve_csv.read_bytes() == whole.curve_csv.read_bytes()
    for name, value in state(whole.weights).items():
        assert torch.equal(value, state(parts.weights)[name])
    assert parts.weights.read_bytes() == whole.weights.read_bytes()


def test_what_a_run_leaves(tmp_path: Path) -> None:
    result = train(request(tmp_path / "run"), progress=False)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "card.json",
        "checkpoint.pt",
        "loss.csv",
        "loss.png",
        "toy.safetensors",
    ]
    _, metadata = read_checkpoint(result.weights)
    assert metadata == {"config": {"scale": 1.0}}
    stored, _ = read_checkpoint(result.checkpoint)
    assert (stored["method"], stored["step"], stored["config"]) == ("toy-net", 12, {"scale": 1.0})
    rows = list(csv.DictReader(result.curve_csv.open()))
    assert [float(row["step"]) for row in rows] == [5, 10, 12]
    for row in rows:
        assert float(row["total"]) == pytest.approx(float(row["error"]) + float(row["flat"]))
    card = json.loads(result.card.read_text())
    assert card["samples"] == {"sample:train": 6}
    assert len(card["keys"]["sample:train"]) == 6
    assert card["toy"] is True
    assert card["parameters"] == 19
    assert result.curve_png.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def little_room() -> Iterator[None]:
    """A system that takes files of a few KiB only, as a full disk takes no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("little_room")
def test_no_room_for_a_checkpoint_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "tgfbench train toy --steps 1 --batch 1 --crop 32 --device cpu --out"
    monkeypatch.setattr(sys, "argv", [*words.split(), str(tmp_path / "run")])
    monkeypatch.setattr(training.METHODS, "entry", lambda name: None)
    told = io.StringIO()
    with contextlib.redirect_stderr(told), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "File too large" in told.getvalue() and "room left" in told.getvalue()
    assert not list((tmp_path / "run").iterdir())


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    history = train(request(tmp_path, steps=60, lr=0.02, checkpoint_every=20), progress=False).history
    assert history[-1]["total"] < 0.5 * history[0]["total"]


def test_the_seed_decides(tmp_path: Path) -> None:
    first, same, other = (
        state(train(request(tmp_path / name, seed=seed, steps=3), progress=False).weights)["mix.weight"]
        for name, seed in (("first", 0), ("same", 0), ("other", 1))
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_learning_rate_rises_then_falls(tmp_path: Path) -> None:
    plan = request(tmp_path, steps=100, warmup=10, lr=1e-3)
    rates = [learning_rate(plan, step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[10] == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-6, abs=1e-6)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    train(request(tmp_path, steps=3), progress=False)
    with pytest.raises(UsageError, match=r"step 3(.|\n)*--resume"):
        train(request(tmp_path, steps=3), progress=False)


def test_resuming_another_request_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    train(request(tmp_path, steps=3), progress=False)
    with pytest.raises(UsageError, match=r"lr was 0\.001, now 0\.1"):
        train(request(tmp_path, steps=3, lr=0.1, resume=True), progress=False)
    with pytest.raises(UsageError, match=r"scale was 1\.0, now 2\.0"):
        train(request(tmp_path, steps=3, options={"scale": 2.0}, resume=True), progress=False)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        train(request(tmp_path, resume=True), progress=False)


def test_a_loss_that_is_not_finite_names_terms_and_samples(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"sample/(.|\n)*error nan"):
        train(request(tmp_path, options={"scale": float("nan")}), progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"crop": 8}, "crop = 8"),
        ({"lr": 0.0}, "lr = 0"),
        ({"data": ("sample:nowhere",)}, "nowhere"),
        ({"data": ("no such thing!",)}, "no such thing!"),
        ({"options": {"colour": 1}}, "colour"),
        ({"method": "average"}, "objective"),
        ({"method": "averag"}, "average"),
    ],
    ids=str,
)
def test_bad_requests_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        train(request(tmp_path, **changes), progress=False)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sample", Source("sample", "train", 1)),
        ("llvip:test", Source("llvip", "test", 1)),
        ("m3fd*2.5", Source("m3fd", "train", 2.5)),
        ("msrs:all*3", Source("msrs", "all", 3)),
        ("msrs+lowlight:3", Source("msrs+lowlight:3", "train", 1)),
        ("sample+haze", Source("sample+haze", "train", 1)),
        ("sample+haze*2", Source("sample+haze", "train", 2)),
        ("msrs+lowlight:3:test*0.5", Source("msrs+lowlight:3", "test", 0.5)),
        ("msrs:all+haze:3", Source("msrs+haze:3", "all", 1)),
        ("msrs+haze:2+noise:4@ir+seed:7:all*3", Source("msrs+haze:2+noise:4@ir+seed:7", "all", 3)),
        ("ivt:test_tno+noise@ir:2", Source("ivt+noise@ir:2", "test_tno", 1)),
    ],
)
def test_data_entries(text: str, expected: Source) -> None:
    assert Source.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "a:b:c", "sample*0", "sample*-1", "sample*x", "a*", "a*1*2", "a:b+haze:c", "a:b:3+haze"]
)
def test_bad_data_entries(text: str) -> None:
    with pytest.raises(UsageError, match="training data"):
        Source.parse(text)


@pytest.mark.parametrize("text", ["sample+", "sample+nosuch", "sample+haze:9", "sample+haze+haze", "sample+seed:1"])
def test_bad_degradations_in_data_entries(text: str) -> None:
    with pytest.raises(UsageError, match=r"sample\+"):
        Source.parse(text)


def test_degraded_pairs_are_drawn_and_recorded_as_the_pairs_they_are() -> None:
    sizes = {"batch": 1, "crop": 32, "longest_side": 800, "memory_mib": 1}
    crops = CropPool([Source.parse("sample"), Source.parse("sample+low-light:5")], None, **sizes)
    assert list(crops.keys()) == ["sample:train"]
    key = crops.datasets[0].keys[0]
    clean, dark = (crops._scene(which, key) for which in (0, 1))
    assert dark.visible.mean() < clean.visible.mean() / 2
    assert np.array_equal(dark.reference, clean.visible)
    assert np.array_equal(dark.infrared_reference, clean.infrared)
    assert dark.texts.instruction


def test_degraded_infrared_images_have_clean_references() -> None:
    crops = CropPool([Source.parse("sample+noise:5@infrared")], None, batch=2, crop=48, longest_side=800, memory_mib=64)
    batch = crops.draw(np.random.default_rng(0))
    assert batch.infrared_reference is not None
    assert batch.infrared_reference.shape == batch.infrared.shape
    assert (batch.infrared - batch.infrared_reference).abs().mean() > 0.05
    assert torch.equal(batch.reference, batch.visible)
    assert all(key.startswith("sample+noise-5@infrared/train-") for key in batch.keys)


def sample(height: int = 40, width: int = 60, **labels: Any) -> Sample:
    rng = np.random.default_rng(0)
    return Sample(
        key="one",
        visible=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        infrared=rng.integers(0, 256, (height, width), dtype=np.uint8),
        texts=Texts(("a caption",), ("a focus",)),
        labels=Labels(**labels) if labels else None,
    )


def test_segmentation_gives_masks_by_class_without_the_background() -> None:
    segmentation = np.zeros((40, 60), np.uint8)
    segmentation[:10], segmentation[30:] = 1, 2
    masks = object_masks(sample(segmentation=segmentation), INFO)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"car": 600, "bike": 600}


def test_boxes_give_their_warm_pixels() -> None:
    boxes = {"boxes": np.array([[2.5, 3, 20, 19.2]], np.float32), "classes": np.array([0])}
    labelled = sample(**boxes)
    (mask,) = object_masks(labelled, INFO).values()
    inside = np.zeros_like(mask)
    inside[3:20, 2:20] = True
    assert np.array_equal(mask, inside & (labelled.infrared > labelled.infrared[inside].mean()))


def test_large_images_are_reduced_by_a_whole_factor() -> None:
    given = sample(41, 90)
    scene = decode(given, INFO, longest_side=45)
    assert scene.infrared.shape == (20, 45, 1)
    assert scene.visible.shape == (20, 45, 3)
    assert abs(int(scene.infrared[3, 4, 0]) - given.infrared[6:8, 8:10].mean()) <= 0.5


def pool(**changes: Any) -> CropPool:
    options: dict[str, Any] = {"batch": 3, "crop": 48, "longest_side": 800, "memory_mib": 512, **changes}
    return CropPool([Source("sample")], None, **options)


def test_crops_are_the_same_for_the_same_chance_whether_kept_or_decoded_again() -> None:
    first, again = (pool(memory_mib=size).draw(np.random.default_rng(4)) for size in (0, 512))
    assert first.keys == again.keys
    assert torch.equal(first.visible, again.visible)
    assert first.visible.shape == (3, 3, 48, 48)
    assert first.infrared.shape == (3, 1, 48, 48)
    assert first.texts[0].captions


def test_crops_of_all_images_and_masks_show_one_place() -> None:
    crops = pool(batch=1)
    batch = crops.draw(np.random.default_rng(2))
    whole = crops.datasets[0][batch.keys[0].partition("/")[2]]
    found = False
    for mirrored in (False, True):
        infrared = whole.infrared[:, ::-1] if mirrored else whole.infrared
        windows = np.lib.stride_tricks.sliding_window_view(infrared, (48, 48))
        target = (batch.infrared[0, 0] * 255).round().byte().numpy()
        for top, left in np.argwhere((windows == target).all(axis=(2, 3))):
            visible = whole.visible[:, ::-1] if mirrored else whole.visible
            cut = visible[top : top + 48, left : left + 48]
            found |= bool((cut == (batch.visible[0].permute(1, 2, 0) * 255).round().byte().numpy()).all())
    assert found


def test_images_smaller_than_the_crop_are_mirrored_outwards() -> None:
    crops = pool(crop=200, batch=1)
    batch = crops.draw(np.random.default_rng(0))
    assert batch.infrared.shape == (1, 1, 200, 200)
    assert batch.infrared[..., -1, :].std() > 0


def test_methods_without_objective_say_so() -> None:
    with pytest.raises(UsageError, match="without training objective"):
        load_objective("average", {})
