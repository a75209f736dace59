"""Where the output changes, against where the named object is.

Three measures on the map of absolute change e of one prompt against the empty one: the *energy share* of e inside the
object's mask (the energy-based pointing game of Wang et al., Score-CAM, CVPR Workshops 2020), the *pointing game*
(Zhang et al., ECCV 2016), and the energy share's excess over what naming anything else gives. A permutation test puts
the masks of other images in the place of the own one, as the shuffled AUC of saliency research does (Zhang et al., SUN,
JVIS 2008): objects crowd in the same parts of a frame, and a method that favours those parts names no object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tgfbench.metrics.audit.statistics import PERMUTATIONS, SEED, TIE

GRID = 64
"""Cells per side of the coarse maps on which masks of one image are laid over the change of another."""
POINTING_BLUR = 0.01
"""Standard deviation of the smoothing before the pointing game, as a share of the shorter side."""


def change_map(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the absolute difference of two uint8 (H, W, 3) images, averaged over the channels: float32 (H, W)."""
    total = cv2.transform(cv2.absdiff(first, second).astype(np.float32), np.ones((1, 3), np.float32))
    return total / np.float32(3)


def energy_share(change: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a change (H, W) that lies inside a boolean mask; the mask's area where nothing changed.

    Nothing changed is nothing localised, and the share that chance gives is the area's.
    """
    total = float(change.sum(dtype=np.float64))
    return float(change[mask].sum(dtype=np.float64)) / total if total > 0 else float(mask.mean())


def points_at(change: np.ndarray, mask: np.ndarray) -> float:
    """Return 1 if the (slightly smoothed) change is largest inside the mask, 0 if outside, NaN if nothing changed."""
    if not change.any():
        return np.nan
    smooth = cv2.GaussianBlur(change, (0, 0), max(0.5, POINTING_BLUR * min(change.shape)))
    return float(mask[np.unravel_index(int(smooth.argmax()), smooth.shape)])


def coarse(image: np.ndarray) -> np.ndarray:
    """Return a map (H, W) averaged onto the grid of cells, float32 (64, 64), whatever its size and aspect."""
    return cv2.resize(image.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True, eq=False)
class NamedChange:
    """The change that naming one object made, and where that object is, on the coarse grid.

    Attributes:
        key: the image.
        change: float32 (64, 64).
        mask: float32 (64, 64), the covered share of every cell.
    """

    key: str
    change: np.ndarray
    mask: np.ndarray


def mask_permutation(changes: Sequence[NamedChange]) -> float:
    """Return the one-sided p-value of the mean excess of energy share over area under exchanged masks.

    The statistic is the mean over images of the mean over their objects of (energy share - area share). Under the null
    every object gets the mask of an object of another image, in relative coordinates. 1 with fewer than two images.
    """
    keys = [item.key for item in changes]
    if len(set(keys)) < 2:
        return 1.0
    energies = np.stack([item.change.ravel() for item in changes]).astype(np.float64)
    totals = energies.sum(axis=1, keepdims=True)
    masks = np.stack([item.mask.ravel() for item in changes]).astype(np.float64)
    shares = (energies / np.where(totals > 0, totals, 1)) @ masks.T
    excess = np.where(totals > 0, shares - masks.mean(axis=1), 0.0)
    images, inverse = np.unique(keys, return_inverse=True)
    # Each image weighs the same, however many objects it has.
    weights = 1 / (np.bincount(inverse)[inverse] * len(images))
    observed = float((np.diag(excess) * weights).sum())
    generator = np.random.default_rng(SEED)
    drawn = np.zeros(PERMUTATIONS)
    for row, key in enumerate(keys):
        others = np.flatnonzero(np.asarray(keys) != key)
        drawn += weights[row] * excess[row, generator.choice(others, PERMUTATIONS)]
    tie = TIE * float(np.abs(excess).max())
    return float((1 + (drawn >= observed - tie).sum()) / (1 + PERMUTATIONS))
