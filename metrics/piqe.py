"""PIQE: how much distortion is visible in the active blocks of one image, without any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tgfbench.metrics.base import Metric, MetricInfo, MetricInputs, Need
from tgfbench.metrics.correlate import correlate

BLOCK = 16
SEGMENT = 6
ACTIVITY, UNIFORMITY = 0.1, 0.1
"""Variance from which a block counts, and standard deviation below which a piece of its edge is uniform."""

# The reference keeps these constants in single precision and computes in double.
LUMA = np.array([0.299, 0.587, 0.114], np.float32).astype(np.float64)
CENTRE = (7, 8)
SURROUND = tuple(column for column in range(BLOCK) if column not in (7, 9))
"""Columns compared by the noise test. Leaving out 9 instead of 8 is a slip that all published values carry."""


@dataclass(frozen=True)
class PIQE(Metric):
    """Perception-based image quality of the fused image alone: 0 best, 100 worst.

    Blocks of 16 x 16 normalised pixels with enough variance are looked at: one with a uniform piece on its edge counts
    1 - variance (blocking, blur), one that fails the noise test its variance. Equal to pyiqa's ``piqe``.

    Args:
        colour: look at the luma 0.299 R + 0.587 G + 0.114 B of the fused colour image, instead of the grey levels that
            the other metrics see, which are whole numbers.
    """

    colour: bool = False

    info: ClassVar[MetricInfo] = MetricInfo(
        name="PIQE",
        title="perception-based image quality",
        higher_is_better=False,
        range=(0.0, 100.0),
        needs=("fused",),
        citation="Venkatanath, Praneeth, Bh, Channappayya, Medasani, NCC 2015",
        minimum_size=BLOCK,
        notes="A constant image has no active block and scores 100.",
    )

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("fused_rgb",) if self.colour else ("fused",)

    def compute(self, inputs: MetricInputs) -> Tensor:
        if self.colour:
            red, green, blue = (inputs.image("fused_rgb") / 255).unbind(1)
        else:
            red = green = blue = inputs.image("fused") / 255
        # The order of the sum decides where the division below ends in one half exactly.
        luma = red * LUMA[0] + blue * LUMA[2] + green * LUMA[1]
        blocks = _blocks(_normalised(luma))
        variance = blocks.flatten(2).var(2)
        active = variance > ACTIVITY
        distortion = torch.where(_uniform_edge(blocks), 1 - variance, 0) + torch.where(_noisy(blocks), variance, 0)
        return 100 * ((distortion * active).sum(1) + 1) / (active.sum(1) + 1)


def _normalised(luma: Tensor) -> Tensor:
    """Mean-subtracted, contrast-normalised levels of (B, H, W) luma that was first stretched to a maximum of 255."""
    peak = luma.amax((1, 2), keepdim=True)
    levels = torch.round(255 * luma / peak.masked_fill(peak == 0, 1))
    rows, columns = (_extended(length, luma.device) for length in luma.shape[1:])
    levels = levels[:, rows][:, :, columns]
    kernel = _kernel()
    mean = correlate(levels, kernel, "replicate")
    deviation = (correlate(levels.square(), kernel, "replicate") - mean.square()).abs().sqrt()
    return (levels - mean) / (deviation + 1)


def _extended(length: int, device: torch.device) -> Tensor:
    """Indices of a side extended by a reflection, in the reference by the remainder and not by what is missing."""
    index = torch.arange(length + length % BLOCK, device=device)
    return torch.where(index < length, index, 2 * length - 1 - index)


def _kernel() -> np.ndarray:
    offsets = np.arange(-3.0, 4.0)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (7 / 6) ** 2))
    return (weights / weights.sum()).astype(np.float32).astype(np.float64)


def _blocks(images: Tensor) -> Tensor:
    """Whole blocks of (B, H, W) as (B, N, 16, 16)."""
    return images.unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).flatten(1, 2)


def _uniform_edge(blocks: Tensor) -> Tensor:
    """Whether any 6 neighbouring pixels on one of the four edges of a block hardly vary, (B, N)."""
    edges = torch.stack([blocks[..., 0, :], blocks[..., -1, :], blocks[..., :, 0], blocks[..., :, -1]], 2)
    return (edges.unfold(3, SEGMENT, 1).std(4) < UNIFORMITY).flatten(2).any(2)


def _noisy(blocks: Tensor) -> Tensor:
    """Whether the two middle columns of a block deviate from their surround as noise does, (B, N)."""
    whole = blocks.flatten(2).std(2)
    ratio = blocks[..., CENTRE].flatten(2).std(2) / blocks[..., SURROUND].flatten(2).std(2)
    ratio = ratio.nan_to_num(0.0)
    difference = (whole - ratio).abs() / torch.maximum(whole, ratio)
    return whole > 2 * difference
