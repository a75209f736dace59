"""Our way from heat maps to the reference image and the confidence of text attention."""

from __future__ import annotations

import numpy as np
import pytest

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.metrics.text_reference import CLIPSeg, LabelAssociation, attention_map, text_reference

SIZE = (40, 60)


def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    infrared = random.integers(0, 256, SIZE).astype(np.uint8)
    return infrared, np.full(SIZE, 100, np.uint8)


def spot(height: int = 20, width: int = 30) -> np.ndarray:
    heat = np.zeros((1, height, width))
    heat[0, 5:10, 5:10] = 1
    return heat


def test_attention_map_is_nearest_enlarged_and_between_0_and_1() -> None:
    found = attention_map(spot(), SIZE)
    assert found.shape == SIZE and set(np.unique(found)) == {0.0, 1.0}
    assert found[10:20, 10:20].all() and found.sum() == 100
    assert not attention_map(np.ones((2, 5, 5)), SIZE).any()


def test_the_reference_shows_the_source_with_contrast_inside_the_region_only() -> None:
    infrared, visible = pair()
    made = text_reference(infrared, visible, spot(), np.zeros((1, 4, 4)))
    assert np.array_equal(made.reference[10:20, 10:20], infrared[10:20, 10:20])
    assert made.reference[30, 50] == (int(infrared[30, 50]) + 100 + 1) // 2
    assert made.confidence == 1.0


def test_no_region_means_no_confidence_and_the_plain_average() -> None:
    infrared, visible = pair()
    made = text_reference(infrared, visible, np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))
    assert made.confidence == 0
    assert np.array_equal(made.reference, (infrared.astype(int) + visible + 1) // 2)


def test_instances_widen_the_region() -> None:
    infrared, visible = pair()
    instances = np.zeros((2, *SIZE), bool)
    instances[0, 0:25, 0:25] = True
    instances[1, 30:, 40:] = True
    made = text_reference(infrared, visible, spot(), spot(), instances)
    assert np.array_equal(made.reference[:25, :25], infrared[:25, :25])
    assert made.confidence == pytest.approx(100 / 625)


def test_labels_close_to_the_phrase_are_warmer() -> None:
    boxes = np.array([[0, 0, 20, 20], [30, 10, 50, 30]], np.float32)
    heat = LabelAssociation(boxes, ["person", "tree"]).heat(np.zeros((*SIZE, 3), np.uint8), ["the pedestrians"])
    assert heat.shape == (1, *SIZE)
    assert heat[0, 5, 5] > heat[0, 20, 40] >= 0 and heat[0, 35, 5] == 0


def test_labels_without_names_and_clipseg_without_weights_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="2 boxes, 1 names"):
        LabelAssociation(np.zeros((2, 4)), ["person"])
    with pytest.raises(WeightsError, match="LabelAssociation"):
        CLIPSeg(tmp_path)
