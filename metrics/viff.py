"""VIFF: visual information fidelity for fusion, which asks at every place the source that passed on less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Metric, MetricInfo, MetricInputs
from tgfbench.metrics.elementwise import log1p
from tgfbench.metrics.filters import Moments
from tgfbench.metrics.pixels import pixel_sums
from tgfbench.metrics.vif import SCALES, channel, scale_space, window

NOISE_VARIANCE = 0.005 * 255**2
SCALE_WEIGHTS = (1.0, 0.0, 0.15, 1.0)
FLOOR = 1e-7 * math.log(10)
"""Information in nats that Han's code, which counts in powers of ten, adds at every place."""


@dataclass(frozen=True)
class VIFF(Metric):
    """Visual information fidelity for fusion.

    At every place of every scale the source with the smaller gain is compared with the fused image. Not the function
    of that name in CDDFuse's evaluator, which is the pixel domain VIF.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="VIFF",
        title="visual information fidelity for fusion",
        higher_is_better=True,
        range=(0.0, math.inf),
        citation="Han, Cai, Cao, Xu, Inf. Fusion 14(2), 2013",
        minimum_size=41,
        on_constant="nan",
        symmetric=False,
        notes="Where neither source passes anything on, the visible one is asked.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        value = information = torch.zeros(inputs.batch, dtype=torch.float64, device=inputs.device)
        for scale, weight in enumerate(SCALE_WEIGHTS[: len(SCALES)]):
            if not weight:
                continue
            level = scale_space(inputs, scale)
            moments = [window(scale).moments(level, source, "fused") for source in SOURCES]
            kept, available, places = pixel_sums(_information, *moments[0], *moments[1])
            value = value + weight * (kept + FLOOR * places) / (available + FLOOR * places)
            information = information + available
        # Two constant sources have no information to be kept.
        return (value / sum(SCALE_WEIGHTS)).masked_fill(information == 0, torch.nan)


def _information(*maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gain_a, noise_a, variance_a = channel(Moments(*maps[:5]))
    gain_b, noise_b, variance_b = channel(Moments(*maps[5:]))
    first = gain_a < gain_b
    gain, noise = torch.where(first, gain_a, gain_b), torch.where(first, noise_a, noise_b)
    variance = torch.where(first, variance_a, variance_b)
    kept = log1p(gain.square() * variance / (noise + NOISE_VARIANCE))
    return kept, log1p(variance / NOISE_VARIANCE), torch.ones_like(kept)
