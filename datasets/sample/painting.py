"""Draws a whole scene once: colours, temperatures, surfaces, shadows and labels, from which both images are lit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tgfbench.datasets.sample import figures
from tgfbench.datasets.sample.backdrop import draw_building, draw_ground, draw_sky
from tgfbench.datasets.sample.camera import Camera
from tgfbench.datasets.sample.canvas import SUBPIXEL_BITS, Canvas, fixed_point
from tgfbench.datasets.sample.heat import Heat, heat_of
from tgfbench.datasets.sample.scene import (
    Bicycle,
    Building,
    Bush,
    Car,
    Cone,
    Fence,
    Guardrail,
    Lamp,
    Person,
    Scene,
    Sign,
    Thing,
    Tree,
)
from tgfbench.datasets.sample.vehicles import draw_car

SLIVER_PIXELS = 12
SLIVER_SHARE = 0.12
"""A labelled thing of which fewer pixels, or a smaller share, remain unhidden is dropped from the labels."""

_LABELLED = (Person, Bicycle, Car, Cone)


@dataclass(frozen=True, eq=False)
class Painting:
    """A drawn scene, not yet lit.

    Attributes:
        scene: what is drawn.
        camera: how.
        heat: temperatures of its materials.
        canvas: colours, temperature codes and the surface map.
        shade: uint8 (H, W), share of the light that reaches the ground, times 255.
        visible_pixels: int64 (things,), pixels of each thing that nothing hides.
        dropped: indices of the labelled things of which only a sliver is left.
    """

    scene: Scene
    camera: Camera
    heat: Heat
    canvas: Canvas
    shade: np.ndarray
    visible_pixels: np.ndarray
    dropped: frozenset[int]

    def table(self, attribute: str) -> np.ndarray:
        """One attribute of all surfaces as a look-up table, float32 (256,)."""
        table = np.zeros(256, np.float32)
        table[: len(self.canvas.surfaces)] = [getattr(surface, attribute) for surface in self.canvas.surfaces]
        return table

    def spread(self, table: np.ndarray) -> np.ndarray:
        """Look the surface of every pixel up: (H, W) of the table's type."""
        return cv2.LUT(self.canvas.surface, table)

    def labels(self) -> np.ndarray:
        """Segmentation map, uint8 (H, W); things of which only a sliver is left are not labelled."""
        table = np.zeros(256, np.uint8)
        table[: len(self.canvas.surfaces)] = [s.label * (s.thing not in self.dropped) for s in self.canvas.surfaces]
        return self.spread(table)

    def thing_mask(self, index: int) -> np.ndarray:
        """Boolean (H, W): where a thing is seen."""
        return self.spread((self.table("thing") == index).astype(np.uint8)) > 0


def paint(scene: Scene, width: int, height: int) -> Painting:
    """Draw a scene at a size."""
    camera, heat, canvas = Camera(scene, width, height), heat_of(scene), Canvas(width, height)
    draw_sky(canvas, camera, scene, heat)
    sky = canvas.paint[: int(np.ceil(camera.height * scene.horizon))].copy()
    draw_ground(canvas, camera, scene, heat)
    areas = {}
    for index in _far_to_near(scene):
        thing = scene.things[index]
        first = len(canvas.surfaces)
        _draw(canvas, camera, scene, thing, index, heat)
        if isinstance(thing, _LABELLED):
            areas[index] = int(np.count_nonzero(canvas.surface >= first))
    if scene.lighting in ("night", "dusk"):
        _sharpen_sky(canvas, sky)
    counts = cv2.calcHist([canvas.surface], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    visible = np.zeros(len(scene.things), np.int64)
    for surface, count in zip(canvas.surfaces, counts, strict=False):
        if surface.thing >= 0:
            visible[surface.thing] += count
    dropped = frozenset(
        index for index, area in areas.items() if visible[index] < max(SLIVER_PIXELS, SLIVER_SHARE * area)
    )
    return Painting(scene, camera, heat, canvas, _shadows(scene, camera), visible, dropped)


def _sharpen_sky(canvas: Canvas, sky: np.ndarray) -> None:
    """Undo antialiasing on the sky's side of an edge: unlit colours mixed into it would shine in the dark."""
    above = slice(0, len(sky))
    np.copyto(canvas.paint.view(np.uint32)[above, :, 0], sky.view(np.uint32)[..., 0], where=canvas.surface[above] == 0)


def _far_to_near(scene: Scene) -> list[int]:
    """Painter's order: buildings line the road, so nothing on it is behind them."""
    things = scene.things
    return sorted(range(len(things)), key=lambda i: (not isinstance(things[i], Building), -_depth(things[i])))


def _depth(thing: Thing) -> float:
    # A rider sits on the bicycle: drawn just after it.
    return thing.z - (0.01 if isinstance(thing, Person) and thing.view == "riding" else 0.0)


def _draw(canvas: Canvas, camera: Camera, scene: Scene, thing: Thing, index: int, heat: Heat) -> None:
    match thing:
        case Person():
            figures.draw_person(canvas, camera, thing, index, heat)
        case Bicycle():
            figures.draw_bicycle(canvas, camera, thing, index, heat)
        case Car():
            draw_car(
                canvas, camera, thing, index, heat, lit=thing.running and scene.lighting in ("night", "dusk", "fog")
            )
        case Tree():
            figures.draw_tree(canvas, camera, thing, index, heat)
        case Bush():
            figures.draw_bush(canvas, camera, thing, index, heat)
        case Lamp():
            figures.draw_lamp(canvas, camera, thing, index, heat, scene.conditions.lamplight)
        case Sign():
            figures.draw_sign(canvas, camera, thing, index, heat)
        case Cone():
            figures.draw_cone(canvas, camera, thing, index, heat)
        case Guardrail():
            figures.draw_guardrail(canvas, camera, thing, index, heat)
        case Fence():
            figures.draw_fence(canvas, camera, thing, index, heat)
        case Building():
            draw_building(canvas, camera, thing, index, heat)


_OVAL = np.exp(2j * np.pi * np.arange(16) / 16)


def _shadows(scene: Scene, camera: Camera) -> np.ndarray:
    """Share of the light that reaches the ground: contact shadows always, cast shadows under a sun."""
    shade = np.full((camera.height, camera.width), 255, np.uint8)
    sun = scene.conditions.sun
    soft, hard = [], []
    for thing in scene.things:
        match thing:
            case Car():
                sin, cos = np.sin(thing.yaw), np.cos(thing.yaw)
                along, across = np.array((-2.2, 2.2, 2.2, -2.2)), np.array((-1, -1, 1, 1)) * 0.95
                dx, dz, reach = along * sin + across * cos, along * cos - across * sin, 1.2
                hard.append(camera.solid(thing.x, thing.z, dx, dz, np.zeros(4)))
                if sun:
                    soft.append(
                        camera.solid(
                            thing.x + 0.5 * reach * sun[0],
                            thing.z + 0.5 * reach * sun[1],
                            1.1 * dx,
                            1.1 * dz,
                            np.zeros(4),
                        )
                    )
            case Person():
                hard.append(_oval(camera, thing.x, thing.z, 0.3, 0.25))
                if sun:
                    soft.append(_cast(camera, thing, thing.height, 0.17, sun))
            case Bicycle():
                hard.append(_oval(camera, thing.x, thing.z, 0.7 * abs(thing.squeeze), 0.12))
            case Tree() | Bush():
                hard.append(_oval(camera, thing.x, thing.z, 0.7 * thing.spread, 0.6 * thing.spread))
                if sun:
                    top = 0.6 * thing.height
                    soft.append(
                        _oval(
                            camera,
                            thing.x + sun[0] * top,
                            thing.z + sun[1] * top,
                            1.2 * thing.spread,
                            1.2 * thing.spread,
                        )
                    )
            case Lamp() | Sign():
                if sun:
                    soft.append(_cast(camera, thing, 3.0, 0.07, sun))
    for outlines, value in ((soft, 95), (hard, 120 if sun is None else 70)):
        for outline in outlines:
            cv2.fillPoly(shade, [fixed_point(outline)], value, cv2.LINE_AA, SUBPIXEL_BITS)
    size = 2 * int(camera.unit / 120) + 1
    return cv2.blur(shade, (2 * size + 1, size)) if size > 1 else shade


def _oval(camera: Camera, x: float, z: float, half_width: float, half_depth: float) -> np.ndarray:
    return camera.ground(x + half_width * _OVAL.real, z + half_depth * _OVAL.imag)


def _cast(camera: Camera, thing: Thing, height: float, half_width: float, sun: tuple[float, float]) -> np.ndarray:
    """The shadow of a pole or a person: a band on the ground away from the sun."""
    xs = np.array((-half_width, half_width, half_width, -half_width))
    far = np.array((0.0, 0.0, height, height))
    return camera.ground(thing.x + xs + sun[0] * far, thing.z + sun[1] * far)
