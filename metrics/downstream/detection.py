"""Object detection on fused images: ultralytics trains, pycocotools scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError, counted
from tgfbench.benchmark.images import read_visible, write_text
from tgfbench.metrics.card import MetricInfo
from tgfbench.metrics.downstream.base import LabelledImage, LabelledSet, Outcome, Progress, Recipe, Task, share_card
from tgfbench.metrics.downstream.class_names import match_classes
from tgfbench.metrics.downstream.recipes import network_file, read_recipe
from tgfbench.metrics.downstream.ultralytics_library import import_ultralytics

if TYPE_CHECKING:
    from tgfbench.metrics.downstream.detection_prediction import Found

WEIGHTS = "detector.safetensors"
_COCO = "Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014"
_AT_BEST_F1 = "over all classes together, at the confidence of the highest F1 on the tested images"


class DetectionRecipe(Recipe):
    """How a detector is trained and tested; fields with a default have ultralytics' own.

    Attributes:
        model: a YAML of ultralytics (``yolov8n.yaml``, ``yolo11s.yaml`` …) or of your own. A local ``.pt`` here gives
            the architecture and becomes ``start``.
        start: ``.pt`` or ``.safetensors`` whose weights are taken over as far as they fit.
        least_steps: where ``epochs`` over few images are fewer steps, as many more epochs as these take.
        optimizer: by its name in torch.
        final_learning_rate: as a fraction of ``learning_rate``.
        cosine: let the learning rate fall along a cosine instead of a line.
        momentum: of SGD, or the first beta of Adam.
        weight_decay: at ``nominal_batch``.
        warmup_epochs: over which learning rate and momentum rise.
        warmup_bias_lr: learning rate of the biases when warming up begins.
        nominal_batch: gradients of smaller batches are gathered until so many images have been seen.
        mosaic: probability of putting four images together.
        close_mosaic: number of last epochs without mosaic.
        mixup: probability of blending two images.
        fliplr: probability of a mirrored image.
        scale: largest relative change of size.
        translate: largest shift as a fraction of the size.
        hsv_h, hsv_s, hsv_v: largest relative change of hue, saturation and value.
        confidence: boxes with a lower score are dropped.
        iou: of two boxes of one class that overlap by more than this, only the better one stays.
        max_detections: most boxes kept of an image.
    """

    least_steps: int = Field(default=0, ge=0)
    optimizer: Literal["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop"] = "SGD"
    final_learning_rate: float = Field(default=0.01, gt=0, le=1)
    cosine: bool = False
    momentum: float = Field(default=0.937, ge=0, lt=1)
    weight_decay: float = Field(default=0.0005, ge=0)
    warmup_epochs: float = Field(default=3.0, ge=0)
    warmup_bias_lr: float = Field(default=0.1, ge=0)
    nominal_batch: int = Field(default=64, ge=1)
    mosaic: float = Field(default=1.0, ge=0, le=1)
    close_mosaic: int = Field(default=10, ge=0)
    mixup: float = Field(default=0.0, ge=0, le=1)
    fliplr: float = Field(default=0.5, ge=0, le=1)
    scale: float = Field(default=0.5, ge=0, lt=1)
    translate: float = Field(default=0.1, ge=0, le=1)
    hsv_h: float = Field(default=0.015, ge=0, le=1)
    hsv_s: float = Field(default=0.7, ge=0, le=1)
    hsv_v: float = Field(default=0.4, ge=0, le=1)
    confidence: float = Field(default=0.001, ge=0, lt=1)
    iou: float = Field(default=0.7, ge=0, le=1)
    max_detections: int = Field(default=300, ge=1)

    def epochs_over(self, images: int) -> int:
        """Return how often so many training images are seen."""
        return max(self.epochs, math.ceil(self.least_steps / math.ceil(images / self.batch)))

    def model_path(self) -> Path | None:
        """Return the YAML file of the network; see ``Recipe.model_path``."""
        return network_file(self.model)

    @model_validator(mode="before")
    @classmethod
    def _start_from_model(cls, values: Any) -> Any:
        model = str(values.get("model", "")) if isinstance(values, dict) else ""
        if model.endswith(".pt"):
            if values.get("start"):
                raise ValueError("either start, or a model that is a .pt, whose weights are the start")
            path = Path(model).expanduser()
            if not path.is_file():
                raise ValueError(
                    f"model as a .yaml or a .pt that is here; there is no {path}, and nothing is downloaded"
                )
            return {**values, "model": path.name, "start": path.resolve()}
        return values


class Detection(Task):
    """Train a YOLO detector on fused images and count what it finds in others."""

    name: ClassVar[str] = "detection"
    title: ClassVar[str] = "Object detection"
    version: ClassVar[int] = 1
    labels: ClassVar[Literal["boxes", "segmentation"]] = "boxes"
    packages: ClassVar[tuple[str, ...]] = ("ultralytics", "pycocotools")
    metrics: ClassVar[tuple[MetricInfo, ...]] = (
        share_card("AP50", "Average precision at IoU .50, mean over classes", _COCO),
        share_card("AP50:95", "Average precision, mean over IoU .50 to .95 and classes", _COCO),
        share_card("AP75", "Average precision at IoU .75, mean over classes", _COCO),
        share_card("Precision", "Share of boxes that match a label at IoU .50", _COCO, _AT_BEST_F1),
        share_card("Recall", "Share of labels that a box matches at IoU .50", _COCO, _AT_BEST_F1),
    )

    @classmethod
    def recipe(cls, name: str, overrides: Mapping[str, Any]) -> DetectionRecipe:
        """Read a recipe by name (or from a ``.yaml`` file) with some fields replaced."""
        return read_recipe(DetectionRecipe, cls.name, name, overrides)

    def check(self, images: LabelledSet) -> None:
        """Refuse a set without boxes, or with boxes that cannot be."""
        doing = "preparing images for detection"
        if not images.classes:
            raise DataError(doing, found="no detection classes", expected="a dataset with boxes")
        if not any(len(image.boxes) for image in images.images):
            found = f"no box in {counted(len(images.images))}"
            raise DataError(doing, found=found, expected="boxes of " + ", ".join(images.classes))
        for image in images.images:
            ids = np.asarray(image.classes)
            if len(ids) and not (ids.min() >= 0 and ids.max() < len(images.classes)):
                expected = f"0 to {len(images.classes) - 1} ({', '.join(images.classes)})"
                found = f"class {ids.min() if ids.min() < 0 else ids.max()}"
                raise DataError(f"{doing}: {image.key}", found=found, expected=expected)

    def train(
        self, images: LabelledSet, recipe: Recipe, seed: int, folder: Path, device: str, progress: Progress
    ) -> Path:
        """Train, or continue a training that was interrupted."""
        weights = folder / WEIGHTS
        if weights.is_file():
            return weights
        folder.mkdir(parents=True, exist_ok=True)
        import_ultralytics(folder)
        from tgfbench.metrics.downstream.detection_training import STATE, train_detector
        from tgfbench.metrics.downstream.detector import save_detector

        detector = train_detector(images, _own(recipe), seed, folder, device, progress)
        save_detector(detector, weights)
        (folder / STATE).unlink(missing_ok=True)
        return weights

    def test(
        self, weights: Path, images: LabelledSet, recipe: Recipe, folder: Path, device: str, progress: Progress
    ) -> Outcome:
        """Find boxes in images, store them and compare them with the labels."""
        import_ultralytics(folder)
        from tgfbench.metrics.downstream.detection_prediction import Predictor
        from tgfbench.metrics.downstream.detector import load_detector

        own = _own(recipe)
        detector = load_detector(weights)
        columns = match_classes(detector.classes, images.classes)
        if not any(columns):
            raise WeightsError(
                f"testing the detector {weights}",
                found=f"classes {', '.join(detector.classes)}",
                expected=f"at least one of {', '.join(images.classes)}",
            )
        predict = Predictor(
            detector,
            columns,
            image_size=own.image_size,
            confidence=own.confidence,
            iou=own.iou,
            most=own.max_detections,
            device=device,
        )
        found = []
        for done, image in enumerate(images.images, start=1):
            found.append(_rounded(predict(read_visible(image.path))))
            progress(done, len(images.images))
        write_boxes(folder / "predictions" / "boxes.jsonl", images.images, found)
        return outcome(images, found, tuple(bool(column) for column in columns))


def outcome(images: LabelledSet, found: Sequence[Found], known: Sequence[bool]) -> Outcome:
    """Score boxes that were found.

    Args:
        images: the labels.
        found: boxes by image, in the same order.
        known: by class, whether the detector knows it; labels of the others do not count.
    """
    from tgfbench.metrics.downstream.detection_scores import score_boxes

    counted = [_only(image, known) for image in images.images]
    scores = score_boxes(counted, found, len(images.classes))
    by_class = {"AP50": scores.ap50, "AP50:95": scores.ap50_95, "AP75": scores.ap75}
    values = {metric: _mean(of_classes) for metric, of_classes in by_class.items()}
    per_class = {
        (name, metric): value
        for metric, of_classes in by_class.items()
        for name, value in zip(images.classes, of_classes, strict=True)
    }
    counts = {
        "images": len(images.images),
        "labels": sum(len(image.boxes) for image in counted),
        "detections": scores.detections,
    }
    lacking = [name for name, is_known in zip(images.classes, known, strict=True) if not is_known]
    notes = (f"the detector does not know {', '.join(lacking)}",) if lacking else ()
    return Outcome(values | {"Precision": scores.precision, "Recall": scores.recall}, per_class, counts, notes)


def write_boxes(path: Path, images: Sequence[LabelledImage], found: Sequence[Found]) -> None:
    """Write boxes as JSON lines: ``key``, ``boxes`` (xyxy, pixels), ``classes``, ``scores``."""
    lines = []
    for image, one in zip(images, found, strict=True):
        # As text a float32 is short: 12.34, not 12.34000015258789.
        boxes = [[float(str(value)) for value in box] for box in one.boxes]
        scores = [float(str(value)) for value in one.scores]
        line = {"key": image.key, "boxes": boxes, "classes": one.classes.tolist(), "scores": scores}
        lines.append(json.dumps(line, separators=(",", ":")) + "\n")
    write_text(path, "".join(lines))


def _own(recipe: Recipe) -> DetectionRecipe:
    if not isinstance(recipe, DetectionRecipe):
        raise UsageError("detecting", found=f"a {type(recipe).__name__}", expected="a DetectionRecipe")
    return recipe


def _rounded(found: Found) -> Found:
    """Keep what is stored and what is scored the same: hundredths of a pixel, five digits of a score."""
    return replace(found, boxes=np.round(found.boxes, 2), scores=np.round(found.scores, 5))


def _only(image: LabelledImage, known: Sequence[bool]) -> LabelledImage:
    kept = np.asarray(known, bool)[image.classes]
    return replace(image, boxes=image.boxes[kept], classes=image.classes[kept])


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
