"""The contract of every registered metric: identity, range, symmetry, noise, dtypes, batches, refusals, odd sizes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgfbench.benchmark.errors import MetricError, UsageError, WeightsError
from tgfbench.metrics import METRICS, load_metric
from tgfbench.metrics.base import Metric, MetricInputs

NEEDS_WEIGHTS = {"brisque", "clip-iqa", "lpips", "musiq", "niqe"}
NAMES = [name for name in METRICS.names() if name not in NEEDS_WEIGHTS]
SIZE = (167, 181)

IDENTITY = {
    "cc": 1,
    "delta-e": 0,
    "dss": 1,
    "epi": 1,
    "fmi": 1,
    "fsim": 1,
    "gmsd": 0,
    "haarpsi": 1,
    "iw-ssim": 1,
    "mdsi": 0,
    "ms-gmsd": 0,
    "ms-ssim": 1,
    "mse": 0,
    "nabf": 0,
    "nmi": 2,
    "psnr": math.inf,
    "q-c": 1,
    "q-e": 1,
    "q-m": 3,
    "q-s": 1,
    "q-w": 1,
    "q-y": 1,
    "qcb": 1,
    "qcv": 0,
    "rmse": 0,
    "scd": math.nan,
    "sr-sim": 1,
    "ssim": 1,
    "vif": 2,
    "vif-wavelet": 1,
    "vsi": 1,
}
"""What a fused image equal to both sources scores."""

WORSENED_BY_NOISE = {
    "cc", "fsim", "haarpsi", "ms-ssim", "mse", "psnr", "q-g", "q-m", "q-s", "q-w", "qabf",
    "qabf-petrovic", "qcb", "qcv", "rmse", "scd", "ssim", "sr-sim", "vif", "vsi", "delta-e", "mi", "nmi",
}  # fmt: skip
"""Metrics that noise added to the average of the sources always worsens."""


def picture(seed: int, size: tuple[int, int] = SIZE, batch: int = 1) -> Tensor:
    """A smooth random image with edges and some texture: uint8 (B, H, W)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    images = []
    for _ in range(batch):
        image = 90 + 40 * np.sin(rows / random.uniform(7, 15)) * np.cos(columns / random.uniform(7, 15))
        for _ in range(6):
            top, left = random.integers(0, size[0] - 5), random.integers(0, size[1] - 5)
            image[top : top + size[0] // 4, left : left + size[1] // 4] += random.uniform(-60, 60)
        images.append(image + random.normal(0, 3, size))
    return torch.from_numpy(np.clip(np.round(images), 0, 255).astype(np.uint8))


def inputs_of(fused: Tensor, visible: Tensor, infrared: Tensor) -> MetricInputs:
    def rgb(image: Tensor) -> Tensor:
        return image[:, None].expand(-1, 3, -1, -1)

    return MetricInputs(
        fused,
        visible,
        infrared,
        fused_rgb=rgb(fused),
        visible_rgb=rgb(visible),
        reference=visible,
        confidence=torch.full((len(fused),), 0.5, dtype=torch.float64),
    )


@cache
def scene(batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    visible, infrared = picture(1, batch=batch), picture(2, batch=batch)
    fused = ((visible.int() + infrared.int() + 1) // 2).to(torch.uint8)
    return fused, visible, infrared


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=1e-12, equal_nan=True)


@pytest.fixture(params=NAMES)
def metric(request: pytest.FixtureRequest) -> Metric:
    return load_metric(request.param)


def test_card_is_complete(metric: Metric) -> None:
    info = metric.info
    assert info.title and info.citation and info.needs and info.version >= 1
    low, high = metric.range
    assert low < high


def test_value_is_float64_finite_and_in_range(metric: Metric) -> None:
    value = metric(inputs_of(*scene()))
    assert value.shape == (1,) and value.dtype == torch.float64
    low, high = metric.range
    assert torch.isfinite(value).all()
    assert low - 1e-9 <= float(value) <= high + 1e-9


@pytest.mark.parametrize("name", sorted(IDENTITY))
def test_identity(name: str) -> None:
    image = scene()[1]
    value = float(load_metric(name)(inputs_of(image, image, image)))
    assert value == pytest.approx(IDENTITY[name], abs=1e-6, nan_ok=True)


def test_symmetric_in_the_sources(metric: Metric) -> None:
    fused, visible, infrared = scene()
    exchanged = metric(inputs_of(fused, infrared, visible))
    same = close(metric(inputs_of(fused, visible, infrared)), exchanged, 1e-6)
    assert same or not metric.info.symmetric or "reference" in metric.needs


@pytest.mark.parametrize("name", sorted(WORSENED_BY_NOISE))
def test_growing_noise_worsens(name: str) -> None:
    fused, visible, infrared = scene()
    metric = load_metric(name)
    noise = torch.from_numpy(np.random.default_rng(3).normal(0, 1, fused.shape))
    values = []
    for strength in (0, 4, 12, 30):
        noisy = (fused.double() + strength * noise).round().clamp(0, 255).to(torch.uint8)
        values.append(float(metric(inputs_of(noisy, visible, infrared))))
    expected = sorted(values, reverse=metric.info.higher_is_better)
    assert values == expected and values[0] != values[-1]


def test_dtypes_agree(metric: Metric) -> None:
    values = [metric(inputs_of(*(image.to(kind) for image in scene()))) for kind in (torch.uint8, torch.float32)]
    exact = metric(inputs_of(*(image.double() for image in scene())))
    assert close(values[0], exact) and close(values[1], exact)


def test_batch_equals_singles(metric: Metric) -> None:
    images = scene(batch=3)
    together = metric(inputs_of(*images))
    singles = torch.cat([metric(inputs_of(*(image[i : i + 1] for image in images))) for i in range(3)])
    assert together.shape == (3,)
    assert close(together, singles)


def test_inputs_are_left_alone(metric: Metric) -> None:
    images = [image.double() for image in scene()]
    before = [image.clone() for image in images]
    inputs = inputs_of(*images)
    first = metric(inputs)
    assert close(metric(inputs), first), "a second call on the same inputs gives another value"
    assert all(torch.equal(a, b) for a, b in zip(images, before, strict=True))


def test_constant_images_are_nan_or_defined_as_documented(metric: Metric) -> None:
    flat = torch.full((1, *SIZE), 90, dtype=torch.uint8)
    value = float(metric(inputs_of(flat, flat, flat)))
    assert math.isnan(value) == (metric.info.on_constant == "nan")


@pytest.mark.parametrize("size", [(161, 161), (162, 175), (175, 162), (181, 166)])
def test_odd_sizes(metric: Metric, size: tuple[int, int]) -> None:
    images = (picture(seed, size) for seed in (4, 5, 6))
    assert torch.isfinite(metric(inputs_of(*images))).all()


def test_smallest_size_is_accepted_and_one_less_refused(metric: Metric) -> None:
    smallest = metric.info.minimum_size
    images = [
        torch.from_numpy(np.random.default_rng(s).integers(0, 256, (1, smallest, smallest + 3))) for s in range(3)
    ]
    metric(inputs_of(*(image.to(torch.uint8) for image in images)))
    if smallest > 1:
        with pytest.raises(MetricError, match=f"at least {smallest} x {smallest}") as refusal:
            metric(inputs_of(*(image[:, 1:].to(torch.uint8) for image in images)))
        assert metric.info.name in str(refusal.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 300.0])
def test_every_image_a_metric_needs_is_checked(metric: Metric, bad: float) -> None:
    for need in metric.needs:
        images = inputs_of(*(image.double() for image in scene()))
        broken = images.image(need).clone()
        broken.view(-1)[-1] = bad
        given = {name: images.image(name) for name in metric.needs} | {need: broken}
        given.setdefault("fused", scene()[0])
        with pytest.raises(MetricError, match=need):
            metric(MetricInputs(**given))


@pytest.mark.parametrize("bad", ["nan", "infinite", "negative", "integers", "size", "missing", "dimensions"])
def test_bad_input_is_refused_by_name(metric: Metric, bad: str) -> None:
    fused, visible, infrared = (image.double() for image in scene())
    inputs: MetricInputs
    if bad in ("nan", "infinite", "negative"):
        broken = fused.clone()
        broken[0, 5, 5] = {"nan": math.nan, "infinite": math.inf, "negative": -1.0}[bad]
        inputs = inputs_of(broken, visible, infrared)
    elif bad == "integers":
        inputs = inputs_of(fused.long(), visible, infrared)
    elif bad == "size":
        inputs = inputs_of(fused, visible[:, 1:], infrared[:, 1:])
    elif bad == "missing":
        inputs = MetricInputs(fused)
    else:
        inputs = MetricInputs(fused[0], visible[0], infrared[0], fused_rgb=fused, visible_rgb=visible)
    if bad in ("size", "missing") and metric.needs == ("fused",):
        assert torch.isfinite(metric(inputs)), "a metric of the fused image alone does not look at the sources"
        return
    with pytest.raises(MetricError) as refusal:
        metric(inputs)
    assert metric.info.name in refusal.value.doing and refusal.value.found and refusal.value.expected


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 8, 64]))
def test_hypothesis_images_stay_in_range(metric: Metric, seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    low = int(random.integers(0, 250))
    images = random.integers(low, min(low + levels, 255) + 1, (3, 1, 161, 163)).astype(np.uint8)
    fused, visible, infrared = torch.from_numpy(images)
    value = float(metric(inputs_of(fused, visible, infrared)))
    low_bound, high_bound = metric.range
    assert math.isnan(value) or low_bound - 1e-6 <= value <= high_bound + 1e-6


def test_unknown_options_are_refused() -> None:
    with pytest.raises(UsageError, match="one of sources, peak"):
        load_metric("psnr", top=1)
    with pytest.raises(UsageError, match="fused maximum"):
        load_metric("psnr", peak="254")
    with pytest.raises(UsageError, match="did you mean ms-ssim"):
        load_metric("msssimm")
    assert load_metric("MS_SSIM") == load_metric("ms-ssim")


@pytest.mark.parametrize("name", sorted(NEEDS_WEIGHTS & set(METRICS.names())))
def test_metrics_without_their_weights_are_refused_with_instructions(name: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError) as refusal:
        load_metric(name)(inputs_of(*scene()))
    assert refusal.value.hint
