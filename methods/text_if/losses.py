"""What Text-IF is trained with: four terms against the clean pair, weighted by the degradation.

F is the fused image, V the clean visible and I the clean infrared image, D = 1 - SSIM under a 48 x 48 Gaussian window:

    L = a_int L_int + a_ssim (D(V, F) + D(I, luma F)) + 12 L_color + a_grad L_grad

for every sample, averaged over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.methods._losses import ssim
from tgfbench.methods.colour import luma

TASKS: dict[str, tuple[float, float, float]] = {
    "low light": (8, 1, 10),
    "over-exposure": (4, 0, 2),
    "infrared low contrast": (8, 1, 10),
    "infrared noise": (6, 1, 10),
}
"""a_int, a_ssim and a_grad of the four degradations that the authors publish."""
NEAREST_TASK = {"visible": "low light", "infrared": "infrared noise"}
"""Whose weights the other degradations of an image get here; also those of an undegraded pair, as for ``visible``."""
COLOUR_WEIGHT = 12.0
WINDOW = 48
"""Taps a side of the window of SSIM, whose sigma is 1.5; not padded, so a crop can be no smaller."""
TAPS = 24
"""Taps of the window that differ from zero."""
CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def fusion_losses(fused: Tensor, visible: Tensor, infrared: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Return the weighted terms by name; the total loss is their sum.

    Args:
        fused: F, float (B, 3, H, W), H and W at least 48.
        visible: V, float (B, 3, H, W) in [0, 1].
        infrared: I, float (B, 1, H, W) in [0, 1].
        tasks: a name in ``TASKS`` per sample.
    """
    intensity, structure, gradient = fused.new_tensor([TASKS[task] for task in tasks]).unbind(dim=1)
    return {
        "intensity": (intensity * intensity_loss(fused, visible, infrared)).mean(),
        "structure": (structure * structure_loss(fused, visible, infrared)).mean(),
        "colour": COLOUR_WEIGHT * colour_loss(fused, visible).mean(),
        "gradient": (gradient * gradient_loss(fused, visible, infrared)).mean(),
    }


def intensity_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Return the mean |F - M| (B), where M is I at pixels where it exceeds V's mean over the channels, else V."""
    target = torch.where(infrared > visible.mean(dim=1, keepdim=True), infrared, visible)
    return _per_sample((fused - target).abs())


def structure_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Return D(V, F) over the colour channels plus D(I, luma F), (B)."""
    sources, results = torch.cat([visible, infrared], dim=1), torch.cat([fused, luma(fused)], dim=1)
    # Farther than 8 sigma from its centre the window is zero for float32: fewer taps give the same result.
    margin = (WINDOW - TAPS) // 2
    own, result = (x[..., margin:-margin, margin:-margin].flatten(0, 1)[:, None] for x in (sources, results))
    red, green, blue, heat = (1 - ssim(own, result, TAPS)).view(len(fused), 4).unbind(dim=1)
    return (red + green + blue) / 3 + heat


def colour_loss(fused: Tensor, visible: Tensor) -> Tensor:
    """Return the mean absolute difference of Cb plus that of Cr (JPEG's matrix), (B)."""
    matrix = fused.new_tensor(CHROMA)[:, :, None, None]
    return 2 * _per_sample(F.conv2d(fused - visible, matrix).abs())


def gradient_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Return the mean ||dF| - max(|dV|, |dI|)| of the luma, summed over both Sobel directions, (B)."""
    strongest = torch.maximum(sobel(luma(visible)), sobel(infrared))
    return 2 * _per_sample((sobel(luma(fused)) - strongest).abs())


def sobel(image: Tensor) -> Tensor:
    """Return |Sobel_x| and |Sobel_y|, (B, 2, H, W), of (B, 1, H, W) continued by its border."""
    x = image.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), torch.stack([x, x.t()])[:, None]).abs()


def _per_sample(x: Tensor) -> Tensor:
    return x.flatten(1).mean(dim=1)
