"""Fusion metrics on wavelet coefficients and spatial frequencies: Q_M and Q_SF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Metric, MetricInfo, MetricInputs
from tgfbench.metrics.elementwise import exp

Details = tuple[Tensor, Tensor, Tensor]
"""One level of detail coefficients: horizontal, vertical, diagonal, each (B, H/2, W/2)."""

LEVEL_WEIGHTS = (2 / 3, 1 / 3)
"""Exponents of the two levels of Q_M, finest first."""


def haar_details(images: Tensor, levels: int) -> list[Details]:
    """Orthonormal Haar wavelet transform.

    Args:
        images: (B, H, W); at every level a last odd row or column is dropped.
        levels: number of levels.

    Returns:
        The detail coefficients per level, finest first.
    """
    pyramid: list[Details] = []
    for _ in range(levels):
        height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
        upper, lower = images[:, 0:height:2, :width], images[:, 1:height:2, :width]
        above, below = upper + lower, upper - lower
        pyramid.append(
            (
                (below[..., 0::2] + below[..., 1::2]) / 2,
                (above[..., 0::2] - above[..., 1::2]) / 2,
                (below[..., 0::2] - below[..., 1::2]) / 2,
            )
        )
        images = (above[..., 0::2] + above[..., 1::2]) / 2
    return pyramid


@dataclass(frozen=True)
class QM(Metric):
    """Q_M: edge preservation exp(-|difference|) of Haar detail coefficients, weighted by the energy of the sources'.

    Args:
        normalised: divide the preservation, a sum over three orientations, by 3, so that the range is 0..1.
    """

    normalised: bool = False

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_M",
        title="multi-scale edge preservation",
        higher_is_better=True,
        range=(0.0, 3.0),
        citation="Wang, Liu, ICSP 2008",
        minimum_size=4,
        on_constant="nan",
        notes="Up to 3, as every published value is a sum over three orientations.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        fused, *sources = (haar_details(inputs.image(name), len(LEVEL_WEIGHTS)) for name in ("fused", *SOURCES))
        result = torch.ones(inputs.batch, dtype=torch.float64, device=inputs.device)
        for level, exponent in enumerate(LEVEL_WEIGHTS):
            kept, total = torch.zeros_like(result), torch.zeros_like(result)
            for source in sources:
                bands = list(zip(source[level], fused[level], strict=True))
                energy = torch.stack(source[level]).square().sum(0)
                preserved = torch.stack([exp(-(s - f).abs()) for s, f in bands]).sum(0)
                kept += (energy * preserved).sum((1, 2))
                total += energy.sum((1, 2))
            result = result * (kept / total / (3 if self.normalised else 1)) ** exponent
        return result

    @property
    def range(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.normalised else self.info.range


def directional_differences(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First differences of (B, H, W) along rows, columns, the main and the other diagonal."""
    return (
        images[:, :, 1:] - images[:, :, :-1],
        images[:, 1:, :] - images[:, :-1, :],
        images[:, 1:, 1:] - images[:, :-1, :-1],
        images[:, 1:, :-1] - images[:, :-1, 1:],
    )


@dataclass(frozen=True)
class QSF(Metric):
    """Q_SF: relative error of the four-direction spatial frequency, (SF_fused - SF_reference) / SF_reference.

    The diagonal directions are weighted by 1/sqrt 2; the reference has the larger of the two sources' absolute
    differences everywhere.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_SF",
        title="ratio of spatial frequency error",
        higher_is_better=True,
        range=(-1.0, math.inf),
        citation="Zheng, Essock, Hansen, Haun, Inf. Fusion 8(2), 2007",
        on_constant="nan",
        ideal=0.0,
        notes="0 is best: below, detail of the sources is missing; above, the fused image has more than both (noise).",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        infrared, visible, fused = (directional_differences(inputs.image(name)) for name in (*SOURCES, "fused"))
        largest = [torch.maximum(a.abs(), b.abs()) for a, b in zip(infrared, visible, strict=True)]
        reference, found = (_frequency(differences, inputs.size) for differences in (largest, fused))
        return (found - reference) / reference


def _frequency(differences: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    squares = [difference.square().sum((1, 2)) / math.prod(size) for difference in differences]
    return torch.sqrt(squares[0] + squares[1] + (squares[2] + squares[3]) / math.sqrt(2))
