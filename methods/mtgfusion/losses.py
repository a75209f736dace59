"""What MTG-Fusion is trained with: the release's weights, in two stages.

F is the fused image, A and B the sources; every term is the mean over both sources. d(u, v) = 1 - cos(u, v), t is the
mean of a text's tokens, and tF the embedding of F by the encoder that embedded the texts:

    stage 1:  MSE(F, .) + 0.5 (1 - SSIM(F, .)) + 0.6 L1(F, .)
    stage 2:  stage 1 + 0.5 [d(tF, tA) + d(tF, tB) + d(tF, tGT)]

The release puts a second L1 term where it names SSIM; here it is SSIM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.methods._losses import ssim

MSE_WEIGHT, SSIM_WEIGHT, L1_WEIGHT, TEXT_WEIGHT = 1.0, 0.5, 0.6, 0.5


def fusion_losses(fused: Tensor, infrared: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Return the weighted terms of stage 1 by name; the total loss is their sum.

    Args:
        fused: F, float (B, 1, H, W), H and W at least 11.
        infrared, visible: A and B, float (B, 1, H, W) in [0, 1].
    """
    both, sources = torch.cat([fused, fused]), torch.cat([infrared, visible])
    return {
        "mse": MSE_WEIGHT * F.mse_loss(both, sources),
        "ssim": SSIM_WEIGHT * (1 - ssim(both, sources).mean()),
        "l1": L1_WEIGHT * F.l1_loss(both, sources),
    }


def text_loss(fused: Tensor, texts: Sequence[Tensor]) -> Tensor:
    """Return the weighted text term of stage 2.

    Args:
        fused: tF, float (B, D).
        texts: token features (B, L, D) of the texts about the infrared, the visible and the ideal fused image.
    """
    distances = [1 - F.cosine_similarity(fused, text.mean(dim=1), dim=-1) for text in texts]
    return TEXT_WEIGHT * torch.stack(distances).sum(dim=0).mean()
