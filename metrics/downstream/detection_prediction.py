"""Boxes that a detector finds in one image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from tgfbench.metrics.downstream.detector import Detector

GREY = 114
"""Of the border around an image, as in training."""

MAX_CANDIDATES = 3000
"""The best so many boxes of an image enter non-maximum suppression."""


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in one image, or what is there.

    Attributes:
        boxes: float32 (N, 4), xyxy in pixels of the image.
        classes: int64 (N,).
        scores: float32 (N,) in [0, 1], best first; None for labels.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


class Predictor:
    """Applies a detector to images.

    Args:
        detector: the network, which is moved to the device.
        columns: for every class of the answer, the classes of the network it is made of; the best score counts, and a
            class made of none is never found.
        image_size: of the longer side at the network's input.
        confidence: boxes with a lower score are dropped.
        iou: of two boxes of one class that overlap by more, only the better one stays.
        most: boxes to keep of an image.
        device: a torch device.
    """

    def __init__(
        self,
        detector: Detector,
        columns: tuple[tuple[int, ...], ...],
        *,
        image_size: int,
        confidence: float,
        iou: float,
        most: int,
        device: str,
    ) -> None:
        self.network = detector.network.to(device).eval()
        if getattr(self.network, "end2end", False):
            self.network.end2end = False  # its second head makes its own choice among overlapping boxes
        self.stride = max(int(self.network.stride.max()), 32)
        self.columns, self.device = columns, device
        self.image_size, self.confidence, self.iou, self.most = image_size, confidence, iou, most

    def __call__(self, pixels: np.ndarray) -> Found:
        """Return the boxes found in an image.

        Args:
            pixels: uint8 (H, W, 3) RGB.
        """
        canvas, ratio, (left, top) = letterbox(pixels, self.image_size, self.stride)
        batch = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)))[None].to(self.device).float() / 255
        with torch.inference_mode():
            answer = self.network(batch)
        answer = (answer[0] if isinstance(answer, list | tuple) else answer)[0].float().T.cpu()  # (boxes, 4 + classes)
        height, width = pixels.shape[:2]
        centres, sizes = answer[:, :2], answer[:, 2:4]
        boxes = torch.cat([centres - sizes / 2, centres + sizes / 2], dim=1)
        boxes = (boxes - torch.tensor([left, top, left, top])) / torch.tensor([*ratio, *ratio])
        boxes = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        scores = answer.new_zeros(len(answer), len(self.columns))
        for index, columns in enumerate(self.columns):
            if columns:
                scores[:, index] = answer[:, 4:][:, list(columns)].amax(dim=1)
        return self._best(boxes, scores)

    def _best(self, boxes: Tensor, scores: Tensor) -> Found:
        from torchvision.ops import batched_nms

        solid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        rows, classes = torch.where((scores > self.confidence) & solid[:, None])
        values = scores[rows, classes]
        order = values.argsort(descending=True, stable=True)[:MAX_CANDIDATES]
        rows, classes, values = rows[order], classes[order], values[order]
        kept = batched_nms(boxes[rows], values, classes, self.iou)[: self.most]
        return Found(boxes[rows[kept]].numpy(), classes[kept].numpy(), values[kept].numpy())


def letterbox(
    pixels: np.ndarray, image_size: int, stride: int
) -> tuple[np.ndarray, tuple[float, float], tuple[int, int]]:
    """Scale an image to a network's input and pad it with grey.

    Args:
        pixels: uint8 (H, W, 3).
        image_size: of the longer side.
        stride: both sides become multiples of it.

    Returns:
        uint8 (H', W', 3), the factors of x and y, and the width of the left and height of the upper border.
    """
    height, width = pixels.shape[:2]
    factor = image_size / max(height, width)
    new_width, new_height = max(round(width * factor), 1), max(round(height * factor), 1)
    if (new_width, new_height) != (width, height):
        pixels = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    spare_x, spare_y = -new_width % stride, -new_height % stride
    left, top = spare_x // 2, spare_y // 2
    border = (top, spare_y - top, left, spare_x - left)
    canvas = cv2.copyMakeBorder(pixels, *border, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY))
    return canvas, (new_width / width, new_height / height), (left, top)
