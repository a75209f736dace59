"""Scores of segmentations: against a confusion matrix, against mmsegmentation's own, and at their ends."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CLASSES = ("unlabelled", "car", "person", "bike", "curve")
PALETTE = ((0, 0, 0), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 192))


@pytest.fixture(scope="module", autouse=True)
def _library(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tgfbench.metrics.downstream.mmseg_library import import_mmseg

    import_mmseg(tmp_path_factory.mktemp("library"))


def score(
    predictions: list[np.ndarray],
    labels: list[np.ndarray],
    folder: Path,
    outputs: tuple[int, ...] = (0, 1, 2, 3, 4),
    ignored: int | None = None,
) -> Any:
    import torch

    from tgfbench.metrics.downstream.segmentation_scores import StoredIoU, outcome

    metric = StoredIoU(folder, outputs, ignored, PALETTE)
    metric.dataset_meta = {"classes": CLASSES}
    samples = [
        {
            "key": f"image-{i}",
            "seg_map_path": f"label-{i}.png",
            "pred_sem_seg": {"data": torch.from_numpy(predicted)[None]},
            "gt_sem_seg": {"data": torch.from_numpy(label)[None]},
        }
        for i, (predicted, label) in enumerate(zip(predictions, labels, strict=True))
    ]
    metric.process({}, samples)
    metric.evaluate(len(samples))
    return outcome(metric.areas, CLASSES, {"images": len(samples)})


def confusion_matrix(predictions: list[np.ndarray], labels: list[np.ndarray], ignored: int | None) -> np.ndarray:
    matrix = np.zeros((5, 5), np.int64)
    for predicted, label in zip(predictions, labels, strict=True):
        counted = (label != 255) & (label != (-1 if ignored is None else ignored))
        np.add.at(matrix, (label[counted], predicted[counted]), 1)
    return matrix


@pytest.mark.parametrize("ignored", [None, 0])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_a_confusion_matrix(seed: int, ignored: int | None, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    labels = [random.choice([0, 1, 2, 4, 255], (20, 30)).astype(np.uint8) for _ in range(3)]  # no bike
    predictions = [random.integers(0, 5, (20, 30)) for _ in range(3)]
    matrix = confusion_matrix(predictions, labels, ignored)
    with np.errstate(invalid="ignore"):
        iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
        accuracy = np.diag(matrix) / matrix.sum(1)
    iou[matrix.sum(1) == 0] = np.nan
    found = score(predictions, labels, tmp_path, ignored=ignored)
    assert found.values["mIoU"] == np.nanmean(iou)
    assert found.values["mIoU-fg"] == np.nanmean(iou[1:])
    assert found.values["mAcc"] == np.nanmean(accuracy)
    assert found.values["aAcc"] == np.diag(matrix).sum() / matrix.sum()
    assert [found.per_class[name, "IoU"] for name in CLASSES] == pytest.approx(list(iou), abs=0, nan_ok=True)
    assert math.isnan(found.per_class["bike", "IoU"])
    assert found.counts == {
        "images": 3,
        "labelled pixels": int(matrix.sum()),
        "classes with labels": 4 if ignored is None else 3,
    }


def test_equal_to_mmsegmentation_where_that_is_exact(tmp_path: Path) -> None:
    import torch
    from mmseg.evaluation import IoUMetric

    random = np.random.default_rng(0)
    labels = [random.integers(0, 5, (20, 30)) for _ in range(3)]
    predictions = [random.integers(0, 5, (20, 30)) for _ in range(3)]
    theirs = IoUMetric()
    theirs.dataset_meta = {"classes": CLASSES}
    theirs.process(
        {},
        [
            {"pred_sem_seg": {"data": torch.from_numpy(p)}, "gt_sem_seg": {"data": torch.from_numpy(t)}}
            for p, t in zip(predictions, labels, strict=True)
        ],
    )
    published = theirs.evaluate(3)
    found = score(predictions, labels, tmp_path)
    for name in ("mIoU", "mAcc", "aAcc"):
        assert found.values[name] * 100 == pytest.approx(published[name], abs=0.0051), name


def test_perfect_is_one_and_empty_is_zero(tmp_path: Path) -> None:
    label = np.array([[0, 0, 1], [1, 2, 255]], np.int64)
    perfect = score([np.where(label == 255, 3, label)], [label], tmp_path)
    assert set(perfect.values.values()) == {1.0}
    empty = score([np.zeros_like(label)], [label], tmp_path)
    assert empty.values["mIoU-fg"] == 0.0
    assert empty.per_class["unlabelled", "IoU"] == 2 / 5
    wrong = score([np.full_like(label, 4)], [label], tmp_path)
    assert set(wrong.values.values()) == {0.0}
    assert math.isnan(wrong.per_class["curve", "IoU"])  # predicted everywhere, labelled nowhere


def test_nothing_labelled_is_nan(tmp_path: Path) -> None:
    found = score([np.zeros((2, 2), np.int64)], [np.full((2, 2), 255)], tmp_path)
    assert all(math.isnan(value) for value in found.values.values())


def test_areas_of_many_pixels_are_summed_exactly() -> None:
    import torch

    from tgfbench.metrics.downstream.segmentation_scores import StoredIoU

    image = tuple(torch.tensor([area]) for area in (2.0**24 - 1, 2.0**24, 1.0, 1.0))
    metric = StoredIoU.__new__(StoredIoU)
    metric.compute_metrics([image] * 3)
    assert metric.areas[:, 0].tolist() == [3 * (2**24 - 1), 3 * 2**24, 3, 3]


def test_predictions_are_stored_with_the_palette_and_the_ids_of_the_dataset(tmp_path: Path) -> None:
    predicted = np.array([[0, 1], [2, 3]])
    score([predicted], [np.full((2, 2), 4)], tmp_path / "new", outputs=(4, 3, 2, 1, 0))
    with Image.open(tmp_path / "new" / "image-0.png") as image:
        assert image.mode == "P"
        assert np.array(image).tolist() == [[4, 3], [2, 1]]
        assert np.array(image.convert("RGB"))[0, 0].tolist() == list(PALETTE[4])


def test_an_id_that_is_no_class_is_refused_by_file(tmp_path: Path) -> None:
    from tgfbench.benchmark.errors import DataError

    with pytest.raises(DataError, match=r"label-0\.png(.|\n)*class ids 9(.|\n)*0 to 4"):
        score([np.zeros((2, 2), np.int64)], [np.full((2, 2), 9)], tmp_path)


def test_the_loss_is_the_mean_over_the_pixels_that_count() -> None:
    import torch

    from tgfbench.metrics.downstream.segmentation_loss import CountedCrossEntropy

    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(32).reshape(2, 4, 4) % 3
    labels[0, :2] = 255
    kept = labels != 255
    picked = logits.log_softmax(1).permute(0, 2, 3, 1)[kept].gather(1, labels[kept][:, None])[:, 0]
    weights = torch.tensor([1.0, 2.0, 3.0])
    assert torch.allclose(CountedCrossEntropy()(logits, labels), -picked.mean())
    weighted = CountedCrossEntropy(weights.tolist(), loss_weight=0.5)(logits, labels)
    assert torch.allclose(weighted, -0.5 * (picked * weights[labels[kept]]).mean())
    assert CountedCrossEntropy()(logits, torch.full_like(labels, 255)) == 0
