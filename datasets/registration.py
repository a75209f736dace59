"""How far the two images of a pair are from lying on each other, estimated from the images alone."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from scipy import fft

SEARCH = 16
"""Shifts up to so many pixels (of the image as it is compared) are looked for."""

MAX_SIDE = 800
"""Larger images are halved until they fit."""

MIN_RATIO = 1.3
MIN_PEAK = 8.0
MIN_SIDE = 64
GRADIENT_BLUR = 1.5
CORRELATION_BLUR = 1.5
PEAK_RADIUS = 3


class Shift(NamedTuple):
    """An estimated shift.

    Attributes:
        x, y: pixels; what visible shows at (u, v) infrared shows at (u + x, v + y).
        confident: whether the correlation has one clear peak; without it x and y say nothing.
    """

    x: float
    y: float
    confident: bool

    @property
    def length(self) -> float:
        """The length in pixels."""
        return float(np.hypot(self.x, self.y))


def estimate_shift(visible: np.ndarray, infrared: np.ndarray) -> Shift:
    """Estimate one shift for a whole pair by phase correlation of gradient magnitudes.

    Edges are what the modalities have in common; the square root of their strength keeps a few strong ones from
    deciding (Kuglin and Hines, The Phase Correlation Image Alignment Method, 1975, on gradients). A pair with parallax
    has no single shift: the estimate is then that of most edges, or not confident.

    Args:
        visible: uint8 (H, W, 3) RGB.
        infrared: uint8 (H, W).

    Returns:
        The shift to a fraction of a pixel, up to 16 pixels of the compared size; not confident for small images.
    """
    images = [cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY), infrared]
    scale = 1
    while max(images[0].shape) > MAX_SIDE * scale:
        scale *= 2
    if scale > 1:
        size = (images[0].shape[1] // scale, images[0].shape[0] // scale)
        images = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    height, width = images[0].shape
    if min(height, width) < MIN_SIDE:
        return Shift(0.0, 0.0, False)
    correlation = _phase_correlation(*map(_edges, images))
    near = correlation[np.ix_(*(np.arange(-SEARCH, SEARCH + 1) % side for side in correlation.shape))]
    row, column = np.unravel_index(near.argmax(), near.shape)
    others = near.copy()
    around = [slice(max(0, at - PEAK_RADIUS), at + PEAK_RADIUS + 1) for at in (row, column)]
    others[around[0], around[1]] = 0
    peak, second, spread = near[row, column], others.max(), correlation.std()
    inside = 0 < row < 2 * SEARCH and 0 < column < 2 * SEARCH
    confident = bool(inside and peak > MIN_RATIO * second and peak > MIN_PEAK * spread > 0)
    x = column - SEARCH + (_vertex(near[row, column - 1 : column + 2]) if inside else 0.0)
    y = row - SEARCH + (_vertex(near[row - 1 : row + 2, column]) if inside else 0.0)
    return Shift(float(x * scale), float(y * scale), confident)


def _edges(image: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), GRADIENT_BLUR)
    magnitude = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    strength = np.sqrt(magnitude)
    return (strength - strength.mean()) * cv2.createHanningWindow(image.shape[::-1], cv2.CV_32F)


def _phase_correlation(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """Return the correlation (H', W') with the zero shift at [0, 0]; H' and W' are quick to transform."""
    shape = tuple(fft.next_fast_len(side, real=True) for side in visible.shape)
    spectrum = fft.rfft2(infrared, shape) * np.conj(fft.rfft2(visible, shape))
    spectrum /= np.abs(spectrum) + np.float32(1e-9)
    # Phases of high frequencies are noise: between modalities only the coarse edges agree.
    low_pass = [
        np.exp(-((frequencies * 2 * np.pi * CORRELATION_BLUR) ** 2) / 2).astype(np.float32)
        for frequencies in (fft.fftfreq(shape[0]), fft.rfftfreq(shape[1]))
    ]
    spectrum *= low_pass[0][:, None] * low_pass[1][None, :]
    return np.asarray(fft.irfft2(spectrum, shape))


def _vertex(values: np.ndarray) -> float:
    """Return where, from the middle of three values, the parabola through them has its top."""
    before, middle, after = (float(value) for value in values)
    curvature = before - 2 * middle + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0
