"""Lays a scene out from a seed: what stands where, in which setting, under which light."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tgfbench.datasets.sample.canvas import Colour
from tgfbench.datasets.sample.scene import (
    CAR_COLOURS,
    COAT_COLOURS,
    FOCAL,
    LANE,
    PAVEMENT,
    SETTINGS,
    SKIN_COLOURS,
    TROUSER_COLOURS,
    Bicycle,
    Building,
    Bush,
    Car,
    Conditions,
    Cone,
    Fence,
    Guardrail,
    Lamp,
    Light,
    Person,
    Road,
    Scene,
    Sign,
    Thing,
    Tree,
)


def lay_out(rng: np.random.Generator, lighting: str) -> Scene:
    """Draw a scene.

    Args:
        rng: source of every choice.
        lighting: one of ``LIGHTINGS``.
    """
    setting = str(rng.choice(SETTINGS, p=(0.56, 0.2, 0.24)))
    town = setting == "street"
    vanishing = float(rng.uniform(0.4, 0.6))
    horizon = float(rng.uniform(0.38, 0.47))
    scene = Scene(
        setting=setting,
        lighting=lighting,
        horizon=horizon,
        vanishing=vanishing,
        curve=float(rng.uniform(-1, 1)) * (0.0006 if town else 0.0022),
        skyline=_skyline(rng, town),
        town=town,
        texture=(float(rng.random()), float(rng.random())),
        conditions=_conditions(rng, lighting, setting, vanishing, horizon),
        road=_road(rng, setting),
        things=(),
        lights=(),
    )
    surroundings = _town(rng, scene) if town else _country(rng, scene)
    traffic = _Traffic(rng, scene)
    traffic.place()
    things = (*surroundings, *traffic.things)
    return replace(scene, things=things, lights=_lights(scene, things))


def _skyline(rng: np.random.Generator, town: bool) -> np.ndarray:
    steps = 24 if town else 9
    return rng.uniform(0.02, 0.1 if town else 0.06, steps)


def _conditions(rng: np.random.Generator, lighting: str, setting: str, vanishing: float, horizon: float) -> Conditions:
    warm_lamp: Colour = (1.0, 0.78, 0.48) if rng.random() < 0.6 else (0.92, 0.95, 1.0)
    side = float(rng.choice((-1.0, 1.0)))
    sun = (side * float(rng.uniform(0.5, 1.2)), float(rng.uniform(-0.4, 0.7)))
    strength = float(rng.random())
    air = float(rng.uniform(0, 1))
    glare = (float(np.clip(vanishing + rng.uniform(-0.3, 0.3), 0.2, 0.8)), horizon - float(rng.uniform(0.02, 0.12)))
    headlights = bool(setting != "field" and rng.random() < 0.55)
    if lighting == "daylight":
        light = 0.95 + 0.3 * strength
        return Conditions(
            (light, 0.97 * light, 0.92 * light),
            sun,
            0.0015,
            (0.55, 0.64, 0.78),
            None,
            False,
            warm_lamp,
            13 + 8 * air,
            1.5,
        )
    if lighting == "dusk":
        light = 0.09 + 0.1 * strength
        ambient = (light, 0.88 * light, 1.0 * light)
        return Conditions(ambient, None, 0.004, (0.2, 0.16, 0.17), None, headlights, warm_lamp, 8 + 8 * air, 3.0)
    if lighting == "night":
        light = 0.004 + 0.009 * strength
        ambient = (0.8 * light, 0.95 * light, 1.25 * light)
        return Conditions(ambient, None, 0.002, (0.002, 0.002, 0.003), None, headlights, warm_lamp, 3 + 10 * air, 4.5)
    if lighting == "fog":
        light = 0.62 + 0.2 * strength
        veil = 0.5 + 0.16 * strength
        airlight = (veil, veil, 1.02 * veil)
        density = 0.06 + 0.06 * strength
        return Conditions((light, light, light), None, density, airlight, None, False, warm_lamp, 4 + 7 * air, 2.0)
    light = 0.30 + 0.15 * strength
    back_light = ((glare[0] - vanishing) * -1.5, -float(rng.uniform(1.2, 2.0)))
    ambient = (light, 0.92 * light, 0.84 * light)
    return Conditions(ambient, back_light, 0.006, (0.8, 0.66, 0.48), glare, False, warm_lamp, 10 + 9 * air, 2.0)


def _road(rng: np.random.Generator, setting: str) -> Road:
    side = float(rng.choice((-1.0, 1.0)))
    shoulder = rng.uniform(0.2, 2.3, 2)
    crossing = float(rng.uniform(9, 17)) if rng.random() < 0.35 else None
    bump = float(rng.uniform(8, 18)) if rng.random() < 0.12 else None
    if setting == "field":
        middle = float(rng.uniform(-1.5, 1.5))
        return Road(middle - 1.3, middle + 1.3, middle, False, False, False, None, None)
    own_edge, far_edge = 0.5 * LANE, 1.5 * LANE
    left = -(far_edge if side > 0 else own_edge) - float(shoulder[0])
    right = (own_edge if side > 0 else far_edge) + float(shoulder[1])
    street = setting == "street"
    return Road(
        left, right, -0.5 * side * LANE, True, True, street, crossing if street else None, None if crossing else bump
    )


def _lumps(rng: np.random.Generator) -> np.ndarray:
    """Radius factors that make the outline of foliage ragged: coarse lobes plus fine leaves."""
    coarse = np.repeat(rng.uniform(0.82, 1.1, 12), 4)
    return (0.5 * coarse + 0.5 * np.roll(coarse, 2)) * rng.uniform(0.93, 1.07, 48)


def _leaf_colour(rng: np.random.Generator) -> Colour:
    return (float(rng.uniform(52, 110)), float(rng.uniform(88, 122)), float(rng.uniform(34, 56)))


def _tree(rng: np.random.Generator, x: float, z: float, conifers: float = 0.2) -> Tree:
    height = float(rng.uniform(4.5, 8.5))
    spread = height * float(rng.uniform(0.27, 0.38))
    return Tree(x, z, height, spread, _leaf_colour(rng), _lumps(rng), bool(rng.random() < conifers))


def _bush(rng: np.random.Generator, x: float, z: float) -> Bush:
    height = float(rng.uniform(0.7, 1.5))
    return Bush(x, z, height, height * float(rng.uniform(0.8, 1.4)), _leaf_colour(rng), _lumps(rng))


def _building(rng: np.random.Generator, scene: Scene, x: float, z: float, side: int, length: float) -> Building:
    colour = [(176, 166, 150), (150, 104, 84), (186, 184, 180), (134, 138, 146), (196, 176, 142)][rng.integers(5)]
    floors = int(rng.integers(2, 7))
    lit_share = {"night": 0.3, "dusk": 0.35, "fog": 0.06}.get(scene.lighting, 0.0)
    lit = rng.random((floors, 32)) < lit_share
    return Building(x, z, side, length, float(rng.uniform(8, 14)), floors, colour, lit)


def _town(rng: np.random.Generator, scene: Scene) -> list[Thing]:
    road = scene.road
    things: list[Thing] = []
    lamps_lit = scene.lighting in ("night", "dusk")
    for side, edge in ((-1, road.left), (1, road.right)):
        front = edge + side * (PAVEMENT + float(rng.uniform(0.2, 3.0)))
        z = float(rng.uniform(4, 9))
        while z < 75:
            length = float(rng.uniform(9, 18))
            if rng.random() < 0.78:
                things.append(_building(rng, scene, front, z, side, length))
            elif rng.random() < 0.8:
                things.append(_tree(rng, front + side * 3, z + 0.5 * length))
            z += length + float(rng.uniform(0, 5))
        if rng.random() < 0.65:
            first, gap = float(rng.uniform(7, 13)), float(rng.uniform(9, 14))
            things += [
                _tree(rng, edge + side * 0.9, first + i * gap, conifers=0.0) for i in range(4) if rng.random() < 0.75
            ]
        if rng.random() < 0.7:
            first, gap = float(rng.uniform(9, 18)), float(rng.uniform(16, 24))
            height = float(rng.uniform(4.8, 6.0))
            things += [Lamp(edge + side * 0.5, first + i * gap, height, -side, lamps_lit) for i in range(3)]
        if rng.random() < 0.45:
            shape = str(rng.choice(("round", "triangle", "panel")))
            things.append(Sign(edge + side * 0.4, float(rng.uniform(8, 22)), shape))
        if rng.random() < 0.3:
            first = float(rng.uniform(7, 16))
            things += [Guardrail(edge + side * 0.35, first + 2.5 * i, 2.5) for i in range(int(rng.integers(2, 6)))]
    if rng.random() < 0.25:
        things += _cones(rng, scene)
    return things


def _cones(rng: np.random.Generator, scene: Scene) -> list[Thing]:
    side = float(rng.choice((-1.0, 1.0)))
    edge = scene.road.right if side > 0 else scene.road.left
    first = float(rng.uniform(7, 13))
    return [Cone(edge - side * (0.5 + 0.25 * i), first + 2.2 * i) for i in range(int(rng.integers(2, 5)))]


def _country(rng: np.random.Generator, scene: Scene) -> list[Thing]:
    road = scene.road
    things: list[Thing] = []
    field = scene.setting == "field"
    for _ in range(int(rng.integers(7, 15))):
        z = float(np.exp(rng.uniform(math.log(11), math.log(85))))
        x = scene.lateral(float(rng.uniform(-0.05, 1.05)), z)
        if road.left - 2.5 < x < road.right + 2.5:
            x = (road.left - 4) if rng.random() < 0.5 else (road.right + 4)
        things.append(_tree(rng, x, z, conifers=0.35) if rng.random() < 0.72 else _bush(rng, x, z))
    if rng.random() < 0.55:
        z, side = float(rng.uniform(28, 48)), int(rng.choice((-1, 1)))
        x = scene.lateral(0.5 + side * float(rng.uniform(0.14, 0.3)), z)
        x = max(x, road.right + 3) if side > 0 else min(x, road.left - 3)
        house = _building(rng, scene, x, z, side, float(rng.uniform(7, 10)))
        floors = int(rng.integers(1, 3))
        things.append(replace(house, floors=floors, lit=house.lit[:floors], depth=9.0, roof=2.4))
    if field:
        if rng.random() < 0.5:
            z = float(rng.uniform(14, 26))
            start = scene.lateral(-0.1, z)
            spans = int((scene.lateral(1.1, z) - start) / 3.0) + 1
            posts = (start + 3.0 * i for i in range(spans))
            things += [Fence(x, z, 3.0) for x in posts if not road.left - 3 < x < road.right + 0.5]
        return things
    side = int(rng.choice((-1, 1)))
    edge = road.right if side > 0 else road.left
    if rng.random() < 0.65:
        first = float(rng.uniform(4.5, 8))
        things += [Guardrail(edge + side * 0.6, first + 3.2 * i, 3.2) for i in range(int(rng.integers(5, 11)))]
    lamps_lit = scene.lighting in ("night", "dusk")
    if rng.random() < 0.5:
        things.append(Lamp(edge + side * 1.1, float(rng.uniform(10, 24)), 5.5, -side, lamps_lit))
    if rng.random() < 0.5:
        things.append(
            Sign(edge + side * 1.0, float(rng.uniform(8, 20)), str(rng.choice(("round", "triangle", "panel"))))
        )
    if rng.random() < 0.2:
        things += _cones(rng, scene)
    return things


class _Traffic:
    """Places cars, people and bicycles where each is in the frame, on free ground and mostly unhidden."""

    def __init__(self, rng: np.random.Generator, scene: Scene) -> None:
        self.rng, self.scene = rng, scene
        self.things: list[Thing] = []
        self._taken: list[tuple[float, float, float, float]] = []

    def place(self) -> None:
        rng = self.rng
        cars = (0.3, 0.45, 0.2, 0.05, 0.0) if self.scene.setting == "field" else (0.12, 0.3, 0.3, 0.18, 0.1)
        for _ in range(rng.choice(5, p=cars)):
            self._try(self._car, 2.2, 0.9)
        for _ in range(rng.choice((0, 1, 2, 3, 4, 5), p=(0.04, 0.2, 0.28, 0.24, 0.14, 0.1))):
            self._try(self._person, 0.5, 0.3)
        for _ in range(rng.choice(3, p=(0.45, 0.38, 0.17))):
            self._try(self._bicycle, 1.0, 0.5)

    def _try(self, draw: Callable[[], list[Thing]], width: float, clearance: float) -> None:
        """Add what ``draw`` offers, unless after several tries it would stand in, or mostly behind, something."""
        for _ in range(12):
            offer = draw()
            if not offer:
                continue
            x, z = offer[0].x, offer[0].z
            across, half = self.scene.across(x, z), 0.375 * FOCAL * width / z
            if all(
                abs(across - a) > 0.75 * (half + h) or (self.rng.random() < 0.2 and abs(x - ox) + abs(z - oz) > 5)
                for ox, oz, a, h in self._taken
            ) and all(abs(x - ox) > clearance or abs(z - oz) > 2.0 for ox, oz, _, _ in self._taken):
                self._taken.append((x, z, across, half))
                self.things += offer
                return

    def _spot(self, nearest: float, farthest: float, hidden: bool) -> tuple[float, float]:
        """A place in the frame; with ``hidden``, one that the condition makes hard to see by eye."""
        rng, conditions = self.rng, self.scene.conditions
        z = float(np.exp(rng.uniform(math.log(nearest), math.log(farthest))))
        across = float(rng.uniform(0.05, 0.95))
        if hidden and conditions.glare:
            across = float(np.clip(conditions.glare[0] + rng.normal(0, 0.08), 0.05, 0.95))
        if hidden and self.scene.lighting == "fog":
            z = float(rng.uniform(max(nearest, 13), max(farthest, 24)))
        return self.scene.lateral(across, z), z

    def _outside(self, x: float) -> bool:
        """Whether x is where a building or dense vegetation may stand."""
        road = self.scene.road
        margin = PAVEMENT if self.scene.setting == "street" else 14.0
        return not road.left - margin < x < road.right + margin

    def _person(self) -> list[Thing]:
        rng, road = self.rng, self.scene.road
        x, z = self._spot(6.5, 27, hidden=bool(rng.random() < 0.6))
        on_road = road.paved and road.left < x < road.right
        if self._outside(x) or (on_road and rng.random() < 0.5):
            return []
        views = ("left", "right", "front", "back")
        weights = (0.38, 0.38, 0.12, 0.12) if on_road else (0.2, 0.2, 0.3, 0.3)
        return [self._figure(x, z, str(rng.choice(views, p=weights)))]

    def _figure(self, x: float, z: float, view: str, squeeze: float = 1.0) -> Person:
        rng = self.rng
        hair: Colour = [(36, 30, 28), (78, 56, 38), (150, 126, 84), (130, 130, 130)][
            rng.choice(4, p=(0.5, 0.3, 0.1, 0.1))
        ]
        stride = float(rng.uniform(0.45, 1.0) * rng.choice((-1, 1))) if rng.random() < 0.8 else 0.1
        return Person(
            x,
            z,
            height=float(rng.uniform(1.55, 1.88)),
            view=view,
            stride=stride,
            coat=str(rng.choice(list(COAT_COLOURS), p=(0.3, 0.16, 0.1, 0.12, 0.1, 0.1, 0.07, 0.05))),
            trousers=TROUSER_COLOURS[rng.integers(len(TROUSER_COLOURS))],
            skin=SKIN_COLOURS[rng.integers(len(SKIN_COLOURS))],
            hair=hair,
            backpack=bool(rng.random() < 0.25),
            skirt=bool(view != "riding" and rng.random() < 0.15),
            squeeze=squeeze,
        )

    def _bicycle(self) -> list[Thing]:
        rng, road = self.rng, self.scene.road
        x, z = self._spot(6.5, 20, hidden=False)
        ridden = bool(rng.random() < 0.6)
        if self._outside(x) or (not ridden and road.paved and road.left < x < road.right):
            return []
        squeeze = float(rng.uniform(0.35, 1.0) * rng.choice((-1, 1)))
        colour: Colour = [(150, 34, 34), (40, 60, 130), (60, 60, 64), (190, 190, 190), (40, 104, 74)][rng.integers(5)]
        bicycle = Bicycle(x, z, colour, squeeze, ridden)
        return [bicycle, self._figure(x, z, "riding", squeeze)] if ridden else [bicycle]

    def _car(self) -> list[Thing]:
        rng, scene, road = self.rng, self.scene, self.scene.road
        colour = str(rng.choice(list(CAR_COLOURS), p=(0.24, 0.2, 0.16, 0.14, 0.14, 0.06, 0.06)))
        body = str(rng.choice(("saloon", "hatchback", "van"), p=(0.45, 0.4, 0.15)))
        if scene.setting == "field":
            x, z = self._spot(10, 26, hidden=False)
            yaw = float(rng.uniform(-math.pi, math.pi))
            return [] if self._outside(x) else [Car(x, z, colour, body, yaw, bool(rng.random() < 0.4))]
        z = float(np.exp(rng.uniform(math.log(8.5), math.log(34))))
        other = 2 * road.centre
        parked_left, parked_right = road.left + 1.0, road.right - 1.0
        place = rng.choice(5, p=(0.26, 0.32, 0.16, 0.16, 0.1))
        wobble = float(rng.normal(0, 0.04))
        heading_left, heading_right = (0.0, math.pi) if other > 0 else (math.pi, 0.0)
        x, yaw, running = [
            (float(rng.normal(0, 0.2)), wobble, True),
            (other + float(rng.normal(0, 0.2)), math.pi + wobble, True),
            (parked_left, heading_left + wobble, False),
            (parked_right, heading_right + wobble, False),
            (
                scene.lateral(float(rng.uniform(0.2, 0.8)), z),
                float(rng.choice((-0.5, 0.5))) * math.pi + 4 * wobble,
                True,
            ),
        ][place]
        if place == 0:
            z += 3
        if place == 4 and not road.left < x < road.right:
            return []
        if not -0.05 < scene.across(x, z) < 1.05:
            return []
        return [Car(x, z, colour, body, yaw, running)]


def _lights(scene: Scene, things: tuple[Thing, ...]) -> tuple[Light, ...]:
    if scene.lighting not in ("night", "dusk"):
        return ()
    lights = []
    for thing in things:
        if isinstance(thing, Lamp) and thing.lit:
            lights.append(Light(thing.x + 1.2 * thing.side, thing.z, thing.height, 5.0, 0.2))
        elif isinstance(thing, Car) and thing.running and abs(math.cos(thing.yaw)) > 0.5:
            ahead = 1.0 if math.cos(thing.yaw) > 0 else -1.0
            lights.append(Light(thing.x, thing.z + 5.0 * ahead, 0.8, 3.0, 0.22))
        elif isinstance(thing, Building) and thing.lit.any():
            lights.append(Light(thing.x, thing.z + 0.5 * thing.length, 3.0, 5.0, 0.4 * float(thing.lit.mean()) * 0.3))
    return tuple(lights)
