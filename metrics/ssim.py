"""Structural similarity: SSIM and MS-SSIM, under the windows, borders and dynamic ranges in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.metrics.base import Image, MetricInfo, MetricInputs, SourceMetric, Sources
from tgfbench.metrics.filters import Window, gaussian

Odd = Literal["pad", "drop", "repeat"]

_WANG_2003 = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first (Wang, Simoncelli, Bovik 2003)."""


def similarity(
    inputs: MetricInputs, first: Image, second: Image, window: Window, *, peak: float, bias: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the luminance and the contrast-structure maps of two images, each (B, h, w).

    Args:
        inputs: the batch.
        first: one image.
        second: the other; the maps are symmetric in the two.
        window: where local moments are taken.
        peak: the dynamic range L of the constants (0.01 L)^2 and (0.03 L)^2.
        bias: factor on variances and covariance, n / (n - 1) for sample statistics.
    """
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_x, mean_y = window.mean(inputs, first), window.mean(inputs, second)
    var_x, var_y = window.covariance(inputs, first, first), window.covariance(inputs, second, second)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * bias * window.covariance(inputs, first, second) + c2) / (bias * (var_x + var_y) + c2)
    return luminance, structure


@dataclass(frozen=True)
class SSIM(SourceMetric):
    """Structural similarity of the fused image to each source.

    Args:
        window: ``"gaussian"`` (11 taps, sigma 1.5, population moments) or ``"uniform"`` (7 x 7, sample moments: the
            defaults of scikit-image, hence of CDDFuse and FILM).
        border: full windows only (``"valid"``), or the image continued by its edge pixels (``"replicate"``: MATLAB's
            ssim) or by reflection (``"mirror"``: torchmetrics).
        peak: the dynamic range L. 1 on 0..255 data is the scale error of the Tang family, 2 what scikit-image before
            0.20 assumed of float images.
        negative: negative contrast-structure values are kept, or set to zero (``"zero"``: pyiqa).
        sources: ``"mean"`` of both, ``"sum"``, or one image.
    """

    window: Literal["gaussian", "uniform"] = "gaussian"
    border: Literal["valid", "replicate", "mirror"] = "valid"
    peak: Literal[255, 2, 1] = 255
    negative: Literal["kept", "zero"] = "kept"
    sources: Sources = "mean"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="SSIM",
        title="structural similarity",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13(4), 2004",
        minimum_size=11,
        notes="Equals scikit-image with gaussian_weights=True, sigma=1.5, use_sample_covariance=False.",
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        if self.window == "gaussian":
            window, bias = Window(gaussian(11, 1.5), self.border), 1.0
        else:
            window, bias = Window(np.full(7, 1 / 7), self.border), 49 / 48
        luminance, structure = similarity(inputs, source, "fused", window, peak=self.peak, bias=bias)
        if self.negative == "zero":
            structure = structure.clamp(min=0)
        return (luminance * structure).mean((1, 2))


@dataclass(frozen=True)
class MSSSIM(SourceMetric):
    """Multi-scale structural similarity over five scales; the libraries differ in three details.

    Args:
        peak: the dynamic range L; 1 on 0..255 data is the scale error of tang_py and IVIF_ZOO.
        odd: what happens to a side of odd length before it is halved: zeros are added at both its ends (``"pad"``,
            pytorch_msssim and pyiqa), its last row or column is dropped (``"drop"``, torchmetrics), or the first row
            and column are repeated once if either side is odd (``"repeat"``, piq).
        negative: the mean of a scale below 0 counts as 0 (``"scale"``), or already every pixel (``"pixel"``, pyiqa).
        coarsest_border: border rule of the SSIM map at the coarsest scale; torchmetrics averages a map continued by
            reflection (``"mirror"``) there and full windows elsewhere.
        sources: ``"mean"`` of both, ``"sum"``, or one image.
    """

    peak: Literal[255, 1] = 255
    odd: Odd = "pad"
    negative: Literal["scale", "pixel"] = "scale"
    coarsest_border: Literal["valid", "mirror"] = "valid"
    sources: Sources = "mean"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="MS-SSIM",
        title="multi-scale structural similarity",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Wang, Simoncelli, Bovik, Asilomar 2003",
        minimum_size=161,
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        coarsest = len(_WANG_2003) - 1
        score = torch.ones(inputs.batch, dtype=torch.float64, device=inputs.device)
        for scale, weight in enumerate(_WANG_2003):
            window = Window(gaussian(11, 1.5), self.coarsest_border if scale == coarsest else "valid")
            level = pyramid(inputs, scale, self.odd)
            luminance, structure = similarity(level, source, "fused", window, peak=self.peak)
            if self.negative == "pixel":
                structure = structure.clamp(min=0)
            term = (luminance * structure if scale == coarsest else structure).mean((1, 2))
            score = score * term.clamp(min=0) ** weight
        return score


def pyramid(inputs: MetricInputs, scale: int, odd: Odd) -> MetricInputs:
    """Return the batch averaged over 2 x 2 pixels ``scale`` times; each level is computed once."""
    if scale == 0:
        return inputs
    return inputs.once(("pyramid", scale, odd), lambda: pyramid(inputs, scale - 1, odd).map(lambda x: _halve(x, odd)))


def _halve(images: Tensor, odd: Odd) -> Tensor:
    uneven = [side % 2 for side in images.shape[-2:]]
    padding = tuple(uneven) if odd == "pad" else (0, 0)
    if odd == "repeat" and any(uneven):
        images = F.pad(images, (1, 0, 1, 0), mode="replicate")
    return F.avg_pool2d(images[:, None], kernel_size=2, padding=padding)[:, 0]
