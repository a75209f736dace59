"""Contrast and detail of the fused image alone: SD, SF, AG, EI and DF."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tgfbench.metrics.base import Metric, MetricInfo, MetricInputs
from tgfbench.metrics.filters import sobel
from tgfbench.metrics.histograms import covariance


@dataclass(frozen=True)
class SD(Metric):
    """Population standard deviation of the fused image; VIFB prints it as "Variance"."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="SD",
        title="standard deviation",
        higher_is_better=True,
        range=(0.0, 127.5),
        needs=("fused",),
        citation="Rao, Meas. Sci. Technol. 8(4), 1997",
        unit="grey level",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        return covariance(inputs, "fused", "fused").clamp(min=0).sqrt()


@dataclass(frozen=True)
class SF(Metric):
    """Spatial frequency: root of the mean squared horizontal and vertical first differences.

    Args:
        average: each sum of squares over its own number of differences (``"differences"``), or both over the number of
            pixels (``"pixels"``: VIFB and thfylsty).
    """

    average: Literal["differences", "pixels"] = "differences"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="SF",
        title="spatial frequency",
        higher_is_better=True,
        range=(0.0, 255.0 * math.sqrt(2)),
        needs=("fused",),
        citation="Eskicioglu, Fisher, IEEE Trans. Commun. 43(12), 1995",
        unit="grey level",
        notes="Rises with noise as readily as with detail.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        image = inputs.image("fused")
        across, down = image.diff(dim=2).flatten(1), image.diff(dim=1).flatten(1)
        pixels = image.shape[1] * image.shape[2]
        counts = (pixels, pixels) if self.average == "pixels" else (across.shape[1], down.shape[1])
        return torch.sqrt(torch.linalg.vecdot(across, across) / counts[0] + torch.linalg.vecdot(down, down) / counts[1])


@dataclass(frozen=True)
class AG(Metric):
    """Average gradient: mean of sqrt((gx^2 + gy^2) / 2), central differences inside and one-sided ones at the border.

    Args:
        average: over all M N pixels (``"pixels"``), or the same sum over (M-1)(N-1) (``"inner"``: Tang, tang_py, VIFB).
    """

    average: Literal["pixels", "inner"] = "pixels"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="AG",
        title="average gradient",
        higher_is_better=True,
        range=(0.0, 255.0),
        needs=("fused",),
        citation="Cui, Feng, Xu, Li, Chen, Opt. Commun. 341, 2015",
        unit="grey level",
        notes="Rises with noise as readily as with detail.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        image = inputs.image("fused")
        height, width = inputs.size
        down, across = torch.gradient(image, dim=(1, 2))
        mean = across.square_().add_(down.square_()).mul_(0.5).sqrt_().mean((1, 2))
        return mean if self.average == "pixels" else mean * (height * width / ((height - 1) * (width - 1)))


@dataclass(frozen=True)
class EI(Metric):
    """Edge intensity: mean magnitude of the unnormalised Sobel gradient.

    Args:
        border: ``"replicate"``; IVIF_ZOO pads with ``"zero"``, which makes the image frame an edge (+29 % and more).
    """

    border: Literal["replicate", "zero"] = "replicate"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="EI",
        title="edge intensity",
        higher_is_better=True,
        range=(0.0, 1020.0 * math.sqrt(2)),
        needs=("fused",),
        citation="Rajalingam, Priya, Int. J. Eng. Sci. Invent. 7(1), 2018",
        unit="grey level",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        across, down = sobel(inputs, "fused", self.border)
        return torch.hypot(across, down).mean((1, 2))


@dataclass(frozen=True)
class DF(Metric):
    """Definition: mean over (M-1)(N-1) of sqrt((dx^2 + dy^2) / 2) with forward differences."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="DF",
        title="definition",
        higher_is_better=True,
        range=(0.0, 255.0),
        needs=("fused",),
        citation="as in thfylsty, Objective-evaluation-for-image-fusion",
        unit="grey level",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        image = inputs.image("fused")
        across, down = image.diff(dim=2)[:, :-1], image.diff(dim=1)[:, :, :-1]
        return torch.sqrt((across.square() + down.square()) / 2).mean((1, 2))
