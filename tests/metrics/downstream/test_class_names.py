"""Matching classes by name."""

from __future__ import annotations

import pytest

from tgfbench.metrics.downstream.class_names import match_classes

COCO = ("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "traffic light")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("person", "bicycle", "car"), ((0,), (1,), (2,))),
        (("People", "Car", "Bus", "Lamp", "Motorcycle", "Truck"), ((0,), (2,), (5,), (), (3,), (7,))),
        (("pedestrians", "buses", "Bikes", "light"), ((0,), (5,), (1,), ())),
        (("Traffic_Lights",), ((8,),)),
        (("house", "traffic"), ((), ())),
    ],
)
def test_a_detector_of_coco_meets_the_names_of_datasets(
    wanted: tuple[str, ...], expected: tuple[tuple[int, ...], ...]
) -> None:
    assert match_classes(COCO, wanted) == expected


def test_several_classes_of_a_model_may_mean_one() -> None:
    assert match_classes(("pedestrian", "car", "people"), ("person",)) == ((0, 2),)


def test_plurals_meet_their_singulars() -> None:
    known = ("horses", "glass", "lorries", "bus")
    assert match_classes(known, ("horse", "glasses", "truck", "Buses")) == ((0,), (1,), (2,), (3,))


def test_order_does_not_matter() -> None:
    assert match_classes(("car", "person"), ("person", "car")) == ((1,), (0,))
