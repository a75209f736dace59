"""Our way from heat maps to the reference image and the confidence of text attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tgfbench.benchmark.errors import DataError
from tgfbench.metrics.association import LabelAssociation
from tgfbench.metrics.text_attention import read_text_references
from tgfbench.metrics.text_reference import (
    attention_map,
    make_text_reference,
    phrases,
    text_reference,
    write_text_references,
)

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


def test_captions_are_cut_into_what_they_name() -> None:
    captions = ("Two people near a parked car, with an umbrella; a night-time street.", "a parked car")
    assert phrases((), captions) == ("Two people", "a parked car", "an umbrella", "a night-time street")
    assert phrases(("the pedestrians",), captions) == ("the pedestrians",)
    assert phrases((), ()) == ()


def test_what_is_written_is_what_text_attention_reads(tmp_path: Path) -> None:
    infrared, visible = pair()
    made = {key: text_reference(infrared, visible, heat, heat) for key, heat in (("a", spot()), ("b,c", spot() * 0))}
    write_text_references(tmp_path, made)
    read = read_text_references(tmp_path, tmp_path / "confidences.csv", ["a", "b,c"])
    for key, found in read.items():
        assert found.confidence == made[key].confidence
        assert np.array_equal(found.reference, made[key].reference)


def test_a_pair_without_text_is_refused() -> None:
    infrared, visible = pair()
    with pytest.raises(DataError, match="without a text"):
        make_text_reference(infrared, np.repeat(visible[..., None], 3, 2), LabelAssociation(np.zeros((0, 4)), []), ())
