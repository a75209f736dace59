"""What every registered method promises, and how methods are looked up and constructed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.benchmark.images import write_png
from tgfbench.benchmark.profile import _uncounted
from tgfbench.benchmark.weights import WeightsInfo, folder_of, sha256_of
from tgfbench.methods import METHODS, FusionBatch, FusionMethod, MethodInfo, create_method, load_method, resolve_device
from tgfbench.methods.baselines import LaplacianPyramid

KEYS = ["first", "second", "third"]
SIZE = (37, 53)


def scenes() -> tuple[np.ndarray, np.ndarray]:
    """Smooth scenes with noise, uint8: visible (3, 37, 53, 3) and infrared (3, 37, 53)."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / 10.0
    waves = np.stack([np.sin(x * (k + 1)) * np.cos(y + k) for k in range(12)]) / 2 + 0.5
    noisy = np.clip(waves + rng.normal(0, 0.05, waves.shape), 0, 1) * 255
    pixels = noisy.astype(np.uint8)
    return pixels[:9].reshape(3, 3, *SIZE).transpose(0, 2, 3, 1), pixels[9:]


def batch(text: str = "the pedestrians", items: slice = slice(None), device: torch.device | None = None) -> FusionBatch:
    visible, infrared = (torch.from_numpy(pixels.copy()).float().div(255) for pixels in scenes())
    return FusionBatch(
        visible.permute(0, 3, 1, 2).contiguous()[items].to(device),
        infrared.unsqueeze(1)[items].to(device),
        [text] * len(KEYS[items]),
        None,
        KEYS[items],
    )


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Options of the methods that cannot run without any."""
    folder = tmp_path_factory.mktemp("fused")
    for key, pixels in zip(KEYS, scenes()[0], strict=True):
        write_png(folder / f"{key}.png", 255 - pixels)
    return {"precomputed": {"folder": folder}}


@pytest.fixture(scope="module", params=METHODS.names())
def method(request: pytest.FixtureRequest, options: dict[str, dict[str, Any]]) -> Iterator[FusionMethod]:
    loaded = load_method(request.param, device="cpu", **options.get(request.param, {}))
    yield loaded
    loaded.close()


@pytest.fixture(params=METHODS.names())
def info(request: pytest.FixtureRequest) -> MethodInfo:
    return METHODS.load(request.param).info


def test_returns_images_of_the_same_size_in_range(method: FusionMethod) -> None:
    fused = method.fuse(batch())
    assert fused.shape == (3, 3, *SIZE)
    assert fused.dtype == torch.float32
    assert torch.isfinite(fused).all()
    assert fused.min() >= 0
    assert fused.max() <= 1
    assert fused.std() > 0.01  # a blank image would pass everything above


def test_images_of_a_batch_do_not_influence_each_other(method: FusionMethod) -> None:
    together = method.fuse(batch())
    alone = torch.cat([method.fuse(batch(items=slice(k, k + 1))) for k in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_is_deterministic(method: FusionMethod, options: dict[str, dict[str, Any]]) -> None:
    first = method.fuse(batch())
    torch.manual_seed(1)
    assert torch.equal(first, method.fuse(batch()))
    again = load_method(type(method).info.name, device="cpu", **options.get(type(method).info.name, {}))
    assert torch.equal(first, again.fuse(batch()))
    again.close()


def test_leaves_its_inputs_alone(method: FusionMethod) -> None:
    given, untouched = batch(), batch()
    fused = method.fuse(given)
    assert torch.equal(given.visible, untouched.visible)
    assert torch.equal(given.infrared, untouched.infrared)
    assert (given.texts, given.masks, given.keys) == (untouched.texts, untouched.masks, untouched.keys)
    assert not shares_memory(fused, given.visible)
    assert not shares_memory(fused, given.infrared)


def test_text_does_at_test_time_what_the_card_says(method: FusionMethod) -> None:
    pedestrians, none = method.fuse(batch("the pedestrians on the left")), method.fuse(batch(""))
    assert torch.equal(pedestrians, none) == (method.info.text_use != "test")


def test_runs_under_autocast(method: FusionMethod) -> None:
    exact = method.fuse(batch())
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = method.fuse(batch())
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.02


def test_costs_can_be_counted(method: FusionMethod) -> None:
    exact = method.fuse(batch())
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=_uncounted()) as counter:
        assert torch.equal(method.fuse(batch()), exact)
    assert counter.get_total_flops() > 0 or "native" not in method.info.tags


def test_provenance_is_json(method: FusionMethod) -> None:
    assert json.loads(json.dumps(method.provenance())) == method.provenance()


ABSENT = [(n, entry) for n in METHODS.names() for entry in METHODS.load(n).info.weights if not entry.file]


@pytest.mark.parametrize(("name", "entry"), ABSENT, ids=[f"{name}-{entry.name}" for name, entry in ABSENT])
def test_missing_weights_are_explained(name: str, entry: WeightsInfo) -> None:
    with pytest.raises(WeightsError) as caught:
        load_method(name, weights=entry.name, device="cpu")
    assert entry.get in str(caught.value)


def test_card_is_complete(info: MethodInfo) -> None:
    assert info.name in METHODS.names()
    assert info.title
    assert info.paper or {"baseline", "source", "precomputed"} & set(info.tags)
    if info.paper:
        assert info.venue
        assert info.year
    assert len({entry.name for entry in info.weights}) == len(info.weights)
    for entry in info.weights:
        if entry.origin == "authors":
            assert entry.url
            assert entry.get, "tell how to obtain the authors' file"
        else:
            assert entry.card, "tell who trained these weights on what"
            assert entry.trained_on
            assert not info.reconstruction or "reconstruction" in entry.card


def test_shipped_weights_are_the_catalogued_files(info: MethodInfo) -> None:
    folder = folder_of(METHODS.load(info.name))
    for entry in info.weights:
        if entry.file:
            assert sha256_of(folder / entry.file) == entry.sha256


@pytest.mark.parametrize("name", METHODS.names())
def test_card_and_registry_agree_on_the_name(name: str) -> None:
    assert METHODS.load(name).info.name == name


def test_listing_methods_imports_no_torch() -> None:
    code = "import sys; from tgfbench.methods import METHODS; METHODS.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_forgive_case_and_hyphens() -> None:
    assert isinstance(load_method("Laplacian_Pyramid", device="cpu"), LaplacianPyramid)


def test_unknown_method_suggests_a_close_one() -> None:
    with pytest.raises(UsageError, match="did you mean average"):
        load_method("averag")


def test_weights_are_refused_by_a_method_without_parameters() -> None:
    with pytest.raises(WeightsError, match="no parameters"):
        load_method("average", weights="best")


def test_unknown_option_suggests_a_close_one() -> None:
    with pytest.raises(UsageError, match=r"no option is called 'level'\n  try: did you mean levels"):
        load_method("dwt", level=3)
    with pytest.raises(UsageError, match="there are no options here"):
        load_method("average", level=3)


def test_missing_option_is_named() -> None:
    with pytest.raises(UsageError, match="no value for folder"):
        load_method("precomputed")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:1", "meta", ""])
def test_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="choosing the device"):
        resolve_device(device)


def test_automatic_device_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


class Parent(FusionMethod):
    info = MethodInfo(name="parent", title="Parent", tags=("baseline",))

    def __init__(self, checkpoint: Any = None, device: Any = "cpu", strength: float = 1.0, path: Path | None = None):
        super().__init__(checkpoint, device)
        self.strength, self.path = strength, path

    def fuse(self, batch: FusionBatch) -> Tensor:
        return batch.visible


class Child(Parent):
    def __init__(self, count: int = 1, sharp: bool = False, word: str = "", **kwargs: Any):
        super().__init__(**kwargs)
        self.count, self.sharp, self.word = count, sharp, word


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        ("count", "12", 12),
        ("sharp", "true", True),
        ("sharp", "0", False),
        ("word", "12", "12"),
        ("strength", "0.5", 0.5),
        ("path", "some/file", Path("some/file")),
        ("path", "none", None),
        ("strength", 0.25, 0.25),
    ],
)
def test_option_strings_become_the_annotated_type(option: str, given: Any, expected: object) -> None:
    value = getattr(create_method(Child, {option: given}, device="cpu"), option)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(("option", "given", "kind"), [("count", "1.5", "int"), ("sharp", "maybe", "bool")])
def test_option_string_of_the_wrong_type_is_named(option: str, given: str, kind: str) -> None:
    with pytest.raises(UsageError, match=rf"(?s){option}.*{given}.*a value of type {kind}"):
        create_method(Child, {option: given}, device="cpu")


def test_checkpoint_and_device_are_no_options() -> None:
    with pytest.raises(UsageError, match="no option is called 'checkpoint'"):
        create_method(Child, {"checkpoint": "file"}, device="cpu")


def shares_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
