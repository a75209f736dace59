"""Scores of segmentations: intersections and unions summed over all test images, then divided once a class.

The areas of an image come from mmsegmentation's ``IoUMetric``. Its own summary is not used: it sums areas in float32,
which loses pixels beyond 2**24 of a class (55 images of 640x480), rounds to hundredths of a percent, and gives 0, not
NaN, to a class that was predicted but never labelled. Import after ``import_mmseg``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.evaluation import IoUMetric
from PIL import Image

from tgfbench.metrics.downstream.base import Outcome
from tgfbench.metrics.downstream.segmentation_labels import check_ids
from tgfbench.metrics.downstream.segmentation_networks import IGNORED


class StoredIoU(IoUMetric):
    """Areas of a test, and the predictions as files.

    After the test ``areas`` holds int64 (4, C): intersection, union, predicted and labelled pixels of each class.

    Args:
        folder: where ``<key>.png`` goes, made if absent.
        outputs: class id of each output of the network.
        ignored: class id that is not scored, or None.
        palette: RGB colour per class id.
    """

    def __init__(
        self, folder: Path, outputs: Sequence[int], ignored: int | None, palette: Sequence[tuple[int, int, int]]
    ) -> None:
        super().__init__(ignore_index=IGNORED, prefix="segmentation")
        self.folder, self.ignored = folder, ignored
        self.table = torch.tensor(outputs, dtype=torch.int64)
        self.colours = [value for colour in palette for value in colour]
        self.areas = np.zeros((4, 0), np.int64)
        folder.mkdir(parents=True, exist_ok=True)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Store the predictions of a batch and add their areas; outputs become class ids on the way."""
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            predicted = self.table[sample["pred_sem_seg"]["data"].cpu()]
            sample["pred_sem_seg"]["data"] = predicted
            labels = sample["gt_sem_seg"]["data"].cpu().to(torch.int64)
            check_ids(labels.unique().numpy(), classes, sample["seg_map_path"])
            if self.ignored is not None:
                labels[labels == self.ignored] = IGNORED
            sample["gt_sem_seg"]["data"] = labels
            self._store(sample["key"], predicted)
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: Sequence[Sequence[torch.Tensor]]) -> dict[str, float]:
        """Sum the areas of all images exactly."""
        self.areas = torch.stack([torch.stack(list(image)).to(torch.int64) for image in results]).sum(dim=0).numpy()
        return {}

    def _store(self, key: str, predicted: torch.Tensor) -> None:
        image = Image.fromarray(predicted.squeeze(0).to(torch.uint8).numpy()).convert("P")
        if self.colours:
            image.putpalette(self.colours)
        image.save(self.folder / f"{key}.png")


def outcome(areas: np.ndarray, classes: Sequence[str], counts: Mapping[str, int]) -> Outcome:
    """Turn areas into scores in [0, 1].

    Args:
        areas: int64 (4, C): intersection, union, predicted and labelled pixels of each class.
        classes: their names. Class 0 is the background where a dataset has one.
        counts: what was tested.

    Returns:
        ``mIoU`` over all labelled classes, ``mIoU-fg`` over those but class 0, ``mAcc``, ``aAcc``; ``IoU`` and ``Acc``
        per class. A class without labels is NaN and part of no mean: what was wrongly predicted as it is missing from
        the classes it belongs to.
    """
    intersection, union, _, labels = (row.astype(np.float64) for row in areas)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(labels > 0, intersection / union, np.nan)
        accuracy = np.where(labels > 0, intersection / labels, np.nan)
        overall = np.float64(intersection.sum()) / labels.sum()
    values = {"mIoU": _mean(iou), "mIoU-fg": _mean(iou[1:]), "mAcc": _mean(accuracy), "aAcc": float(overall)}
    per_class = {(name, "IoU"): float(value) for name, value in zip(classes, iou, strict=True)}
    per_class |= {(name, "Acc"): float(value) for name, value in zip(classes, accuracy, strict=True)}
    told = {"labelled pixels": int(labels.sum()), "classes with labels": int((labels > 0).sum())}
    return Outcome(values, per_class, {**counts, **told})


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
