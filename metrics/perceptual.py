"""Fusion metrics from human vision: Qcb (Chen and Blum) and Qcv (Chen and Varshney).

Both first stretch every image to the full range, which a constant image does not have: the score is then NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Image, Metric, MetricInfo, MetricInputs
from tgfbench.metrics.filters import DERIVATIVE, SMOOTH, separable
from tgfbench.metrics.histograms import covariance
from tgfbench.metrics.luma import stretch
from tgfbench.metrics.pixels import pixel_mean

BLOCK = 16


@dataclass(frozen=True)
class Qcb(Metric):
    """Preservation of perceived contrast, weighted by its saliency in the sources.

    Args:
        form: ``"definition"``, or ``"ivif-zoo"``: spatial frequencies twice too small, the stretched image not rounded,
            and 1e-10 added to the saliency.
    """

    form: Literal["definition", "ivif-zoo"] = "definition"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Qcb",
        title="Chen-Blum metric",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Chen, Blum, Image Vis. Comput. 27(10), 2009",
        minimum_size=3,
        on_constant="nan",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        contrasts = (_masked_contrast(inputs, name, self.form) for name in (*SOURCES, "fused"))
        floor = 1e-10 if self.form == "ivif-zoo" else 0.0

        def quality(infrared: Tensor, visible: Tensor, fused: Tensor) -> Tensor:
            kept, saliency = [], []
            for source in (infrared, visible):
                kept.append(torch.minimum(source, fused) / torch.maximum(source, fused))
                saliency.append(source.square())
            return (saliency[0] * kept[0] + saliency[1] * kept[1]) / (saliency[0] + saliency[1] + floor)

        return _undefined_on_constant(inputs, pixel_mean(quality, *contrasts))


def _masked_contrast(inputs: MetricInputs, name: Image, form: Literal["definition", "ivif-zoo"]) -> Tensor:
    """Perceived local contrast, at least 0: contrast sensitivity, band-pass contrast and masking."""
    rounded = form == "definition"
    images = _stretched(inputs, name) if rounded else stretch(inputs.image(name), rounded=False)
    seen = _filter_spectrum(images, _chen_blum_response(*inputs.size, 1.0 if rounded else 0.5))
    narrow, wide = (separable(seen, kernel, kernel, "zero") for kernel in (_sampled_gaussian(2), _sampled_gaussian(4)))
    contrast = narrow.div_(wide).sub_(1).abs_()
    square = contrast.square()
    return contrast.mul_(square).div_(square.add_(1e-4))


@dataclass(frozen=True)
class Qcv(Metric):
    """Perceived error of the fused image in 16 x 16 blocks, weighted by the saliency of the sources there.

    The saliency of a block is the sum of the fifth power of its Sobel strength; a partial last block is filled with
    zeros.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Qcv",
        title="Chen-Varshney metric",
        higher_is_better=False,
        range=(0.0, math.inf),
        citation="Chen, Varshney, Inf. Fusion 8(2), 2007",
        minimum_size=3,
        on_constant="nan",
        notes="Hundreds to thousands.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        fused = _stretched(inputs, "fused")
        response = _chen_varshney_response(*inputs.size)
        error = total = fused.new_zeros(fused.shape[0])
        for name in SOURCES:
            source = _stretched(inputs, name)
            across = separable(source, DERIVATIVE, SMOOTH, "zero")
            down = separable(source, SMOOTH, DERIVATIVE, "zero")
            square = across.square_().add_(down.square_())
            saliency = _block_sums(square.square().mul_(square.sqrt()))
            perceived = _block_sums(_filter_spectrum(source - fused, response).square_()) / BLOCK**2
            error = error + (saliency * perceived).sum((1, 2))
            total = total + saliency.sum((1, 2))
        return _undefined_on_constant(inputs, error / total)


def _stretched(inputs: MetricInputs, name: Image) -> Tensor:
    return inputs.once(("stretched", name), lambda: stretch(inputs.image(name)))


def _undefined_on_constant(inputs: MetricInputs, value: Tensor) -> Tensor:
    constant = [covariance(inputs, name, name) == 0 for name in ("fused", *SOURCES)]
    return value.masked_fill(constant[0] | constant[1] | constant[2], torch.nan)


def _block_sums(images: Tensor) -> Tensor:
    """Sums over 16 x 16 blocks of (B, H, W), missing pixels counted as 0."""
    height, width = images.shape[1:]
    padded = F.pad(images, (0, -width % BLOCK, 0, -height % BLOCK))
    return padded.unflatten(2, (-1, BLOCK)).sum(3).unflatten(1, (-1, BLOCK)).sum(2)


def _filter_spectrum(images: Tensor, response: np.ndarray) -> Tensor:
    """Multiply the spectrum of (B, H, W) by an even real response, given on the non-negative half (H, W // 2 + 1)."""
    spectrum = torch.fft.rfft2(images)
    # The product of two complex tensors is many times faster than that of a complex and a real one.
    return torch.fft.irfft2(spectrum * torch.from_numpy(response).to(spectrum), s=images.shape[1:])


@lru_cache(maxsize=8)
def _chen_blum_response(height: int, width: int, band_edge: float) -> np.ndarray:
    radius = _radius(height, width, band_edge / 30)
    return np.exp(-((radius / 15.3870) ** 2)) - 0.7622 * np.exp(-((radius / 1.3456) ** 2))


@lru_cache(maxsize=8)
def _chen_varshney_response(height: int, width: int) -> np.ndarray:
    scaled = 0.144 * _radius(height, width, 1 / 8)
    return 2.6 * (0.0192 + scaled) * np.exp(-(scaled**1.1))


def _radius(height: int, width: int, scale: float) -> np.ndarray:
    """Distance from zero frequency, where the edge of the spectrum lies at (H * scale, W * scale)."""
    down = np.fft.fftfreq(height) * 2 * height * scale
    across = np.fft.rfftfreq(width) * 2 * width * scale
    return np.hypot(down[:, None], across)


def _sampled_gaussian(sigma: float) -> np.ndarray:
    """Samples of the normal density at -15..15, deliberately not renormalised."""
    offsets = np.arange(-15.0, 16.0)
    return np.exp(-(offsets**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
