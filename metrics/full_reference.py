"""Full-reference image quality indices, computed by piq in float64, the source being the reference.

These indices were made for photographs with one pristine reference. Their values here equal piq's; FSIM, VSI and, for
images of even size, GMSD have been compared with a second library (pyiqa) and agree within 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, ClassVar, Literal

from torch import Tensor

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.metrics.base import Image, MetricInfo, MetricInputs, SourceMetric


@cache
def _piq() -> ModuleType:
    ensure_torchvision()
    import piq

    return piq


@dataclass(frozen=True)
class PiqMetric(SourceMetric):
    """A full-reference index of piq; a subclass names piq's function and its options."""

    function: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    channels: ClassVar[int] = 1

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        return self.score(inputs.image("fused"), inputs.image(source))

    def score(self, fused: Tensor, source: Tensor) -> Tensor:
        """Score (B, H, W) images in 0..255; piq's functions are called image by image, as some average over a batch."""
        function = getattr(_piq(), self.function)
        values = [
            function(*(self._as_piq(image) for image in pair), data_range=1.0, reduction="none", **self.options)
            for pair in zip(fused, source, strict=True)
        ]
        return fused.new_tensor([float(value.squeeze()) for value in values])

    def _as_piq(self, image: Tensor) -> Tensor:
        return (image / 255).expand(1, self.channels, -1, -1)


@dataclass(frozen=True)
class FSIM(PiqMetric):
    """Feature similarity: phase congruency and gradient magnitude."""

    function = "fsim"
    options: ClassVar[Mapping[str, Any]] = {"chromatic": False}

    info: ClassVar[MetricInfo] = MetricInfo(
        name="FSIM",
        title="feature similarity",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Zhang, Zhang, Mou, Zhang, IEEE TIP 20(8), 2011",
        minimum_size=16,
    )


@dataclass(frozen=True)
class GMSD(PiqMetric):
    """Gradient magnitude similarity deviation.

    Args:
        odd: a side of odd length is halved with a row or column of zeros behind it (``"pad"``, piq) or without its last
            one (``"drop"``, pyiqa).
        deviation: the standard deviation of the similarity map is divided by its number of pixels n
            (``"population"``, piq) or by n - 1 (``"sample"``, pyiqa).
    """

    odd: Literal["pad", "drop"] = "pad"
    deviation: Literal["population", "sample"] = "population"

    function = "gmsd"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="GMSD",
        title="gradient magnitude similarity deviation",
        higher_is_better=False,
        range=(0.0, math.inf),
        citation="Xue, Zhang, Mou, Bovik, IEEE TIP 23(2), 2014",
        minimum_size=8,
    )

    def score(self, fused: Tensor, source: Tensor) -> Tensor:
        if self.odd == "drop":
            height, width = (side // 2 * 2 for side in fused.shape[-2:])
            fused, source = fused[:, :height, :width], source[:, :height, :width]
        population = super().score(fused, source)
        if self.deviation == "population":
            return population
        pixels = math.prod((side + 1) // 2 for side in fused.shape[-2:])
        return population * math.sqrt(pixels / (pixels - 1))


@dataclass(frozen=True)
class MSGMSD(PiqMetric):
    """Gradient magnitude similarity deviation over four scales."""

    function = "multi_scale_gmsd"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="MS-GMSD",
        title="multi-scale gradient magnitude similarity deviation",
        higher_is_better=False,
        range=(0.0, math.inf),
        citation="Zhang, Sun, Wu, Wang, ICASSP 2017",
        minimum_size=32,
    )


@dataclass(frozen=True)
class VSI(PiqMetric):
    """Visual saliency induced index; the luma is given to all three channels."""

    function = "vsi"
    channels = 3

    info: ClassVar[MetricInfo] = MetricInfo(
        name="VSI",
        title="visual saliency induced index",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Zhang, Shen, Li, IEEE TIP 23(10), 2014",
        minimum_size=16,
    )


@dataclass(frozen=True)
class HaarPSI(PiqMetric):
    """Haar wavelet-based perceptual similarity index."""

    function = "haarpsi"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="HaarPSI",
        title="Haar wavelet perceptual similarity",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Reisenhofer, Bosse, Kutyniok, Wiegand, Signal Process. Image Commun. 61, 2018",
        minimum_size=16,
    )


@dataclass(frozen=True)
class MDSI(PiqMetric):
    """Mean deviation similarity index; the luma is given to all three channels."""

    function = "mdsi"
    channels = 3

    info: ClassVar[MetricInfo] = MetricInfo(
        name="MDSI",
        title="mean deviation similarity index",
        higher_is_better=False,
        range=(0.0, math.inf),
        citation="Ziaei Nafchi, Shahkolaei, Hedjam, Cheriet, IEEE Access 4, 2016",
        minimum_size=8,
    )


@dataclass(frozen=True)
class DSS(PiqMetric):
    """DCT subband similarity."""

    function = "dss"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="DSS",
        title="DCT subband similarity",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Balanov, Schwartz, Moshe, Peleg, ICIP 2015",
        minimum_size=32,
    )


@dataclass(frozen=True)
class IWSSIM(PiqMetric):
    """Information content weighted structural similarity."""

    function = "information_weighted_ssim"

    def score(self, fused: Tensor, source: Tensor) -> Tensor:
        flat = (source.amax((1, 2)) == source.amin((1, 2))) | (fused.amax((1, 2)) == fused.amin((1, 2)))
        scored = super().score(fused[~flat], source[~flat])
        # The weights come from a covariance matrix that is singular for a constant image.
        return fused.new_full((fused.shape[0],), math.nan).masked_scatter(~flat, scored)

    info: ClassVar[MetricInfo] = MetricInfo(
        name="IW-SSIM",
        title="information content weighted structural similarity",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Wang, Li, IEEE TIP 20(5), 2011",
        minimum_size=161,
        on_constant="nan",
    )


@dataclass(frozen=True)
class SRSIM(PiqMetric):
    """Spectral residual similarity."""

    function = "srsim"
    options: ClassVar[Mapping[str, Any]] = {"chromatic": False}

    info: ClassVar[MetricInfo] = MetricInfo(
        name="SR-SIM",
        title="spectral residual similarity",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Zhang, Li, ICIP 2012",
        minimum_size=48,
    )
