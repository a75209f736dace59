"""What naming an object does to the object: its contrast, its gradients, and what it keeps of the source that shows it.

All on the luma Y of the fused image in grey levels, for a boolean mask A of the object and the ring R around it.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

LEAST_PIXELS = 32
"""Pixels of an object and of its ring below which contrast and information say nothing."""
BINS = 16
"""Grey-level bins per image of the mutual information; 256 joint cells suit objects of a few hundred pixels."""


class Prominence(NamedTuple):
    """How an object shows in a fused image.

    Attributes:
        contrast: |mean Y in A - mean Y in R|, grey levels.
        gradient: mean gradient magnitude in A, grey levels per pixel.
        information: mutual information between Y and the source that shows the object, over A and R, bits.
    """

    contrast: float
    gradient: float
    information: float


def ring(mask: np.ndarray) -> np.ndarray:
    """Return the pixels within a quarter of the square root of an object's area of it, and within 3 at least."""
    reach = max(3, round(0.25 * float(np.sqrt(mask.sum()))))
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return (away > 0) & (away <= reach)


def contrast(luma: np.ndarray, mask: np.ndarray, around: np.ndarray) -> float:
    """Return the absolute difference of the mean grey levels of an object and its ring."""
    return abs(float(luma[mask].mean(dtype=np.float64)) - float(luma[around].mean(dtype=np.float64)))


def showing_source(visible: np.ndarray, infrared: np.ndarray, mask: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Return the source, visible luma or infrared, in which the object has the larger contrast."""
    return infrared if contrast(infrared, mask, around) >= contrast(visible, mask, around) else visible


def prominence(luma: np.ndarray, source: np.ndarray, mask: np.ndarray, around: np.ndarray) -> Prominence:
    """Measure one object in one fused image.

    Args:
        luma: uint8 (H, W) of the fused image.
        source: uint8 (H, W), see ``showing_source``.
        mask: boolean (H, W), the object.
        around: boolean (H, W), its ring.
    """
    across, down = (cv2.Sobel(luma, cv2.CV_16S, dx, 1 - dx, ksize=3)[mask].astype(np.float64) for dx in (1, 0))
    near = mask | around
    return Prominence(
        contrast(luma, mask, around),
        # Whole numbers up to the root, so that the last bit never depends on how the image lies in memory.
        float((np.sqrt(across**2 + down**2) / 8).mean()),
        mutual_information(luma[near], source[near]),
    )


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mutual information, in bits, of two lists of grey levels, uint8 (N,), in 16 bins each."""
    shift = 256 // BINS
    joint = np.bincount((first // shift).astype(np.int64) * BINS + second // shift, minlength=BINS * BINS)
    together = joint.reshape(BINS, BINS) / max(1, len(first))
    apart = together.sum(axis=1, keepdims=True) * together.sum(axis=0, keepdims=True)
    filled = together > 0
    return float((together[filled] * np.log2(together[filled] / apart[filled])).sum())
