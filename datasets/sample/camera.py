"""From metres on the ground to pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tgfbench.datasets.sample.scene import EYE, FOCAL, Scene

NEAREST = 0.8
"""Points nearer than this, in metres, are drawn at this distance (they are outside the frame)."""


class Camera:
    """A pinhole camera over flat ground.

    Positions follow the frame's width and height separately, so that a scene fills a frame of any shape; sizes of
    things follow one ``unit`` (the height at 4:3), so that nothing is squashed. At 4:3 both agree.

    Args:
        scene: gives the horizon, the vanishing point and the bend of the road.
        width: of the frame, in pixels.
        height: of the frame, in pixels.
    """

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        self.scene, self.width, self.height = scene, width, height
        self.unit = min(float(height), 0.75 * width)

    def ground(self, x: ArrayLike, z: ArrayLike, y: ArrayLike = 0.0) -> np.ndarray:
        """Complex pixel positions of points on, or ``y`` metres above, the ground."""
        depth = np.maximum(np.asarray(z, float), NEAREST)
        across = self.scene.vanishing + 0.75 * FOCAL * (np.asarray(x, float) / depth + self.scene.curve * depth)
        down = self.scene.horizon + FOCAL * EYE / depth
        rise = self.unit * FOCAL * np.asarray(y, float) / depth
        return self.width * across - 0.5 + 1j * (self.height * down - rise - 0.5)

    def scale(self, z: float) -> float:
        """Pixels per metre at distance ``z``."""
        return self.unit * FOCAL / max(z, NEAREST)

    def upright(self, x: float, z: float, outline: np.ndarray) -> np.ndarray:
        """Pixel positions of a flat figure that faces the camera, drawn in metres around its foot, y upwards."""
        return self.ground(x, z) + self.scale(z) * np.conj(outline)

    def solid(self, x: float, z: float, dx: ArrayLike, dz: ArrayLike, y: ArrayLike) -> np.ndarray:
        """Pixel positions of corners at (x + dx, y, z + dz) of a solid that must keep its proportions."""
        dx, dz, y = np.asarray(dx, float), np.asarray(dz, float), np.asarray(y, float)
        depth = np.maximum(z + dz, NEAREST)
        middle = self.scene.across(x, max(z, NEAREST)) * self.width
        across = middle + self.unit * FOCAL * ((x + dx) / depth - x / max(z, NEAREST))
        down = self.height * self.scene.horizon + (self.height * EYE - self.unit * y) * FOCAL / depth
        return across - 0.5 + 1j * (down - 0.5)

    def row_depth(self) -> np.ndarray:
        """Distance of the ground seen in each row, float64 (H,), infinite at and above the horizon."""
        below = (np.arange(self.height) + 0.5) / self.height - self.scene.horizon
        depth = np.full(self.height, np.inf)
        depth[below > 0] = FOCAL * EYE / below[below > 0]
        return depth
