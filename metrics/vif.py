"""Visual information fidelity in the pixel domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tgfbench.metrics.base import Image, MetricInfo, MetricInputs, SourceMetric, Sources
from tgfbench.metrics.filters import Window, gaussian

NOISE_VARIANCE = 2.0
FLOOR = 1e-10
SCALES = (17, 9, 5, 3)
"""Taps of the Gaussian window at scales 1 to 4; its sigma is a fifth of them."""


@dataclass(frozen=True)
class VIF(SourceMetric):
    """Visual information fidelity in the pixel domain: four scales, the source as reference, the fused as distorted.

    Equal to torchmetrics (2e-8) and piq's ``vif_p`` (4e-6).

    Args:
        sources: ``"sum"`` (the evaluators' convention), ``"mean"``, or one image.
    """

    sources: Sources = "sum"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="VIF",
        title="visual information fidelity, pixel domain",
        higher_is_better=True,
        range=(0.0, float("inf")),
        citation="Sheikh, Bovik, IEEE TIP 15(2), 2006",
        minimum_size=41,
        on_constant="nan",
        notes="1 per source for an identical image, above 1 where the fused image is sharper than its source.",
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        kept = torch.zeros(inputs.batch, dtype=torch.float64, device=inputs.device)
        available = torch.zeros_like(kept)
        for scale, taps in enumerate(SCALES):
            level = scale_space(inputs, scale)
            window = Window(gaussian(taps, taps / 5))
            gain, noise, variance = channel(level, source, window)
            kept = kept + torch.log1p(gain.square() * variance / (noise + NOISE_VARIANCE)).sum((1, 2))
            available = available + torch.log1p(variance / NOISE_VARIANCE).sum((1, 2))
        # A constant source carries no information to be kept.
        return torch.where(available > 0, kept / available, torch.nan)


def channel(inputs: MetricInputs, source: Image, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gain g and noise variance of the local model F = g S + noise, and the local variance of the source."""
    variance = window.covariance(inputs, source, source).clamp(min=0)
    distorted = window.covariance(inputs, "fused", "fused").clamp(min=0)
    covariance = window.covariance(inputs, source, "fused")
    gain = covariance / (variance + FLOOR)
    noise = distorted - gain * covariance

    flat_source, flat_fused = variance < FLOOR, distorted < FLOOR
    gain = torch.where(flat_source | flat_fused, 0, gain)
    noise = torch.where(flat_source, distorted, noise)
    noise = torch.where(flat_fused, 0, noise)
    variance = torch.where(flat_source, 0, variance)

    inverted = gain < 0
    noise = torch.where(inverted, distorted, noise).clamp(min=FLOOR)
    return gain.clamp(min=0), noise, variance


def scale_space(inputs: MetricInputs, scale: int) -> MetricInputs:
    """Return the batch at a scale: filtered with that scale's window and every second pixel kept, ``scale`` times."""
    if scale == 0:
        return inputs
    taps = SCALES[scale]
    window = Window(gaussian(taps, taps / 5))

    def coarser() -> MetricInputs:
        return scale_space(inputs, scale - 1).map(lambda images: window(images)[:, ::2, ::2].contiguous())

    return inputs.once(("scale space", scale), coarser)
