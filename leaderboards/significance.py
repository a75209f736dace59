"""Paired tests between methods on the same images, and what they say about ties.

* Two methods, one metric: Wilcoxon signed-rank test over images (F. Wilcoxon, 1945), zero differences dropped. Up to 50
  differences the conditional distribution is exact, ties included; above that it is normal with the tie correction.
  The p-values of all pairs of one metric are adjusted together (S. Holm, 1979).
* All methods, one metric: Friedman test (1937) with images as blocks, followed by Nemenyi's critical difference
  (P. Nemenyi, 1963; J. Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 7, 2006).
* Effect size: matched-pairs rank-biserial correlation, (W+ − W−) / (W+ + W−), in [-1, 1] (D. Kerby, 2014).
* Images needed: the sample size at which the Wilcoxon test finds an effect of this size with
  probability 0.8 (G. Noether, *Sample Size Determination for Some Common Nonparametric Tests*, JASA 82, 1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

ALPHA = 0.05
POWER = 0.8
EXACT_UP_TO = 50


@dataclass(frozen=True, eq=False)
class SignedRank:
    """Wilcoxon signed-rank tests of several pairs of samples.

    Attributes:
        p: (pairs,) two-sided p-values, not adjusted; 1 where all differences are zero.
        effect: (pairs,) rank-biserial correlation, positive where the first sample is larger.
        nonzero: (pairs,) number of differences that are not zero.
    """

    p: np.ndarray
    effect: np.ndarray
    nonzero: np.ndarray


@dataclass(frozen=True, eq=False)
class PairTests:
    """All pairs of the methods of one metric.

    Attributes:
        p: (methods, methods), Holm-adjusted over all pairs, 1 on the diagonal.
        effect: (methods, methods), antisymmetric: positive where the row's values are larger than the column's.
        nonzero: (methods, methods), share of images on which the two differ at all.
    """

    p: np.ndarray
    effect: np.ndarray
    nonzero: np.ndarray

    @property
    def differ(self) -> np.ndarray:
        """(methods, methods) bool: significantly different."""
        return self.p < ALPHA


@dataclass(frozen=True, eq=False)
class Friedman:
    """Friedman test with Nemenyi's critical difference.

    Attributes:
        statistic, p: of the omnibus test; NaN and 1 with fewer than three methods or two images, or without variation.
        mean_ranks: (methods,), 1 is best, ties share a rank.
        images: number of blocks.
        critical_difference: of mean ranks, at level 0.05; infinite with fewer than two methods or images.
    """

    statistic: float
    p: float
    mean_ranks: np.ndarray
    images: int
    critical_difference: float


def signed_rank_tests(differences: np.ndarray) -> SignedRank:
    """Test each row of differences, (pairs, images), for a shift away from zero."""
    size = np.abs(differences)
    zeros = (size == 0).sum(axis=1, keepdims=True)
    ranks = np.where(size == 0, 0.0, stats.rankdata(size, axis=1) - zeros)
    positive, total = (ranks * (differences > 0)).sum(axis=1), ranks.sum(axis=1)
    nonzero = differences.shape[1] - zeros[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = np.nan_to_num((2 * positive - total) / total)
        z = np.nan_to_num((positive - total / 2) / np.sqrt((ranks**2).sum(axis=1) / 4))
    p = 2 * stats.norm.sf(np.abs(z))
    for pair in np.flatnonzero((nonzero <= EXACT_UP_TO) & (nonzero > 0)):
        doubled = np.sort(np.rint(2 * ranks[pair][ranks[pair] > 0]).astype(int))
        below = _below(tuple(doubled.tolist()))
        smaller = round(2 * min(positive[pair], total[pair] - positive[pair]))
        p[pair] = min(1.0, 2 * below[smaller])
    return SignedRank(p, effect, nonzero)


@lru_cache(maxsize=4096)
def _below(doubled_ranks: tuple[int, ...]) -> np.ndarray:
    """Return P(2 W+ <= w) for w = 0, 1, …, when every sign is a fair coin."""
    chances = np.zeros(sum(doubled_ranks) + 1)
    chances[0] = 1.0
    for rank in doubled_ranks:
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[: len(chances) - rank]
        chances = (chances + shifted) / 2
    return np.cumsum(chances)


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust p-values (any number, one axis) so that the chance of any false rejection stays below the level."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def pair_tests(values: np.ndarray) -> PairTests:
    """Test all pairs of rows of (methods, images); images with a value that is not finite are left out."""
    values = values[:, np.isfinite(values).all(axis=0)]
    methods = len(values)
    p, effect, nonzero = np.ones((methods, methods)), np.zeros((methods, methods)), np.zeros((methods, methods))
    first, second = np.triu_indices(methods, 1)
    if len(first) and values.shape[1]:
        tests = signed_rank_tests(values[first] - values[second])
        p[first, second] = p[second, first] = holm(tests.p)
        effect[first, second], effect[second, first] = tests.effect, -tests.effect
        nonzero[first, second] = nonzero[second, first] = tests.nonzero / values.shape[1]
    return PairTests(p, effect, nonzero)


def friedman(values: np.ndarray, higher_is_better: bool) -> Friedman:
    """Rank the rows of (methods, images) on every image and test whether their mean ranks differ."""
    values = values[:, np.isfinite(values).all(axis=0)]
    methods, images = values.shape
    mean_ranks = stats.rankdata(-values if higher_is_better else values, axis=0).mean(axis=1)
    statistic, p = math.nan, 1.0
    varies = images > 0 and bool((values != values[:1]).any())
    if methods > 2 and images > 1 and varies:
        statistic, p = map(float, stats.friedmanchisquare(*values))
    return Friedman(statistic, p, mean_ranks, images, critical_difference(methods, images))


def critical_difference(methods: int, images: int) -> float:
    """Return by how much two mean ranks must differ for Nemenyi's test to tell them apart at level 0.05."""
    if methods < 2 or images < 2:
        return math.inf
    return _studentised_range(methods) / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * images))


@lru_cache
def _studentised_range(methods: int) -> float:
    return float(stats.studentized_range.ppf(1 - ALPHA, methods, np.inf))


def nemenyi(mean_ranks: np.ndarray, images: int) -> np.ndarray:
    """Return Nemenyi's p-values of all pairs, (methods, methods), 1 on the diagonal."""
    methods = len(mean_ranks)
    distance = np.abs(mean_ranks[:, None] - mean_ranks) / math.sqrt(methods * (methods + 1) / (6 * images))
    p = np.ones_like(distance)
    first, second = np.triu_indices(methods, 1)
    p[first, second] = stats.studentized_range.sf(distance[first, second] * math.sqrt(2), methods, np.inf)
    p[second, first] = p[first, second]
    return np.minimum(p, 1.0)


def tie_groups(mean_ranks: np.ndarray, least_difference: float) -> list[list[int]]:
    """Return the largest groups of at least two methods whose mean ranks all lie within a critical difference.

    Args:
        mean_ranks: (methods,).
        least_difference: from ``critical_difference``.

    Returns:
        Indices of the members, best first; the groups in order of their best member. Groups may overlap.
    """
    order = [int(i) for i in np.argsort(mean_ranks, kind="stable")]
    groups: list[list[int]] = []
    for start, best in enumerate(order):
        members = [i for i in order[start:] if mean_ranks[i] - mean_ranks[best] < least_difference]
        if len(members) > 1 and not (groups and set(members) <= set(groups[-1])):
            groups.append(members)
    return groups


def images_needed(effect: float, nonzero_share: float = 1.0, tests: int = 1) -> int | None:
    """Return about how many images would separate two methods, None for an effect of zero.

    Args:
        effect: rank-biserial correlation of their differences.
        nonzero_share: share of images on which they differ at all.
        tests: number of tests that are adjusted together; the level of each is taken as 0.05 / tests.
    """
    if effect == 0 or nonzero_share == 0:
        return None
    level = ALPHA / tests
    quantiles = stats.norm.isf(level / 2) + stats.norm.isf(1 - POWER)
    # With fewer differences, even equal signs throughout give no p-value below the level.
    least = math.ceil(1 - math.log2(level))
    return math.ceil(max(least, 4 * quantiles**2 / (3 * effect**2)) / nonzero_share)
