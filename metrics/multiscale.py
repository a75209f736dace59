"""Fusion metrics on wavelet coefficients and spatial frequencies: Q_M and Q_SF.

Images are float64 (B, H, W) grey values in 0..255; results are float64 (B,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# One level of detail coefficients: horizontal, vertical, diagonal, each (B, H/2, W/2).
Details = tuple[Tensor, Tensor, Tensor]


def haar_details(images: Tensor, levels: int = 2) -> list[Details]:
    """Orthonormal Haar wavelet transform.

    Args:
        images: (B, H, W); at every level a last odd row or column is dropped.
        levels: number of levels.

    Returns:
        The detail coefficients per level, finest first.
    """
    pyramid: list[Details] = []
    for _ in range(levels):
        height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
        upper, lower = images[:, 0:height:2, :width], images[:, 1:height:2, :width]
        above, below = upper + lower, upper - lower
        pyramid.append(
            (
                (below[..., 0::2] + below[..., 1::2]) / 2,
                (above[..., 0::2] - above[..., 1::2]) / 2,
                (below[..., 0::2] - below[..., 1::2]) / 2,
            )
        )
        images = (above[..., 0::2] + above[..., 1::2]) / 2
    return pyramid


def q_m(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    weights: Sequence[float] = (2 / 3, 1 / 3),
    normalised: bool = False,
    details: Sequence[list[Details]] | None = None,
) -> Tensor:
    """Multi-scale fusion metric Q_M on Haar detail coefficients. Higher is better.

    At each level the edge preservation ``sum exp(-|difference to fused|)`` over the three orientations is averaged with
    the detail energy of the sources as weight; the levels are multiplied with exponents.

    Args:
        fused, infrared, visible: (B, H, W), at least 4 x 4.
        weights: exponents per level, finest first.
        normalised: divide the edge preservation by 3, its number of orientations, so that the range is 0..1 instead of
            0..3.
        details: precomputed ``haar_details`` of (fused, infrared, visible).

    Returns:
        (B,); NaN where both sources are constant.

    Source: Wang, Liu, ICSP 2008, doi 10.1109/ICOSP.2008.4697288.
    """
    pyramids = details or [haar_details(images, len(weights)) for images in (fused, infrared, visible)]
    result = fused.new_ones(fused.shape[0])
    for of_fused, of_infrared, of_visible, exponent in zip(*pyramids, weights, strict=True):
        kept, total = torch.zeros_like(result), torch.zeros_like(result)
        for of_source in (of_infrared, of_visible):
            energy = sum(band.square() for band in of_source)
            preserved = sum(torch.exp(-(source - f).abs()) for source, f in zip(of_source, of_fused, strict=True))
            kept += (energy * preserved).sum((1, 2))
            total += energy.sum((1, 2))
        quality = kept / total
        result = result * (quality / 3 if normalised else quality) ** exponent
    return result


def directional_differences(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First differences of (B, H, W) along rows, columns, the main and the other diagonal."""
    return (
        images[:, :, 1:] - images[:, :, :-1],
        images[:, 1:, :] - images[:, :-1, :],
        images[:, 1:, 1:] - images[:, :-1, :-1],
        images[:, 1:, :-1] - images[:, :-1, 1:],
    )


def q_sf(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Ratio of spatial-frequency error Q_SF: ``(SF_fused - SF_reference) / SF_reference``.

    The spatial frequency takes four directions, the diagonal ones weighted by 1/sqrt 2; the reference has the larger
    of the two sources' absolute differences everywhere. 0 is best, -1 a constant fused image, positive values mean
    more contrast than the sources have (noise, artefacts). NaN where both sources are constant.

    Source: Zheng, Essock, Hansen, Haun, Inf. Fusion 8(2), 2007, doi 10.1016/j.inffus.2005.04.003.
    """
    pixels = fused.shape[1] * fused.shape[2]

    def frequency(differences: Sequence[Tensor]) -> Tensor:
        squares = [difference.square().sum((1, 2)) / pixels for difference in differences]
        return torch.sqrt(squares[0] + squares[1] + (squares[2] + squares[3]) / math.sqrt(2))

    sources = zip(directional_differences(infrared), directional_differences(visible), strict=True)
    reference = frequency([torch.maximum(a.abs(), b.abs()) for a, b in sources])
    return (frequency(directional_differences(fused)) - reference) / reference
