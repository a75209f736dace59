"""Lights a painted scene for the visible camera: ambient light, lamps, headlights, fog, bloom and glare, noise.

Colours are squared at the start and rooted at the end (a gamma of 2), and every step in between is an addition, a
multiplication or an integer filter: these round in one way only, so the images do not depend on the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tgfbench.datasets.sample.camera import Camera
from tgfbench.datasets.sample.painting import Painting
from tgfbench.datasets.sample.scene import Light, Scene
from tgfbench.datasets.sample.sensor import gaussian_noise

_COARSE = 4
"""Light on the ground and bloom are smooth: they are computed on a grid this much coarser."""
_LIGHT_STEP = np.float32(1 / 4096)
_SQUARES = (np.arange(256, dtype=np.float32) / np.float32(255)) ** 2


@dataclass(frozen=True, eq=False)
class _Planes:
    """What all colour channels share, float32 (H, W) each.

    Attributes:
        weave: factor of the texture.
        ambient: share of the ambient light that arrives.
        lamps: artificial light that arrives, or None without any.
        glow: light given off, as a multiple of the colour.
        clear: share of the light that the air lets through to the camera.
    """

    weave: np.ndarray
    ambient: np.ndarray
    lamps: np.ndarray | None
    glow: np.ndarray
    clear: np.ndarray


def render_visible(painting: Painting, texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Render the visible image.

    Args:
        painting: the drawn scene.
        texture: uint8 (H, W) around 128.
        rng: source of the sensor noise.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    conditions = painting.scene.conditions
    planes = _planes(painting, texture)
    channels = []
    for channel in range(3):
        light = planes.ambient * np.float32(conditions.ambient[channel])
        if planes.lamps is not None:
            light += planes.lamps * np.float32(conditions.lamplight[channel])
        light += planes.glow
        light *= cv2.LUT(cv2.extractChannel(painting.canvas.paint, channel), _SQUARES)
        light *= planes.weave
        airlight = np.float32(conditions.airlight[channel])
        light -= airlight
        light *= planes.clear
        light += airlight
        channels.append(light)
    _add_bloom(painting, channels, planes.glow)
    grey_levels = [_expose(light, rng, conditions.noise) for light in channels]
    return cv2.merge(grey_levels)


def _expose(light: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    np.clip(light, 0, 1, out=light)
    np.sqrt(light, out=light)
    light *= 255
    light += gaussian_noise(rng, light.shape, noise)
    light += np.float32(0.5)
    return np.clip(light, 0, 255, out=light).astype(np.uint8)


def _planes(painting: Painting, texture: np.ndarray) -> _Planes:
    scene, conditions = painting.scene, painting.scene.conditions
    emission, ground = painting.table("emission"), painting.table("ground")
    on_ground = painting.spread(ground.astype(np.uint8)).view(np.bool_)

    weave = texture.astype(np.float32)
    weave -= 128
    weave *= painting.spread(painting.table("grain") * np.float32(1 / 128))
    weave += 1
    weave *= weave

    shade = painting.shade.astype(np.float32)
    shade *= np.float32(1 / 255)
    unlit = (emission == 0).astype(np.float32)
    ambient = painting.spread(unlit)
    np.copyto(ambient, shade, where=on_ground)
    lamps = None
    if scene.lights or conditions.headlights:
        lamps = painting.spread(_lamplight_on_things(painting) * unlit)
        np.copyto(lamps, _lamplight_on_ground(painting) * shade, where=on_ground)

    through = np.exp(-conditions.extinction * painting.table("z").astype(np.float64))
    through[emission > 1] **= 0.5  # lamps outshine the air in front of them
    if scene.lighting != "fog":
        through[0] = 1.0  # the sky's colour already is that of the air
    clear = painting.spread(through.astype(np.float32))
    by_row = np.exp(-conditions.extinction * painting.camera.row_depth()).astype(np.float32)
    np.copyto(clear, by_row[:, None], where=on_ground)
    return _Planes(weave, ambient, lamps, painting.spread(emission), clear)


def _lamplight_on_things(painting: Painting) -> np.ndarray:
    """Artificial light on each surface that stands upright, as a table."""
    x, z = painting.table("x").astype(np.float64), np.minimum(painting.table("z"), 200).astype(np.float64)
    return _lamplight(painting.scene, x, z, 1.2).astype(np.float32)


def _lamplight_on_ground(painting: Painting) -> np.ndarray:
    camera, scene = painting.camera, painting.scene
    width, height = -(-camera.width // _COARSE), -(-camera.height // _COARSE)
    rows = (np.arange(camera.height) + 0.5) / camera.height
    z = np.interp((np.arange(height) + 0.5) / height, rows, np.minimum(camera.row_depth(), 200.0))[:, None]
    x = scene.lateral((np.arange(width) + 0.5)[None] / width, z)
    return _enlarged(_lamplight(scene, x, z, 0.0), camera.width, camera.height)


def _enlarged(coarse: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bring light from the coarse grid to the frame, float32 (height, width)."""
    steps = np.rint(coarse / _LIGHT_STEP).clip(0, 65535).astype(np.uint16)
    fine = cv2.resize(steps, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.float32)
    fine *= _LIGHT_STEP
    return fine


def _lamplight(scene: Scene, x: np.ndarray, z: np.ndarray, up: float) -> np.ndarray:
    """Artificial light at points ``up`` metres above the ground."""
    total = np.zeros(np.broadcast(x, z).shape)
    for light in scene.lights:
        total += _pool(light, x, z, up)
    if scene.conditions.headlights:
        total += _headlights(x, z)
    return total


def _pool(light: Light, x: np.ndarray, z: np.ndarray, up: float) -> np.ndarray:
    """Light of a lamp: even below it, then falling with the fourth power of the distance (square law and slant)."""
    near = light.reach**2 + max(0.5, light.height - up) ** 2
    spread = near / ((x - light.x) ** 2 + (z - light.z) ** 2 + near)
    return light.power * spread * spread


def _headlights(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Low beam of the camera's own vehicle: a cone that opens with distance and fades."""
    off_axis = np.clip(1 - (x / (1.0 + 0.2 * z)) ** 2, 0, 1)
    fade = 1 / (1 + (z / 11.0) ** 4)
    return 0.34 * off_axis * off_axis * fade * np.clip((z - 1.5) / 3.0, 0.25, 1)


def _add_bloom(painting: Painting, channels: list[np.ndarray], glow: np.ndarray) -> None:
    """Scatter in the lens and the air: halos around lamps, and the veil of a low sun."""
    camera, conditions = painting.camera, painting.scene.conditions
    height, width = glow.shape
    small = -(-width // _COARSE), -(-height // _COARSE)
    lamps = np.where(glow > 1, np.float32(2048), np.float32(0)) if (glow > 1).any() else None
    sun = _sun(camera, conditions.glare, small) if conditions.glare else None
    if lamps is None and sun is None:
        return
    for light, tint in zip(channels, (1.0, 0.92, 0.76), strict=True):
        veil = np.zeros(small[::-1]) if sun is None else tint * sun
        if lamps is not None:
            source = np.minimum(light * lamps, 65535).astype(np.uint16)
            source = cv2.resize(source, small, interpolation=cv2.INTER_AREA)
            for spread, weight in ((0.010, 0.9), (0.045, 0.7)):
                sigma = max(0.5, spread * camera.unit / _COARSE)
                veil += cv2.GaussianBlur(source, (0, 0), sigma) * (weight / 2048)
        np.add(light, _enlarged(veil, width, height), out=light)


def _sun(camera: Camera, glare: tuple[float, float], small: tuple[int, int]) -> np.ndarray:
    """Light scattered around the sun, on the coarse grid."""
    u = ((np.arange(small[0]) + 0.5) / small[0] - glare[0]) * camera.width / camera.unit
    v = ((np.arange(small[1]) + 0.5) / small[1] - glare[1]) * camera.height / camera.unit
    distance = u[None] ** 2 + v[:, None] ** 2
    return 3.0 / (1 + distance / 0.0012) + 1.2 / (1 + distance / 0.032)
