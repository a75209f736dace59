"""Fusion metrics from human vision: Qcb (Chen and Blum) and Qcv (Chen and Varshney).

Images are float64 (B, H, W) grey values in 0..255; results are float64 (B,). Both metrics first stretch every image to
the full range with ``stretch_range``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.metrics.filters import DERIVATIVE, SMOOTH, separable
from tgfbench.metrics.luma import stretch

BLOCK = 16


def stretch_range(images: Tensor, *, rounded: bool = True) -> Tensor:
    """Stretch each image (B, H, W) to fill 0..255, by default rounded to whole levels; a constant image gives NaN."""
    if rounded:
        constant = images.amax((1, 2), keepdim=True) == images.amin((1, 2), keepdim=True)
        return stretch(images).masked_fill_(constant, math.nan)
    low = images.amin((1, 2), keepdim=True)
    return (images - low) / (images.amax((1, 2), keepdim=True) - low) * 255


def q_cb(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    saliency_floor: float = 0.0,
    contrasts: Sequence[Tensor] | None = None,
) -> Tensor:
    """Chen-Blum metric Qcb: preservation of perceived contrast, weighted by its saliency in the sources.

    Range 0..1, higher is better. NaN where an image is constant.

    Args:
        fused, infrared, visible: (B, H, W).
        saliency_floor: added to the sum of the two saliencies; 1e-10 in ``ivif-zoo``.
        contrasts: precomputed ``masked_contrast`` of (fused, infrared, visible).

    Source: Chen, Blum, Image Vis. Comput. 27(10), 2009, doi 10.1016/j.imavis.2007.12.002.
    """
    of_fused, of_infrared, of_visible = contrasts or [masked_contrast(x) for x in (fused, infrared, visible)]

    def preserved(source: Tensor) -> Tensor:
        return torch.minimum(source, of_fused) / torch.maximum(source, of_fused)

    infrared_saliency, visible_saliency = of_infrared.square(), of_visible.square()
    quality = infrared_saliency * preserved(of_infrared) + visible_saliency * preserved(of_visible)
    return (quality / (infrared_saliency + visible_saliency + saliency_floor)).mean((1, 2))


def masked_contrast(images: Tensor, *, band_edge: float = 1.0, rounded: bool = True) -> Tensor:
    """Perceived local contrast of (B, H, W): contrast sensitivity, band-pass contrast and masking.

    Args:
        images: (B, H, W).
        band_edge: normalised frequency at the edge of the spectrum: 1, or 0.5 in ``ivif-zoo``, which halves all
            frequencies.
        rounded: whether the stretched image is rounded to whole levels; not in ``ivif-zoo``.

    Returns:
        (B, H, W), at least 0.
    """
    stretched = stretch_range(images, rounded=rounded)
    seen = _filter_spectrum(stretched, _chen_blum_response(*images.shape[1:], band_edge))
    narrow, wide = (separable(seen, kernel, kernel, "zero") for kernel in (_sampled_gaussian(2), _sampled_gaussian(4)))
    contrast = (narrow / wide).sub_(1).abs_()
    square = contrast.square()
    return contrast * square / (square + 1e-4)


def q_cv(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    stretched: Sequence[Tensor] | None = None,
) -> Tensor:
    """Chen-Varshney metric Qcv: perceived error of the fused image in 16 x 16 blocks, weighted by source saliency.

    At least 0 (hundreds to thousands in practice), LOWER is better. The saliency of a block is the sum of the fifth
    power of its Sobel strength; a partial last block is filled with zeros. NaN where an image is constant.

    Args:
        fused, infrared, visible: (B, H, W).
        stretched: precomputed ``stretch_range`` of (fused, infrared, visible).

    Source: Chen, Varshney, Inf. Fusion 8(2), 2007, doi 10.1016/j.inffus.2005.10.001.
    """
    fused, *sources = stretched or [stretch_range(images) for images in (fused, infrared, visible)]
    response = _chen_varshney_response(*fused.shape[1:])
    error = total = fused.new_zeros(fused.shape[0])
    for source in sources:
        across = separable(source, DERIVATIVE, SMOOTH, "zero")
        down = separable(source, SMOOTH, DERIVATIVE, "zero")
        square = across.square_().add_(down.square_())
        saliency = _block_sums(square.square().mul_(square.sqrt()))
        perceived = _block_sums(_filter_spectrum(source - fused, response).square_()) / BLOCK**2
        error = error + (saliency * perceived).sum((1, 2))
        total = total + saliency.sum((1, 2))
    return error / total


def _block_sums(images: Tensor) -> Tensor:
    """Sums over 16 x 16 blocks of (B, H, W), missing pixels counted as 0."""
    height, width = images.shape[1:]
    padded = F.pad(images, (0, -width % BLOCK, 0, -height % BLOCK))
    return padded.unflatten(2, (-1, BLOCK)).sum(3).unflatten(1, (-1, BLOCK)).sum(2)


def _filter_spectrum(images: Tensor, response: np.ndarray) -> Tensor:
    """Multiply the spectrum of (B, H, W) by an even real response, given on the non-negative half (H, W // 2 + 1)."""
    spectrum = torch.fft.rfft2(images) * torch.from_numpy(response).to(images.device)
    return torch.fft.irfft2(spectrum, s=images.shape[1:])


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
