"""Visual information fidelity in the pixel domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tgfbench.metrics.base import Image, MetricInfo, MetricInputs, SourceMetric, Sources
from tgfbench.metrics.elementwise import log1p
from tgfbench.metrics.filters import Moments, Window
from tgfbench.metrics.pixels import pixel_sums

NOISE_VARIANCE = 2.0
FLOOR = 1e-10
Form = Literal["definition", "ivif-zoo"]

SCALES = (17, 9, 5, 3)
"""Taps of the Gaussian window at scales 1 to 4; its sigma is a fifth of them."""


@dataclass(frozen=True)
class VIF(SourceMetric):
    """Visual information fidelity in the pixel domain: four scales, the source as reference, the fused as distorted.

    Equal to torchmetrics (2e-8) and piq's ``vif_p`` (4e-6).

    Args:
        form: ``"definition"``, or ``"ivif-zoo"``: zeros outside the image instead of full windows only, and a window
            sampled at ``linspace(-ceil(N / 2), floor(N / 2), N)``, half a pixel off centre (up to +50 %). IVIF_ZOO
            itself computes in single precision, which scatters its values by up to 1e-4.
        sources: ``"sum"`` (the evaluators' convention), ``"mean"``, or one image.
    """

    form: Form = "definition"
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
        for scale in range(len(SCALES)):
            moments = window(scale, self.form).moments(scale_space(inputs, scale, self.form), source, "fused")
            information = pixel_sums(lambda *maps: _information(Moments(*maps)), *moments)
            kept, available = kept + information[0], available + information[1]
        # A constant source carries no information to be kept.
        return torch.where(available > 0, kept / available, torch.nan)


def _information(moments: Moments) -> tuple[Tensor, Tensor]:
    """Information (in nats, times 2) that passes from the source x to the fused image y, and that the source holds."""
    gain, noise, variance = channel(moments)
    kept = log1p(gain.square() * variance / (noise + NOISE_VARIANCE))
    return kept, log1p(variance / NOISE_VARIANCE)


def channel(moments: Moments) -> tuple[Tensor, Tensor, Tensor]:
    """Return gain g and noise variance of the local model y = g x + noise, and the local variance of the source x.

    The gain is 0 where either image is flat or where x and y vary against each other; the noise variance then does not
    matter.
    """
    variance, distorted, covariance = moments.variance_x, moments.variance_y, moments.covariance
    gain = (covariance / (variance + FLOOR)).clamp_(min=0)
    noise = torch.addcmul(distorted, gain, covariance, value=-1).clamp_(min=FLOOR)
    if min(variance.min(), distorted.min()) < FLOOR:
        gain.masked_fill_((variance < FLOOR) | (distorted < FLOOR), 0)
        variance.masked_fill_(variance < FLOOR, 0)
    return gain, noise, variance


def window(scale: int, form: Form = "definition") -> Window:
    """The Gaussian window of a scale, in one of the forms of ``VIF``."""
    taps = SCALES[scale]
    if form == "definition":
        return Window.gaussian(taps, taps / 5)
    offsets = np.linspace(-taps // 2, taps // 2, taps)
    weights = np.exp(-(offsets**2) / (2 * (taps / 5) ** 2))
    return Window(tuple(weights / weights.sum()), "zero")


def scale_space(inputs: MetricInputs, scale: int, form: Form = "definition") -> MetricInputs:
    """Return the batch at a scale: filtered with that scale's window and every second pixel kept, ``scale`` times."""
    if scale == 0:
        return inputs

    def coarser() -> MetricInputs:
        finer, filtered = scale_space(inputs, scale - 1, form), window(scale, form)
        return finer.map(lambda images: filtered(images)[:, ::2, ::2].contiguous())

    return inputs.once(("scale space", scale, form), coarser)
