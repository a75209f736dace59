"""Attributing the gap between two protocols, and guessing where a number comes from."""

from __future__ import annotations

import numpy as np
import pytest

from tgfbench.benchmark.errors import UsageError
from tgfbench.metrics import load_protocol
from tgfbench.metrics.explain import TYPICAL, explain, guess
from tgfbench.metrics.protocols import PROTOCOLS


def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    fused = random.integers(0, 200, (165, 170, 3)).astype(np.uint8)
    return (
        fused,
        random.integers(0, 256, (165, 170, 3)).astype(np.uint8),
        random.integers(0, 256, (165, 170)).astype(np.uint8),
    )


@pytest.mark.parametrize(
    ("metric", "protocols", "convention"),
    [
        ("PSNR", ("film", "tang"), "peak"),
        ("EN", ("film", "vifb"), "colour"),
        ("MS-SSIM", ("tang", "tang-py"), "metric"),
        ("MI", ("film", "tang-py"), "unit"),
        ("AG", ("film", "tang"), "average"),
    ],
)
def test_the_cause_of_a_gap_is_named(metric: str, protocols: tuple[str, str], convention: str) -> None:
    fused, visible, infrared = images()
    explained = explain(metric, protocols, fused, visible, infrared)
    expected = tuple(load_protocol(p).select([metric]).evaluate(fused, visible, infrared)[metric] for p in protocols)
    assert explained.values == expected
    assert explained.cause is not None and explained.cause.convention == convention


def test_equal_protocols_have_no_cause() -> None:
    fused, visible, infrared = images()
    explained = explain("SCD", ("cddfuse", "film"), fused, visible, infrared)
    assert explained.cause is None and explained.values[0] == explained.values[1]


def test_several_conventions_are_listed_largest_first() -> None:
    fused, visible, infrared = images()
    explained = explain("ssim", ("film", "tang"), fused, visible, infrared)
    assert {d.convention for d in explained.differences} >= {"sources", "peak", "window", "border"}
    gaps = [abs(d.value - explained.values[0]) for d in explained.differences]
    assert gaps == sorted(gaps, reverse=True)


@pytest.mark.parametrize(
    ("metric", "value", "protocol"),
    [
        ("PSNR", 63.27, "tang"),
        ("psnr", 56.0, "vifb"),
        ("MI", 13.0, "hli"),
        ("MSE", 0.04, "tang"),
        ("SSIM", 1.5, "film"),
    ],
)
def test_a_published_number_finds_its_protocol(metric: str, value: float, protocol: str) -> None:
    found = guess(metric, value)
    assert found[0].inside and protocol in found[0].protocols


def test_a_number_outside_everything_gets_the_nearest_and_says_so() -> None:
    (found,) = guess("PSNR", 200.0)
    assert not found.inside and "tang" in found.protocols


def test_guessing_needs_a_metric_that_differs() -> None:
    with pytest.raises(UsageError, match="do not tell"):
        guess("SCD", 1.0)
    with pytest.raises(UsageError, match="no such metric"):
        guess("SCDD", 1.0)


def test_typical_ranges_name_protocols_that_print_the_metric() -> None:
    for metric, rows in TYPICAL.items():
        for low, high, protocols, _ in rows:
            assert low < high
            for protocol in protocols.split():
                if (metric, protocol) != ("VIF", "textfusion"):
                    assert metric in PROTOCOLS[protocol].metrics, f"{metric} is not in {protocol}"
