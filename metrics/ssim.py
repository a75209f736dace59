"""Structural similarity: SSIM and MS-SSIM, under the windows, borders and dynamic ranges in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.metrics.base import Image, MetricInfo, MetricInputs, SourceMetric, Sources
from tgfbench.metrics.filters import Moments, Window
from tgfbench.metrics.pixels import pixel_mean

Odd = Literal["pad", "drop", "repeat"]

_WANG_2003 = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first (Wang, Simoncelli, Bovik 2003)."""


def similarity(moments: Moments, c1: float, c2: float, *, bias: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the luminance and the contrast-structure maps of two images, each (B, h, w); SSIM is their product.

    Args:
        moments: of the two images, in either order.
        c1: constant of the luminance term.
        c2: constant of the contrast-structure term.
        bias: factor on variances and covariance, n / (n - 1) for sample statistics.
    """
    means, squares = moments.mean_x * moments.mean_y, moments.mean_x.square() + moments.mean_y.square()
    luminance = (2 * means + c1) / (squares + c1)
    variances = moments.square_x + moments.square_y - squares
    structure = (2 * bias * (moments.product - means) + c2) / (bias * variances + c2)
    return luminance, structure


def constants(peak: float) -> tuple[float, float]:
    """Return C1 = (0.01 L)^2 and C2 = (0.03 L)^2."""
    return (0.01 * peak) ** 2, (0.03 * peak) ** 2


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
        gaussian = self.window == "gaussian"
        window = Window.gaussian(11, 1.5, self.border) if gaussian else Window.uniform(7, self.border)

        def quality(*maps: Tensor) -> Tensor:
            luminance, structure = similarity(Moments(*maps), *constants(self.peak), bias=1.0 if gaussian else 49 / 48)
            return luminance * (structure.clamp(min=0) if self.negative == "zero" else structure)

        return pixel_mean(quality, *window.moments(inputs, source, "fused"))


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
        score = torch.ones(inputs.batch, dtype=torch.float64, device=inputs.device)
        for scale, weight in enumerate(_WANG_2003):
            score = score * self._scale(inputs, source, scale).clamp(min=0) ** weight
        return score

    def _scale(self, inputs: MetricInputs, source: Image, scale: int) -> Tensor:
        """Mean contrast-structure term of a scale; at the coarsest one, mean SSIM."""
        coarsest = scale == len(_WANG_2003) - 1
        window = Window.gaussian(11, 1.5, self.coarsest_border if coarsest else "valid")

        def quality(*maps: Tensor) -> Tensor:
            luminance, structure = similarity(Moments(*maps), *constants(self.peak))
            if self.negative == "pixel":
                structure = structure.clamp(min=0)
            return luminance * structure if coarsest else structure

        return pixel_mean(quality, *window.moments(pyramid(inputs, scale, self.odd), source, "fused"))


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
