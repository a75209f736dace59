"""Average precision: definition cases, pycocotools on the stored boxes, and an implementation that shares nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgfbench.metrics.downstream.base import LabelledImage, LabelledSet

pytest.importorskip("pycocotools")
from tgfbench.metrics.downstream.detection import outcome, write_boxes
from tgfbench.metrics.downstream.detection_prediction import Found
from tgfbench.metrics.downstream.detection_scores import score_boxes

CLASSES = ("person", "bicycle", "car")
SIZE = (80, 60)


def labelled(boxes_of: list[tuple[list, list]]) -> LabelledSet:
    images = [
        LabelledImage(f"{number:03d}", Path("none.png"), SIZE, as_boxes(boxes), np.asarray(classes, np.int64))
        for number, (boxes, classes) in enumerate(boxes_of)
    ]
    return LabelledSet(tuple(images), CLASSES)


def found(boxes: list, classes: list, scores: list) -> Found:
    return Found(as_boxes(boxes), np.asarray(classes, np.int64), np.asarray(scores, np.float32))


def as_boxes(boxes: list) -> np.ndarray:
    return np.asarray(boxes, np.float32).reshape(-1, 4)


def random_case(seed: int) -> tuple[LabelledSet, list[Found]]:
    """Labels, and boxes that are moved labels, labels under another class, and chance."""
    rng = np.random.default_rng(seed)
    labels, answers = [], []
    for _ in range(int(rng.integers(1, 5))):
        count = int(rng.integers(0, 6))
        boxes, classes = some_boxes(rng, count), rng.integers(0, 2, count)  # class 2 is never labelled
        labels.append((boxes.tolist(), classes.tolist()))
        moved = boxes + rng.normal(0, 2, boxes.shape)
        extra = some_boxes(rng, int(rng.integers(0, 6)))
        everything = np.concatenate([moved, extra])
        everything[:, 2:] = np.maximum(everything[:, 2:], everything[:, :2] + 1)
        names = np.concatenate([np.where(rng.random(count) < 0.8, classes, 2), rng.integers(0, 3, len(extra))])
        scores = np.round(rng.random(len(everything)), 1 if seed % 2 else 5)
        order = np.argsort(-scores, kind="stable")
        answers.append(found(everything[order].tolist(), names[order].tolist(), scores[order].tolist()))
    return labelled(labels), answers


def some_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 40, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(4, 20, (count, 2))], axis=1)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def plain_hits(images: LabelledSet, answers: list[Found], class_id: int, threshold: float) -> list[tuple[float, bool]]:
    """(score, whether it matches a label of its own) of every box of a class, greedily, best score first."""
    hits = []
    for image, answer in zip(images.images, answers, strict=True):
        free = [box.astype(float) for box, name in zip(image.boxes, image.classes, strict=True) if name == class_id]
        for box, name, score in zip(answer.boxes, answer.classes, answer.scores, strict=True):
            if name != class_id:
                continue
            overlaps = [iou(box.astype(float), other) for other in free]
            best = max(range(len(free)), key=lambda index: overlaps[index], default=None)
            matched = best is not None and overlaps[best] >= threshold
            if matched:
                del free[best]
            hits.append((float(score), matched))
    return sorted(hits, key=lambda hit: -hit[0])


def plain_average_precision(hits: list[tuple[float, bool]], labels: int) -> float:
    """The mean over recalls 0, .01 … 1 of the best precision at that recall or a higher one."""
    if labels == 0:
        return math.nan
    points, right = [], 0
    for number, (_, matched) in enumerate(hits, start=1):
        right += matched
        points.append((right / labels, right / number))
    return sum(max((p for r, p in points if r >= at / 100 - 1e-12), default=0.0) for at in range(101)) / 101


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_a_plain_implementation(seed: int) -> None:
    images, answers = random_case(seed)
    labels = [sum(int((image.classes == class_id).sum()) for image in images.images) for class_id in range(3)]
    scores = score_boxes(images.images, answers, 3)
    for class_id in range(3):
        by_threshold = [
            plain_average_precision(plain_hits(images, answers, class_id, t / 100), labels[class_id])
            for t in range(50, 100, 5)
        ]
        np.testing.assert_allclose(scores.ap50[class_id], by_threshold[0], atol=1e-6)
        np.testing.assert_allclose(scores.ap75[class_id], by_threshold[5], atol=1e-6)
        np.testing.assert_allclose(scores.ap50_95[class_id], np.mean(by_threshold), atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_precision_and_recall_are_those_of_the_best_f1(seed: int) -> None:
    images, answers = random_case(seed)
    labels = sum(len(image.boxes) for image in images.images)
    scores = score_boxes(images.images, answers, 3)
    hits = [hit for class_id in range(3) for hit in plain_hits(images, answers, class_id, 0.5)]
    if not labels:
        assert math.isnan(scores.precision) and math.isnan(scores.recall)
        return
    best = 0.0
    for confidence in {score for score, _ in hits}:
        taken = [matched for score, matched in hits if score >= confidence]
        best = max(best, 2 * sum(taken) / (len(taken) + labels))
    together = scores.precision + scores.recall
    assert (2 * scores.precision * scores.recall / together if together else 0.0) == pytest.approx(best)
    if hits:
        assert scores.detections == sum(score >= scores.confidence for score, _ in hits)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(min_value=100, max_value=10_000))
def test_wrong_boxes_below_all_others_change_nothing(seed: int) -> None:
    images, answers = random_case(seed)
    worse = [
        Found(
            np.concatenate([one.boxes, as_boxes([[70, 50, 79, 59]])]),
            np.append(one.classes, 0),
            np.append(one.scores, np.float32(-1)),
        )
        for one in answers
    ]
    before, after = score_boxes(images.images, answers, 3), score_boxes(images.images, worse, 3)
    np.testing.assert_allclose(after.ap50, before.ap50, atol=1e-9)
    assert all(math.isnan(value) or 0 <= value <= 1 + 1e-9 for value in before.ap50_95)


def test_perfect_boxes_give_one_and_a_class_without_labels_nan() -> None:
    images = labelled([([[1, 2, 20, 30], [30, 5, 60, 40]], [0, 2]), ([[3, 3, 13, 33]], [0]), ([], [])])
    answers = [Found(image.boxes, image.classes, np.full(len(image.boxes), 0.9, np.float32)) for image in images.images]
    result = outcome(images, answers, (True, True, True))
    assert result.values == pytest.approx({"AP50": 1, "AP50:95": 1, "AP75": 1, "Precision": 1, "Recall": 1})
    assert math.isnan(result.per_class["bicycle", "AP50"])
    assert result.per_class["person", "AP50"] == pytest.approx(1)
    assert result.counts == {"images": 3, "labels": 3, "detections": 3}


def test_no_boxes_give_zero() -> None:
    images = labelled([([[1, 2, 20, 30]], [0])])
    result = outcome(images, [found([], [], [])], (True, True, True))
    assert result.values == {"AP50": 0, "AP50:95": 0, "AP75": 0, "Precision": 0, "Recall": 0}
    assert result.counts["detections"] == 0


def test_no_labels_give_nan() -> None:
    result = outcome(labelled([([], [])]), [found([[1, 2, 20, 30]], [0], [0.5])], (True, True, True))
    assert all(math.isnan(value) for value in [*result.values.values(), *result.per_class.values()])


def test_a_class_the_detector_does_not_know_counts_nowhere_and_is_named() -> None:
    images = labelled([([[1, 2, 20, 30], [30, 5, 60, 40]], [0, 1])])
    result = outcome(images, [found([[1, 2, 20, 30]], [0], [0.9])], (True, False, True))
    assert result.values["AP50"] == pytest.approx(1)
    assert result.values["Recall"] == 1
    assert math.isnan(result.per_class["bicycle", "AP50"])
    assert result.counts["labels"] == 1
    assert "bicycle" in result.notes[0]


def test_stored_boxes_give_pycocotools_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, answers = random_case(3)
    result = outcome(images, answers, (True, True, True))
    assert capsys.readouterr().out == ""
    write_boxes(tmp_path / "boxes.jsonl", images.images, answers)
    lines = [json.loads(line) for line in (tmp_path / "boxes.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [image.key for image in images.images]
    annotations = [
        {
            "id": 0,
            "image_id": i,
            "category_id": int(c) + 1,
            "bbox": xywh(b),
            "iscrowd": 0,
            "area": xywh(b)[2] * xywh(b)[3],
        }
        for i, image in enumerate(images.images)
        for b, c in zip(image.boxes, image.classes, strict=True)
    ]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(lines))],
        "categories": [{"id": 1}, {"id": 2}, {"id": 3}],
        "annotations": [annotation | {"id": number} for number, annotation in enumerate(annotations, 1)],
    }
    truth.createIndex()
    answer = truth.loadRes(
        [
            {"image_id": i, "category_id": c + 1, "bbox": xywh(b), "score": s}
            for i, line in enumerate(lines)
            for b, c, s in zip(line["boxes"], line["classes"], line["scores"], strict=True)
        ]
    )
    evaluation = COCOeval(truth, answer, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0 < result.values["AP50:95"] < 1
    np.testing.assert_allclose(evaluation.stats[0], result.values["AP50:95"], atol=1e-6)
    np.testing.assert_allclose(evaluation.stats[1], result.values["AP50"], atol=1e-6)
    np.testing.assert_allclose(evaluation.stats[2], result.values["AP75"], atol=1e-6)


def xywh(box: np.ndarray | list[float]) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]
