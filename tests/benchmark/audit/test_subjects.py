"""What an audit makes of a sample: whose masks it asks about, and which texts its prompts are made of."""

from __future__ import annotations

import dataclasses

import numpy as np

from tgfbench.benchmark.audit.subjects import subject_of, targets_of
from tgfbench.datasets.base import Labels, Texts
from tgfbench.datasets.sample import SampleDataset
from tgfbench.methods.base import MethodInfo
from tgfbench.metrics.audit.measures import Target


def test_targets_come_from_the_segmentation_where_it_knows_the_class_else_from_boxes() -> None:
    dataset = SampleDataset(count=1)
    sample = dataset.load(dataset.keys[0])
    assert sample.labels is not None
    segmentation = np.zeros(sample.infrared.shape, np.uint8)
    segmentation[100:200, 100:200] = dataset.info.segmentation_classes.index("person")
    boxes = Labels(np.array([[90, 90, 210, 210], [300, 300, 360, 400]], np.float32), np.array([0, 2]), segmentation)
    found = {t.name: t.mask for t in targets_of(dataclasses.replace(sample, labels=boxes), dataset.info)}
    assert found["person"].sum() == 100 * 100
    assert "car" not in found, "the map knows cars and shows none"
    found = {t.name: t.mask for t in targets_of(
        dataclasses.replace(sample, labels=Labels(boxes.boxes, boxes.classes)), dataset.info
    )}  # fmt: skip
    assert found["car"].sum() == 60 * 100
    assert targets_of(dataclasses.replace(sample, labels=None), dataset.info) == []


def test_without_texts_the_objects_are_listed_and_a_degraded_sample_gets_a_right_and_a_wrong_instruction() -> None:
    info = MethodInfo(name="m", title="M", text_use="test")
    dataset = SampleDataset(count=2, degraded=True, width=96, height=72)
    sample = dataset.load(dataset.keys[0])
    silent = dataclasses.replace(sample, texts=Texts())
    assert subject_of(silent, [Target("person", np.ones((2, 2), bool))], info, 0).matching == "A scene with the people."
    subject = subject_of(sample, [], info, 0)
    assert subject.right in sample.texts.instruction
    assert subject.wrong
    assert subject.wrong not in sample.texts.instruction
    assert subject_of(dataclasses.replace(sample, reference=None), [], info, 0).right == ""
    reads_them = info.model_copy(update={"text_role": "instruction"})
    asked = subject_of(dataclasses.replace(sample, reference=None), [], reads_them, 0)
    assert asked.matching == asked.right
    assert asked.wrong
