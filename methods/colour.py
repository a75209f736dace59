"""Colour conventions shared by methods that fuse luma and keep the visible image's chroma.

Most fusion networks see one channel. The visible image is split into luma Y and chroma Cb, Cr (ITU-R BT.601 with the
three-decimal factors that fusion code commonly uses), Y is fused with the infrared image, and the fused Y is joined
with the visible image's own chroma. The factors are rounded, so a round trip is exact to about 2.5e-4 (JFIF: 5e-4): far
below half a grey level of 8 bits (2e-3).
"""

from __future__ import annotations

import torch
from torch import Tensor


def luma(rgb: Tensor) -> Tensor:
    """Return the BT.601 luma 0.299 R + 0.587 G + 0.114 B.

    Args:
        rgb: float (B, 3, H, W) in [0, 1].

    Returns:
        (B, 1, H, W) in [0, 1], same dtype.
    """
    red, green, blue = rgb.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """Return Y, Cb = 0.564 (B - Y) + 0.5 and Cr = 0.713 (R - Y) + 0.5.

    Args:
        rgb: float (B, 3, H, W) in [0, 1].

    Returns:
        (B, 3, H, W), channels Y, Cb, Cr in [0, 1], same dtype.
    """
    y = luma(rgb)
    red, _, blue = rgb.split(1, dim=1)
    return torch.cat([y, (blue - y) * 0.564 + 0.5, (red - y) * 0.713 + 0.5], dim=1)


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """Return R = Y + 1.403 Cr', G = Y - 0.714 Cr' - 0.344 Cb', B = Y + 1.773 Cb' with Cb' = Cb - 0.5, Cr' = Cr - 0.5.

    Args:
        ycbcr: float (B, 3, H, W), channels Y, Cb, Cr in [0, 1].

    Returns:
        RGB (B, 3, H, W), same dtype, not clamped: colours outside the RGB cube leave [0, 1].
    """
    y, cb, cr = ycbcr.split(1, dim=1)
    cb, cr = cb - 0.5, cr - 0.5
    return torch.cat([y + 1.403 * cr, y - 0.714 * cr - 0.344 * cb, y + 1.773 * cb], dim=1)


def rgb_to_jfif(rgb: Tensor) -> Tensor:
    """Return JFIF's Y, Cb, Cr with chroma centred at 0 and its factors rounded to three decimals.

    Args:
        rgb: float (B, 3, H, W) in [0, 1].

    Returns:
        (B, 3, H, W), Y in [0, 1], Cb and Cr in [-0.5, 0.5], same dtype.
    """
    red, green, blue = rgb.split(1, dim=1)
    cb = 0.5 * blue - 0.169 * red - 0.331 * green
    cr = 0.5 * red - 0.419 * green - 0.081 * blue
    return torch.cat([luma(rgb), cb, cr], dim=1)


def jfif_to_rgb(ycbcr: Tensor) -> Tensor:
    """Return R = Y + 1.402 Cr, G = Y - 0.344136 Cb - 0.714136 Cr, B = Y + 1.772 Cb, chroma centred at 0.

    Args:
        ycbcr: float (B, 3, H, W) as ``rgb_to_jfif`` returns it.

    Returns:
        RGB (B, 3, H, W), same dtype, not clamped: colours outside the RGB cube leave [0, 1].
    """
    y, cb, cr = ycbcr.split(1, dim=1)
    return torch.cat([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], dim=1)


def fuse_luma(visible: Tensor, fused_luma: Tensor) -> Tensor:
    """Return the colour image that has the fused luma and the visible image's chroma.

    Args:
        visible: float (B, 3, H, W) RGB in [0, 1].
        fused_luma: float (B, 1, H, W).

    Returns:
        RGB (B, 3, H, W), clamped to [0, 1].
    """
    chroma = rgb_to_ycbcr(visible)[:, 1:]
    return ycbcr_to_rgb(torch.cat([fused_luma, chroma], dim=1)).clamp(0, 1)
