"""Draws cars: a profile swept across the width, turned by the heading and seen in perspective."""

from __future__ import annotations

import math

import numpy as np

from tgfbench.datasets.sample.camera import Camera
from tgfbench.datasets.sample.canvas import Canvas, Colour, Surface
from tgfbench.datasets.sample.heat import Heat
from tgfbench.datasets.sample.scene import CAR_COLOURS, Car

CAR_LABEL = 1

# Side views, rear to front, as (along, up) in metres; then the two strips that are the rear window and the windscreen.
_PROFILES: dict[str, tuple[tuple[tuple[float, float], ...], int, int]] = {
    "saloon": (
        (
            (-2.15, 0.3),
            (-2.2, 0.7),
            (-2.05, 0.98),
            (-1.5, 1.02),
            (-0.85, 1.42),
            (0.3, 1.44),
            (1.0, 1.02),
            (1.95, 0.86),
            (2.18, 0.62),
            (2.15, 0.3),
        ),
        3,
        5,
    ),
    "hatchback": (
        (
            (-1.9, 0.3),
            (-1.96, 0.7),
            (-1.9, 1.0),
            (-1.88, 1.04),
            (-1.5, 1.47),
            (0.25, 1.5),
            (0.95, 1.06),
            (1.75, 0.9),
            (1.96, 0.64),
            (1.92, 0.3),
        ),
        3,
        5,
    ),
    "van": (
        (
            (-2.3, 0.32),
            (-2.36, 0.7),
            (-2.36, 1.1),
            (-2.34, 1.15),
            (-2.25, 1.95),
            (1.0, 1.98),
            (1.65, 1.15),
            (2.15, 1.0),
            (2.32, 0.66),
            (2.28, 0.32),
        ),
        3,
        5,
    ),
}
_HALF_WIDTH, _ROOF_HALF_WIDTH = 0.86, 0.66
_WHEEL = 0.32


class _Body:
    """Placement of one car: from (along, across, up) in metres to pixels."""

    def __init__(self, camera: Camera, car: Car) -> None:
        self.camera, self.car = camera, car
        self.sin, self.cos = math.sin(car.yaw), math.cos(car.yaw)

    def place(self, along: np.ndarray, across: np.ndarray, up: np.ndarray) -> np.ndarray:
        dx = along * self.sin + across * self.cos
        dz = along * self.cos - across * self.sin
        return self.camera.solid(self.car.x, self.car.z, dx, dz, up)

    def rectangle(self, along: float, across: tuple[float, float], up: tuple[float, float]) -> np.ndarray:
        """An upright rectangle square to the heading."""
        (left, right), (low, high) = across, up
        return self.place(np.full(4, along), np.array((left, right, right, left)), np.array((low, low, high, high)))

    def visible_end(self) -> int:
        """1 if the front faces the camera, -1 if the rear does."""
        return 1 if self.car.x * self.sin + self.car.z * self.cos < 0 else -1

    def visible_side(self) -> int:
        """1 if the right-hand side faces the camera, -1 if the left-hand one does."""
        return 1 if self.car.x * self.cos - self.car.z * self.sin < 0 else -1


def draw_car(canvas: Canvas, camera: Camera, car: Car, index: int, heat: Heat, lit: bool) -> None:
    """Draw a car.

    Args:
        canvas: drawn upon.
        camera: places it.
        car: what to draw.
        index: of the thing in the scene.
        heat: temperatures; a running car has warm wheels, grille, bonnet, underbody and exhaust.
        lit: whether its lamps are switched on.
    """
    x, z = car.x, car.z
    paint = canvas.add(Surface(index, x=x, z=z, emissivity=0.82, grain=0.04, label=CAR_LABEL))
    glass = canvas.add(Surface(index, x=x, z=z, emissivity=0.82, grain=0.0, label=CAR_LABEL))
    rubber = canvas.add(Surface(index, x=x, z=z, emissivity=0.97, grain=0.05, label=CAR_LABEL))
    lamps = canvas.add(Surface(index, x=x, z=z, emission=0.0, grain=0.0, label=CAR_LABEL))
    front_on = canvas.add(Surface(index, x=x, z=z, emission=5.0, grain=0.0, label=CAR_LABEL)) if lit else lamps
    rear_on = canvas.add(Surface(index, x=x, z=z, emission=1.6, grain=0.0, label=CAR_LABEL)) if lit else lamps
    warm = 1.0 if car.running else 0.0
    body = _Body(camera, car)
    end, side = body.visible_end(), body.visible_side()
    profile, rear_window, windscreen = _PROFILES[car.body]
    along, up = np.array(profile).T
    half = np.where(up > 1.2, _ROOF_HALF_WIDTH, _HALF_WIDTH)
    colour = CAR_COLOURS[car.colour]

    _underside(canvas, body, rubber, along, heat, warm)
    strips = range(len(profile) - 1)
    for i in reversed(strips) if end < 0 else strips:  # painter's order: the end away from the camera first
        _strip(canvas, body, i, (paint, glass), along, half, up, colour, i in (rear_window, windscreen), heat, warm)
    _flank(canvas, body, (paint, glass, rubber), along, half, up, side, colour, heat, warm)
    _end(
        canvas,
        body,
        (paint, lamps, front_on, rear_on),
        float(along[-1] if end > 0 else along[0]),
        end,
        colour,
        heat,
        warm,
        car.body,
    )


def _faces_camera(outline: np.ndarray) -> bool:
    """Whether an outline given clockwise, as seen from outside, runs clockwise on the screen (y down)."""
    nxt = np.roll(outline, -1)
    return float(np.sum(outline.real * nxt.imag - nxt.real * outline.imag)) > 0


def _lightened(colour: Colour, factor: float, add: float = 0.0) -> Colour:
    return (
        min(255.0, colour[0] * factor + add),
        min(255.0, colour[1] * factor + add),
        min(255.0, colour[2] * factor + add),
    )


def _underside(canvas: Canvas, body: _Body, rubber: int, along: np.ndarray, heat: Heat, warm: float) -> None:
    """Shadow gap, warm when the engine runs, and the far wheels seen below the bumpers."""
    rear, front = float(along[0]) + 0.1, float(along[-1]) - 0.1
    for end in (rear, front):
        canvas.fill(rubber, (18, 18, 20), heat.air + 6 * warm, body.rectangle(end, (-0.78, 0.78), (0.12, 0.4)))
    for axle in (0.62 * rear, 0.66 * front):
        for left in (-0.84, 0.62):
            canvas.fill(
                rubber, (24, 24, 26), heat.air + 9 * warm, body.rectangle(axle, (left, left + 0.22), (0.0, 0.55))
            )


def _strip(
    canvas: Canvas,
    body: _Body,
    i: int,
    surfaces: tuple[int, int],
    along: np.ndarray,
    half: np.ndarray,
    up: np.ndarray,
    colour: Colour,
    window: bool,
    heat: Heat,
    warm: float,
) -> None:
    paint, glass = surfaces
    ends = np.array((i, i + 1, i + 1, i))
    sides = np.array((-1, -1, 1, 1))
    outline = body.place(along[ends], half[ends] * sides, up[ends])
    if not _faces_camera(outline):
        return
    rise, run = abs(up[i + 1] - up[i]), abs(along[i + 1] - along[i])
    level = run / (run + rise + 1e-6)
    bonnet = 1.0 if i == len(along) - 3 else 0.0
    canvas.fill(
        paint, _lightened(colour, 0.62 + 0.5 * level, 10 * level), heat.air - 0.5 + (9 * bonnet + 1) * warm, outline
    )
    if window:
        margin = np.array((0.06, -0.06, -0.06, 0.06)) * np.sign(up[i + 1] - up[i])
        inset = body.place(along[ends], 0.88 * half[ends] * sides, up[ends] + margin)
        canvas.fill(glass, (44, 54, 66), heat.air - 1.0 + 2.0 * warm, inset)


def _flank(
    canvas: Canvas,
    body: _Body,
    surfaces: tuple[int, int, int],
    along: np.ndarray,
    half: np.ndarray,
    up: np.ndarray,
    side: int,
    colour: Colour,
    heat: Heat,
    warm: float,
) -> None:
    paint, glass, rubber = surfaces
    canvas.fill(paint, _lightened(colour, 0.74), heat.air - 0.3, body.place(along, side * half, up))
    sill = np.array((along[0] + 0.05, along[-1] - 0.05, along[-1] - 0.05, along[0] + 0.05))
    canvas.fill(
        paint,
        _lightened(colour, 0.5),
        heat.air + 1.5 * warm,
        body.place(sill, np.full(4, side * _HALF_WIDTH), np.array((0.28, 0.28, 0.46, 0.46))),
    )
    waist, top = float(up[3]) + 0.03, float(up[4]) - 0.08
    rear_low, rear_high, front_high, front_low = float(along[3]), float(along[4]), float(along[5]), float(along[6])
    middle = 0.5 * (rear_high + front_high) - 0.05
    for left, right, left_low, right_low in (
        (rear_high + 0.08, middle - 0.04, rear_low + 0.3, middle - 0.04),
        (middle + 0.04, front_high + 0.02, middle + 0.04, front_low - 0.22),
    ):
        pane = np.array((left_low, right_low, right, left))
        canvas.fill(
            glass,
            (50, 60, 72),
            heat.air - 0.8 + 1.5 * warm,
            body.place(pane, side * np.array((0.85, 0.85, 0.7, 0.7)), np.array((waist, waist, top, top))),
        )
    ring = np.exp(2j * np.pi * np.arange(18) / 18)
    for axle in (0.62 * float(along[0]), 0.66 * float(along[-1])):
        for radius, shade, celsius in (
            (_WHEEL + 0.07, 20, 0.5),
            (_WHEEL, 30, 1.0 + 11 * warm),
            (0.6 * _WHEEL, 142, 0.5 + 15 * warm),
        ):
            wheel = body.place(
                axle + radius * ring.real,
                np.full(18, side * (_HALF_WIDTH + 0.01)),
                np.maximum(_WHEEL + radius * ring.imag, 0.0),
            )
            canvas.fill(rubber, (shade, shade, shade + 2), heat.air + celsius, wheel)


def _end(
    canvas: Canvas,
    body: _Body,
    surfaces: tuple[int, int, int, int],
    along: float,
    end: int,
    colour: Colour,
    heat: Heat,
    warm: float,
    shape: str,
) -> None:
    """Bumper, plate and lamps of the end that faces the camera."""
    if abs(body.cos * body.car.z + body.sin * body.car.x) < 0.35 * body.car.z:
        return
    paint, off, front_on, rear_on = surfaces
    along *= 1.015
    canvas.fill(paint, _lightened(colour, 0.45), heat.air + 2 * warm, body.rectangle(along, (-0.8, 0.8), (0.3, 0.42)))
    if end > 0:
        canvas.fill(paint, (26, 26, 30), heat.air + 14 * warm, body.rectangle(along, (-0.4, 0.4), (0.5, 0.68)))
        for left in (-0.8, 0.52):
            canvas.fill(
                front_on,
                (255, 250, 232),
                heat.air + (18 if front_on != off else 0.5),
                body.rectangle(along, (left, left + 0.28), (0.6, 0.72)),
            )
    else:
        for left in (-0.82, 0.56):
            canvas.fill(
                rear_on,
                (226, 30, 24),
                heat.air + (4 if rear_on != off else 0.3),
                body.rectangle(along, (left, left + 0.26), (0.68, 0.86)),
            )
        canvas.fill(paint, (30, 30, 32), heat.air + 34 * warm, body.rectangle(along, (0.42, 0.58), (0.24, 0.34)))
    canvas.fill(
        paint,
        (232, 230, 214),
        heat.air - 0.3,
        body.rectangle(along, (-0.24, 0.24), (0.44, 0.55) if end > 0 else (0.54, 0.66)),
    )
