"""Label maps: reading them, and what a set of them holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.images import read_label_map
from tgfbench.metrics.downstream.base import LabelledSet
from tgfbench.metrics.downstream.segmentation_networks import IGNORED


def counted_classes(images: LabelledSet) -> tuple[int, ...]:
    """Return the class ids that are learnt and scored: all but the ignored one."""
    return tuple(i for i in range(len(images.segmentation_classes)) if i != images.ignored_segmentation_class)


def check_label_sizes(images: LabelledSet) -> None:
    """Read the headers of all label maps.

    Raises:
        DataError: a map cannot be read or has another size than its image.
    """
    for image in images.images:
        if image.segmentation is None:
            continue
        doing = f"checking the label map {image.segmentation}"
        try:
            with Image.open(image.segmentation) as header:
                size = header.size
        except OSError as error:
            raise DataError(doing, found=str(error), expected="a PNG of class ids") from error
        if size != tuple(image.size):
            expected = f"{image.size[0]}x{image.size[1]}, the size of {image.path}"
            raise DataError(doing, found=f"{size[0]}x{size[1]}", expected=expected)


def class_pixels(images: LabelledSet) -> np.ndarray:
    """Count the pixels of each class over all label maps, int64 (C,).

    Raises:
        DataError: a map holds an id that is neither a class nor the ignored value; names the file.
    """
    classes = len(images.segmentation_classes)
    pixels = np.zeros(256, np.int64)
    for image in images.images:
        if image.segmentation is not None:
            counts = np.bincount(read_label_map(image.segmentation).ravel(), minlength=256)
            check_ids(np.flatnonzero(counts), classes, image.segmentation)
            pixels += counts
    return pixels[:classes]


def check_ids(ids: np.ndarray, classes: int, path: Path | str) -> None:
    """Refuse ids of a label map that are no class.

    Raises:
        DataError: names the file and the ids.
    """
    foreign = [int(i) for i in ids if i >= classes and i != IGNORED]
    if foreign:
        raise DataError(
            f"reading the label map {path}",
            found=f"class ids {', '.join(map(str, foreign))}",
            expected=f"0 to {classes - 1}, or {IGNORED} for pixels to ignore",
        )


def class_weights(choice: str | Sequence[float], pixels: Sequence[int], outputs: Sequence[int]) -> list[float] | None:
    """Return the weights of the cross-entropy for the outputs, mean 1 over the classes that occur; None for equal.

    Args:
        choice: ``SegmentationRecipe.class_weights``.
        pixels: labelled training pixels of every class.
        outputs: class id of each output.

    Raises:
        UsageError: as many numbers as there are classes were expected.
    """
    if choice == "equal":
        return None
    if not isinstance(choice, str):
        if len(choice) != len(pixels):
            doing = "reading class_weights of the recipe"
            raise UsageError(doing, found=f"{len(choice)} numbers", expected=f"{len(pixels)}, one per class")
        return [float(choice[i]) for i in outputs]
    present = [i for i in outputs if pixels[i]]
    raw = {i: 1 / math.sqrt(pixels[i]) for i in present}
    mean = sum(raw.values()) / max(len(raw), 1)
    return [raw[i] / mean if i in raw else 1.0 for i in outputs]
