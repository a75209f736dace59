"""Renders a scene: both images and the labels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tgfbench.datasets.base import Labels
from tgfbench.datasets.sample.painting import Painting, paint
from tgfbench.datasets.sample.render_infrared import render_infrared
from tgfbench.datasets.sample.render_visible import render_visible
from tgfbench.datasets.sample.scene import Bicycle, Car, Person, Scene
from tgfbench.datasets.sample.texture import texture

VERSION = 1
"""Raised whenever the same arguments give other pixels, labels or texts."""

CLASS_OF: dict[type, int] = {Person: 0, Bicycle: 1, Car: 2}


@dataclass(frozen=True, eq=False)
class Rendering:
    """A rendered scene.

    Attributes:
        painting: what it was lit from.
        visible: uint8 (H, W, 3) RGB.
        infrared: uint8 (H, W).
        labels: boxes, classes and segmentation map.
        boxed: index of the thing in each box.
    """

    painting: Painting
    visible: np.ndarray
    infrared: np.ndarray
    labels: Labels
    boxed: tuple[int, ...]


def render_scene(scene: Scene, width: int, height: int, noise: np.random.SeedSequence) -> Rendering:
    """Render a scene at a size; ``noise`` seeds the sensor noise of the two cameras."""
    painting = paint(scene, width, height)
    weave = texture(scene, painting.camera)
    for_visible, for_infrared = (np.random.Generator(np.random.PCG64(seed)) for seed in noise.spawn(2))
    visible = render_visible(painting, weave, for_visible)
    infrared = render_infrared(painting, weave, for_infrared)
    labels, boxed = _labels(painting)
    return Rendering(painting, visible, infrared, labels, boxed)


def _labels(painting: Painting) -> tuple[Labels, tuple[int, ...]]:
    """Boxes around what is left unhidden of each person, bicycle and car, from left to right."""
    found = []
    for index, thing in enumerate(painting.scene.things):
        if type(thing) in CLASS_OF and index not in painting.dropped:
            left, top, width, height = cv2.boundingRect(painting.thing_mask(index).astype(np.uint8))
            found.append(((left, top, left + width, top + height), CLASS_OF[type(thing)], index))
    found.sort()
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    classes = np.array([label for _, label, _ in found], np.int64)
    return Labels(boxes, classes, painting.labels()), tuple(index for _, _, index in found)
