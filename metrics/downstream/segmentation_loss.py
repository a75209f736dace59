"""The loss of every segmenter. Import after ``import_mmseg``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from tgfbench.metrics.downstream.segmentation_networks import IGNORED


@MODELS.register_module(force=True)
class CountedCrossEntropy(nn.Module):
    """Cross-entropy averaged over the pixels that count.

    mmsegmentation's own cannot combine class weights with ignored pixels.

    Args:
        class_weights: one per output; None for equal ones.
        loss_weight: of this head's loss in the sum of all.
    """

    loss_name = "loss_ce"
    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, loss_weight: float = 1.0) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor, weight: None = None, ignore_index: int = IGNORED) -> Tensor:
        """Return the loss, 0 where no pixel counts.

        Args:
            logits: float (B, C, H, W).
            labels: int64 (B, H, W).
            weight: of pixels; no head here has any.
            ignore_index: label of the pixels that do not count.
        """
        del weight
        total = F.cross_entropy(logits, labels, self.class_weights, ignore_index=ignore_index, reduction="sum")
        return self.loss_weight * total / (labels != ignore_index).sum().clamp(min=1)
