"""Terms that the training objectives of several methods share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5, padding: int = 0) -> Tensor:
    """Return the mean SSIM (B) of images (B, 1, H, W) in [0, 1] under a Gaussian window.

    Args:
        a, b: images; without padding no smaller than the window.
        window: taps a side.
        sigma: of the window.
        padding: zeros around the images.
    """
    offsets = torch.arange(window, dtype=a.dtype, device=a.device) - (window - 1) / 2
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    taps = taps / taps.sum()
    moments = F.conv2d(torch.cat([a, b, a * a, b * b, a * b]), taps.view(1, 1, -1, 1), padding=(padding, 0))
    mean_a, mean_b, aa, bb, ab = F.conv2d(moments, taps.view(1, 1, 1, -1), padding=(0, padding)).chunk(5)
    variance_a, variance_b, covariance = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)).flatten(1).mean(dim=1)


def sobel_magnitude(image: Tensor) -> Tensor:
    """Return |Sobel_x| + |Sobel_y| of (B, 1, H, W), zero-padded."""
    x = image.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return F.conv2d(image, torch.stack([x, x.t()])[:, None], padding=1).abs().sum(dim=1, keepdim=True)


def joint_gradient(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Return mean|S(F) - max(S(A), S(B))| of images (B, 1, H, W) with S = |Sobel_x| + |Sobel_y|.

    The usual texture loss of fusion networks, e.g. of SwinFusion (IEEE/CAA Journal of Automatica Sinica, 2022).
    """
    edges = torch.maximum(sobel_magnitude(infrared), sobel_magnitude(visible))
    return F.l1_loss(sobel_magnitude(fused), edges)
