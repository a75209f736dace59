"""From heat maps of an association model to the reference image R and confidence C of text attention.

The heat maps are treated as TextFusion's association code treats them: per phrase z-scored, clipped to 1..3, scaled to
0..1 and enlarged by nearest neighbour; the largest phrase counts at every pixel; the text's region is where the map is
positive in the infrared or the visible image, widened to whole instances where an instance segmentation is given.

How TextFusion turns that region into R and C is not established. What follows the region here is OURS and reproduces no
published table: R shows, inside the region, the source with the larger local contrast and, outside it, the average of
both; C is the mean of the map over the region, 0 where the region is empty.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import write_png, write_text
from tgfbench.metrics.association import Association
from tgfbench.metrics.filters import gaussian
from tgfbench.metrics.luma import to_luma
from tgfbench.metrics.text_attention import TextReference

CONFIDENCES = "confidences.csv"

JOINTS = "and with near on in of at by to from along behind beside between through while over under"
"""Words at which a caption is cut into phrases."""


def phrases(focus: Sequence[str], captions: Sequence[str]) -> tuple[str, ...]:
    """Return what to look for in a pair: its focus texts, or else the parts of its captions.

    Captions are cut at punctuation and at ``JOINTS``, so that every part names about one thing; our stand-in for the
    nouns that TextFusion's association code picks.
    """
    if focus:
        return tuple(focus)
    cut = re.compile(rf"[^\w\s'-]+|\b(?:{'|'.join(JOINTS.split())})\b", re.IGNORECASE)
    parts = (" ".join(part.split()) for caption in captions for part in cut.split(caption))
    return tuple(dict.fromkeys(part for part in parts if part))


def attention_map(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the association map (H, W) in [0, 1] of heat maps (T, h, w); one without contrast counts nothing."""
    largest = np.zeros(size)
    for values in np.asarray(heat, dtype=np.float64):
        deviation = values.std()
        if deviation == 0:
            continue
        warm = np.clip((values - values.mean()) / deviation, 1, 3)
        spread = warm.max() - warm.min()
        if spread > 0:
            scaled = (warm - warm.min()) / spread
            np.maximum(largest, cv2.resize(scaled, size[::-1], interpolation=cv2.INTER_NEAREST), out=largest)
    return largest


def text_reference(
    infrared: np.ndarray,
    visible: np.ndarray,
    heat_infrared: np.ndarray,
    heat_visible: np.ndarray,
    instances: np.ndarray | None = None,
) -> TextReference:
    """Make the reference image and the confidence of one pair; see the head of this module for what is ours.

    Args:
        infrared: uint8 (H, W).
        visible: uint8 (H, W) luma.
        heat_infrared: (T, h, w), one heat map per phrase in the infrared image.
        heat_visible: likewise for the visible image.
        instances: bool (N, H, W), an instance segmentation; the region becomes the union of the instances it touches.
    """
    size = infrared.shape[:2]
    attention = np.maximum(attention_map(heat_infrared, size), attention_map(heat_visible, size))
    region = attention > 0
    if instances is not None:
        touched = [instance for instance in instances if (instance & region).any()]
        region = np.any(touched, axis=0) if touched else np.zeros(size, bool)
    average = (infrared.astype(np.float64) + visible) / 2
    stronger = np.where(_contrast(infrared) >= _contrast(visible), infrared, visible)
    reference = np.floor(np.where(region, stronger, average) + 0.5).astype(np.uint8)
    return TextReference(reference, float(attention[region].mean()) if region.any() else 0.0)


def make_text_reference(
    infrared: np.ndarray, visible: np.ndarray, association: Association, wanted: Sequence[str]
) -> TextReference:
    """Make the reference image and the confidence of one pair from what an association model sees in both images.

    Args:
        infrared: uint8 (H, W).
        visible: uint8 (H, W, 3) RGB.
        association: the model.
        wanted: what to look for.

    Raises:
        DataError: nothing to look for.
    """
    if not wanted:
        raise DataError(
            "making a text-guided reference", found="a pair without a text", hint="caption the dataset, or give a text"
        )
    heat = [association.heat(image, wanted) for image in (np.repeat(infrared[..., None], 3, 2), visible)]
    luma = to_luma(torch.from_numpy(np.ascontiguousarray(visible)).permute(2, 0, 1)[None], "bt601")[0].numpy()
    return text_reference(infrared, luma, *heat)


def _contrast(image: np.ndarray) -> np.ndarray:
    """Local variance under an 11 x 11 Gaussian window."""
    kernel = gaussian(11, 1.5)
    values = image.astype(np.float64)
    mean, square = (cv2.sepFilter2D(x, cv2.CV_64F, kernel, kernel) for x in (values, values * values))
    return square - mean * mean


def write_text_references(folder: Path, made: Mapping[str, TextReference]) -> None:
    """Write ``confidences.csv`` and reference images as ``read_text_references`` reads them."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(
        [("key", "confidence"), *((key, repr(found.confidence)) for key, found in made.items())]
    )
    # First: it marks the folder as one of references.
    write_text(folder / CONFIDENCES, table.getvalue())
    for key, found in made.items():
        write_png(folder / f"{key}.png", found.reference)
