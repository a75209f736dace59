"""Pixel-wise error against the sources: MSE, RMSE and PSNR, with the field's four ideas of what these are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Image, MetricInfo, MetricInputs, SourceMetric
from tgfbench.metrics.histograms import mean_square_difference


@dataclass(frozen=True)
class MSE(SourceMetric):
    """Mean squared error against each source.

    Args:
        scale: grey levels counted as 0..255, or as 0..1 (the Tang family).
    """

    scale: Literal[255, 1] = 255

    info: ClassVar[MetricInfo] = MetricInfo(
        name="MSE",
        title="mean squared error",
        higher_is_better=False,
        range=(0.0, 255.0**2),
        citation="Wang, Bovik, IEEE Signal Process. Mag. 26(1), 2009",
        unit="squared grey level",
        notes="0 needs both sources to be equal: the average of the sources is the optimum.",
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        return mean_square_difference(inputs, source, "fused") * (self.scale / 255) ** 2


@dataclass(frozen=True)
class RMSE(SourceMetric):
    """Root mean squared error against each source.

    Args:
        norm: ``"mean"``, or ``"per pixel"``: VIFB divides the L2 norm of the difference by M N, which is this value
            divided by sqrt(M N) and so depends on the image size.
    """

    norm: Literal["mean", "per pixel"] = "mean"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="RMSE",
        title="root mean squared error",
        higher_is_better=False,
        range=(0.0, 255.0),
        citation="Jagalingam, Hegde, Aquat. Procedia 4, 2015",
        unit="grey level",
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        root = mean_square_difference(inputs, source, "fused").sqrt()
        return root / math.sqrt(math.prod(inputs.size)) if self.norm == "per pixel" else root


@dataclass(frozen=True)
class PSNR(SourceMetric):
    """Peak signal-to-noise ratio of the error averaged over the sources, in decibels.

    Args:
        peak: ``"255"``; ``"fused maximum"``: the brightest pixel of the fused image (CDDFuse, FILM);
            ``"mixed scales"``: the error on 0..1 under a peak of 255, which adds 48.13 dB (Tang, tang_py, IVIF_ZOO);
            ``"vifb"``: 20 log10(255 / sqrt(e)), with e the L2 norm of the difference over M N.
        sources: ``"mean"`` averages the error, not the decibels.
    """

    peak: Literal["255", "fused maximum", "mixed scales", "vifb"] = "255"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="PSNR",
        title="peak signal-to-noise ratio",
        higher_is_better=True,
        range=(-math.inf, math.inf),
        citation="Jagalingam, Hegde, Aquat. Procedia 4, 2015",
        unit="dB",
        notes="Infinite where the fused image equals both sources. 15 dB here is 63 dB in the Tang family's tables.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        chosen: tuple[Image, ...] = SOURCES if self.sources in ("mean", "sum") else (self.sources,)  # type: ignore[assignment]
        errors = [self.compare(inputs, source) for source in chosen]
        error = torch.stack(errors).mean(0)
        if self.peak == "vifb":
            return 20 * torch.log10(255 / error.sqrt())
        peak = inputs.image("fused").amax((1, 2)) if self.peak == "fused maximum" else 255.0
        return 10 * torch.log10(peak**2 / error)

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        """Return the error (B,) that ``peak`` is compared with."""
        error = mean_square_difference(inputs, source, "fused")
        if self.peak == "vifb":
            return error.sqrt() / math.sqrt(math.prod(inputs.size))
        return error / 255**2 if self.peak == "mixed scales" else error

    @property
    def range(self) -> tuple[float, float]:
        return self.info.range
