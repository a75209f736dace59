"""Remembered modules: fewer calls, the same pixels, and hands off networks that it does not suit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tgfbench.benchmark.audit.reuse import Reuse
from tgfbench.datasets.base import Sample
from tgfbench.datasets.sample import SampleDataset
from tgfbench.methods import METHODS, load_method
from tgfbench.methods._fast import Step
from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo

TEXTS = ("a car", "people", "", "zork")


class Counting(nn.Conv2d):
    """A convolution that counts its calls at full size."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += x.shape[-1] > 128
        return super().forward(x)


class Network(nn.Module):
    """Encodes both images with one module, called twice, then reads the text."""

    def __init__(self, *, careless: str) -> None:
        super().__init__()
        self.encode = Counting(1, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 1, 1)
        self.careless = careless

    def forward(self, visible: Tensor, infrared: Tensor, words: float) -> Tensor:
        first, second = self.encode(visible), self.encode(infrared)
        if "gave" in self.careless:
            first.mul_(1 + words)
        if "given" in self.careless:
            visible.mul_(0.5)
        return torch.sigmoid(self.head(first * words + second))


class Stateful(Network):
    """Gives another output at every call."""

    def forward(self, visible: Tensor, infrared: Tensor, words: float) -> Tensor:
        self.encode.bias.data += 0.3
        return super().forward(visible, infrared, words)


class Toy(FusionMethod):
    """A method around a network."""

    info = MethodInfo(name="toy", title="Toy", text_use="test")

    def __init__(self, network: nn.Module, smallest: int = 1) -> None:
        super().__init__()
        self.network, self.smallest = network, smallest

    def fuse(self, batch: FusionBatch) -> Tensor:
        if batch.infrared.shape[-1] < self.smallest:
            raise ValueError("too small")
        grey = batch.visible.mean(dim=1, keepdim=True)
        return self.network(grey, batch.infrared, len(batch.texts[0]) / 9).expand(-1, 3, -1, -1).contiguous()


def pair(seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(f"p{seed}", rng.integers(0, 256, (140, 150, 3), np.uint8), rng.integers(0, 256, (140, 150), np.uint8))


def fused(reuse: Reuse, sample: Sample) -> list[np.ndarray]:
    with reuse.pair(sample, TEXTS) as fuse:
        return [fuse(text) for text in TEXTS]


@pytest.mark.parametrize(
    "careless", ["nothing", "what the encoder gave", "what it was given", "what it gave and was given"]
)
def test_images_are_encoded_once_and_every_pixel_stays_whatever_is_written_into(careless: str) -> None:
    torch.manual_seed(0)
    method = Toy(Network(careless=careless))
    reuse = Reuse(method)
    for seed in range(2):
        expected = [reuse.fuse(pair(seed), text) for text in TEXTS]
        Counting.calls = 0
        found = fused(reuse, pair(seed))
        assert all(map(np.array_equal, expected, found))
        assert Counting.calls == 2
    assert reuse.modules == ("network.encode",)
    assert "forward" not in vars(method.network.encode)


@pytest.mark.parametrize(
    "method",
    [Toy(Stateful(careless="")), Toy(Network(careless=""), smallest=130)],
    ids=["state of its own", "needs more than the crop"],
)
def test_a_method_that_it_does_not_suit_is_left_alone(method: Toy) -> None:
    reuse = Reuse(method)
    assert len(fused(reuse, pair())) == len(TEXTS)
    assert reuse.modules == ()


class Stepped(Network):
    """Has a step that calls a module from elsewhere in the network, and answers with a named tuple."""

    class Both(NamedTuple):
        first: Tensor
        second: Tensor

    def __init__(self) -> None:
        super().__init__(careless="")
        self.step = Step(lambda visible, infrared: self.Both(self.encode(visible), self.encode(infrared)))
        self.weigh = Step(lambda both: self.Both(both.first * 2, both.second))

    def forward(self, visible: Tensor, infrared: Tensor, words: float) -> Tensor:
        both = self.weigh(self.step(visible, infrared))
        return torch.sigmoid(self.head(both.first * words + both.second))


def test_steps_are_remembered_whole_and_what_they_call_is_not_remembered_again() -> None:
    torch.manual_seed(0)
    method = Toy(Stepped())
    reuse = Reuse(method)
    expected = [reuse.fuse(pair(), text) for text in TEXTS]
    assert all(map(np.array_equal, expected, fused(reuse, pair())))
    assert reuse.modules == ("network.step", "network.weigh")


def test_two_texts_that_mean_the_same_to_a_network_do_not_pass_for_all() -> None:
    torch.manual_seed(0)
    reuse = Reuse(Toy(Network(careless="")))
    texts = ("a car", "a van", "people", "a cat", "zork")
    expected = [reuse.fuse(pair(), text) for text in texts]
    with reuse.pair(pair(), texts) as fuse:
        assert all(np.array_equal(image, fuse(text)) for image, text in zip(expected, texts, strict=True))
    assert reuse.modules == ("network.encode",)


@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS.load(name).info.text_use == "test"])
def test_shipped_networks_compute_what_precedes_the_text_once(name: str) -> None:
    method = load_method(name, device="cpu")
    steps = {f"network.{n}" for n, module in method.network.named_modules() if isinstance(module, Step)}
    reuse, scenes = Reuse(method), SampleDataset(count=1, width=72, height=64)
    scene = scenes[scenes.keys[0]]
    expected = [reuse.fuse(scene, text) for text in TEXTS[:2]]
    with reuse.pair(scene, TEXTS[:2]) as fuse:
        assert all(map(np.array_equal, expected, map(fuse, TEXTS[:2])))
    assert steps
    assert steps <= set(reuse.modules)


def test_a_method_without_networks_is_simply_called() -> None:
    class Average(FusionMethod):
        info = MethodInfo(name="average", title="Average")

        def fuse(self, batch: FusionBatch) -> Tensor:
            return (batch.visible + batch.infrared) / 2

    reuse = Reuse(Average())
    assert all(np.array_equal(image, reuse.fuse(pair(), "")) for image in fused(reuse, pair()))
