"""Correlation with kernels that are not separable."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["mirror", "replicate"]


def correlate(images: Tensor, kernel: np.ndarray, border: Border) -> Tensor:
    """Correlate with a square kernel of odd side.

    Args:
        images: float64 (B, H, W).
        kernel: float64 (k, k).
        border: the image is mirrored without its edge pixel, or its edge pixel is repeated.

    Returns:
        float64 (B, H, W).
    """
    return _in_opencv(images, kernel, border) if images.is_cpu else _in_torch(images, kernel, border)


def _in_opencv(images: Tensor, kernel: np.ndarray, border: Border) -> Tensor:
    kind = {"mirror": cv2.BORDER_REFLECT_101, "replicate": cv2.BORDER_REPLICATE}[border]
    return torch.from_numpy(np.stack([cv2.filter2D(x, cv2.CV_64F, kernel, borderType=kind) for x in images.numpy()]))


def _in_torch(images: Tensor, kernel: np.ndarray, border: Border) -> Tensor:
    margin = kernel.shape[0] // 2
    mode = {"mirror": "reflect", "replicate": "replicate"}[border]
    padded = F.pad(images[:, None], (margin,) * 4, mode=mode)
    return F.conv2d(padded, torch.from_numpy(kernel).to(images)[None, None])[:, 0]
