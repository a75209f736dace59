"""What both cameras share: noise that is cheap and the same everywhere."""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np

_QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)


def gaussian_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Gaussian noise of 256 levels, float32 (H, W): one random byte a value, looked up among the quantiles."""
    drawn = np.frombuffer(rng.bytes(shape[0] * shape[1]), np.uint8).reshape(shape)
    return cv2.LUT(drawn, _QUANTILES * np.float32(sigma))
