"""Fusion metrics on local structural similarity: Q_S, Q_W, Q_E (Piella), Q_C (Cvejic) and Q_Y (Yang).

Images are float64 (B, H, W) grey values in 0..255; results are float64 (B,). All five are averages of SSIM maps with
different weights; ``local_moments`` computes what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from tgfbench.metrics.filters import DERIVATIVE, gaussian, separable

# Constants of SSIM for grey values in 0..255 (Wang 2004), and the vanishing ones of Q_C and Q_Y.
WANG_CONSTANTS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
TINY_CONSTANTS = (2e-16, 2e-16)

# The smallest variance of whole grey levels in a 7 x 7 window is above 1e-3, the rounding of 255 squared below 1e-10.
ROUNDING_NOISE = 1e-9

FlatPatches = Literal["defined", "rounding-noise"]


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

        def cleaned(moment: Tensor | None) -> Tensor | None:
            return None if moment is None else torch.where(moment.abs() < ROUNDING_NOISE, 0.0, moment)

        names = ("fused_variance", "infrared_variance", "visible_variance")
        pairs = ("infrared_fused", "visible_fused", "infrared_visible")
        return replace(self, **{name: cleaned(getattr(self, name)) for name in names + pairs})

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
    turned = [images.transpose(1, 2).flip(1, 2).contiguous() for images in (fused, infrared, visible)]
    return local_moments(*turned, _row_by_row_average, between_sources=True)


def unnormalised_moments(fused: Tensor, infrared: Tensor, visible: Tensor) -> LocalMoments:
    """Local "moments" of the ``ivif-zoo`` evaluator for Q_Y: a Gaussian across, repeated in 7 rows with sum 7."""
    across, down = gaussian(7, 1.5), np.ones(7)
    return local_moments(
        fused, infrared, visible, lambda images: separable(images, across, down, "zero"), between_sources=True
    )


def _row_by_row_average(images: Tensor) -> Tensor:
    """Correlate (B, H, W) with the 7 x 7 window where it fits, adding one pixel after the other in row order."""
    window = _small_window()
    size = len(window)
    height, width = images.shape[1] - size + 1, images.shape[2] - size + 1
    if images.device.type == "cpu":
        averaged = np.stack(
            [cv2.filter2D(image, cv2.CV_64F, window, borderType=cv2.BORDER_CONSTANT) for image in images.numpy()]
        )
        margin = size // 2
        return torch.from_numpy(averaged)[:, margin : margin + height, margin : margin + width]
    total = images.new_zeros(images.shape[0], height, width)
    for row in range(size):
        for column in range(size):
            # Kept as two operations: a fused multiply-add would round differently.
            term = images[:, row : row + height, column : column + width] * window[row, column].item()
            total = total + term
    return total


@cache
def _small_window() -> np.ndarray:
    offsets = np.arange(7) - 3.0
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    # The running sum adds in sequence, numpy's sum in pairs; the last bit decides flat patches (see above).
    return weights / weights.cumsum()[-1]


def q_s(fused: Tensor, infrared: Tensor, visible: Tensor, *, moments: LocalMoments | None = None) -> Tensor:
    """Fusion quality index Q_S: SSIM with each source, weighted by the source's share in the local variance.

    Range -1..1, higher is better. Images at least 11 x 11. Defined on constant images (the share is then 0.5).

    Source: Piella, Heijmans, ICIP 2003, doi 10.1109/ICIP.2003.1247209.
    """
    return _piella_map(moments or wang_moments(fused, infrared, visible)).mean((1, 2))


def q_w(fused: Tensor, infrared: Tensor, visible: Tensor, *, moments: LocalMoments | None = None) -> Tensor:
    """Weighted fusion quality index Q_W: the map of Q_S, weighted by the larger of the sources' local variances.

    Range -1..1, higher is better. Images at least 11 x 11. NaN where both sources are constant.

    Source: Piella, Heijmans, ICIP 2003, doi 10.1109/ICIP.2003.1247209.
    """
    found = moments or wang_moments(fused, infrared, visible)
    saliency = torch.maximum(found.infrared_variance, found.visible_variance)
    return (saliency * _piella_map(found)).sum((1, 2)) / saliency.sum((1, 2))


def q_e(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    alpha: float = 1.0,
    moments: LocalMoments | None = None,
) -> Tensor:
    """Edge-dependent fusion quality index Q_E: ``Q_W * Q_W(edge images)^alpha``.

    The edge images are Prewitt magnitudes with zeros outside the image. Range -1..1, higher is better. Images at least
    11 x 11. NaN where both sources are constant.

    Args:
        fused, infrared, visible: (B, H, W).
        alpha: weight of the edge images.
        moments: precomputed ``wang_moments`` of the images.

    Source: Piella, Heijmans, ICIP 2003, doi 10.1109/ICIP.2003.1247209.
    """
    edges = (prewitt_magnitude(images) for images in (fused, infrared, visible))
    return q_w(fused, infrared, visible, moments=moments) * q_w(*edges) ** alpha


def prewitt_magnitude(images: Tensor) -> Tensor:
    """Magnitude of the unnormalised 3 x 3 Prewitt gradient of (B, H, W), zeros outside the image."""
    box = np.ones(3)
    return torch.hypot(separable(images, DERIVATIVE, box, "zero"), separable(images, box, DERIVATIVE, "zero"))


def q_c(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    flat_patches: FlatPatches = "defined",
    moments: LocalMoments | None = None,
) -> Tensor:
    """Fusion metric Q_C of Cvejic. At most 1, higher is better.

    The weight of infrared at each place is ``s = cov(A,F) / (cov(A,F) + cov(B,F))``; the map is
    ``s SSIM(A,F) + (1-s) SSIM(B,F)``, 0 where s < 0 and 1 where s > 1.

    Args:
        fused, infrared, visible: (B, H, W), at least 7 x 7.
        flat_patches: ``"defined"``: moments that are 0 but for rounding are 0, and s = 0.5 where both covariances are;
            ``"rounding-noise"``: as the ``liu`` evaluator, where rounding decides the value in such patches and a
            single 0/0 makes the score NaN.
        moments: precomputed ``small_window_moments``.

    Source: Cvejic, Loza, Bull, Canagarajah, Int. J. Signal Process. 2(3), 2005.
    """
    found = moments or small_window_moments(fused, infrared, visible)
    if flat_patches == "defined":
        found = found.without_rounding_noise()
    total = found.infrared_fused + found.visible_fused
    share = found.infrared_fused / total
    if flat_patches == "defined":
        share = torch.where((found.infrared_fused == 0) & (found.visible_fused == 0), 0.5, share)
    blended = share * found.ssim_infrared(TINY_CONSTANTS) + (1 - share) * found.ssim_visible(TINY_CONSTANTS)
    return blended.masked_fill(share < 0, 0.0).masked_fill(share > 1, 1.0).mean((1, 2))


def q_y(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    flat_patches: FlatPatches = "defined",
    constants: tuple[float, float] = TINY_CONSTANTS,
    moments: LocalMoments | None = None,
) -> Tensor:
    """Fusion metric Q_Y of Yang. At most 1, higher is better. Defined on constant images.

    Where the sources agree (SSIM of infrared and visible at least 0.75) the map is SSIM with each source, weighted by
    the source's share in the local variance; elsewhere it is the larger of the two SSIM.

    Args:
        fused, infrared, visible: (B, H, W), at least 7 x 7.
        flat_patches: as for ``q_c``.
        constants: of SSIM; the ``ivif-zoo`` evaluator uses (1e-4, 9e-4) with ``unnormalised_moments``.
        moments: precomputed ``small_window_moments``.

    Source: Yang, Zhang, Wang, Liu, Inf. Fusion 9(2), 2008, doi 10.1016/j.inffus.2006.09.001.
    """
    found = moments or small_window_moments(fused, infrared, visible)
    if flat_patches == "defined":
        found = found.without_rounding_noise()
    infrared_ssim, visible_ssim = found.ssim_infrared(constants), found.ssim_visible(constants)
    share = found.infrared_share()
    blended = share * infrared_ssim + (1 - share) * visible_ssim
    redundant = found.ssim_sources(constants) >= 0.75
    return torch.where(redundant, blended, torch.maximum(infrared_ssim, visible_ssim)).mean((1, 2))


def _piella_map(moments: LocalMoments) -> Tensor:
    share = moments.infrared_share()
    first, second = moments.ssim_infrared(WANG_CONSTANTS), moments.ssim_visible(WANG_CONSTANTS)
    return share * first + (1 - share) * second
