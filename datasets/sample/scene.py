"""What a scene is made of, in metres and free of resolution: things, road, light and weather."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tgfbench.datasets.sample.canvas import Colour

Number = TypeVar("Number", float, np.ndarray)

LIGHTINGS = ("daylight", "dusk", "night", "fog", "glare")
SETTINGS = ("street", "country road", "field")

FOCAL = 1.15
"""Focal length as a multiple of the frame's height (at 4:3)."""
EYE = 1.55
"""Height of the camera above the ground, in metres."""
LANE = 3.3
PAVEMENT = 2.8

CAR_COLOURS: dict[str, Colour] = {
    "white": (226, 228, 228),
    "silver": (162, 166, 170),
    "black": (44, 45, 50),
    "red": (176, 34, 32),
    "blue": (36, 72, 150),
    "green": (40, 96, 66),
    "yellow": (214, 172, 40),
}
COAT_COLOURS: dict[str, Colour] = {
    "dark": (46, 48, 56),
    "grey": (112, 112, 116),
    "red": (170, 40, 42),
    "blue": (44, 72, 138),
    "green": (56, 92, 60),
    "brown": (104, 78, 56),
    "white": (214, 212, 206),
    "yellow": (206, 170, 52),
}
TROUSER_COLOURS: tuple[Colour, ...] = ((38, 40, 50), (58, 66, 92), (92, 84, 74), (30, 30, 32), (120, 116, 108))
SKIN_COLOURS: tuple[Colour, ...] = ((226, 184, 158), (198, 150, 118), (150, 104, 76), (102, 70, 52))


@dataclass(frozen=True)
class Thing:
    """Something that stands on the ground at ``x`` metres to the right of the camera's axis, ``z`` metres away."""

    x: float
    z: float


@dataclass(frozen=True)
class Person(Thing):
    """A pedestrian, or the rider of a bicycle when ``view`` is ``"riding"``.

    Attributes:
        view: ``"left"`` or ``"right"`` (walking across), ``"front"``, ``"back"`` or ``"riding"``.
        stride: phase of the step, in [-1, 1].
        squeeze: foreshortening of a rider, as that of the bicycle; negative when riding to the left.
    """

    height: float
    view: str
    stride: float
    coat: str
    trousers: Colour
    skin: Colour
    hair: Colour
    backpack: bool = False
    skirt: bool = False
    squeeze: float = 1.0


@dataclass(frozen=True)
class Bicycle(Thing):
    """A bicycle; ``squeeze`` is the cosine of its heading to the image plane, ``ridden`` tells whether one rides it."""

    colour: Colour
    squeeze: float
    ridden: bool


@dataclass(frozen=True)
class Car(Thing):
    """A car; ``yaw`` is 0 when it drives away from the camera, pi when it comes towards it."""

    colour: str
    body: str
    yaw: float
    running: bool


@dataclass(frozen=True)
class Tree(Thing):
    height: float
    spread: float
    colour: Colour
    lumps: np.ndarray
    conifer: bool = False


@dataclass(frozen=True)
class Bush(Thing):
    height: float
    spread: float
    colour: Colour
    lumps: np.ndarray


@dataclass(frozen=True)
class Lamp(Thing):
    """A street lamp, ``side`` -1 or 1 being the direction in which its arm points."""

    height: float
    side: int
    lit: bool


@dataclass(frozen=True)
class Sign(Thing):
    shape: str


@dataclass(frozen=True)
class Cone(Thing):
    pass


@dataclass(frozen=True)
class Guardrail(Thing):
    """One span of a guardrail along the road, from ``z`` away to ``z + length``."""

    length: float


@dataclass(frozen=True)
class Fence(Thing):
    """One span of a wooden fence across the field, from ``x`` to ``x + length``."""

    length: float


@dataclass(frozen=True)
class Building(Thing):
    """A block whose corner nearest to the road and the camera is at (x, z).

    Attributes:
        side: -1 left of the road, 1 right of it.
        length: extent along the road, in metres.
        depth: extent away from the road, in metres.
        lit: bool (floors, 32), which windows are lit.
        roof: height of a pitched roof in metres, 0 for a flat one.
    """

    side: int
    length: float
    depth: float
    floors: int
    colour: Colour
    lit: np.ndarray
    roof: float = 0.0


@dataclass(frozen=True)
class Light:
    """A light that falls on the scene from (x, z) at ``height`` metres; ``reach`` in metres, ``power`` at its foot."""

    x: float
    z: float
    height: float
    reach: float
    power: float


@dataclass(frozen=True)
class Road:
    """Edges in metres to the right of the camera's axis; lines are drawn when ``marked``."""

    left: float
    right: float
    centre: float
    paved: bool
    marked: bool
    kerbed: bool
    crossing: float | None
    bump: float | None


@dataclass(frozen=True)
class Conditions:
    """Light and weather.

    Attributes:
        ambient: RGB of the light that reaches everything, linear, 1 being a sunlit white.
        sun: whether things cast long shadows, and in which direction: (x, z) metres per metre of height; None without.
        extinction: of the air for visible light, per metre.
        airlight: RGB of the veil that distance adds, linear.
        glare: centre of the sun in the frame as fractions of width and height, or None.
        headlights: whether the camera's own vehicle lights the road.
        lamplight: RGB tint of lamps and headlights.
        air: temperature in degrees Celsius.
        noise: standard deviation of the visible sensor noise, in grey levels.
    """

    ambient: Colour
    sun: tuple[float, float] | None
    extinction: float
    airlight: Colour
    glare: tuple[float, float] | None
    headlights: bool
    lamplight: Colour
    air: float
    noise: float


@dataclass(frozen=True)
class Scene:
    """Everything a frame is rendered from.

    Attributes:
        setting: one of ``SETTINGS``.
        lighting: one of ``LIGHTINGS``.
        horizon: height of the horizon as a fraction of the frame's height, from the top.
        vanishing: where the axis of the road meets the horizon, as a fraction of the frame's width.
        curve: bend of the road, lateral metres per square metre of distance.
        skyline: heights of the distant hills, woods or roofs, as fractions of the frame's height.
        town: whether the skyline is of roofs.
        texture: offset into the texture tile, in [0, 1).
    """

    setting: str
    lighting: str
    horizon: float
    vanishing: float
    curve: float
    skyline: np.ndarray
    town: bool
    texture: tuple[float, float]
    conditions: Conditions
    road: Road
    things: tuple[Thing, ...]
    lights: tuple[Light, ...]

    def lateral(self, across: Number, z: Number) -> Number:
        """Metres to the right of the axis of a point ``z`` away that is seen at ``across`` of the width."""
        return (across - self.vanishing) / (0.75 * FOCAL) * z - self.curve * z * z

    def across(self, x: float, z: float) -> float:
        """Fraction of the width at which the point (x, z) is seen."""
        return self.vanishing + 0.75 * FOCAL * (x / z + self.curve * z)
