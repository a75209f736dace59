"""Tests and intervals against scipy, scikit-posthocs and simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tgfbench.leaderboards.significance import (
    critical_difference,
    friedman,
    holm,
    images_needed,
    nemenyi,
    pair_tests,
    signed_rank_tests,
    tie_groups,
)

LOWER_IS_BETTER = {"Cross_entropy", "Qcv", "Rmse"}


def _samples(rng: np.random.Generator, kind: str, size: int) -> np.ndarray:
    values = rng.normal(0.2, 1.0, size)
    return {"plain": values, "tied": np.round(values), "zeros": np.where(rng.random(size) < 0.3, 0.0, values)}[kind]


@pytest.fixture(scope="module")
def published(shared) -> dict[str, pd.DataFrame]:
    """Published per-image scores: one frame (images, methods) per metric."""
    frame = pd.read_csv(shared / "vifb" / "published_scores.csv")
    return {str(metric): part.pivot(index="key", columns="method", values="value") for metric, part in
            frame.groupby("metric")}  # fmt: skip


@pytest.mark.parametrize("size", [7, 13, 50, 51, 400])
@pytest.mark.parametrize("kind", ["plain", "tied", "zeros"])
def test_signed_rank_p_values_equal_scipys(kind, size):
    rng = np.random.default_rng(size)
    values = np.stack([_samples(rng, kind, size) for _ in range(4)])
    ours = signed_rank_tests(values)
    for row, p in zip(values, ours.p, strict=True):
        nonzero = row[row != 0]
        plain = len(np.unique(np.abs(nonzero))) == len(nonzero)
        if len(nonzero) > 50:
            expected = stats.wilcoxon(nonzero, method="asymptotic").pvalue
        elif plain:
            expected = stats.wilcoxon(nonzero, method="exact").pvalue
        elif len(nonzero) <= 13:
            expected = stats.wilcoxon(nonzero, method=stats.PermutationMethod(n_resamples=np.inf)).pvalue
        else:
            # No exact test for ties of this size in scipy: the normal approximation must be near.
            assert p == pytest.approx(stats.wilcoxon(nonzero, method="asymptotic").pvalue, abs=0.03)
            continue
        assert p == pytest.approx(expected, rel=1e-9)


def test_the_effect_is_the_rank_biserial_correlation():
    tests = signed_rank_tests(np.array([[1.0, 2.0, -3.0, 4.0], [-1, -2, -3, -4], [0, 0, 0, 0], [0, 0, 1, 0]]))
    assert tests.effect.tolist() == pytest.approx([(7 - 3) / 10, -1.0, 0.0, 1.0])
    assert tests.nonzero.tolist() == [4, 4, 0, 1]
    assert tests.p[2:].tolist() == [1.0, 1.0]


def test_published_scores_give_scipys_and_scikit_posthocs_p_values(published):
    for metric, frame in published.items():
        values = frame.to_numpy().T
        ours = pair_tests(values)
        first, second = np.triu_indices(len(values), 1)
        theirs = []
        for i, j in zip(first, second, strict=True):
            difference = values[i] - values[j]
            difference = difference[difference != 0]
            tied = len(np.unique(np.abs(difference))) < len(difference)
            theirs.append(np.nan if tied else stats.wilcoxon(difference, method="exact").pvalue)
        raw = signed_rank_tests(values[first] - values[second]).p
        exact = ~np.isnan(theirs)
        assert exact.sum() > len(exact) / 2, metric
        np.testing.assert_allclose(raw[exact], np.array(theirs)[exact], rtol=1e-9, err_msg=metric)
        np.testing.assert_allclose(ours.p[first, second], holm(raw), rtol=1e-12)

        found = friedman(values, metric not in LOWER_IS_BETTER)
        expected = stats.friedmanchisquare(*values)
        assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-12)
        theirs_nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(frame.to_numpy()).to_numpy()
        np.testing.assert_allclose(nemenyi(found.mean_ranks, found.images), theirs_nemenyi, atol=2e-3, err_msg=metric)


def test_holm_equals_the_adjustment_inside_scikit_posthocs():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(30, 5)) + np.arange(5) * 0.3)
    theirs = scikit_posthocs.posthoc_wilcoxon(
        frame.melt(var_name="method", value_name="value"), val_col="value", group_col="method", p_adjust="holm"
    ).to_numpy()
    np.testing.assert_allclose(pair_tests(frame.to_numpy().T).p, theirs, rtol=1e-9)


def test_holm_by_hand():
    assert holm(np.array([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


def test_few_neighbours_of_the_published_board_differ_significantly(published):
    neighbours = wilcoxon = by_nemenyi = 0
    for metric, frame in published.items():
        higher = metric not in LOWER_IS_BETTER
        values = frame[frame.mean().sort_values(ascending=not higher).index].to_numpy().T
        first = np.arange(len(values) - 1)
        neighbours += len(first)
        wilcoxon += int(pair_tests(values).differ[first, first + 1].sum())
        found = friedman(values, higher)
        by_nemenyi += int((np.abs(np.diff(found.mean_ranks)) >= found.critical_difference).sum())
    assert neighbours == 143
    assert (wilcoxon, by_nemenyi) == (48, 3)
    assert by_nemenyi <= wilcoxon


def test_the_critical_difference_is_that_of_demsar():
    # Demšar 2006, section 3.2.2: four classifiers on 14 data sets, q = 2.569.
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert critical_difference(4, 1) == math.inf


def test_tie_groups_are_maximal_and_may_overlap():
    assert tie_groups(np.array([3.0, 1.0, 2.0, 9.0]), 1.5) == [[1, 2], [2, 0]]
    assert tie_groups(np.array([1.0, 1.2, 1.4]), 1.0) == [[0, 1, 2]]
    assert tie_groups(np.array([1.0, 5.0]), 1.0) == []


def test_the_number_of_images_needed_gives_the_promised_power():
    rng = np.random.default_rng(0)
    shift = 0.4
    effect = 2 * stats.norm.cdf(math.sqrt(2) * shift) - 1
    needed = images_needed(effect)
    found = signed_rank_tests(rng.normal(shift, 1.0, (1500, needed))).p < 0.05
    assert 0.76 < found.mean() < 0.84
    assert images_needed(0.0) is None
    assert images_needed(1.0) == 11
    assert images_needed(1.0, tests=10**6) == 53
    assert images_needed(0.1, 0.5) == pytest.approx(2 * images_needed(0.1), abs=1)


def test_equal_scores_one_image_and_two_methods_are_no_finding():
    assert pair_tests(np.ones((3, 5))).p.tolist() == np.ones((3, 3)).tolist()
    assert pair_tests(np.array([[1.0], [2.0]])).p.min() == 1.0
    for values in (np.ones((3, 5)), np.array([[1.0], [2.0], [3.0]]), np.array([[1.0, 2.0], [2.0, 3.0]])):
        found = friedman(values, True)
        assert math.isnan(found.statistic)
        assert found.p == 1.0


def test_images_without_a_value_are_left_out_of_the_tests():
    values = np.array([[1.0, 2, 3, 4, np.nan, 6, 7], [0.0, 1, 2, 3, 4, 5, 6]])
    complete = np.delete(values, 4, axis=1)
    assert pair_tests(values).p[0, 1] == pair_tests(complete).p[0, 1]
    assert friedman(values, True).images == 6


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=8, max_size=8), min_size=2, max_size=5))
def test_tests_are_symmetric_and_follow_an_exchange_of_methods(table):
    values = np.array(table, dtype=float)
    tests, swapped = pair_tests(values), pair_tests(values[::-1])
    assert (tests.p == tests.p.T).all()
    assert (tests.effect == -tests.effect.T).all()
    np.testing.assert_allclose(tests.p, swapped.p[::-1, ::-1])
    assert ((tests.p > 0) & (tests.p <= 1)).all()
