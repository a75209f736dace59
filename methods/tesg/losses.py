"""TeSG's training losses (tgfbench's choice: the authors published none).

F is the fused luma, A the infrared image, V the visible luma, T = max(A, V), R the favoured region: the objects that
mask and text name. With the default weights:

    L = 5 mean|F - T| + 10 mean|grad F - max(grad A, grad V)| + (1 - SSIM(F, A) / 2 - SSIM(F, V) / 2)
        + 2 sum(R |F - T|) / (sum(R) + 1),    grad = |Sobel_x| + |Sobel_y|

Two things can be asked for beyond that. *Selection* compares gradients with their sign, and gradients and SSIM with
the locally stronger source instead of with both: mixed gradients agree with neither source. *Suppression* hides the
infrared image where objects are that nobody named; without it mask and text only move a weight, and the optimum ignores
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
MARGIN = 2
"""Pixels around a suppressed object that still belong to its outline."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms.

    Attributes:
        intensity: of mean |F - T|.
        gradient: of the gradient term.
        ssim: of the SSIM term.
        mask: of the favoured region's own intensity term.
        selection: compare gradients and SSIM with the locally stronger source: the one whose gradients are larger on a
            Gaussian average of this sigma, in pixels. 0 compares with both sources.
        suppression: of sum(S |F - V|) / (sum(S) + 1), S the suppressed region.
    """

    intensity: float = 5.0
    gradient: float = 10.0
    ssim: float = 1.0
    mask: float = 2.0
    selection: float = 0.0
    suppression: float = 0.0


def fusion_losses(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    favoured: Tensor,
    weights: LossWeights,
    suppressed: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the weighted terms by name; the total loss is their sum.

    Args:
        fused: F, float (B, 1, H, W) in [0, 1], H and W at least 11.
        infrared, visible: A and V, like ``fused``.
        favoured: R, float (B, 1, H, W) in [0, 1].
        weights: of the terms.
        suppressed: float (B, 1, H, W) in {0, 1}, where the fused image shall be the visible one; None: nowhere.
    """
    hidden = torch.zeros_like(visible) if suppressed is None else suppressed
    admitted = torch.lerp(infrared, visible, hidden)
    target = torch.maximum(admitted, visible)
    outline = F.max_pool2d(hidden, 2 * MARGIN + 1, stride=1, padding=MARGIN)
    if weights.selection:
        selected = stronger(infrared, visible, weights.selection) & (outline == 0)
        wanted = torch.where(selected, sobel(infrared), sobel(visible))
        gradient = (sobel(fused) - wanted).abs().sum(dim=1).mean()
        structure = 1 - selected_ssim(fused, infrared, visible, selected)
    else:
        strength = torch.maximum(magnitude(infrared) * (1 - outline), magnitude(visible))
        gradient = (magnitude(fused) - strength).abs().mean()
        structure = 1 - (ssim_map(fused, admitted).mean() + ssim_map(fused, visible).mean()) / 2
    return {
        "intensity": weights.intensity * (fused - target).abs().mean(),
        "gradient": weights.gradient * gradient,
        "ssim": weights.ssim * structure,
        "mask": weights.mask * mean_within(favoured, fused - target),
        "suppression": weights.suppression * mean_within(hidden, fused - visible),
    }


def mean_within(region: Tensor, difference: Tensor) -> Tensor:
    """Return the mean absolute difference within a region, which fades out where the region has hardly a pixel."""
    return (region * difference.abs()).sum() / (region.sum() + 1)


def sobel(image: Tensor) -> Tensor:
    """Return the derivatives (B, 2, H, W) along x and y of (B, 1, H, W), the border replicated."""
    x = image.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), torch.stack([x, x.T])[:, None])


def magnitude(image: Tensor) -> Tensor:
    """Return |Sobel_x| + |Sobel_y| of (B, 1, H, W)."""
    return sobel(image).abs().sum(dim=1, keepdim=True)


def stronger(infrared: Tensor, visible: Tensor, sigma: float) -> Tensor:
    """Return bool (B, 1, H, W): where the infrared image has the stronger gradients on a Gaussian average."""
    return smooth(magnitude(infrared), sigma) > smooth(magnitude(visible), sigma)


def selected_ssim(fused: Tensor, infrared: Tensor, visible: Tensor, selected: Tensor) -> Tensor:
    """Return the mean SSIM of the fused image with the infrared one where it is selected, else with the visible one."""
    border = WINDOW // 2
    inner = selected[..., border:-border, border:-border]
    return torch.where(inner, ssim_map(fused, infrared), ssim_map(fused, visible)).mean()


def ssim_map(image: Tensor, source: Tensor) -> Tensor:
    """Return the SSIM of (B, 1, H, W) in [0, 1] per 11 x 11 Gaussian window of sigma 1.5, (B, 1, H - 10, W - 10)."""
    moments = torch.cat([image, source, image * image, source * source, image * source], dim=1)
    mean_a, mean_b, aa, bb, ab = gaussian_filter(moments, WINDOW // 2, SIGMA).split(1, dim=1)
    variances, covariance = aa - mean_a**2 + bb - mean_b**2, ab - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))


def smooth(image: Tensor, sigma: float) -> Tensor:
    """Return a Gaussian blur of the same size, the border replicated."""
    radius = round(3 * sigma)
    return gaussian_filter(F.pad(image, (radius,) * 4, mode="replicate"), radius, sigma)


def gaussian_filter(image: Tensor, radius: int, sigma: float) -> Tensor:
    """Filter each channel with a normalised Gaussian of 2 radius + 1 taps a side; only the valid area is returned."""
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    taps = (taps / taps.sum()).repeat(image.shape[1], 1)
    rows = F.conv2d(image, taps[:, None, :, None], groups=image.shape[1])
    return F.conv2d(rows, taps[:, None, None, :], groups=image.shape[1])
