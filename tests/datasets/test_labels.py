"""Box files, class words and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgfbench.datasets.base import Labels
from tgfbench.datasets.labels import MAX_PROBLEMS, canonical, clip_box, mentioned, rasterise, read_boxes

NAMES = ("person", "bicycle", "car")
SHAPE = (100, 200)


def read(tmp_path: Path, text: str | bytes, suffix: str = ".txt") -> tuple[Labels | None, list[str]]:
    path = tmp_path / f"boxes{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_boxes(path, SHAPE, NAMES)


def test_yolo_white_space_does_not_matter(tmp_path: Path) -> None:
    labels, problems = read(tmp_path, "\ufeff0  0.5\t0.5   0.1 0.2  \r\n\n 2 0.05 0.5 0.2 0.5 ")
    assert problems == []
    assert labels is not None
    np.testing.assert_allclose(labels.boxes, [[90, 40, 110, 60], [0, 25, 30, 75]], atol=1e-4)
    assert labels.classes.tolist() == [0, 2]


def test_an_empty_yolo_file_is_an_image_without_objects(tmp_path: Path) -> None:
    labels, problems = read(tmp_path, " \n")
    assert labels is not None
    assert (labels.boxes.shape, problems) == ((0, 4), [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("3 0.5 0.5 0.1 0.1", "class 3"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
        ("0 1.5 0.5 0.1 0.1", "outside"),
        ("0 nan 0.5 0.1 0.1", "not finite"),
        ("0 0.5 0.5 0 0.1", "empty"),
        ("0 0.5 0.5 0.1", "4 values"),
        ("person 0.5 0.5 0.1 0.1", "could not convert"),
    ],
)
def test_a_bad_yolo_line_is_named_and_the_rest_served(line: str, reason: str, tmp_path: Path) -> None:
    labels, problems = read(tmp_path, f"1 0.5 0.5 0.1 0.1\n{line}\n")
    assert labels is not None
    assert labels.classes.tolist() == [1]
    assert len(problems) == 1
    assert problems[0].startswith("line 2: ")
    assert reason in problems[0]


def voc(objects: str, size: str = "<size><width>400</width><height>200</height></size>") -> str:
    return f"<annotation>{size}{objects}</annotation>"


def voc_object(name: str, *corners: float) -> str:
    tags = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name><bndbox>{tags}</bndbox></object>"


def test_voc_boxes_are_scaled_from_the_size_in_the_xml(tmp_path: Path) -> None:
    text = voc(voc_object("People", 40, 20, 80, 200) + voc_object("CAR", 0, 0, 400, 50))
    labels, problems = read(tmp_path, text, ".xml")
    assert problems == []
    assert labels is not None
    assert labels.boxes.tolist() == [[20, 10, 40, 100], [0, 0, 200, 25]]
    assert labels.classes.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (voc_object("kite", 1, 1, 2, 2), "'kite'"),
        (voc_object("car", 500, 1, 600, 2), "outside"),
        ("<object><name>car</name></object>", "bndbox/xmin"),
        (voc_object("car", 5, 1, 5, 2), "empty"),
    ],
)
def test_a_bad_voc_object_is_named_and_the_rest_served(bad: str, reason: str, tmp_path: Path) -> None:
    labels, problems = read(tmp_path, voc(voc_object("car", 4, 4, 8, 8) + bad), ".xml")
    assert labels is not None
    assert labels.classes.tolist() == [2]
    assert len(problems) == 1
    assert problems[0].startswith("object 2: ")
    assert reason in problems[0]


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (voc(voc_object("car", 4, 4, 8, 8))[:-9], ".xml"),
        (voc(voc_object("car", 4, 4, 8, 8), size=""), ".xml"),
        (voc(voc_object("car", 4, 4, 8, 8), size="<size><width>0</width><height>9</height></size>"), ".xml"),
        (b'<?xml version="1.0" encoding="no-such"?><annotation/>', ".xml"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + voc(voc_object("car", 4, 4, 8, 8)), ".xml"),
        ("<a>" * 21 + "</a>" * 21, ".xml"),
        (b"\xff\xfe\x00\xd8", ".txt"),
        (b"0 0.5 0.5 0.1 0.1\n" * 300_000, ".txt"),
    ],
)
def test_a_broken_box_file_gives_one_problem_and_no_labels(content: str | bytes, suffix: str, tmp_path: Path) -> None:
    labels, problems = read(tmp_path, content, suffix)
    assert labels is None
    assert len(problems) == 1


def test_kaist_boxes_are_corners_and_extents_in_pixels(tmp_path: Path) -> None:
    text = "% bbGt version=3\nperson 10 20 30 40 1 0 0 0 0 0 0\nbicycle 190 90 50 50 0\ncyclist? 1 1 5 5 0\ncar 1 2 3\n"
    labels, problems = read(tmp_path, text)
    assert labels is not None
    assert labels.boxes.tolist() == [[10, 20, 40, 60], [190, 90, 200, 100], [1, 1, 6, 6]]
    assert labels.classes.tolist() == [0, 1, 0]
    assert [problem.partition(":")[0] for problem in problems] == ["line 5"]


def test_an_exact_class_name_comes_before_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "boxes.xml"
    path.write_text(voc(voc_object("people", 4, 4, 8, 8) + voc_object("Pedestrian", 4, 4, 8, 8)))
    labels, _ = read_boxes(path, SHAPE, ("person", "people"))
    assert labels is not None
    assert labels.classes.tolist() == [1, 0]


def test_the_problems_of_one_file_are_counted_when_many(tmp_path: Path) -> None:
    _, problems = read(tmp_path, "9 0.5 0.5 0.1 0.1\n" * 300)
    assert len(problems) == MAX_PROBLEMS + 1
    assert str(300 - MAX_PROBLEMS) in problems[-1]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.floats(-500, 500, width=32), min_size=4, max_size=4))
def test_clipped_boxes_lie_in_the_image(corners: list[float]) -> None:
    try:
        box = np.asarray(clip_box(corners, SHAPE), np.float32)
    except ValueError:
        x1, y1, x2, y2 = corners
        assert x1 >= x2 or y1 >= y2 or x2 <= 0 or y2 <= 0 or x1 >= SHAPE[1] or y1 >= SHAPE[0]
        return
    assert np.all(box[:2] >= 0)
    assert np.all(box[:2] < box[2:])
    assert np.all(box[2:] <= SHAPE[::-1])


def test_rasterise_paints_boxes_of_the_chosen_classes() -> None:
    labels = Labels(np.array([[1.5, 2, 4.2, 5], [6, 0, 8, 3]], np.float32), np.array([0, 2]))
    expected = np.zeros((8, 10), np.uint8)
    expected[2:5, 1:5] = 1
    assert np.array_equal(rasterise(labels, (8, 10), [0]), expected)
    expected[0:3, 6:8] = 1
    assert np.array_equal(rasterise(labels, (8, 10)), expected)
    assert not rasterise(labels, (8, 10), []).any()


def test_rasterise_prefers_the_segmentation_map() -> None:
    ids = np.array([[0, 1, 2], [2, 0, 1]], np.uint8)
    labels = Labels(np.array([[0, 0, 3, 2]], np.float32), np.array([0]), ids)
    assert rasterise(labels, (2, 3)).tolist() == [[0, 1, 1], [1, 0, 1]]
    assert rasterise(labels, (2, 3), [0], [2]).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("the pedestrians near the van", (0, 2)),
        ("Two bikes.", (1,)),
        ("a man on a bus", (0,)),
        ("the traffic light and the carpet", ()),
        ("", ()),
    ],
)
def test_mentioned_classes(text: str, ids: tuple[int, ...]) -> None:
    assert mentioned(text, NAMES) == ids


def test_class_names_of_datasets_meet() -> None:
    assert canonical("People") == canonical("person") == canonical("pedestrians")
    assert canonical("bike") == canonical("Bicycles")
    assert canonical("color_cone") == "color cone"
    assert canonical("bus") == canonical("Buses") == "bus"
