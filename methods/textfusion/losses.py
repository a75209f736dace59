"""TextFusion's training loss: what the text describes is fused by local activity, the rest by global gradients.

F is the fused luma, I the infrared image, V the visible luma, m the association map (1 where the text describes what is
seen), n = 1 - m. With weights w from the activity of both sources and p from their gradients outside the region,

    L = MSE(m w_i F, m w_i I) + MSE(m w_v F, m w_v V) + p_i MSE(n F, n I) + p_v MSE(n F, n V)

as in the authors' released code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FEATURE_ENDS = (3, 8, 17, 26, 35)
"""Layers of VGG-19 before which the gradients of features are measured."""
VGG_DIVISOR = 4000.0


def association_losses(
    fused: Tensor, infrared: Tensor, visible: Tensor, described: Tensor, activity: Tensor, preference: Tensor
) -> dict[str, Tensor]:
    """Return the terms by name; the loss is their sum.

    Args:
        fused, infrared, visible: float (B, 1, H, W) in [0, 1].
        described: m, float (B, 1, H, W) in {0, 1}.
        activity: w_i, float (B, 1, H, W) in [0, 1]; w_v is the rest.
        preference: p_i, float (B, 1, 1, 1) in [0, 1]; p_v is the rest.
    """
    rest = 1 - described
    inside = F.mse_loss(described * activity * fused, described * activity * infrared) + F.mse_loss(
        described * (1 - activity) * fused, described * (1 - activity) * visible
    )
    outside = preference * (rest * (fused - infrared)).square() + (1 - preference) * (rest * (fused - visible)).square()
    return {"described": inside, "rest": outside.mean()}


def activity_weights(activity_infrared: Tensor, activity_visible: Tensor) -> Tensor:
    """Return w_i (B, 1, H, W), the softmax of the sources' activities, each (B, C, H, W), summed over channels."""
    activities = [activity.sum(dim=1, keepdim=True) for activity in (activity_infrared, activity_visible)]
    return torch.sigmoid(activities[0] - activities[1])


def gradient_energy(features: Sequence[Tensor], rest: Tensor) -> Tensor:
    """Return the mean squared gradient (B, 1, 1, 1) of feature maps outside the described region.

    Args:
        features: maps (B, C, H, W), (B, C', H / 2, W / 2), …
        rest: n, float (B, 1, H, W), halved per level.
    """
    energies = []
    for level, maps in enumerate(features):
        if level:
            rest = F.avg_pool2d(rest, 2)
        energy = laplacian(maps).square().mean(dim=1, keepdim=True)
        total = rest.sum(dim=(1, 2, 3), keepdim=True)
        energies.append((rest * energy).sum(dim=(1, 2, 3), keepdim=True) / total.clamp_min(1))
    return torch.stack(energies).mean(dim=0)


def laplacian(maps: Tensor) -> Tensor:
    """Return the mean of the eight neighbours less the pixel, summed over channels, for each channel: (B, C, H, W).

    The kernel is dense over channels, as in the released code: all channels of the result are the same.
    """
    kernel = maps.new_full((1, 1, 3, 3), 1 / 8)
    kernel[..., 1, 1] = -1
    total = F.pad(maps.sum(dim=1, keepdim=True), (1, 1, 1, 1), mode="reflect")
    return F.conv2d(total, kernel).expand_as(maps)


def source_preference(energy_infrared: Tensor, energy_visible: Tensor, divisor: float = VGG_DIVISOR) -> Tensor:
    """Return p_i (B, 1, 1, 1), the softmax of the sources' gradient energies over ``divisor``."""
    return torch.sigmoid((energy_infrared - energy_visible) / divisor)
