"""Draws what a scene stands in: sky, skyline, ground, road and buildings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tgfbench.datasets.sample.camera import NEAREST, Camera
from tgfbench.datasets.sample.canvas import Canvas, Colour, Surface, polygon, temperature_code
from tgfbench.datasets.sample.heat import Heat
from tgfbench.datasets.sample.scene import LANE, Building, Road, Scene
from tgfbench.datasets.sample.texture import sky_noise

KERB_LABEL, BUMP_LABEL = 4, 8
WINDOW_GLOW = 0.75
"""Emission of lit windows."""

_FARTHEST = 160.0
_ALONG = 1.0 / np.linspace(1.0 / _FARTHEST, 1.0 / NEAREST, 48)
_CORNERS = np.array(((0.0, 1.0, 1.0, 0.0), (0.0, 0.0, 1.0, 1.0)))
_ASPHALT: Colour = (104, 104, 108)
_PAVING: Colour = (142, 136, 128)
_KERB: Colour = (178, 176, 170)
_GRASS: Colour = (92, 112, 56)
_STUBBLE: Colour = (150, 138, 84)
_TRACK: Colour = (142, 118, 88)
_PAINT: Colour = (226, 226, 220)
_SKY: dict[str, tuple[Colour, Colour]] = {
    "daylight": ((96, 150, 214), (196, 216, 232)),
    "dusk": ((58, 66, 104), (196, 128, 92)),
    "night": ((9, 11, 18), (30, 27, 30)),
    "fog": ((196, 200, 204), (186, 190, 194)),
    "glare": ((150, 172, 200), (240, 220, 176)),
}
_CLOUD: dict[str, Colour] = {"daylight": (240, 242, 244), "dusk": (150, 104, 104), "glare": (246, 236, 214)}


def draw_sky(canvas: Canvas, camera: Camera, scene: Scene, heat: Heat) -> None:
    """Draw the sky: a gradient with clouds, which are warmer than clear sky."""
    sky = canvas.add(Surface(-1, emission=1.0, emissivity=1.0, grain=0.0))
    rows = max(1, min(camera.height, int(camera.height * scene.horizon) + 1))
    top, low = (np.array(colour) for colour in _SKY[scene.lighting])
    upwards = np.linspace(1.0, 0.0, rows)[:, None]
    gradient = np.empty((rows, 4))
    gradient[:, :3] = low + (top - low) * np.sqrt(upwards)
    celsius = np.interp(
        upwards, (0.0, 0.25, 1.0), (heat.sky_at_horizon, 0.5 * (heat.sky + heat.sky_at_horizon), heat.sky)
    )
    gradient[:, 3:] = temperature_code(celsius)
    canvas.surface[:rows] = sky
    cloud = _CLOUD.get(scene.lighting)
    if cloud is None:
        canvas.paint[:rows] = np.rint(gradient).astype(np.uint8)[:, None]
        return
    cover = sky_noise(scene, camera.width, rows)
    for channel, value in enumerate((*cloud, temperature_code(heat.air - 11.0))):
        ramp = gradient[:, channel, None].astype(np.float32)
        canvas.paint[:rows, :, channel] = ramp + cover * (np.float32(value) - ramp)


def _skyline(canvas: Canvas, camera: Camera, scene: Scene, heat: Heat) -> None:
    surface = canvas.add(Surface(-1, z=140.0, x=0.0, grain=0.35))
    heights = scene.skyline * camera.unit
    horizon = camera.height * scene.horizon
    if scene.town:
        edges = np.repeat(np.linspace(-1, camera.width + 1, len(heights) + 1), 2)[1:-1]
        tops = np.repeat(heights, 2)
        colour: Colour = (122, 120, 124)
    else:
        edges = np.linspace(-1, camera.width + 1, 4 * len(heights))
        tops = np.interp(np.linspace(0, 1, len(edges)), np.linspace(0, 1, len(heights)), heights)
        tops = tops + 0.006 * camera.unit * np.abs(np.sin(np.arange(len(edges)) * 2.4))
        colour = (72, 92, 66)
    outline = np.concatenate(
        [edges + 1j * (horizon - tops), [camera.width + 1j * (horizon + 2), -1 + 1j * (horizon + 2)]]
    )
    canvas.fill(surface, colour, heat.air - 0.5, outline)


def _strip(
    camera: Camera, left: float, right: float, nearest: float = NEAREST, farthest: float = _FARTHEST
) -> np.ndarray:
    """Outline of a ground strip along the road between two lateral positions."""
    z = np.clip(_ALONG, nearest, farthest)
    return np.concatenate([camera.ground(left, z), camera.ground(right, z)[::-1]])


def draw_ground(canvas: Canvas, camera: Camera, scene: Scene, heat: Heat) -> None:
    """Draw skyline, ground and road; the things that stand on it come after."""
    _skyline(canvas, camera, scene, heat)
    field, street, road = scene.setting == "field", scene.setting == "street", scene.road
    first = int(np.ceil(camera.height * scene.horizon))
    base: Colour = _PAVING if street else _GRASS
    if field and scene.texture[0] < 0.45:
        base = _STUBBLE
    ground = canvas.add(Surface(-1, ground=True, grain=0.22 if street else 0.5))
    width, height = camera.width, camera.height
    corners = polygon((-1, first), (width + 1, first), (width + 1, height + 1), (-1, height + 1))
    canvas.fill(ground, base, heat.pavement if street else heat.grass, corners)
    if not road.paved:
        track = canvas.add(Surface(-1, ground=True, grain=0.5))
        for left in (road.left, road.right - 0.9):
            canvas.fill(track, _TRACK, heat.soil, _strip(camera, left, left + 0.9))
        return
    if road.kerbed:
        kerb = canvas.add(Surface(-1, ground=True, grain=0.15, label=KERB_LABEL))
        for edge in (road.left - 0.28, road.right):
            canvas.fill(kerb, _KERB, heat.pavement - 0.5, _strip(camera, edge, edge + 0.28))
    asphalt = canvas.add(Surface(-1, ground=True, grain=0.3))
    canvas.fill(asphalt, _ASPHALT, heat.road, _strip(camera, road.left, road.right))
    _markings(canvas, camera, road, heat)


def _markings(canvas: Canvas, camera: Camera, road: Road, heat: Heat) -> None:
    """Road paint has nearly the temperature of the asphalt: infrared hardly shows it."""
    paint = canvas.add(Surface(-1, ground=True, grain=0.12))
    warmth = heat.road - 0.3
    for edge in (road.centre - LANE, road.centre + LANE):
        canvas.fill(paint, _PAINT, warmth, _strip(camera, edge - 0.07, edge + 0.07))
    starts = np.arange(1.5, 60, 6.0)
    if road.crossing is not None:
        starts = starts[(starts > road.crossing + 4.2) | (starts + 2.6 < road.crossing)]
    canvas.fill(paint, _PAINT, warmth, _quads(camera, road.centre - 0.07, 0.14, starts, 2.6))
    if road.crossing is not None:
        bars = np.arange(road.left + 0.4, road.right - 0.4, 0.95)
        canvas.fill(paint, _PAINT, warmth, _quads(camera, bars, 0.5, road.crossing, 3.2))
    if road.bump is not None:
        bump = canvas.add(Surface(-1, ground=True, grain=0.1, label=BUMP_LABEL))
        bars = np.arange(road.left, road.right, 0.6)
        canvas.fill(
            bump, (40, 40, 42), heat.road + 0.8, _quads(camera, road.left, road.right - road.left, road.bump, 0.5)
        )
        canvas.fill(bump, (206, 168, 40), heat.road + 0.6, _quads(camera, bars, 0.3, road.bump, 0.5))


def _quads(camera: Camera, left: ArrayLike, width: float, near: ArrayLike, length: float) -> np.ndarray:
    """Outlines (N, 4) of rectangles on the ground."""
    left, near = np.broadcast_arrays(np.atleast_1d(left), np.atleast_1d(near))
    return camera.ground(left[:, None] + width * _CORNERS[0], near[:, None] + length * _CORNERS[1])


_FLOOR = 3.1


def draw_building(canvas: Canvas, camera: Camera, building: Building, index: int, heat: Heat) -> None:
    """Draw the wall along the road, the wall that faces the camera, and their windows."""
    b = building
    height = b.floors * _FLOOR + 0.6
    near, far = b.z, b.z + b.length
    middle = 0.5 * (near + far)
    red, green, blue = b.colour
    outer = b.x + b.side * b.depth
    for facing, shade in ((False, 0.8), (True, 0.95)):
        z = near if facing else middle
        wall = canvas.add(Surface(index, x=b.x, z=z, grain=0.18, emissivity=0.93))
        dark = canvas.add(Surface(index, x=b.x, z=z, grain=0.05, emissivity=0.8))
        bright = canvas.add(Surface(index, x=b.x, z=z, grain=0.1, emissivity=0.85, emission=WINDOW_GLOW))
        colour = (red * shade, green * shade, blue * shade)
        ends = ((b.x, near), (outer, near)) if facing else ((b.x, near), (b.x, far))
        if facing and b.roof:
            _gable(canvas, camera, wall, b, outer, height, heat)
        extent = b.depth if facing else b.length
        canvas.fill(wall, colour, heat.wall, _panels(camera, ends, 0.0, 1.0, 0.0, height))
        canvas.fill(
            wall, (red * 0.5, green * 0.5, blue * 0.5), heat.wall - 1, _panels(camera, ends, 0.0, 1.0, 0.0, 0.5)
        )
        columns = max(2, int(extent / 2.6))
        floor, column = (index.ravel() for index in np.indices((b.floors, columns)))
        starts, lows = (column + 0.22) / columns, floor * _FLOOR + np.where(floor, 0.9, 0.5)
        panes = _panels(camera, ends, starts, 0.56 / columns, lows, 1.6)
        lit = b.lit[floor, column + (16 if facing else 0)]
        # Windows mirror the cold sky or show a warm room: a few degrees either way, while by eye lit ones stand out.
        canvas.fill(dark, (52, 58, 68), heat.wall - 1.0, panes[~lit])
        if lit.any():
            canvas.fill(bright, (255, 214, 140), heat.wall + 2.5, panes[lit])
        if not b.roof:
            canvas.fill(
                wall,
                (red * 0.62, green * 0.62, blue * 0.62),
                heat.wall - 2,
                _panels(camera, ends, 0.0, 1.0, height - 0.3, 0.3),
            )


def _gable(canvas: Canvas, camera: Camera, surface: int, b: Building, outer: float, height: float, heat: Heat) -> None:
    """A pitched roof whose ridge runs across the view."""
    ridge = b.z + 0.5 * b.length
    slope = camera.ground(
        (b.x, outer, outer, b.x), (b.z, b.z, ridge, ridge), (height, height, height + b.roof, height + b.roof)
    )
    canvas.fill(surface, (124, 66, 52), heat.wall - 3.0, slope)
    side = camera.ground((b.x,) * 3, (b.z, b.z + b.length, ridge), (height, height, height + b.roof))
    red, green, blue = b.colour
    canvas.fill(surface, (0.75 * red, 0.75 * green, 0.75 * blue), heat.wall, side)


def _panels(
    camera: Camera,
    ends: tuple[tuple[float, float], tuple[float, float]],
    start: ArrayLike,
    share: float,
    low: ArrayLike,
    height: float,
) -> np.ndarray:
    """Outlines (N, 4) of rectangles on a wall between two ground positions.

    Args:
        camera: places them.
        ends: of the wall, (x, z) each.
        start: where each begins along the wall, as a fraction of its length.
        share: of the wall's length that each takes.
        low: height of the lower edge of each, in metres.
        height: of each, in metres.
    """
    (x0, z0), (x1, z1) = ends
    along = np.atleast_1d(start)[:, None] + share * _CORNERS[0]
    return camera.ground(
        x0 + along * (x1 - x0), z0 + along * (z1 - z0), np.atleast_1d(low)[:, None] + height * _CORNERS[1]
    )
