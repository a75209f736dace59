"""Intervals and tests over images. The image is the unit: objects and prompts are averaged within it first.

Everything is seeded, so that the same numbers give the same interval and the same p-value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

RESAMPLES = 4000
"""Of the bootstrap; the ends of a 95 % interval are then the 100th values from either side."""
PERMUTATIONS = 9999
"""Of Monte-Carlo tests: the smallest p-value is 1/10000."""
EXACT_UP_TO = 13
"""Images up to which all 2^n sign patterns are counted."""
SEED = 20_240_607
TIE = 1e-9
"""Statistics closer than this, relative to their size, are ties: sums in another order differ in the last bits."""
NOTHING = 1e-9
"""Differences smaller than this are rounding of equal numbers and count as 0; grey levels and shares are far above."""


@dataclass(frozen=True)
class Estimate:
    """A mean, or a ratio of means, over images.

    Attributes:
        value: the estimate; NaN where no image gives one.
        low, high: ends of its 95 % percentile bootstrap interval over images; NaN with fewer than two images.
        images: how many images it is taken over.
        p: of the one-sided test that it is above 0 (for differences), or None where nothing was tested.
    """

    value: float
    low: float
    high: float
    images: int
    p: float | None = None


def mean_estimate(values: Sequence[float], *, tested: bool = False) -> Estimate:
    """Return the mean over images with its interval; values that are not finite are left out.

    Args:
        values: one per image.
        tested: also test whether the mean is above 0.
    """
    kept = np.asarray([value for value in values if np.isfinite(value)], dtype=np.float64)
    if not len(kept):
        return Estimate(np.nan, np.nan, np.nan, 0, 1.0 if tested else None)
    kept[np.abs(kept) < NOTHING] = 0.0
    low, high = _interval(kept[_draws(len(kept))].mean(axis=1), len(kept))
    return Estimate(float(kept.mean()), low, high, len(kept), sign_flip(kept) if tested else None)


def ratio_estimate(upper: Sequence[float], lower: Sequence[float]) -> Estimate:
    """Return mean(upper) / mean(lower) over the images that have both; NaN where the divisor is 0.

    A ratio of means, unlike a mean of ratios, is not ruled by images on which hardly anything moves.
    """
    pairs = [(a, b) for a, b in zip(upper, lower, strict=True) if np.isfinite(a) and np.isfinite(b)]
    if not pairs:
        return Estimate(np.nan, np.nan, np.nan, 0)
    tops, bottoms = np.asarray(pairs, dtype=np.float64).T
    if bottoms.mean() <= 0:
        return Estimate(np.nan, np.nan, np.nan, len(pairs))
    drawn = _draws(len(pairs))
    over, under = tops[drawn].mean(axis=1), bottoms[drawn].mean(axis=1)
    # A resample in which nothing moves has no ratio; it is a sign of few images and is left out.
    low, high = _interval(over[under > 0] / under[under > 0], len(pairs))
    return Estimate(float(tops.mean() / bottoms.mean()), low, high, len(pairs))


def sign_flip(values: Sequence[float] | np.ndarray) -> float:
    """One-sided p-value of mean > 0 under the null that each value is as likely to have the other sign.

    Exact up to 13 values, by 9999 random sign patterns and the observed one above.
    """
    kept = np.asarray(values, dtype=np.float64)
    if not np.any(np.abs(kept) >= NOTHING):
        return 1.0
    if len(kept) <= EXACT_UP_TO:
        signs = np.asarray(list(product((1.0, -1.0), repeat=len(kept))))
        sums = signs @ kept
        return float((sums >= kept.sum() - _tie(kept)).mean())
    signs = np.random.default_rng(SEED).choice((1.0, -1.0), (PERMUTATIONS, len(kept)))
    return float((1 + (signs @ kept >= kept.sum() - _tie(kept)).sum()) / (1 + PERMUTATIONS))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for several tests after Holm (1979)."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for rank, (name, p) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _draws(count: int) -> np.ndarray:
    """Bootstrap samples of the indices of ``count`` images."""
    return np.random.default_rng(SEED).integers(0, count, (RESAMPLES, count))


def _interval(drawn: np.ndarray, images: int) -> tuple[float, float]:
    """95 % percentile interval of an estimate over the resamples; one image alone does not tell how it varies."""
    if images < 2:
        return np.nan, np.nan
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _tie(values: np.ndarray) -> float:
    return TIE * float(np.abs(values).sum())
