"""Renders a painted scene for the infrared camera, from its map of temperature and emissivity."""

from __future__ import annotations

import cv2
import numpy as np

from tgfbench.datasets.sample.canvas import COLDEST, WARMEST
from tgfbench.datasets.sample.painting import Painting
from tgfbench.datasets.sample.sensor import gaussian_noise

_NOISE_KELVIN = 0.22
_STRIPE_KELVIN = 0.12
_SPAN_KELVIN = 16.0
"""Automatic gain never stretches a smaller span of temperatures than this over the whole range."""
_TEXTURE_KELVIN = 3.0
_SHADE_KELVIN = 3.5


def _radiance(celsius: np.ndarray) -> np.ndarray:
    """Radiance between 8 and 14 micrometres, about the 4.6th power of temperature near 290 K, in units of a kelvin."""
    return 290.0 / 4.6 * ((celsius + 273.15) / 290.0) ** 4.6


def render_infrared(painting: Painting, texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Render the infrared image: radiance, air, optics, noise and automatic gain.

    Args:
        painting: the drawn scene.
        texture: uint8 (H, W) around 128.
        rng: source of the sensor noise.

    Returns:
        uint8 (H, W), warm is bright.
    """
    heat, camera, conditions = painting.heat, painting.camera, painting.scene.conditions
    celsius = COLDEST + np.arange(256) * (WARMEST - COLDEST) / 255
    emitted: np.ndarray = cv2.LUT(cv2.extractChannel(painting.canvas.paint, 3), _radiance(celsius).astype(np.float32))
    emissivity, ground = painting.table("emissivity"), painting.table("ground")
    mirrored = np.float32(_radiance(np.array(0.5 * (heat.sky + heat.air))))
    emitted *= painting.spread(emissivity)
    emitted += painting.spread((1 - emissivity) * mirrored)

    weave = texture.astype(np.float32)
    weave -= 128
    weave *= painting.spread(painting.table("grain") * np.float32(_TEXTURE_KELVIN / 128))
    emitted += weave
    if conditions.sun:
        # Ground in the shade stays cooler than ground in the sun.
        shaded = painting.shade.astype(np.float32)
        shaded -= 255
        shaded *= painting.spread(ground * np.float32(_SHADE_KELVIN / 255))
        emitted += shaded

    # Droplets scatter far less in this band than in the visible one.
    extinction = 0.22 * conditions.extinction
    if extinction > 0.002:
        clear = painting.spread(np.exp(-extinction * painting.table("z").astype(np.float64)).astype(np.float32))
        by_row = np.exp(-extinction * camera.row_depth()).astype(np.float32)
        np.copyto(clear, by_row[:, None], where=painting.spread(ground.astype(np.uint8)).view(np.bool_))
        air = np.float32(_radiance(np.array(heat.air)))
        emitted -= air
        emitted *= clear
        emitted += air

    grey = _optics(emitted, camera.unit)
    low, high = _gain_limits(grey)
    grey += gaussian_noise(rng, grey.shape, _NOISE_KELVIN)
    grey += gaussian_noise(rng, (1, grey.shape[1]), _STRIPE_KELVIN)
    grey -= np.float32(low)
    grey *= np.float32(255 / (high - low))
    grey += np.float32(0.5)
    return np.clip(grey, 0, 255, out=grey).astype(np.uint8)


def _optics(emitted: np.ndarray, unit: float) -> np.ndarray:
    """Blur by the lens and the detector, in steps of 1/256 kelvin."""
    base = float(_radiance(np.array(COLDEST))) - 20.0
    steps = ((emitted - np.float32(base)) * 256).clip(0, 65535).astype(np.uint16)
    sigma = 0.0018 * unit
    blurred = cv2.GaussianBlur(steps, (0, 0), sigma) if sigma > 0.3 else steps
    return blurred.astype(np.float32) * np.float32(1 / 256) + np.float32(base)


def _gain_limits(grey: np.ndarray) -> tuple[float, float]:
    """The radiances that become black and white: cold sky is cut off a little below the scene, like real cameras do."""
    lowest, middle, warm, hottest = np.percentile(grey[1::3, 1::3], (1.0, 50.0, 99.0, 99.8))
    low = max(float(lowest), float(middle) - 6.0) - 2.0
    high = min(float(hottest) + 2.0, float(warm) + 18.0)
    return low, max(high, low + _SPAN_KELVIN)
