"""Captions from labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tgfbench.datasets import load_dataset
from tgfbench.datasets.base import DatasetInfo, Labels, Sample, Texts
from tgfbench.datasets.templates import lighting_of, plural, texts_from_labels

INFO = DatasetInfo(
    name="msrs", title="t", source="s", licence="l", classes=("person", "bicycle", "car"),
    segmentation_classes=("unlabelled", "car", "person", "bike", "curve"),
)  # fmt: skip
FIELD = INFO.model_copy(update={"name": "field", "classes": ("People", "Tree", "Bus")})


def pair(
    key: str, objects: list[tuple[int, float]], level: int = 120, segmentation: np.ndarray | None = None
) -> Sample:
    """A pair of 90x60 with one box per (class, centre)."""
    boxes = np.array([[x - 4, 10, x + 4, 30] for _, x in objects], np.float32).reshape(-1, 4)
    labels = Labels(boxes, np.array([index for index, _ in objects], np.int64), segmentation)
    return Sample(key, np.full((60, 90, 3), level, np.uint8), np.zeros((60, 90), np.uint8), labels=labels)


def test_boxes_are_counted_and_placed() -> None:
    texts = texts_from_labels(pair("00001N", [(2, 80), (0, 10), (0, 45)]), INFO)
    assert texts == Texts(
        captions=(
            "A night street with 2 persons and 1 car.",
            "1 person on the left, 1 person in the middle, 1 car on the right.",
            "2 persons and 1 car can be seen on a street at night.",
        ),
        focus=("the persons", "the car"),
    )


def test_class_names_are_put_into_words() -> None:
    texts = texts_from_labels(pair("x", [(0, 10), (2, 20), (2, 20), (1, 70)]), FIELD)
    assert texts.captions[0] == "A street with 1 person, 1 tree and 2 buses."
    assert texts.captions[1] == "1 person and 2 buses on the left, 1 tree on the right."
    assert texts_from_labels(pair("x", [(1, 70)]), FIELD).captions[0] == "A scene with 1 tree."
    assert [plural(noun) for noun in ("car", "lorry", "boy", "bus", "person")] == [
        "cars", "lorries", "boys", "buses", "persons",
    ]  # fmt: skip


def test_segmented_classes_are_named_and_not_counted() -> None:
    ids = np.zeros((60, 90), np.uint8)
    ids[:10], ids[20:50, :30], ids[55, 0:5] = 4, 1, 2
    assert texts_from_labels(pair("00001D", [], segmentation=ids), INFO) == Texts(
        ("A daytime street with car and curve in view.",), ("the car", "the curve")
    )
    with_box = texts_from_labels(pair("00001D", [(2, 40)], segmentation=ids), INFO)
    assert with_box.captions[0] == "A daytime street with 1 car."
    assert with_box.focus == ("the car",)


def test_nothing_is_said_without_labels_and_little_without_objects() -> None:
    sample = pair("00001D", [])
    assert texts_from_labels(sample, INFO).captions == ("A daytime scene with no labelled object.",)
    unlabelled = Sample("a", sample.visible, sample.infrared)
    assert texts_from_labels(unlabelled, INFO) == Texts()


@pytest.mark.parametrize(
    ("key", "info", "level", "given", "word"),
    [
        ("00001D", INFO, 20, "", "daytime"),
        ("00001D", INFO, 20, "dusk", "dusk"),
        ("00001D", INFO.model_copy(update={"name": "msrs+haze-3"}), 20, "", "daytime"),
        ("00001D", FIELD, 20, "", "night"),
        ("00001N", FIELD, 120, "", ""),
        ("00001N", FIELD, 120, "unclear", ""),
    ],
)
def test_the_time_of_day_is_said_where_it_is_known(
    key: str, info: DatasetInfo, level: int, given: str, word: str
) -> None:
    caption = texts_from_labels(pair(key, [], level), info, given).captions[0]
    assert caption == f"A {word} scene with no labelled object.".replace("  ", " ")


def test_real_labels_give_captions(shared: Path) -> None:
    dataset = load_dataset("msrs", shared / "data", "all")
    texts = {key: texts_from_labels(dataset[key], dataset.info) for key in dataset.keys[::10]}
    assert all(text.captions for text in texts.values())
    assert {text.captions[0].split()[1] for text in texts.values()} == {"night", "daytime"}
    night = load_dataset("llvip", shared / "data")
    assert lighting_of(night[night.keys[0]], night.info) == "night"
