"""What a downstream task is: it sees a whole set of fused images at once, learns from one set and is tested on another.

Two modes are kept in separate tables. *frozen*: one model with given weights scores every method's images.
*retrain*: a model is trained from the same start with the same recipe on each method's fused training images, and
tested on its fused test images. A task only trains and tests; which images, and what was done already, is the
engine's business (``benchmark/downstream/``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.metrics.card import MetricInfo

Mode = Literal["frozen", "retrain"]
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image and what is in it.

    Attributes:
        key: unique in its set and safe as a file name.
        path: PNG, uint8 RGB.
        size: (width, height) in pixels.
        boxes: float32 (N, 4), xyxy in pixels, inside the image.
        classes: int64 (N,), ids into ``LabelledSet.classes``.
        segmentation: PNG, uint8 (H, W) of ids into ``LabelledSet.segmentation_classes``; None where there is none.
    """

    key: str
    path: Path
    size: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    segmentation: Path | None = None


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Images to learn from or to be tested on.

    Attributes:
        images: in the dataset's order.
        classes: detection class names, in id order.
        segmentation_classes: segmentation class names, in id order.
        palette: RGB colour per segmentation class.
        ignored_segmentation_class: id that counts neither in training nor in any score, or None.
    """

    images: tuple[LabelledImage, ...]
    classes: tuple[str, ...] = ()
    segmentation_classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    ignored_segmentation_class: int | None = None


class Recipe(BaseModel):
    """Everything that decides a training besides the images and the seed; tasks add their own fields.

    Attributes:
        name: of the file it was read from; with overridden fields, that name and the overrides.
        purpose: when to use it.
        model: the network, e.g. ``yolo11n.yaml`` or ``segformer-b0``.
        start: checkpoint the training starts from, None for random initialisation.
        train_images: most images to train on, evenly spread over the training split; None for all.
        image_size: of the network's input: the longer side in pixels.
        epochs: passes over the training images.
        batch: images a step.
        learning_rate: the largest.
        cpu_threads: of a training on the CPU, which can move the last digits; None for as many as there are. With 1,
            small networks do not wait for a second core, and the engine trains as many at a time as there are cores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    purpose: str = ""
    model: str
    start: Path | None = None
    train_images: int | None = Field(default=None, ge=1)
    image_size: int = Field(ge=32)
    epochs: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    cpu_threads: int | None = Field(default=None, ge=1)

    def epochs_over(self, images: int) -> int:
        """Return how often so many training images are seen."""
        return self.epochs

    def model_path(self) -> Path | None:
        """Return the file or folder that ``model`` stands for, whose content decides the training; None for a name.

        Raises:
            WeightsError: it stands for one that is not here.
        """
        path = Path(self.model)
        return path if path.is_file() else None


@dataclass(frozen=True)
class Outcome:
    """What a test gave.

    Attributes:
        values: by metric name; NaN where a metric is undefined.
        per_class: value by (class name, metric name); NaN for a class without labels.
        counts: what was counted, e.g. ``{"images": 24, "labels": 81, "detections": 95}``.
        notes: what a reader of the numbers should know, such as classes that a given detector lacks.
    """

    values: Mapping[str, float]
    per_class: Mapping[tuple[str, str], float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def share_card(name: str, title: str, citation: str, notes: str = "") -> MetricInfo:
    """Return the card of a metric of fused images in 0..1, of which more is better."""
    return MetricInfo(
        name=name,
        title=title,
        higher_is_better=True,
        range=(0.0, 1.0),
        needs=("fused",),
        citation=citation,
        notes=notes,
    )


class Task(ABC):
    """A downstream task.

    A subclass sets the class attributes and implements the methods. Nothing of it may touch the network or write
    outside the folders it is given.

    Attributes:
        name: registry name.
        title: the name in words.
        version: raised whenever a number could move; part of every work's key.
        metrics: cards of the metrics, in the order of tables.
        labels: what an image must have to be of use: one without a box file or label map is left out of the set and
            counted, never taken for an image without objects.
        packages: what must be importable before anything can be done.
        extra: the group of packages to install, for the message where one is missing.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int]
    metrics: ClassVar[tuple[MetricInfo, ...]]
    labels: ClassVar[Literal["boxes", "segmentation"]]
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "downstream"

    @classmethod
    def require(cls) -> None:
        """Check that the libraries are installed; imports nothing.

        Raises:
            UsageError: one is missing; says what to install.
        """
        if missing := [name for name in cls.packages if find_spec(name) is None]:
            found = f"{' and '.join(missing)} not installed"
            raise UsageError(f"evaluating {cls.name}", found=found, hint=f"pip install 'tgfbench[{cls.extra}]'")

    @classmethod
    def given(cls, weights: Path) -> Path:
        """Return the file or folder that the weights of the mode ``frozen`` are, whose content decides the test.

        Raises:
            WeightsError: there is none.
        """
        if not weights.exists():
            raise WeightsError(
                f"finding the given weights of {cls.name}", found=f"no {weights}", expected="a checkpoint"
            )
        return weights

    @classmethod
    @abstractmethod
    def recipe(cls, name: str, overrides: Mapping[str, Any]) -> Recipe:
        """Read a recipe by name (or from a ``.yaml`` file) with some fields replaced.

        Raises:
            UsageError: no such recipe or field, or a value of the wrong kind.
        """

    @abstractmethod
    def check(self, images: LabelledSet) -> None:
        """Refuse a set this task cannot use.

        Raises:
            DataError: it has no labels of this task's kind; says which.
        """

    @abstractmethod
    def train(
        self, images: LabelledSet, recipe: Recipe, seed: int, folder: Path, device: str, progress: Progress
    ) -> Path:
        """Train, or continue a training that was interrupted.

        Args:
            images: what to learn from.
            recipe: as ``recipe`` returned it.
            seed: of initialisation, order and augmentation.
            folder: where everything is written, this training's alone; what it holds from an earlier, interrupted
                call with the same arguments is continued.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            progress: told after every step.

        Returns:
            The checkpoint of the last epoch. Nothing is chosen by looking at the test images.
        """

    @abstractmethod
    def test(
        self, weights: Path, images: LabelledSet, recipe: Recipe, folder: Path, device: str, progress: Progress
    ) -> Outcome:
        """Test a checkpoint and store what it predicted.

        Args:
            weights: of ``train``, or given by the user in the mode ``frozen``.
            images: what to be tested on.
            recipe: fixes the input size and thresholds.
            folder: predictions go to ``folder/predictions``: ``boxes.jsonl`` (a line per image: ``key``, ``boxes``
                xyxy in pixels of the image, ``classes``, ``scores``) or ``segmentation/<key>.png`` (mode P, the
                dataset's palette, value = class id).
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            progress: told after every image.

        Raises:
            WeightsError: the checkpoint cannot be used; says why.
        """
