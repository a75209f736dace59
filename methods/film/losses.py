"""What FILM is trained with: the authors' loss for infrared and visible images.

F is the fused image, A the infrared and B the visible grey image, S = |Sobel_x| + |Sobel_y|:

    L = mean|F - max(A, B)| + 20 mean|S(F) - max(S(A), S(B))| + w (T(A) + T(B)),
    T(I) = |I - F|_2 + sqrt(H W) (1 - SSIM(I, F))

The released code has w = 0 for this task and uses w for other kinds of images.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.methods._losses import joint_gradient, ssim

GRADIENT_WEIGHT = 20.0
SSIM_WEIGHT = 0.0
WINDOW = 5
"""Taps a side of the window of SSIM, whose sigma is 1.5."""


def fusion_losses(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    gradient_weight: float = GRADIENT_WEIGHT,
    ssim_weight: float = SSIM_WEIGHT,
) -> dict[str, Tensor]:
    """Return the weighted terms by name; the total loss is their sum.

    Args:
        fused: F, float (B, 1, H, W) in [0, 1].
        infrared, visible: A and B, like ``fused``.
        gradient_weight, ssim_weight: of the terms; a term of weight 0 is left out.
    """
    terms = {
        "intensity": F.l1_loss(fused, torch.maximum(infrared, visible)),
        "gradient": gradient_weight * joint_gradient(fused, infrared, visible),
    }
    if ssim_weight:
        terms["structure"] = ssim_weight * (structure_loss(fused, infrared) + structure_loss(fused, visible))
    return terms


def structure_loss(fused: Tensor, source: Tensor) -> Tensor:
    """Return T, the mean over the batch of |I - F|_2 + sqrt(H W) (1 - SSIM)."""
    distance = torch.linalg.vector_norm((source - fused).flatten(1), dim=1)
    height, width = fused.shape[-2:]
    similarity = ssim(fused, source, WINDOW, padding=WINDOW // 2)
    return (distance + (height * width) ** 0.5 * (1 - similarity)).mean()
