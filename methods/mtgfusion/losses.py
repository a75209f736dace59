"""What MTG-Fusion is trained with: the release's weights, in two stages.

F is the fused image, A and B the sources; every term is the mean over both sources. d(u, v) = 1 - cos(u, v), t is the
mean of a text's tokens, and tF the embedding of F by the encoder that embedded the texts:

    stage 1:  MSE(F, .) + 0.5 (1 - SSIM(F, .)) + 0.6 L1(F, .)
    stage 2:  stage 1 + 0.5 [d(tF, tA) + d(tF, tB) + d(tF, tGT)]

The release puts a second L1 term where it names SSIM; here it is SSIM.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    sources = (infrared, visible)
    return {
        "mse": MSE_WEIGHT * sum(F.mse_loss(fused, source) for source in sources) / 2,
        "ssim": SSIM_WEIGHT * sum(1 - ssim(fused, source).mean() for source in sources) / 2,
        "l1": L1_WEIGHT * sum(F.l1_loss(fused, source) for source in sources) / 2,
    }


def text_loss(fused: Tensor, texts: Sequence[Tensor]) -> Tensor:
    """Return the weighted text term of stage 2.

    Args:
        fused: tF, float (B, D).
        texts: token features (B, L, D) of the texts about the infrared, the visible and the ideal fused image.
    """
    distances = [1 - F.cosine_similarity(fused, text.mean(dim=1), dim=-1) for text in texts]
    return TEXT_WEIGHT * sum(distances[1:], distances[0]).mean()
