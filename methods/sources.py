"""The two source images themselves: rows that every fusion result should be compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo


class Visible(FusionMethod):
    """The visible image, unchanged."""

    info = MethodInfo(name="visible", title="Visible", tags=("source",))

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        """Return a copy of the visible images, (B, 3, H, W)."""
        return batch.visible.clone()


class Infrared(FusionMethod):
    """The infrared image, unchanged, as three equal channels."""

    info = MethodInfo(name="infrared", title="Infrared", tags=("source",))

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        """Return the infrared images as grey RGB, (B, 3, H, W)."""
        return batch.infrared.repeat(1, 3, 1, 1)
