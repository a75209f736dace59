"""How well boxes were found: average precision as COCO defines it, and precision and recall at one confidence.

pycocotools does the matching and the average precision. Lin et al., "Microsoft COCO: Common Objects in Context",
ECCV 2014.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgfbench.metrics.downstream.base import LabelledImage
from tgfbench.metrics.downstream.detection_prediction import Found

MOST = 100
"""COCO counts so many boxes of an image and class, the best ones."""


@dataclass(frozen=True)
class BoxScores:
    """Scores of a detector on a set of images.

    Attributes:
        ap50_95: mean average precision over IoU thresholds .50, .55 … .95, by class; NaN for a class without labels.
        ap50: at IoU .50, by class.
        ap75: at IoU .75, by class.
        precision: of all boxes above ``confidence`` that match a label of their class at IoU .50.
        recall: of the labels that such a box matches.
        confidence: the one that gives the highest F1.
        detections: boxes above it.
    """

    ap50_95: tuple[float, ...]
    ap50: tuple[float, ...]
    ap75: tuple[float, ...]
    precision: float
    recall: float
    confidence: float
    detections: int


def score_boxes(images: Sequence[LabelledImage], found: Sequence[Found], classes: int) -> BoxScores:
    """Compare boxes with labels.

    Args:
        images: the labels.
        found: the boxes, in the same order.
        classes: number of classes.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels = [
        _entry(image_id, box, class_id) | {"iscrowd": 0}
        for image_id, image in enumerate(images)
        for box, class_id in zip(image.boxes, image.classes, strict=True)
    ]
    boxes = [
        _entry(image_id, box, class_id) | {"score": float(score)}
        for image_id, one in enumerate(found)
        for box, class_id, score in zip(one.boxes, one.classes, one.scores, strict=True)
    ]
    if not labels:
        return BoxScores(*((math.nan,) * classes,) * 3, math.nan, math.nan, math.nan, len(boxes))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        truth, answer = COCO(), COCO()
        ids = [{"id": image_id} for image_id in range(len(images))]
        for index, entries in ((truth, labels), (answer, boxes)):
            numbered = [entry | {"id": number} for number, entry in enumerate(entries, start=1)]
            categories = [{"id": class_id} for class_id in range(classes)]
            index.dataset = {"images": ids, "categories": categories, "annotations": numbered}
            index.createIndex()
        evaluation = COCOeval(truth, answer, "bbox")
        evaluation.params.maxDets = [MOST]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # (IoU thresholds, recalls, classes); -1 where undefined
    average = np.where((precision < 0).all(axis=1), math.nan, precision.mean(axis=1))  # (IoU thresholds, classes)
    best = _best_f1([one for one in evaluation.evalImgs if one is not None], len(labels))
    return BoxScores(_floats(average.mean(axis=0)), _floats(average[0]), _floats(average[5]), *best)


def _entry(image_id: int, box: np.ndarray, class_id: int) -> dict[str, object]:
    x1, y1, x2, y2 = (float(value) for value in box)
    width, height = x2 - x1, y2 - y1
    return {
        "image_id": image_id,
        "category_id": int(class_id),
        "bbox": [x1, y1, width, height],
        "area": width * height,
    }


def _best_f1(per_image_and_class: Sequence[dict[str, np.ndarray]], labels: int) -> tuple[float, float, float, int]:
    """Return precision, recall, confidence and number of boxes where F1 is highest, at IoU .50 over all classes."""
    scores = np.concatenate([np.asarray(one["dtScores"], float) for one in per_image_and_class])
    if len(scores) == 0:
        return 0.0, 0.0, math.nan, 0
    right = np.concatenate([one["dtMatches"][0] > 0 for one in per_image_and_class])
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(right[order])
    taken = np.arange(1, len(scores) + 1)
    last_of_its_score = np.append(scores[1:] != scores[:-1], True)  # a confidence takes all boxes of one score
    f1 = np.where(last_of_its_score, 2 * hits / (taken + labels), -1.0)
    at = int(np.argmax(f1))
    return float(hits[at] / taken[at]), float(hits[at] / labels), float(scores[at]), int(taken[at])


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
