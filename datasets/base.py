"""What a dataset serves: samples with paired images, texts and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from tgfbench.benchmark.errors import UsageError, suggest


@dataclass(frozen=True)
class Texts:
    """What can be said about a pair; each field is a tuple of sentences or phrases, possibly empty.

    Attributes:
        captions: what the scene shows.
        focus: the objects to favour, e.g. ``"the pedestrians"``.
        instruction: the degradation to mend, e.g. ``"brighten this under-exposed night image"``.
    """

    captions: tuple[str, ...] = ()
    focus: tuple[str, ...] = ()
    instruction: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Labels:
    """Annotations of a pair, in the class ids of ``DatasetInfo``.

    Attributes:
        boxes: float32 (N, 4), xyxy in pixels, 0 <= x1 < x2 <= W and 0 <= y1 < y2 <= H.
        classes: int64 (N,), ids into ``DatasetInfo.classes``.
        segmentation: uint8 (H, W) of ids into ``DatasetInfo.segmentation_classes``, or None.
        boxes_known: False where nobody drew boxes, which is not the same as an image without objects.
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    segmentation: np.ndarray | None = None
    boxes_known: bool = True


@dataclass(frozen=True, eq=False)
class Sample:
    """One infrared-visible pair.

    Attributes:
        key: unique in its dataset and safe as a file name.
        visible: uint8 (H, W, 3) RGB.
        infrared: uint8 (H, W).
        texts: captions, focus phrases and instructions.
        labels: boxes and segmentation map, or None where the dataset has none.
        reference: uint8 (H, W, 3) RGB clean target of a degraded pair, or None.
        clean: the undegraded pair, where the images above are degraded and it is known; metrics then compare with its
            images, because a fused image that resembles a degraded source is not a better one.
        text_features: float32 (L, D), the text already encoded into L tokens by the dataset's authors, or None.
    """

    key: str
    visible: np.ndarray
    infrared: np.ndarray
    texts: Texts = Texts()
    labels: Labels | None = None
    reference: np.ndarray | None = None
    clean: Sample | None = None
    text_features: np.ndarray | None = None


@dataclass(frozen=True)
class Problem:
    """Something wrong with a dataset's files that does not stop the rest from being served.

    Attributes:
        kind: ``unpaired``, ``duplicate`` (two files claim one key, or two pairs hold the same pixels),
            ``size-mismatch``, ``unreadable``, ``text``, ``label``, ``reference``, ``channels`` (an infrared image in
            colour) or ``count`` (pairs of the complete dataset are absent).
        item: the file or key, as the user would look for it.
        detail: what was found and what was expected.
    """

    kind: Literal[
        "unpaired", "duplicate", "size-mismatch", "unreadable", "text", "label", "reference", "channels", "count"
    ]
    item: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.item}: {self.detail}"


class TrainingUse(BaseModel):
    """That a published method was trained on a dataset.

    Attributes:
        method: the method, as its paper names it.
        split: the split it was trained on; ``all`` where the source names none.
        note: how much of it, or through which other dataset.
        images_of: where that split holds images of only some of the datasets that this one is derived from: which.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    split: str = "train"
    note: str = ""
    images_of: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} ({', '.join(filter(None, (self.split, self.note)))})"


class DatasetInfo(BaseModel):
    """The card of a dataset.

    Attributes:
        name: registry name.
        title: the name as papers write it.
        source: where the dataset comes from, as documentation.
        licence: the licence, "none stated" where the source is silent.
        terms: what the source, licence or not, allows and asks.
        citation: the paper to cite.
        splits: names of the splits, the default one first.
        counts: pairs of the complete dataset by split, where the number is known.
        size: (width, height) of its images, or None where there are many sizes.
        derived_from: registry names of the datasets whose images it holds.
        keeps_splits: whether its splits are those of the datasets it is derived from.
        classes: detection class names, in id order.
        segmentation_classes: segmentation class names, in id order.
        ignored_segmentation_class: the id that the published evaluations leave out of the mean IoU, or None.
        palette: RGB colour per segmentation class.
        used_in_training_by: published methods trained on it.
        known_problems: what a user should know before trusting numbers.
        layout: the folder layout the loader expects below its root.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str
    licence: str
    terms: str = ""
    citation: str = ""
    splits: tuple[str, ...] = ("test",)
    counts: dict[str, int] = {}
    size: tuple[int, int] | None = None
    derived_from: tuple[str, ...] = ()
    keeps_splits: bool = False
    classes: tuple[str, ...] = ()
    segmentation_classes: tuple[str, ...] = ()
    ignored_segmentation_class: int | None = None
    palette: tuple[tuple[int, int, int], ...] = ()
    used_in_training_by: tuple[TrainingUse, ...] = ()
    known_problems: tuple[str, ...] = ()
    layout: str = ""

    @property
    def widest_split(self) -> str:
        """The split that holds most: ``all`` where there is one, else the default."""
        return "all" if "all" in self.splits else self.splits[0]


class Dataset(ABC):
    """An ordered, indexable collection of samples; decoding happens when a sample is asked for.

    A subclass sets ``info``, and in its constructor ``split`` and ``keys``. Files that cannot be served (unpaired, of
    different size, unreadable headers) are left out of ``keys`` and listed in ``problems``.
    """

    info: ClassVar[DatasetInfo]
    split: str
    keys: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @abstractmethod
    def load(self, key: str) -> Sample:
        """Return the sample of a key.

        Raises:
            DataError: a file of this sample cannot be read; names the file.
        """

    def labels(self, key: str) -> Labels | None:
        """Return what ``load`` gives as labels, without decoding the images where that is possible.

        Raises:
            DataError: a label map of this sample cannot be used; names the file.
        """
        return self.load(key).labels

    @abstractmethod
    def fingerprint(self, keys: tuple[str, ...] | None = None) -> str:
        """Return a hex digest that changes when the content of the given (default: all) samples changes."""

    def complete_count(self) -> int | None:
        """Return how many pairs this split has where nothing is absent, or None where that is not known."""
        return self.info.counts.get(self.split)

    def files(self, key: str) -> dict[str, Path]:
        """Return the files of a sample by role (``visible``, ``infrared``, …); {} where it is not made of files."""
        return {}

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Sample]:
        return (self.load(key) for key in self.keys)

    def __getitem__(self, key: str) -> Sample:
        if key not in self.keys:
            raise self.unknown_key(key)
        return self.load(key)

    def unknown_key(self, key: str) -> UsageError:
        """Return the error for a key that this dataset does not serve."""
        return UsageError(
            f"looking up the sample {key!r} in {self.info.name}, split {self.split}",
            found="no such key",
            hint=suggest(key, self.keys),
        )

    def check_split(self, split: str) -> str:
        """Return ``split`` if this dataset has it, else raise a ``UsageError`` that names the splits it has."""
        if split not in self.info.splits:
            raise UsageError(
                f"opening the dataset {self.info.name}",
                found=f"split {split!r}",
                expected=f"one of {', '.join(self.info.splits)}",
            )
        return split
