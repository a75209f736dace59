"""MEF-SSIM and MEF-MS-SSIM: structural similarity of a fused image to the best that patches of its sources offer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Metric, MetricInfo, MetricInputs
from tgfbench.metrics.filters import gaussian, separable
from tgfbench.metrics.structure import local_moments

PATCH = 11
EPS = np.finfo(np.float64).eps
STABILITY = (0.03 * 255) ** 2
BAND_PIXELS = 2**20
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001)


@dataclass(frozen=True)
class MEFSSIM(Metric):
    """Similarity of every 11 x 11 patch of the fused image to the best mixture of the structures of both sources."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="MEF-SSIM",
        title="multi-exposure fusion structural similarity",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Ma, Zeng, Wang, IEEE TIP 24(11), 2015",
        minimum_size=11,
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        return inputs.once("mef-ssim", lambda: self._mean(inputs))

    def _mean(self, inputs: MetricInputs) -> Tensor:
        """Mean of the map, some rows of patches at a time: the map takes two dozen images to compute."""
        height, width = (side - PATCH + 1 for side in inputs.size)
        rows = max(1, BAND_PIXELS // width)
        images = [inputs.image(name) for name in ("fused", *SOURCES)]
        total = torch.zeros(inputs.batch, dtype=torch.float64, device=inputs.device)
        for top in range(0, height, rows):
            total += mef_map(*(image[:, top : top + rows + PATCH - 1] for image in images)).sum((1, 2))
        return total / (height * width)


@dataclass(frozen=True)
class MEFMSSSIM(Metric):
    """MEF-SSIM on three scales, multiplied with exponents; what Tang's and Li Hui's evaluators print as MS_SSIM.

    A negative score of a scale has a complex power; the value is then the real part of the product.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="MEF-MS-SSIM",
        title="multi-exposure fusion multi-scale structural similarity",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Ma, Zeng, Wang, IEEE TIP 24(11), 2015",
        minimum_size=41,
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        product = torch.ones(inputs.batch, dtype=torch.complex128, device=inputs.device)
        for level, weight in enumerate(SCALE_WEIGHTS):
            inputs = inputs.map(_halve) if level else inputs
            product = product * MEFSSIM().compute(inputs).to(product.dtype) ** (weight / sum(SCALE_WEIGHTS))
        return product.real


def mef_map(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Similarity of every full 11 x 11 patch of the fused image to the desired patch.

    The desired patch mixes the structure of both sources, weighted by their signal strength, at the strength of the
    stronger one. It is linear in the sources, so its moments follow from theirs and no patch is ever built.

    Returns:
        (B, H - 10, W - 10).
    """
    pixels = PATCH**2
    box = np.ones(PATCH)

    def spread(first: Tensor, second: Tensor, first_sum: Tensor, second_sum: Tensor) -> Tensor:
        # Sums of whole grey levels are exact, so a flat patch has a spread of exactly 0.
        return separable(first * second, box, box, "valid") - first_sum * second_sum / pixels

    infrared_sum, visible_sum = (separable(source, box, box, "valid") for source in (infrared, visible))
    infrared_energy = spread(infrared, infrared, infrared_sum, infrared_sum).clamp(min=0)
    visible_energy = spread(visible, visible, visible_sum, visible_sum).clamp(min=0)
    shared = spread(infrared, visible, infrared_sum, visible_sum)

    infrared_norm, visible_norm = infrared_energy.sqrt(), visible_energy.sqrt()
    together = (infrared_energy + visible_energy + 2 * shared).clamp(min=0).sqrt()
    consistency = ((together + EPS) / (infrared_norm + visible_norm + EPS)).clamp(EPS, 1 - EPS)
    power = torch.tan(consistency * (math.pi / 2)).clamp(max=10)

    infrared_strength, visible_strength = infrared_norm + 0.001, visible_norm + 0.001
    infrared_weight = (infrared_strength / PATCH) ** power + EPS
    visible_weight = (visible_strength / PATCH) ** power + EPS
    total = infrared_weight + visible_weight
    infrared_factor = infrared_weight / total / infrared_strength
    visible_factor = visible_weight / total / visible_strength
    length = (
        infrared_factor.square() * infrared_energy
        + visible_factor.square() * visible_energy
        + 2 * infrared_factor * visible_factor * shared
    ).clamp(min=0)
    rescale = torch.where(length > 0, torch.maximum(infrared_strength, visible_strength) / length.sqrt(), 0.0)
    infrared_factor, visible_factor = infrared_factor * rescale, visible_factor * rescale

    kernel = gaussian(PATCH, 1.5)
    moments = local_moments(
        fused, infrared, visible, lambda images: separable(images, kernel, kernel, "valid"), between_sources=True
    )
    desired_variance = (
        infrared_factor.square() * moments.infrared_variance
        + visible_factor.square() * moments.visible_variance
        + 2 * infrared_factor * visible_factor * moments.infrared_visible  # type: ignore[operator]  # asked for above
    )
    covariance = infrared_factor * moments.infrared_fused + visible_factor * moments.visible_fused
    return (2 * covariance + STABILITY) / (desired_variance + moments.fused_variance + STABILITY)


def _halve(images: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels; a last odd row or column counts twice."""
    height, width = images.shape[1:]
    if height % 2 or width % 2:
        images = F.pad(images[:, None], (0, width % 2, 0, height % 2), mode="replicate")[:, 0]
    return F.avg_pool2d(images, 2)
