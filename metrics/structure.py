"""Fusion metrics on local structural similarity: Q_S, Q_W, Q_E (Piella), Q_C (Cvejic) and Q_Y (Yang).

Images are float64 (B, H, W) grey values in 0..255; results are float64 (B,). All five are averages of SSIM maps with
different weights; ``local_moments`` computes what they share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Metric, MetricInfo, MetricInputs
from tgfbench.metrics.filters import DERIVATIVE, gaussian, separable

# Constants of SSIM for grey values in 0..255 (Wang 2004), and the vanishing ones of Q_C and Q_Y.
WANG_CONSTANTS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
TINY_CONSTANTS = (2e-16, 2e-16)

# The smallest variance of whole grey levels in a 7 x 7 window is above 1e-3, the rounding of 255 squared below 1e-10.
ROUNDING_NOISE = 1e-9


@dataclass(frozen=True, eq=False)
class LocalMoments:
    """Local means, (biased) variances and covariances of a fused image and its sources, each (B, h, w).

    ``infrared_visible`` is the covariance of the two sources; it is None where nobody asked for it.
    """

    fused_mean: Tensor
    infrared_mean: Tensor
    visible_mean: Tensor
    fused_variance: Tensor
    infrared_variance: Tensor
    visible_variance: Tensor
    infrared_fused: Tensor
    visible_fused: Tensor
    infrared_visible: Tensor | None = None

    def ssim_infrared(self, constants: tuple[float, float]) -> Tensor:
        """SSIM map of infrared and fused."""
        means = self.infrared_mean, self.fused_mean
        return ssim_map(*means, self.infrared_variance, self.fused_variance, self.infrared_fused, constants=constants)

    def ssim_visible(self, constants: tuple[float, float]) -> Tensor:
        """SSIM map of visible and fused."""
        means = self.visible_mean, self.fused_mean
        return ssim_map(*means, self.visible_variance, self.fused_variance, self.visible_fused, constants=constants)

    def ssim_sources(self, constants: tuple[float, float]) -> Tensor:
        """SSIM map of infrared and visible."""
        means = self.infrared_mean, self.visible_mean
        if self.infrared_visible is None:
            raise ValueError("these moments were computed without the covariance of the sources")
        variances = self.infrared_variance, self.visible_variance
        return ssim_map(*means, *variances, self.infrared_visible, constants=constants)

    def without_rounding_noise(self) -> LocalMoments:
        """Set to 0 what is 0 but for rounding: a variance or covariance of whole grey levels is far larger."""

        names = ("fused_variance", "infrared_variance", "visible_variance", "infrared_fused", "visible_fused")
        moments: dict[str, Any] = {name: getattr(self, name) for name in (*names, "infrared_visible")}
        cleaned = {n: torch.where(m.abs() < ROUNDING_NOISE, 0.0, m) for n, m in moments.items() if m is not None}
        return replace(self, **cleaned)

    def infrared_share(self) -> Tensor:
        """Share of the infrared image in the local variance of the sources; 0.5 where both are flat."""
        total = self.infrared_variance + self.visible_variance
        return torch.where(total == 0, 0.5, self.infrared_variance / total)


def local_moments(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    average: Callable[[Tensor], Tensor],
    *,
    between_sources: bool = False,
) -> LocalMoments:
    """Compute local moments.

    Args:
        fused, infrared, visible: (B, H, W).
        average: turns (B, H, W) into local means (B, h, w).
        between_sources: also compute the covariance of infrared and visible.
    """
    f_mean, a_mean, b_mean = (average(images) for images in (fused, infrared, visible))

    def covariance(first: Tensor, second: Tensor, first_mean: Tensor, second_mean: Tensor) -> Tensor:
        return average(first * second).sub_(first_mean * second_mean)

    return LocalMoments(
        f_mean,
        a_mean,
        b_mean,
        covariance(fused, fused, f_mean, f_mean),
        covariance(infrared, infrared, a_mean, a_mean),
        covariance(visible, visible, b_mean, b_mean),
        covariance(infrared, fused, a_mean, f_mean),
        covariance(visible, fused, b_mean, f_mean),
        covariance(infrared, visible, a_mean, b_mean) if between_sources else None,
    )


def ssim_map(
    first_mean: Tensor,
    second_mean: Tensor,
    first_variance: Tensor,
    second_variance: Tensor,
    covariance: Tensor,
    *,
    constants: tuple[float, float],
) -> Tensor:
    """Structural similarity from local moments.

    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13(4), 2004, doi 10.1109/TIP.2003.819861, eq. 13.
    """
    c1, c2 = constants
    product = first_mean * second_mean
    luminance = (2 * product + c1) / (first_mean.square() + second_mean.square() + c1)
    return luminance * (2 * covariance + c2) / (first_variance + second_variance + c2)


def wang_moments(fused: Tensor, infrared: Tensor, visible: Tensor) -> LocalMoments:
    """Local moments under the 11 x 11 Gaussian window of sigma 1.5, for Q_S, Q_W and Q_E."""
    kernel = gaussian(11, 1.5)
    return local_moments(fused, infrared, visible, lambda images: separable(images, kernel, kernel, "valid"))


def small_window_moments(fused: Tensor, infrared: Tensor, visible: Tensor) -> LocalMoments:
    """Local moments under the 7 x 7 Gaussian window of sigma 1.5, for Q_C and Q_Y.

    With the vanishing constants of these metrics, flat patches are decided by rounding noise. These moments carry the
    noise of the ``liu`` evaluator, because every sum runs in its order: down the columns of the window, from the last
    pixel to the first. The maps come transposed and rotated by half a turn, which their averages do not see.
    """
    f, a, b = (images.transpose(1, 2).flip(1, 2).contiguous() for images in (fused, infrared, visible))
    return local_moments(f, a, b, _row_by_row_average, between_sources=True)


def unnormalised_moments(fused: Tensor, infrared: Tensor, visible: Tensor) -> LocalMoments:
    """Local "moments" of the ``ivif-zoo`` evaluator for Q_Y: a Gaussian across, repeated in 7 rows with sum 7."""
    across, down = gaussian(7, 1.5), np.ones(7)
    return local_moments(
        fused, infrared, visible, lambda images: separable(images, across, down, "zero"), between_sources=True
    )


def _row_by_row_average(images: Tensor) -> Tensor:
    """Correlate (B, H, W) with the 7 x 7 window where it fits, adding one pixel after the other in row order."""
    if not images.is_cpu:
        return _row_by_row_in_torch(images)
    window = _small_window()
    averaged = np.stack(
        [cv2.filter2D(image, cv2.CV_64F, window, borderType=cv2.BORDER_CONSTANT) for image in images.numpy()]
    )
    margin = len(window) // 2
    return torch.from_numpy(averaged)[:, margin:-margin, margin:-margin]


def _row_by_row_in_torch(images: Tensor) -> Tensor:
    window = _small_window()
    height, width = images.shape[1] - len(window) + 1, images.shape[2] - len(window) + 1
    total = images.new_zeros(images.shape[0], height, width)
    for (row, column), weight in np.ndenumerate(window):
        # Kept as two operations: a fused multiply-add would round differently.
        term = images[:, row : row + height, column : column + width] * float(weight)
        total = total + term
    return total


@cache
def _small_window() -> np.ndarray:
    offsets = np.arange(7) - 3.0
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    # The running sum adds in sequence, numpy's sum in pairs; the last bit decides flat patches (see above).
    return weights / weights.cumsum()[-1]


def _piella_map(moments: LocalMoments) -> Tensor:
    share = moments.infrared_share()
    first, second = moments.ssim_infrared(WANG_CONSTANTS), moments.ssim_visible(WANG_CONSTANTS)
    return share * first + (1 - share) * second


def prewitt_magnitude(images: Tensor) -> Tensor:
    """Magnitude of the unnormalised 3 x 3 Prewitt gradient of (B, H, W), zeros outside the image."""
    box = np.ones(3)
    return torch.hypot(separable(images, DERIVATIVE, box, "zero"), separable(images, box, DERIVATIVE, "zero"))


class _Piella(Metric):
    """What the three metrics of Piella and Heijmans share."""

    @staticmethod
    def moments(inputs: MetricInputs) -> LocalMoments:
        """Local moments under the window of Wang et al."""
        return inputs.once("wang moments", lambda: wang_moments(*(inputs.image(name) for name in ("fused", *SOURCES))))


@dataclass(frozen=True)
class QS(_Piella):
    """Q_S: SSIM with each source, weighted by its share in the local variance (half each where both are flat)."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_S",
        title="fusion quality index",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Piella, Heijmans, ICIP 2003",
        minimum_size=11,
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        return _piella_map(self.moments(inputs)).mean((1, 2))


@dataclass(frozen=True)
class QW(_Piella):
    """Q_W: the map of Q_S, weighted by the larger of the sources' local variances."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_W",
        title="weighted fusion quality index",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Piella, Heijmans, ICIP 2003",
        minimum_size=11,
        on_constant="nan",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        moments = self.moments(inputs)
        saliency = torch.maximum(moments.infrared_variance, moments.visible_variance)
        saliency = saliency.masked_fill_(saliency < ROUNDING_NOISE, 0)
        return (saliency * _piella_map(moments)).sum((1, 2)) / saliency.sum((1, 2))


@dataclass(frozen=True)
class QE(QW):
    """Q_E: Q_W times Q_W of the Prewitt edge images, to the power ``alpha``.

    Args:
        alpha: weight of the edge images.
    """

    alpha: float = 1.0

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_E",
        title="edge-dependent fusion quality index",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Piella, Heijmans, ICIP 2003",
        minimum_size=11,
        on_constant="nan",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        return super().compute(inputs) * super().compute(inputs.map(prewitt_magnitude)) ** self.alpha


@dataclass(frozen=True)
class _SmallWindow(Metric):
    """What Q_C and Q_Y share: SSIM under a 7 x 7 window with vanishing constants, which is 0/0 in flat patches.

    Args:
        flat_patches: ``"defined"``: moments that are 0 but for rounding are 0; ``"rounding noise"``: as Liu's
            evaluator, where rounding decides the value of such patches, and may make Q_C NaN.
    """

    flat_patches: Literal["defined", "rounding noise"] = "defined"

    def moments(self, inputs: MetricInputs) -> LocalMoments:
        """Local moments under the small window."""
        images = (inputs.image(name) for name in ("fused", *SOURCES))
        noisy = inputs.once("small window moments", lambda: small_window_moments(*images))
        return noisy.without_rounding_noise() if self.flat_patches == "defined" else noisy


@dataclass(frozen=True)
class QC(_SmallWindow):
    """Q_C of Cvejic: SSIM with each source, weighted by the source's share s in the covariance with the fused image.

    The map is s SSIM(A,F) + (1-s) SSIM(B,F), 0 where s < 0, 1 where s > 1, half each where both covariances are 0.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_C",
        title="covariance-weighted structural similarity",
        higher_is_better=True,
        range=(-math.inf, 1.0),
        citation="Cvejic, Loza, Bull, Canagarajah, Int. J. Signal Process. 2(3), 2005",
        minimum_size=7,
        symmetric=False,
        notes="Exchanging the sources turns s < 0 into s > 1, and the value 0 there into 1.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        found = self.moments(inputs)
        share = found.infrared_fused / (found.infrared_fused + found.visible_fused)
        if self.flat_patches == "defined":
            share = torch.where((found.infrared_fused == 0) & (found.visible_fused == 0), 0.5, share)
        blended = share * found.ssim_infrared(TINY_CONSTANTS) + (1 - share) * found.ssim_visible(TINY_CONSTANTS)
        return blended.masked_fill(share < 0, 0.0).masked_fill(share > 1, 1.0).mean((1, 2))


@dataclass(frozen=True)
class QY(_SmallWindow):
    """Q_Y of Yang: SSIM with each source, weighted by its share in the local variance where the sources agree.

    They agree where their SSIM is at least 0.75; elsewhere the larger of the two values counts.

    Args:
        form: ``"definition"``, or ``"ivif-zoo"``: a window of sum 7 and constants of 1e-4 and 9e-4 on 0..255 data,
            which gives 0.93 to 0.99 whatever the images.
    """

    form: Literal["definition", "ivif-zoo"] = "definition"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_Y",
        title="structural similarity with redundant or complementary sources",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Yang, Zhang, Wang, Liu, Inf. Fusion 9(2), 2008",
        minimum_size=7,
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        if self.form == "ivif-zoo":
            constants = (1e-4, 9e-4)
            found = unnormalised_moments(*(inputs.image(name) for name in ("fused", *SOURCES)))
        else:
            constants, found = TINY_CONSTANTS, self.moments(inputs)
        infrared, visible = found.ssim_infrared(constants), found.ssim_visible(constants)
        share = found.infrared_share()
        redundant = found.ssim_sources(constants) >= 0.75
        return torch.where(redundant, share * infrared + (1 - share) * visible, torch.maximum(infrared, visible)).mean(
            (1, 2)
        )
