"""TeSG's rewrite for inference equals the network up to rounding, and computes what precedes the text once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import case_names, greatest_deviation, load_case
from tesg_networks import inputs_of, random_inputs, untrained
from torch import Tensor

from tgfbench.benchmark.audit.reuse import Reuse
from tgfbench.datasets.base import Sample
from tgfbench.methods import load_method
from tgfbench.methods.tesg.fast import FastTeSG

TOLERANCE = 1e-5  # the fixtures allow 2e-4
NOISE = 2e-6
"""Greatest rounding error of the rewrite of a small image in float32."""


def double(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in given.items()}


@pytest.mark.parametrize("name", case_names("tesg"))
@torch.inference_mode()
def test_rewrite_reproduces_the_golden_values(name: str) -> None:
    case = load_case("tesg", name)
    fast, given = FastTeSG(untrained("base" if "base" in name else "tiny")), inputs_of(case)
    assert greatest_deviation(fast(**given), case["fused"]) < TOLERANCE
    silent = fast(visible=given["visible"], infrared=given["infrared"])
    assert greatest_deviation(silent, case["fused_null"]) < TOLERANCE


@pytest.mark.parametrize(
    ("size", "height", "width", "rows", "mask_channels"),
    [
        ("tiny", 24, 32, None, 1),
        ("tiny", 37, 53, 1, 1),
        ("tiny", 37, 53, 3, 4),
        ("tiny", 5, 66, 4, 2),
        ("tiny", 1, 3, None, 1),
        ("base", 33, 30, 5, 1),
        ("base", 40, 21, 9, 3),
    ],
)
@torch.inference_mode()
def test_nothing_but_rounding_differs(size: str, height: int, width: int, rows: int | None, mask_channels: int) -> None:
    """Strips must not show, whichever rows are left over for the last one; nor must padding tokens."""
    network = untrained(size, torch.float64, neutral=False, mask_channels=mask_channels)
    given = random_inputs(2, height, width, mask_channels=mask_channels)
    exact = network(**double(given))
    assert height == 1 or exact.std() > 0.05
    assert greatest_deviation(FastTeSG(network, rows)(**double(given)), exact) < 1e-12
    assert greatest_deviation(FastTeSG(network.float(), rows)(**given), exact) < NOISE


@pytest.mark.parametrize("size", [(480, 640), (473, 637)], ids=str)
@torch.inference_mode()
def test_rewrite_is_precise_at_full_size(size: tuple[int, int]) -> None:
    """Sums over so many pixels are what rounds; with few channels the network's own error is 7e-4."""
    network, given = untrained(neutral=False, dims=(4, 8, 16)), random_inputs(1, *size)
    fused = FastTeSG(network)(**given)
    exact = network.double()(**double(given))
    assert exact.std() > 0.05
    assert greatest_deviation(fused, exact) < 10 * NOISE


@torch.inference_mode()
def test_images_of_a_batch_and_padding_tokens_do_not_influence_each_other() -> None:
    given, fast = random_inputs(3, 24, 32), FastTeSG(untrained(neutral=False))
    together = fast(**given)
    assert torch.equal(fast(**{**given, "tokens": given["tokens"].where(given["valid"][..., None], 1e3)}), together)
    for row in range(3):
        kept = int(given["valid"][row].sum())
        single = {name: value[row : row + 1] for name, value in given.items()}
        single = {**single, "tokens": single["tokens"][:, :kept], "valid": single["valid"][:, :kept]}
        assert torch.equal(fast(**single), together[row : row + 1])


@torch.inference_mode()
def test_missing_inputs_are_those_of_the_network() -> None:
    given, network = random_inputs(2, 20, 28), untrained(neutral=False)
    images = {name: given[name] for name in ("visible", "infrared")}
    words = {name: given[name] for name in ("tokens", "pooled")}
    # The second image has words that all count as padding.
    silent = {**given, "valid": given["valid"] & torch.tensor([[True], [False]])}
    for inputs in (images, {**images, "mask": given["mask"]}, {**images, **words}, silent):
        assert greatest_deviation(FastTeSG(network)(**inputs), network(**inputs)) < TOLERANCE


@torch.inference_mode()
def test_autocast_is_left_to_the_network() -> None:
    given, network = random_inputs(1, 16, 20), untrained(neutral=False)
    with torch.autocast("cpu"):
        fused = FastTeSG(network)(**given)
        assert torch.equal(fused, network(**given).float())
    assert 1e-4 < greatest_deviation(fused, network(**given)) < 0.1


def test_images_are_joined_once_for_all_prompts() -> None:
    method, texts = load_method("tesg", device="cpu"), ("the people", "a parked car", "")
    rng = np.random.default_rng(0)
    sample = Sample("p", rng.integers(0, 256, (70, 90, 3), np.uint8), rng.integers(0, 256, (70, 90), np.uint8))
    reuse = Reuse(method)
    with reuse.pair(sample, texts) as fuse:
        remembered = [fuse(text) for text in texts]
    assert reuse.modules == ("network.join",)
    assert all(np.array_equal(reuse.fuse(sample, text), image) for text, image in zip(texts, remembered, strict=True))
    assert not np.array_equal(*remembered[:2])
