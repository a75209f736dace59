"""Which degradations the visible image of a scene may suffer."""

from __future__ import annotations

import numpy as np

from tgfbench.datasets.degradations.instructions import instructions_for
from tgfbench.datasets.degradations.operators import OPERATORS

DEGRADATIONS: dict[str, tuple[str, ...]] = {
    "daylight": ("low-light", "over-exposure", "haze", "noise", "low-contrast", "blur"),
    "dusk": ("low-light", "haze", "noise", "low-contrast", "blur"),
    "night": ("noise", "low-contrast", "blur"),
    "fog": ("low-light", "noise", "blur"),
    "glare": ("low-light", "over-exposure", "noise", "low-contrast", "blur"),
}
"""Degradations that can be told from the lighting itself, per lighting."""


def degrade(
    visible: np.ndarray, infrared: np.ndarray, lighting: str, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Degrade a visible image at a severity of 2 to 5.

    Args:
        visible: uint8 (H, W, 3).
        infrared: uint8 (H, W), from which the depth of the scene is guessed.
        lighting: of the scene; decides what may happen to the image.
        rng: chooses the degradation, its severity and its pattern.

    Returns:
        The degraded image, uint8 (H, W, 3), and sentences each of which asks to mend it.
    """
    kinds = DEGRADATIONS[lighting]
    kind = kinds[rng.integers(len(kinds))]
    severity = 2 + 3 * float(rng.random())
    return OPERATORS[kind](visible, infrared, severity, rng), instructions_for(kind, "visible")
