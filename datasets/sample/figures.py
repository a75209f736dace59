"""Draws people, bicycles, vegetation and street furniture: flat figures that face the camera, in metres."""

from __future__ import annotations

import numpy as np

from tgfbench.datasets.sample.camera import Camera
from tgfbench.datasets.sample.canvas import Canvas, Colour, Surface, capsule, ellipse, polygon
from tgfbench.datasets.sample.heat import Heat
from tgfbench.datasets.sample.scene import (
    COAT_COLOURS,
    Bicycle,
    Bush,
    Cone,
    Fence,
    Guardrail,
    Lamp,
    Person,
    Sign,
    Tree,
)

PERSON_LABEL, BIKE_LABEL, GUARDRAIL_LABEL, CONE_LABEL = 2, 3, 6, 7
LAMP_GLOW = 7.0
"""Emission of a lit street lamp."""

_FACE, _COAT, _TROUSERS, _HAIR = 0.86, 0.6, 0.55, 0.66
"""Warmth of the parts of a body, from 0 (air) to 1 (core)."""


def _shaded(colour: Colour, factor: float) -> Colour:
    return (min(255.0, colour[0] * factor), min(255.0, colour[1] * factor), min(255.0, colour[2] * factor))


def _limb(root: complex, angle: float, bend: float, upper: float, lower: float) -> tuple[complex, complex]:
    """Joint and end of a two-part limb that hangs from ``root``; angles in radians from straight down."""
    joint = root + upper * complex(np.sin(angle), -np.cos(angle))
    return joint, joint + lower * complex(np.sin(angle + bend), -np.cos(angle + bend))


def draw_person(canvas: Canvas, camera: Camera, person: Person, index: int, heat: Heat) -> None:
    """Draw a person from jointed limbs; far limbs first."""
    surface = canvas.add(Surface(index, x=person.x, z=person.z, emissivity=0.97, grain=0.12, label=PERSON_LABEL))
    parts = _rider(person) if person.view == "riding" else _walker(person)
    coat, trousers = COAT_COLOURS[person.coat], person.trousers
    looks: dict[str, tuple[Colour, float]] = {
        "coat": (coat, _COAT),
        "far coat": (_shaded(coat, 0.72), _COAT - 0.04),
        "light coat": (_shaded(coat, 1.18), _COAT + 0.06),
        "trousers": (trousers, _TROUSERS),
        "far trousers": (_shaded(trousers, 0.72), _TROUSERS - 0.04),
        "shoe": ((34, 30, 30), 0.3),
        "skin": (person.skin, _FACE),
        "hair": (person.hair, _HAIR),
        "bag": ((70, 56, 48), 0.22),
    }
    size = person.height / 1.75
    for look, outline in parts:
        colour, warmth = looks[look]
        canvas.fill(surface, colour, heat.body(warmth), camera.upright(person.x, person.z, outline * size))


def _mirrored(parts: list[tuple[str, np.ndarray]], factor: float) -> list[tuple[str, np.ndarray]]:
    return [(look, factor * outline.real + 1j * outline.imag) for look, outline in parts]


def _walker(person: Person) -> list[tuple[str, np.ndarray]]:
    """Parts of a pedestrian of 1.75 m, foot at 0."""
    if person.view in ("left", "right"):
        return _mirrored(_walker_from_side(person), 1.0 if person.view == "right" else -1.0)
    return _walker_along_view(person)


def _walker_from_side(person: Person) -> list[tuple[str, np.ndarray]]:
    swing = 0.5 * person.stride
    hip, shoulder = 0.9j, 0.03 + 1.4j
    legs = [_limb(hip, swing, -0.12, 0.44, 0.43), _limb(hip, -0.8 * swing, -0.35 - 0.25 * abs(swing), 0.44, 0.43)]
    arms = [_limb(shoulder, -0.9 * swing, 0.45, 0.29, 0.26), _limb(shoulder, 0.8 * swing, 0.35, 0.29, 0.26)]
    drop = 1j * (min(leg[1].imag for leg in legs) - 0.06)
    near_leg, far_leg = (_leg_from_side(hip, *legs[i], look) for i, look in enumerate(("trousers", "far trousers")))
    far_arm, near_arm = (_arm_from_side(shoulder, *arms[i], look) for i, look in enumerate(("far coat", "coat")))
    upper = [(0.12, 1.38), (0.05, 1.48), (-0.06, 1.47), (-0.13, 1.36)]
    if person.skirt:
        torso = polygon((-0.2, 0.55), (0.2, 0.55), (0.12, 1.0), *upper, (-0.1, 1.0))
    else:
        torso = polygon((-0.12, 0.82), (0.11, 0.82), (0.13, 1.1), *upper, (-0.12, 1.1))
    body = [("coat", torso), ("skin", capsule(0.01 + 1.45j, 0.03 + 1.55j, 0.05, 0.05))]
    if person.backpack:
        body.append(("bag", ellipse(-0.19 + 1.2j, 0.1, 0.2)))
    head = [("skin", ellipse(0.05 + 1.63j, 0.092, 0.12)), ("hair", _cap(0.02 + 1.66j, 0.1, 0.1))]
    everything = [*far_leg, *far_arm, *near_leg, *body, *head, *near_arm]
    return [(look, outline - drop) for look, outline in everything]


def _leg_from_side(hip: complex, knee: complex, foot: complex, look: str) -> list[tuple[str, np.ndarray]]:
    return [
        (look, capsule(hip, knee, 0.095, 0.07)),
        (look, capsule(knee, foot, 0.068, 0.048)),
        ("shoe", capsule(foot - 0.03, foot + 0.15 - 0.02j, 0.055, 0.04)),
    ]


def _arm_from_side(shoulder: complex, elbow: complex, hand: complex, look: str) -> list[tuple[str, np.ndarray]]:
    return [
        (look, capsule(shoulder, elbow, 0.062, 0.05)),
        (look, capsule(elbow, hand, 0.048, 0.036)),
        ("skin", ellipse(hand, 0.042, 0.05)),
    ]


def _walker_along_view(person: Person) -> list[tuple[str, np.ndarray]]:
    lift = 0.07 * person.stride
    front = person.view == "front"
    parts: list[tuple[str, np.ndarray]] = []
    for side in (-1, 1):
        raised = max(0.0, side * lift)
        hip, knee, foot = (
            0.085 * side + 0.88j,
            0.095 * side + 1j * (0.47 + raised),
            0.09 * side + 1j * (0.07 + 1.6 * raised),
        )
        far = "far " if raised else ""
        parts += [
            (far + "trousers", capsule(hip, knee, 0.095, 0.072)),
            (far + "trousers", capsule(knee, foot, 0.07, 0.05)),
            ("shoe", ellipse(foot - 0.01j, 0.055, 0.06)),
        ]
    arms = []
    for side in (-1, 1):
        shoulder, sway = 0.2 * side + 1.38j, -0.05 * side * person.stride
        elbow, hand = 0.255 * side + 1j * (1.12 + sway), 0.25 * side + 1j * (0.87 + 2 * sway)
        arms += [
            ("far coat", capsule(shoulder, elbow, 0.066, 0.052)),
            ("far coat", capsule(elbow, hand, 0.05, 0.038)),
            ("skin", ellipse(hand, 0.042, 0.052)),
        ]
    torso = [(-0.17, 0.8), (0.17, 0.8), (0.16, 1.1), (0.22, 1.36), (0.18, 1.45), (0.06, 1.49)]
    if person.skirt:
        torso[:2] = [(-0.25, 0.52), (0.25, 0.52)]
    outline = torso[:2] + torso[2:] + [(-x, y) for x, y in torso[:1:-1]]
    parts += [*arms, ("coat", polygon(*outline)), ("skin", capsule(1.45j, 1.55j, 0.055, 0.055))]
    if front:
        parts += [("light coat", capsule(0.82j, 1.4j, 0.018, 0.03))]
    elif person.backpack:
        parts += [("bag", ellipse(1.18j, 0.16, 0.22))]
    parts += [("skin", ellipse(1.63j, 0.09, 0.12))]
    hair = _cap(1.67j, 0.098, 0.085) if front else ellipse(1.65j, 0.095, 0.11)
    return [*parts, ("hair", hair)]


def _cap(centre: complex, across: float, up: float) -> np.ndarray:
    """The upper two thirds of an ellipse, as hair over a face that looks sideways or ahead."""
    outline = ellipse(centre, across, up)
    return outline.real + 1j * np.maximum(outline.imag, centre.imag - 0.25 * up)


_WHEEL, _AXLE = 0.34, 0.53


def _rider(person: Person) -> list[tuple[str, np.ndarray]]:
    """Parts of a cyclist who rides to the right on the bicycle of ``draw_bicycle``."""
    hip, shoulder, bar = -0.18 + 0.98j, 0.13 + 1.47j, 0.42 + 1.03j
    pedals = 0.16 * complex(np.cos(2 * person.stride), np.sin(2 * person.stride))
    parts = []
    for far, foot in (("far ", 0.3j - pedals), ("", 0.3j + pedals)):
        reach = foot - hip
        knee = hip + 0.5 * reach + 0.2 * complex(-reach.imag, reach.real) / abs(reach) * (1 if reach.imag < 0 else -1)
        parts += [
            (far + "trousers", capsule(hip, knee, 0.1, 0.07)),
            (far + "trousers", capsule(knee, foot, 0.068, 0.045)),
            ("shoe", capsule(foot - 0.05, foot + 0.1, 0.05, 0.04)),
        ]
    elbow = 0.5 * (shoulder + bar) - 0.05j
    torso = polygon((-0.3, 0.95), (-0.08, 0.92), (0.12, 1.2), (0.24, 1.44), (0.13, 1.57), (0.0, 1.5), (-0.2, 1.2))
    parts += [("coat", torso), ("skin", capsule(0.15 + 1.52j, 0.22 + 1.62j, 0.05, 0.05))]
    if person.backpack:
        parts.append(("bag", ellipse(-0.16 + 1.36j, 0.1, 0.18)))
    parts += [("skin", ellipse(0.25 + 1.71j, 0.092, 0.12)), ("hair", _cap(0.22 + 1.74j, 0.1, 0.1))]
    parts += [("light coat", capsule(shoulder, elbow, 0.06, 0.05)), ("light coat", capsule(elbow, bar, 0.048, 0.036))]
    parts += [("skin", ellipse(bar, 0.042, 0.042))]
    # A rider seen obliquely is foreshortened like the bicycle, but never thinner than a body.
    across = np.sign(person.squeeze) * max(abs(person.squeeze), 0.6)
    return _mirrored(parts, float(across))


def draw_bicycle(canvas: Canvas, camera: Camera, bicycle: Bicycle, index: int, heat: Heat) -> None:
    """Draw two wheels with spokes, a frame, saddle and handlebar."""
    surface = canvas.add(Surface(index, x=bicycle.x, z=bicycle.z, emissivity=0.7, grain=0.05, label=BIKE_LABEL))
    scale, squeeze = camera.scale(bicycle.z), bicycle.squeeze

    def place(*points: complex) -> np.ndarray:
        line = np.array(points)
        return camera.upright(bicycle.x, bicycle.z, squeeze * line.real + 1j * line.imag)

    metal = heat.air + 0.5
    rubber = heat.air + (4.0 if bicycle.ridden else 0.8)
    rear, front = -_AXLE + 1j * _WHEEL, _AXLE + 1j * _WHEEL
    rim = ellipse(0j, _WHEEL, _WHEEL)
    spokes = [place(hub + tip, hub - tip) for hub in (rear, front) for tip in 0.95 * rim[:10:3]]
    canvas.stroke(surface, (128, 130, 132), metal, 0.008 * scale, *spokes)
    canvas.stroke(surface, (30, 30, 32), rubber, 0.05 * scale, place(*(rear + rim)), place(*(front + rim)), closed=True)
    crank, seat, head = -0.05 + 0.3j, -0.2 + 0.86j, 0.36 + 0.84j
    tubes = [place(rear, crank, head, seat, crank), place(seat, rear), place(0.34 + 0.92j, front)]
    canvas.stroke(surface, bicycle.colour, metal, 0.045 * scale, *tubes)
    canvas.stroke(surface, (40, 40, 42), metal, 0.04 * scale, place(0.34 + 0.92j, 0.3 + 1.03j, 0.44 + 1.04j))
    canvas.fill(
        surface,
        (36, 32, 30),
        metal + (9 if bicycle.ridden else 0),
        place(-0.34 + 0.95j, -0.08 + 0.94j, -0.1 + 0.89j, -0.3 + 0.9j),
    )


_AROUND = np.exp(2j * np.pi * np.arange(48) / 48)


def draw_tree(canvas: Canvas, camera: Camera, tree: Tree, index: int, heat: Heat) -> None:
    """Draw a trunk and a crown of three ragged layers, lighter towards the light from above."""
    trunk = canvas.add(Surface(index, x=tree.x, z=tree.z, grain=0.35))
    leaves = canvas.add(Surface(index, x=tree.x, z=tree.z, grain=0.7))
    height, spread = tree.height, tree.spread

    def place(outline: np.ndarray) -> np.ndarray:
        return camera.upright(tree.x, tree.z, outline)

    width = 0.028 * height
    bark = polygon((-1.3 * width, 0), (1.3 * width, 0), (0.7 * width, 0.5 * height), (-0.7 * width, 0.5 * height))
    canvas.fill(trunk, (84, 66, 50), heat.air + 1.0, place(bark))
    if tree.conifer:
        for tier, shade in ((0, 0.62), (1, 0.78), (2, 0.92)):
            low, high = height * (0.16 + 0.24 * tier), height * (0.6 + 0.2 * tier)
            reach = spread * (0.95 - 0.25 * tier)
            steps = np.linspace(-1, 1, 24)
            skirt = reach * steps + 1j * (low + 0.05 * height * np.abs(np.sin(7 * steps)) * tree.lumps[:24])
            canvas.fill(leaves, _shaded(tree.colour, shade), heat.leaves, place(np.append(skirt, 1j * high)))
        return
    middle = 1j * (height - 1.1 * spread)
    for shift, size, shade in (
        (0.42 - 0.3j, 0.66, 0.56),
        (-0.45 - 0.28j, 0.66, 0.62),
        (0j, 1.0, 0.66),
        (-0.12 + 0.16j, 0.78, 0.84),
        (0.3 + 0.1j, 0.42, 0.92),
        (-0.24 + 0.4j, 0.48, 1.04),
    ):
        ragged = _AROUND * np.roll(tree.lumps, int(20 * size))
        layer = spread * (shift + size * (ragged.real + 1.1j * ragged.imag))
        canvas.fill(leaves, _shaded(tree.colour, shade), heat.leaves, place(middle + layer))


def draw_bush(canvas: Canvas, camera: Camera, bush: Bush, index: int, heat: Heat) -> None:
    """Draw two ragged half domes."""
    surface = canvas.add(Surface(index, x=bush.x, z=bush.z, grain=0.7))
    dome = _AROUND * bush.lumps
    dome = bush.spread * dome.real + 1j * bush.height * np.maximum(dome.imag, -0.02)
    canvas.fill(surface, _shaded(bush.colour, 0.68), heat.leaves, camera.upright(bush.x, bush.z, dome))
    upper = 0.8 * dome + 0.14j * bush.height - 0.08 * bush.spread
    canvas.fill(surface, _shaded(bush.colour, 0.95), heat.leaves, camera.upright(bush.x, bush.z, upper))


def draw_lamp(canvas: Canvas, camera: Camera, lamp: Lamp, index: int, heat: Heat, tint: Colour) -> None:
    """Draw a post with an arm over the road and a head that shines when lit."""
    post = canvas.add(Surface(index, x=lamp.x, z=lamp.z, grain=0.05, emissivity=0.75))
    head = canvas.add(Surface(index, x=lamp.x, z=lamp.z, grain=0.0, emission=LAMP_GLOW if lamp.lit else 0.0))
    h, side = lamp.height, lamp.side
    shaft = polygon((-0.08, 0), (0.08, 0), (0.05, h), (-0.05, h))
    canvas.fill(post, (92, 96, 100), heat.air + 0.5, camera.upright(lamp.x, lamp.z, shaft))
    arm = capsule(1j * (h - 0.05), 1.3 * side + 1j * (h + 0.15), 0.05, 0.04)
    canvas.fill(post, (92, 96, 100), heat.air + 0.5, camera.upright(lamp.x, lamp.z, arm))
    shade = capsule(0.95 * side + 1j * (h + 0.06), 1.5 * side + 1j * (h + 0.1), 0.11, 0.09)
    colour: Colour = (255 * tint[0] ** 0.5, 255 * tint[1] ** 0.5, 255 * tint[2] ** 0.5) if lamp.lit else (190, 192, 190)
    canvas.fill(head, colour, heat.air + (26 if lamp.lit else 0.5), camera.upright(lamp.x, lamp.z, shade))


def draw_sign(canvas: Canvas, camera: Camera, sign: Sign, index: int, heat: Heat) -> None:
    """Draw a road sign on a pole; its print has one temperature, so infrared shows a blank plate."""
    surface = canvas.add(Surface(index, x=sign.x, z=sign.z, grain=0.05, emissivity=0.8))

    def put(colour: Colour, outline: np.ndarray) -> None:
        canvas.fill(surface, colour, heat.air + 0.3, camera.upright(sign.x, sign.z, outline))

    put((120, 122, 124), polygon((-0.04, 0), (0.04, 0), (0.04, 2.3), (-0.04, 2.3)))
    if sign.shape == "round":
        put((190, 30, 34), ellipse(2.35j, 0.36, 0.36))
        put((238, 238, 234), ellipse(2.35j, 0.26, 0.26))
        put((30, 30, 32), polygon((-0.12, 2.24), (-0.05, 2.24), (-0.05, 2.47), (-0.12, 2.47)))
        put((30, 30, 32), polygon((0.03, 2.24), (0.14, 2.24), (0.14, 2.47), (0.03, 2.47)))
    elif sign.shape == "triangle":
        put((196, 34, 34), polygon((-0.45, 2.0), (0.45, 2.0), (0.0, 2.78)))
        put((240, 238, 226), polygon((-0.3, 2.09), (0.3, 2.09), (0.0, 2.6)))
        put((24, 24, 26), polygon((-0.04, 2.14), (0.04, 2.14), (0.05, 2.42), (-0.05, 2.42)))
    else:
        put((36, 84, 160), polygon((-0.7, 1.9), (0.7, 1.9), (0.7, 2.8), (-0.7, 2.8)))
        for low in (2.06, 2.32, 2.58):
            put(
                (236, 236, 236),
                polygon(
                    (-0.52, low),
                    (0.3 + 0.2 * (low < 2.4), low),
                    (0.3 + 0.2 * (low < 2.4), low + 0.1),
                    (-0.52, low + 0.1),
                ),
            )


def draw_cone(canvas: Canvas, camera: Camera, cone: Cone, index: int, heat: Heat) -> None:
    """Draw an orange traffic cone with two white bands."""
    surface = canvas.add(Surface(index, x=cone.x, z=cone.z, grain=0.05, label=CONE_LABEL))

    def put(colour: Colour, low: float, high: float) -> None:
        wide, thin = 0.17 - 0.19 * low, 0.17 - 0.19 * high
        outline = polygon((-wide, low), (wide, low), (thin, high), (-thin, high))
        canvas.fill(surface, colour, heat.air + 0.6, camera.upright(cone.x, cone.z, outline))

    base = polygon((-0.22, 0), (0.22, 0), (0.22, 0.05), (-0.22, 0.05))
    canvas.fill(surface, (60, 40, 34), heat.air + 0.6, camera.upright(cone.x, cone.z, base))
    for colour, low, high in (((226, 88, 30), 0.04, 0.75), ((238, 236, 230), 0.24, 0.38), ((238, 236, 230), 0.5, 0.6)):
        put(colour, low, high)


def draw_guardrail(canvas: Canvas, camera: Camera, rail: Guardrail, index: int, heat: Heat) -> None:
    """Draw one span: a post and two beams along the road."""
    surface = canvas.add(
        Surface(index, x=rail.x, z=rail.z + 0.5 * rail.length, grain=0.05, emissivity=0.6, label=GUARDRAIL_LABEL)
    )
    near, far = rail.z, rail.z + rail.length
    post = polygon((-0.06, 0), (0.06, 0), (0.06, 0.8), (-0.06, 0.8))
    canvas.fill(surface, (132, 136, 140), heat.air, camera.upright(rail.x, near, post))
    for low, high, shade in ((0.42, 0.58, 150), (0.66, 0.8, 192)):
        beam = camera.ground((rail.x,) * 4, (near, far, far, near), (low, low, high, high))
        canvas.fill(surface, (shade, shade + 2, shade + 4), heat.air - 0.3, beam)


def draw_fence(canvas: Canvas, camera: Camera, fence: Fence, index: int, heat: Heat) -> None:
    """Draw one span: a post and two bars across the view."""
    surface = canvas.add(Surface(index, x=fence.x, z=fence.z, grain=0.3))
    across = camera.ground(fence.x + fence.length, fence.z) - camera.ground(fence.x, fence.z)
    post = camera.upright(fence.x, fence.z, polygon((-0.07, 0), (0.07, 0), (0.07, 1.15), (-0.07, 1.15)))
    for low in (0.45, 0.85):
        start = camera.upright(fence.x, fence.z, np.array((1j * low, 1j * (low + 0.1))))
        bar = np.concatenate([start, start[::-1] + across])
        canvas.fill(surface, (118, 92, 66), heat.air + 0.4, bar)
    canvas.fill(surface, (100, 78, 56), heat.air + 0.4, post)
