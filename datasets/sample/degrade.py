"""Degradations of the visible image, and the instructions that ask to mend them."""

from __future__ import annotations

import cv2
import numpy as np

from tgfbench.datasets.sample.sensor import gaussian_noise

DEGRADATIONS: dict[str, tuple[str, ...]] = {
    "daylight": ("low light", "over-exposure", "haze", "noise", "low contrast", "blur"),
    "dusk": ("low light", "haze", "noise", "low contrast", "blur"),
    "night": ("noise", "low contrast", "blur"),
    "fog": ("noise", "blur"),
    "glare": ("over-exposure", "noise", "low contrast", "blur"),
}
"""Degradations that can be told from the lighting itself, per lighting."""

_INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "low light": (
        "The visible image is far too dark.",
        "Brighten it and bring the colours back without blowing up its noise.",
    ),
    "over-exposure": (
        "The visible image is over-exposed and its bright areas are washed out.",
        "Lower the exposure and recover the structure of those areas, from the infrared image where need be.",
    ),
    "haze": (
        "Haze hangs over the visible image and dulls its colours.",
        "Remove the haze and restore contrast towards the horizon.",
    ),
    "noise": (
        "The visible image suffers from strong sensor noise.",
        "Suppress the noise but keep edges and fine texture sharp.",
    ),
    "low contrast": (
        "The visible image has hardly any contrast.",
        "Stretch its tones to the full range before the two images are fused.",
    ),
    "blur": (
        "The visible image is out of focus.",
        "Sharpen its edges and restore the fine detail.",
    ),
}


def degrade(visible: np.ndarray, lighting: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[str, ...]]:
    """Degrade a visible image.

    Args:
        visible: uint8 (H, W, 3).
        lighting: of the scene; decides what may happen to the image.
        rng: chooses the degradation and its strength.

    Returns:
        The degraded image, uint8 (H, W, 3), and the sentences of the instruction.
    """
    kinds = DEGRADATIONS[lighting]
    kind = kinds[rng.integers(len(kinds))]
    return _apply(kind, visible, float(rng.random()), rng), _INSTRUCTIONS[kind]


def _apply(kind: str, visible: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Apply one degradation at a strength in [0, 1]."""
    height, width, _ = visible.shape
    if kind == "blur":
        sigma = max(0.8, (0.004 + 0.004 * strength) * min(height, 0.75 * width))
        return cv2.GaussianBlur(visible, (0, 0), sigma)
    image = visible.astype(np.float32)
    if kind == "low light":
        image *= np.float32(0.3 - 0.15 * strength)
        image += _noise(rng, visible.shape, 3.0)
    elif kind == "over-exposure":
        image *= np.float32(1.6 + 0.6 * strength)
        image += np.float32(25)
    elif kind == "haze":
        # Denser towards the top of the frame, where things are far away.
        clear = np.linspace(0.3 - 0.15 * strength, 0.8 - 0.2 * strength, height, dtype=np.float32)[:, None, None]
        image = np.float32(200) + (image - np.float32(200)) * clear
    elif kind == "noise":
        image += _noise(rng, visible.shape, 16.0 + 18.0 * strength)
    else:
        image = np.float32(110) + (image - np.float32(110)) * np.float32(0.35 - 0.15 * strength)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    return gaussian_noise(rng, (shape[0], shape[1] * shape[2]), sigma).reshape(shape)
