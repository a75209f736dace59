"""From RGB to the grey levels a metric sees: the one place for luma formulas and their rounding."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

Luma = Literal["bt601", "opencv", "pil", "matlab"]


def to_luma(images: Tensor, formula: Luma) -> Tensor:
    """Convert RGB to grey levels.

    Args:
        images: uint8 (B, 3, H, W) RGB, or (B, H, W), which is returned as it is.
        formula: ``bt601``: 0.299 R + 0.587 G + 0.114 B, exact, halves rounded up (our default); ``opencv``: the same
            in float32, halves to even, as the Python evaluators that read with OpenCV do; ``pil``: 16-bit fixed point,
            ``Image.convert("L")``; ``matlab``: ``rgb2gray``, the first row of the inverse NTSC matrix.

    Returns:
        uint8 (B, H, W). The formulas differ by at most one level.
    """
    if images.ndim == 3:
        return images
    if formula == "opencv":
        return _opencv(images)
    red, green, blue = images.unbind(1)
    if formula == "matlab":
        weights = (0.298936021293775, 0.587043074451121, 0.114020904255103)
        luma = weights[0] * red.double() + weights[1] * green.double() + weights[2] * blue.double()
        return torch.floor(luma + 0.5).clamp(max=255).to(torch.uint8)
    red, green, blue = red.int(), green.int(), blue.int()
    if formula == "pil":
        return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)
    return torch.div(299 * red + 587 * green + 114 * blue + 500, 1000, rounding_mode="floor").to(torch.uint8)


def stretch(images: Tensor, *, rounded: bool = True) -> Tensor:
    """Stretch each image (B, H, W) to fill 0..255 and round halves up; a constant image becomes black."""
    low, high = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
    stretched = (images - low) / (high - low).clamp(min=1e-300) * 255
    return torch.floor(stretched + 0.5) if rounded else stretched


def _opencv(images: Tensor) -> Tensor:
    # float32 sums round differently with every order of operations, so the evaluator's own routine is called.
    rgb = images.permute(0, 2, 3, 1).to("cpu", torch.float32).contiguous().numpy()
    grey = np.stack([np.round(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for image in rgb])
    return torch.from_numpy(grey).to(images.device, torch.uint8)
