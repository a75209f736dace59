"""Uncertainty from the images at hand: percentile bootstrap over images, paired across rows and metrics.

One resample draws as many images as there are, with replacement, and gives every row and metric the same images, as a
new test set would. What varies over resamples is how much a mean, a rank or a place depends on which images were taken
(B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13). The draws are seeded by the number
of images alone, so an interval is the same in every build and does not depend on which other rows are on the board.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

DRAWS = 2000
LEVEL = 0.95
_SEED = 20250301


@dataclass(frozen=True, eq=False)
class Intervals:
    """95 % intervals of one board; NaN where there is none (one image, no value, a row or metric that is not ranked).

    Attributes:
        mean: (2, rows, metrics), lower and upper end.
        rank: (2, rows, metrics), of the rank within one metric.
        average_rank: (2, rows).
        place: (2, rows), of the position in the table, 1 for the first.
        average_rank_draws: (draws, rows), the resampled average ranks, for boards over several datasets; a row of NaN
            where a resample holds no image on which any metric is defined.
    """

    mean: np.ndarray
    rank: np.ndarray
    average_rank: np.ndarray
    place: np.ndarray
    average_rank_draws: np.ndarray


def image_draws(images: int, draws: int = DRAWS, stream: int = 0) -> np.ndarray:
    """Return how often each image is drawn in each resample: float64 (draws, images), rows summing to ``images``.

    Args:
        images: number of images.
        draws: number of resamples.
        stream: another number gives independent draws, for datasets that are averaged.
    """
    rng = np.random.default_rng([_SEED, images, stream])
    return rng.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)


def resampled_means(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the mean of each row in each resample.

    Args:
        values: (rows, images); an image that is NaN for every row is left out of all means.
        drawn: (draws, images), from ``image_draws``.

    Returns:
        (draws, rows); NaN for a row that lacks other values, and for a resample without any usable image.
    """
    kept = ~np.isnan(values).all(axis=0)
    drawn, values = np.ascontiguousarray(drawn[:, kept]), np.ascontiguousarray(values[:, kept])
    # Not a matrix product of BLAS: its last bits depend on threads and on the neighbours of a row, which would let two
    # rows with equal scores differ. 16 resamples at a time stay in the cache.
    sums = np.concatenate([np.einsum("bi,ri->br", part, values) for part in np.split(drawn, range(16, len(drawn), 16))])
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / drawn.sum(axis=1, keepdims=True)


def percentile_interval(draws: np.ndarray) -> np.ndarray:
    """Return the ends of the 95 % percentile interval over axis 0, shape (2, …)."""
    tail = (1 - LEVEL) / 2
    return np.quantile(draws, [tail, 1 - tail], axis=0)


def board_intervals(
    scores: np.ndarray, means: np.ndarray, signs: np.ndarray, counts: np.ndarray, ranked: np.ndarray, stream: int = 0
) -> Intervals:
    """Compute all intervals of a board.

    Args:
        scores: (rows, metrics, images), NaN where there is no value.
        means: (rows, metrics), NaN for n/a.
        signs: (metrics,), 1 where lower is better, -1 where higher is, NaN without a direction.
        counts: (metrics,) bool, part of the average rank.
        ranked: (rows,) bool.
        stream: of the draws.
    """
    rows, metrics, images = scores.shape
    mean, rank = np.full((2, rows, metrics), np.nan), np.full((2, rows, metrics), np.nan)
    average_draws = np.full((DRAWS, rows), np.nan)
    if images < 2:
        nothing = np.full((2, rows), np.nan)
        return Intervals(mean, rank, nothing, nothing, average_draws)
    drawn = image_draws(images, stream=stream)
    total, metrics_drawn = np.zeros((DRAWS, int(ranked.sum()))), np.zeros((DRAWS, 1))
    for metric in range(metrics):
        known = np.isfinite(means[:, metric])
        if not known.any():
            continue
        if np.isfinite(scores[known, metric]).any(axis=0).sum() < 2:
            continue
        draws = resampled_means(scores[known, metric], drawn)
        # A resample of few images may hold none on which the metric is defined.
        usable = np.isfinite(draws).all(axis=1)
        draws = draws[usable]
        mean[:, known, metric] = percentile_interval(draws)
        here = ranked[known]
        if np.isnan(signs[metric]) or here.sum() < 2:
            continue
        ranks = rankdata(draws[:, here] * signs[metric], axis=1)
        rank[:, np.flatnonzero(known)[here], metric] = percentile_interval(ranks)
        if counts[metric]:
            total[usable] += ranks
            metrics_drawn[usable] += 1
    average, place = np.full((2, rows), np.nan), np.full((2, rows), np.nan)
    usable = metrics_drawn[:, 0] > 0
    if usable.any():
        draws = total[usable] / metrics_drawn[usable]
        average_draws[np.ix_(usable, ranked)] = draws
        average[:, ranked], place[:, ranked] = percentile_interval(draws), places_of(draws)
    return Intervals(mean, rank, average, place, average_draws)


def places_of(average_ranks: np.ndarray) -> np.ndarray:
    """Return the interval of each row's place, (2, rows), from resampled average ranks (draws, rows)."""
    # Sums of ranks are multiples of 1/2; rounding joins what differs only by the order of addition.
    places = rankdata(np.round(average_ranks, 9), axis=1, method="min")
    tail = (1 - LEVEL) / 2
    low = np.quantile(places, tail, axis=0, method="lower")
    return np.stack([low, np.quantile(places, 1 - tail, axis=0, method="higher")])
