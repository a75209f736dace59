"""From heat maps of an association model to the reference image R and confidence C of text attention.

The heat maps are treated as TextFusion's association code treats them: per phrase z-scored, clipped to 1..3, scaled to
0..1 and enlarged by nearest neighbour; the largest phrase counts at every pixel; the text's region is where the map is
positive in the infrared or the visible image, widened to whole instances where an instance segmentation is given.

How TextFusion turns that region into R and C is not established. What follows the region here is OURS and reproduces no
published table: R shows, inside the region, the source with the larger local contrast and, outside it, the average of
both; C is the mean of the map over the region, 0 where the region is empty.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.metrics.filters import gaussian
from tgfbench.metrics.text_attention import TextReference


class Association(ABC):
    """Says where in an image each phrase is."""

    @abstractmethod
    def heat(self, image: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
        """Return one heat map per phrase, floating point (T, h, w) of any size, for uint8 (H, W, 3) RGB."""


class CLIPSeg(Association):
    """Heat maps of CLIPSeg (transformers), from a local folder; nothing is downloaded.

    Args:
        folder: a checkpoint such as ``CIDAS/clipseg-rd64-refined``, as ``save_pretrained`` writes it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        if not (self.folder / "config.json").is_file():
            raise WeightsError(
                "loading CLIPSeg for text attention",
                found=f"no config.json in {self.folder}",
                expected="the folder of a CLIPSeg checkpoint",
                hint="download CIDAS/clipseg-rd64-refined, or use the labels of the dataset (LabelAssociation)",
            )
        self._model: tuple[Any, Any] | None = None

    def heat(self, image: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
        import torch
        from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

        if self._model is None:
            processor = CLIPSegProcessor.from_pretrained(self.folder, local_files_only=True)
            network = CLIPSegForImageSegmentation.from_pretrained(self.folder, local_files_only=True).eval()
            self._model = processor, network
        processor, network = self._model
        inputs = processor(text=list(phrases), images=[image] * len(phrases), padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = network(**inputs).logits
        return torch.sigmoid(logits).reshape(len(phrases), *logits.shape[-2:]).double().numpy()


class LabelAssociation(Association):
    """The offline choice: the labelled boxes of a pair, each as warm as its class name is close to the phrase.

    Closeness is the cosine of the bundled sentence encoder (MiniLM), at least 0.

    Args:
        boxes: (N, 4), xyxy in pixels.
        names: the class name of every box.
    """

    def __init__(self, boxes: np.ndarray, names: Sequence[str]) -> None:
        if len(boxes) != len(names):
            raise UsageError(
                "associating a text with labels", found=f"{len(boxes)} boxes, {len(names)} names", expected="as many"
            )
        self.boxes, self.names = np.asarray(boxes), tuple(names)

    def heat(self, image: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
        maps = np.zeros((len(phrases), *image.shape[:2]))
        if not self.names:
            return maps
        closeness = self._closeness(phrases)
        for index, box in enumerate(self.boxes):
            left, top, right, bottom = (round(float(side)) for side in box)
            region = maps[:, top:bottom, left:right]
            np.maximum(region, closeness[:, index, None, None], out=region)
        return maps

    def _closeness(self, phrases: Sequence[str]) -> np.ndarray:
        from tgfbench.benchmark.text import load_text_encoder

        pooled = load_text_encoder("minilm").encode([*phrases, *self.names]).pooled.double()
        unit = pooled / pooled.norm(dim=1, keepdim=True)
        return (unit[: len(phrases)] @ unit[len(phrases) :].T).clamp(min=0).numpy()


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


def _contrast(image: np.ndarray) -> np.ndarray:
    """Local variance under an 11 x 11 Gaussian window."""
    kernel = gaussian(11, 1.5)
    values = image.astype(np.float64)
    mean, square = (cv2.sepFilter2D(x, cv2.CV_64F, kernel, kernel) for x in (values, values * values))
    return square - mean * mean
