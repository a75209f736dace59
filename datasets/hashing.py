"""Perceptual hashes of pairs: equal for copies of an image that were scaled, compressed or mildly degraded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

GRID = 32
KEPT = 8
MIN_CONTRAST = 2.0
"""Standard deviation in grey levels under which an image shows nothing that could be recognised."""

THRESHOLD = 16
"""Largest distance of near-duplicates. On the samples at hand copies of one pair, degraded ones among them, are at most
8 apart, neighbours in video 6 to 20, and pairs of different scenes at least 40."""

ROWS_AT_A_TIME = 512


@dataclass(frozen=True, eq=False)
class PairHashes:
    """The hashes of some pairs.

    Attributes:
        name: what they are of, for messages.
        keys: their keys.
        visible, infrared: uint64 (N,) DCT hashes.
        visible_flat, infrared_flat: bool (N,), images without contrast; they resemble nothing.
    """

    name: str
    keys: tuple[str, ...]
    visible: np.ndarray
    infrared: np.ndarray
    visible_flat: np.ndarray
    infrared_flat: np.ndarray

    @classmethod
    def of(cls, name: str, keys: Sequence[str], hashes: Sequence[tuple[int | None, int | None]]) -> PairHashes:
        """Collect the hashes of ``pair_hash``, one for each key."""
        visible, infrared = ([pair[side] for pair in hashes] for side in (0, 1))
        values = [np.array([value or 0 for value in side], np.uint64) for side in (visible, infrared)]
        flat = [np.array([value is None for value in side], bool) for side in (visible, infrared)]
        return cls(name, tuple(keys), values[0], values[1], flat[0], flat[1])


@dataclass(frozen=True)
class Match:
    """Two pairs that show the same thing.

    Attributes:
        first, second: their keys.
        distance: 0 for equal hashes, at most ``THRESHOLD``.
    """

    first: str
    second: str
    distance: int


def image_hash(grey: np.ndarray) -> int | None:
    """Return the 63-bit DCT hash of an image uint8 (H, W), or None where it has no contrast.

    The image is averaged down to 32 x 32; a bit tells whether one of the lowest 8 x 8 frequencies but the mean is
    above their median (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010).
    """
    small = cv2.resize(grey, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < MIN_CONTRAST:
        return None
    frequencies = cv2.dct(small)[:KEPT, :KEPT].ravel()[1:]
    return int("".join("1" if bit else "0" for bit in frequencies > np.median(frequencies)), 2)


def pair_hash(visible: np.ndarray, infrared: np.ndarray) -> tuple[int | None, int | None]:
    """Return the hashes of a visible uint8 (H, W, 3) and an infrared uint8 (H, W) image."""
    return image_hash(cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY)), image_hash(infrared)


def near_duplicates(first: PairHashes, second: PairHashes | None = None, threshold: int = THRESHOLD) -> list[Match]:
    """Return the pairs of two collections (or within one) that show the same thing, nearest first.

    The distance is the number of differing bits in both modalities together; where one modality alone agrees (the
    other was enhanced or degraded), it is four times the bits that differ in that one, if that is less.
    """
    other = first if second is None else second
    found: list[Match] = []
    for start in range(0, len(first.keys), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        visible = _differing(first.visible[rows], other.visible, first.visible_flat[rows], other.visible_flat)
        infrared = _differing(first.infrared[rows], other.infrared, first.infrared_flat[rows], other.infrared_flat)
        distance = np.minimum(visible + infrared, 4 * np.minimum(visible, infrared))
        for i, j in zip(*np.nonzero(distance <= threshold), strict=True):
            if second is not None or start + i < j:
                found.append(Match(first.keys[start + i], other.keys[j], int(distance[i, j])))
    return sorted(found, key=lambda match: (match.distance, match.first, match.second))


def _differing(a: np.ndarray, b: np.ndarray, a_flat: np.ndarray, b_flat: np.ndarray) -> np.ndarray:
    bits = np.bitwise_count(a[:, None] ^ b[None, :]).astype(np.int16)
    bits[a_flat[:, None] | b_flat[None, :]] = 64
    return bits
