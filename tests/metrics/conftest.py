"""Golden images as metric inputs, loaded once per test session."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tgfbench.metrics.base import MetricInputs


def read_grey(path: Path) -> Tensor:
    """Read an image as uint8 (1, H, W)."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None, f"{path} cannot be read"
    return torch.from_numpy(image)[None]


def read_rgb(path: Path) -> Tensor:
    """Read an image as uint8 (1, 3, H, W) RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None, f"{path} cannot be read"
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)[None]


class GoldenImages:
    """The calibration pairs; the ``max`` fusion also serves as the text-guided reference, at a confidence of 0.4."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = functools.lru_cache(maxsize=8)(self._load)

    def _load(self, pair: str, fusion: str, crop: int | None = None) -> MetricInputs:
        images = {
            "fused": read_grey(self.folder / f"{pair}_{fusion}.png"),
            "visible": read_grey(self.folder / f"{pair}_vi.png"),
            "infrared": read_grey(self.folder / f"{pair}_ir.png"),
            "reference": read_grey(self.folder / f"{pair}_max.png"),
            "fused_rgb": read_rgb(self.folder / f"{pair}_{fusion}_rgb.png"),
            "visible_rgb": read_rgb(self.folder / f"{pair}_vi_rgb.png"),
        }
        if crop:
            images = {name: image[..., 32 : 32 + crop, 48 : 48 + crop] for name, image in images.items()}
        return MetricInputs(**images, confidence=torch.tensor([0.4], dtype=torch.float64))


@pytest.fixture(scope="session")
def golden_images(shared: Path) -> GoldenImages:
    """The images beside the golden values."""
    return GoldenImages(shared / "metrics" / "images")
