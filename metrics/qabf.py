"""Edge transfer from the sources to the fused image: Qabf of Xydeas and Petrovic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Image, Metric, MetricInfo, MetricInputs, Need
from tgfbench.metrics.elementwise import atan, exp, magnitude
from tgfbench.metrics.filters import sobel
from tgfbench.metrics.histograms import covariance
from tgfbench.metrics.pixels import pixel_sums

STRENGTH = (0.9994, -15.0, 0.5)
ANGLE = (0.9879, -22.0, 0.8)
"""Gain, slope and centre of the two sigmoids."""


@dataclass(frozen=True)
class Qabf(Metric):
    """How much edge strength and orientation of the sources survives, weighted by the edge strength of the sources.

    Args:
        single_source: compare with the reference image alone instead of both sources (TextFusion's Qabf+).
    """

    single_source: bool = False

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Qabf",
        title="edge information transfer",
        higher_is_better=True,
        range=(0.0, 0.9754),
        citation="Xydeas, Petrovic, Electron. Lett. 36(4), 2000",
        minimum_size=3,
        on_constant="nan",
        notes="At most 0.9754, not 1: the published sigmoids do not reach 1. NaN where both sources are constant.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        sources: tuple[Image, ...] = ("reference",) if self.single_source else SOURCES
        kept = available = torch.zeros(inputs.batch, dtype=torch.float64, device=inputs.device)
        for source in sources:
            sums = pixel_sums(_transfer, *edges(inputs, source), *edges(inputs, "fused"))
            kept, available = kept + sums[0], available + sums[1]
        # A constant image has edges only against the zeros around it.
        flat = torch.stack([covariance(inputs, source, source) for source in sources]).sum(0) == 0
        return torch.where(flat, torch.nan, kept / available)

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("fused", "reference") if self.single_source else self.info.needs


def edges(inputs: MetricInputs, name: Image) -> tuple[Tensor, Tensor]:
    """Return the Sobel edge strength and orientation in [-pi/2, pi/2] of an image, zeros outside it, each (B, H, W)."""

    def compute() -> tuple[Tensor, Tensor]:
        across, down = sobel(inputs, name, "zero")
        # The published operators are right minus left and upper minus lower; with no horizontal difference, +pi/2.
        angle = torch.where(across == 0, math.pi / 2, atan(-down / across))
        return magnitude(across, down), angle

    return inputs.once(("edges", name), compute)


def _transfer(strength_s: Tensor, angle_s: Tensor, strength_f: Tensor, angle_f: Tensor) -> tuple[Tensor, Tensor]:
    """Preservation of a source (s) in the fused image (f) times the edge strength of the source, and that alone."""
    ratio = torch.minimum(strength_s, strength_f) / torch.maximum(strength_s, strength_f)
    ratio = torch.where(strength_s == strength_f, strength_f, ratio)
    alignment = 1 - (angle_s - angle_f).abs() * (2 / math.pi)
    return _sigmoid(ratio, *STRENGTH) * _sigmoid(alignment, *ANGLE) * strength_s, strength_s


def _sigmoid(value: Tensor, gain: float, slope: float, centre: float) -> Tensor:
    return gain / (1 + exp(slope * (value - centre)))
