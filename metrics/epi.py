"""Edge preservation index EPI."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def laplacian(images: Tensor, alpha: float = 0.5) -> Tensor:
    """Laplacian of (B, H, W) with shape parameter ``alpha``, zeros outside the image."""
    side, corner, centre = (1 - alpha) / (1 + alpha), alpha / (1 + alpha), -4 / (1 + alpha)
    padded = F.pad(images, (1, 1, 1, 1))
    across = padded[:, :, :-2] + padded[:, :, 2:]
    middle = padded[:, :, 1:-1]
    return (
        side * (across[:, 1:-1] + middle[:, :-2] + middle[:, 2:])
        + corner * (across[:, :-2] + across[:, 2:])
        + centre * images
    )


def epi(fused: Tensor, source: Tensor, *, alpha: float = 0.5) -> Tensor:
    """Correlation of the Laplacians of the fused image and one source. Range -1..1, higher is better.

    Papers report the mean over the two sources.

    Args:
        fused, source: float64 (B, H, W).
        alpha: shape of the 3 x 3 Laplacian, 0 (four neighbours) to 1 (diagonal ones only).

    Returns:
        float64 (B,); NaN where a Laplacian is constant.

    Source: Sattar, Floreby, Salomonsson, Lövström, IEEE Trans. Image Process. 6(6), 1997.
    """
    first, second = laplacian(fused, alpha), laplacian(source, alpha)
    first = first - first.mean((1, 2), keepdim=True)
    second = second - second.mean((1, 2), keepdim=True)
    energy = first.square().sum((1, 2)) * second.square().sum((1, 2))
    return (first * second).sum((1, 2)) / energy.sqrt()
