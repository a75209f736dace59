"""The drawing surface: one painting pass fills colour, temperature and a map of surfaces together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

SUBPIXEL_BITS = 4
COLDEST, WARMEST = -40.0, 60.0
"""Temperatures, in degrees Celsius, of the values 0 and 255 of the temperature channel."""
MAX_SURFACES = 256

Colour = tuple[float, float, float]
T = TypeVar("T", float, np.ndarray)


def temperature_code(celsius: T) -> T:
    """Return what stands for a temperature in the fourth channel of the painting."""
    return (celsius - COLDEST) * (255.0 / (WARMEST - COLDEST))


@dataclass(frozen=True)
class Surface:
    """How the pixels of one part of one thing take light and give heat.

    Attributes:
        thing: index of the thing in the scene, -1 for sky and ground.
        x: lateral position in metres, right positive.
        z: distance in metres; ignored where ``ground`` is true, since each row has its own.
        ground: whether the surface lies in the ground plane.
        emissivity: in [0, 1]; the rest is reflected from the sky.
        emission: light given off by the surface itself, as a multiple of its painted colour.
        grain: strength of the texture on it, in [0, 1].
        label: id of its segmentation class.
    """

    thing: int
    x: float = 0.0
    z: float = 1000.0
    ground: bool = False
    emissivity: float = 0.95
    emission: float = 0.0
    grain: float = 0.1
    label: int = 0


class Canvas:
    """Painting and surface map of one frame; later strokes cover earlier ones.

    Attributes:
        paint: uint8 (H, W, 4), display-referred RGB colour and temperature code, antialiased.
        surface: uint8 (H, W) index into ``surfaces``, not antialiased: it is what labels are made from.
    """

    def __init__(self, width: int, height: int) -> None:
        self.paint = np.zeros((height, width, 4), np.uint8)
        self.surface = np.zeros((height, width), np.uint8)
        self.surfaces: list[Surface] = []

    def add(self, surface: Surface) -> int:
        """Register a surface and return its index."""
        if len(self.surfaces) == MAX_SURFACES:
            raise RuntimeError("a scene has more surfaces than the surface map can tell apart")
        self.surfaces.append(surface)
        return len(self.surfaces) - 1

    def fill(self, surface: int, colour: Colour, celsius: float, *polygons: np.ndarray) -> None:
        """Fill polygons, complex arrays of pixel positions; an array of shape (N, corners) stands for N polygons.

        Where polygons of one call overlap, the even-odd rule holds.
        """
        corners = [outline for polygon in polygons for outline in fixed_point(np.atleast_2d(polygon))]
        cv2.fillPoly(self.paint, corners, (*colour, temperature_code(celsius)), cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.fillPoly(self.surface, corners, surface, cv2.LINE_8, SUBPIXEL_BITS)

    def stroke(
        self, surface: int, colour: Colour, celsius: float, width: float, *lines: np.ndarray, closed: bool = False
    ) -> None:
        """Draw lines through complex arrays of pixel positions, ``width`` pixels wide and at least one."""
        points = [fixed_point(line) for line in lines]
        thickness = max(1, round(width))
        value = (*colour, temperature_code(celsius))
        cv2.polylines(self.paint, points, closed, value, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.polylines(self.surface, points, closed, surface, thickness, cv2.LINE_8, SUBPIXEL_BITS)


def fixed_point(points: np.ndarray) -> np.ndarray:
    """Complex pixel positions, 0 being the centre of the first pixel, as the int32 (..., 2) that OpenCV draws."""
    scaled = np.ascontiguousarray(points) * (1 << SUBPIXEL_BITS)
    return np.rint(scaled.view(np.float64).reshape(*points.shape, 2)).astype(np.int32)


_SEMICIRCLE = np.exp(1j * np.linspace(0.5 * np.pi, 1.5 * np.pi, 5))
_CIRCLE = np.exp(2j * np.pi * np.arange(20) / 20)


def capsule(start: complex, end: complex, start_radius: float, end_radius: float) -> np.ndarray:
    """Outline of a limb: a tapered bar with round ends."""
    along = end - start
    along = along / abs(along) if along else 1.0 + 0j
    return np.concatenate([start + start_radius * along * _SEMICIRCLE, end - end_radius * along * _SEMICIRCLE])


def ellipse(centre: complex, across: float, up: float) -> np.ndarray:
    """Outline of an upright ellipse with the given half axes."""
    return centre + across * _CIRCLE.real + 1j * up * _CIRCLE.imag


def polygon(*points: tuple[float, float]) -> np.ndarray:
    """Complex outline from (x, y) pairs."""
    return np.array([complex(*point) for point in points])
