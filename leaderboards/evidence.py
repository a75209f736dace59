"""How sure a board is: intervals from resampled images, paired tests, ties and what it would take to break them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from tgfbench.leaderboards.intervals import Intervals, board_intervals
from tgfbench.leaderboards.significance import Friedman, PairTests, friedman, images_needed, pair_tests


@dataclass(frozen=True, eq=False)
class MetricEvidence:
    """Tests within one metric.

    Attributes:
        rows: positions, in the board's order, of the ranked rows that have a mean, best mean first.
        pairs: Wilcoxon tests of these rows, in that order.
        friedman: over the images, in that order.
    """

    rows: tuple[int, ...]
    pairs: PairTests
    friedman: Friedman

    @property
    def images_to_separate_the_first_two(self) -> int | None:
        """About how many images would do it; None where they differ already, or show no effect at all."""
        if self.pairs.differ[0, 1]:
            return None
        pairs = len(self.rows) * (len(self.rows) - 1) // 2
        return images_needed(float(self.pairs.effect[0, 1]), float(self.pairs.nonzero[0, 1]), pairs)

    @property
    def tied_with_best(self) -> tuple[int, ...]:
        """Rows that do not differ significantly from the one with the best mean, which is left out."""
        return tuple(row for place, row in enumerate(self.rows) if place and not self.pairs.differ[0, place])

    @property
    def separated_neighbours(self) -> tuple[int, int, int]:
        """How many neighbours in the order of means there are, differ by Wilcoxon and Holm, and differ by Nemenyi."""
        first = np.arange(len(self.rows) - 1)
        apart = np.abs(np.diff(self.friedman.mean_ranks)) >= self.friedman.critical_difference
        return len(first), int(self.pairs.differ[first, first + 1].sum()), int(apart.sum())


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about the reliability of a board.

    Attributes:
        intervals: of means, ranks and places.
        metrics: tests by metric, for metrics with a direction and at least two comparable rows.
        overall: the same for the rank of a row on one image, averaged over the metrics that count (lower is better);
            None with fewer than two ranked rows or images.
    """

    intervals: Intervals
    metrics: dict[str, MetricEvidence]
    overall: MetricEvidence | None

    @property
    def separated_neighbours(self) -> tuple[int, int, int]:
        """Sum over the metrics of ``MetricEvidence.separated_neighbours``."""
        parts = [found.separated_neighbours for found in self.metrics.values()]
        neighbours, wilcoxon, nemenyi = (sum(column) for column in zip(*parts, strict=True)) if parts else (0, 0, 0)
        return neighbours, wilcoxon, nemenyi


def gather_evidence(scores: np.ndarray, means: pd.DataFrame, metrics: pd.DataFrame, rows: pd.DataFrame) -> Evidence:
    """Compute intervals and tests of a board.

    Args:
        scores: (rows, metrics, images).
        means: index rows, columns metrics.
        metrics: ``higher_is_better`` and ``counts``.
        rows: ``ranked``.
    """
    values, ranked = means.to_numpy(), rows["ranked"].to_numpy(dtype=bool)
    signs = np.array([np.nan if up is None else (-1.0 if up else 1.0) for up in metrics["higher_is_better"]])
    counts = metrics["counts"].to_numpy(dtype=bool)
    intervals = board_intervals(scores, values, signs, counts, ranked)
    tests = {}
    for column, metric in enumerate(metrics.index):
        known = np.flatnonzero(ranked & np.isfinite(values[:, column]))
        if np.isnan(signs[column]) or len(known) < 2 or scores.shape[2] < 2:
            continue
        best_first = known[np.argsort(signs[column] * values[known, column], kind="stable")]
        tests[str(metric)] = _test(scores[best_first, column], best_first, higher_is_better=signs[column] < 0)
    return Evidence(intervals, tests, _overall(scores, signs, counts, ranked))


def _overall(scores: np.ndarray, signs: np.ndarray, counts: np.ndarray, ranked: np.ndarray) -> MetricEvidence | None:
    rows = np.flatnonzero(ranked)
    if len(rows) < 2 or scores.shape[2] < 2 or not counts.any():
        return None
    signed = scores[rows][:, counts] * signs[counts][:, None]
    ranks = np.where(np.isfinite(signed).all(axis=0), rankdata(signed, axis=0), np.nan)
    usable = np.isfinite(ranks[0]).any(axis=0)
    if usable.sum() < 2:
        return None
    per_image = np.nanmean(ranks[:, :, usable], axis=1)
    best_first = np.argsort(per_image.mean(axis=1), kind="stable")
    return _test(per_image[best_first], rows[best_first], higher_is_better=False)


def _test(values: np.ndarray, rows: np.ndarray, *, higher_is_better: bool) -> MetricEvidence:
    return MetricEvidence(tuple(map(int, rows)), pair_tests(values), friedman(values, higher_is_better))
