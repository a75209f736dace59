"""Intervals, sign tests, Holm's adjustment and the test over masks, against what can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tgfbench.metrics.audit.locality import NamedChange, change_map, coarse, energy_share, mask_permutation, points_at
from tgfbench.metrics.audit.statistics import holm, mean_estimate, ratio_estimate, sign_flip


@pytest.mark.parametrize(
    ("values", "p"),
    [([1, 2, 3], 1 / 8), ([3, -1, 1], 3 / 8), ([0, 0, 0], 1.0), ([-1, -1], 1.0), ([1e-17, 1e-18], 1.0), ([], 1.0)],
)
def test_sign_flip_counts_the_patterns_that_reach_the_observed_sum(values: list[float], p: float) -> None:
    assert sign_flip(values) == pytest.approx(p)


def test_sign_flip_of_many_values_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 60)
    z = values.sum() / np.sqrt((values**2).sum())
    assert sign_flip(values) == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), abs=0.01)


def test_holm_multiplies_the_smallest_most_and_keeps_the_order() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_mean_leaves_out_what_is_not_finite_and_covers_about_95_percent() -> None:
    assert mean_estimate([1.0, math.nan, 3.0]).value == 2
    assert mean_estimate([]).images == 0
    inside = 0
    for seed in range(200):
        found = mean_estimate(np.random.default_rng(seed).normal(5, 2, 30))
        inside += found.low <= 5 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_ratio_is_of_means_and_absent_where_the_divisor_is_nothing() -> None:
    found = ratio_estimate([1.0, 3.0], [1.0, 1.0])
    assert found.value == 2
    assert found.low <= 2 <= found.high
    assert math.isnan(ratio_estimate([1.0], [0.0]).value)


def square(column: int) -> np.ndarray:
    mask = np.zeros((40, 80), bool)
    mask[10:20, column : column + 10] = True
    return mask


def test_energy_share_and_pointing_on_a_change_known_by_hand() -> None:
    mask = square(0)
    inside = np.where(mask, 3, 1).astype(np.float32)
    assert energy_share(inside, mask) == pytest.approx(300 / (300 + 3100))
    assert energy_share(np.zeros((40, 80), np.float32), mask) == mask.mean()
    assert points_at(np.where(mask, 9, 1).astype(np.float32), mask) == 1
    assert points_at(np.where(mask, 1, 9).astype(np.float32), mask) == 0
    assert math.isnan(points_at(np.zeros((40, 80), np.float32), mask))
    black, grey = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), (0, 3, 6), np.uint8)
    assert np.array_equal(change_map(black, grey), np.full((2, 2), 3, np.float32))


def test_own_masks_are_told_from_exchanged_ones_and_scrambled_masks_are_not_significant() -> None:
    masks = [square(5 * image) for image in range(14)]
    own = [NamedChange(f"{i}", coarse(mask), coarse(mask)) for i, mask in enumerate(masks)]
    assert mask_permutation(own) == pytest.approx(1e-4)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(14)
        scrambled = [NamedChange(f"{i}", coarse(masks[i]), coarse(masks[order[i]])) for i in range(14)]
        assert mask_permutation(scrambled) > 0.01


def test_a_change_that_always_lies_where_objects_crowd_is_not_local() -> None:
    """Masks differ between images but the change does not: only the share above area would be fooled."""
    crowd = coarse(square(30))
    masks = [square(30 + image % 5) for image in range(15)]
    changes = [NamedChange(f"{i}", crowd, coarse(mask)) for i, mask in enumerate(masks)]
    assert np.mean([energy_share(square(30).astype(np.float32), mask) / mask.mean() for mask in masks]) > 10
    assert mask_permutation(changes) > 0.1


def test_every_image_weighs_the_same_however_many_objects_it_has() -> None:
    one = [NamedChange("many", coarse(square(0)), coarse(square(0))) for _ in range(30)]
    assert mask_permutation(one) == 1.0, "one image can prove nothing"
