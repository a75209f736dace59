"""Says what a rendered pair shows, from its layout and from what is left unhidden."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from tgfbench.datasets.sample.backdrop import WINDOW_GLOW
from tgfbench.datasets.sample.figures import LAMP_GLOW
from tgfbench.datasets.sample.rendering import Rendering
from tgfbench.datasets.sample.scene import (
    Bicycle,
    Building,
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

HARD_TO_SEE = 14.0
"""Difference in grey levels between a thing and what surrounds it, below which the eye hardly finds it."""
_LARGE, _SMALL = 0.01, 0.0006
"""Share of the frame that trees and buildings, and smaller things, must take to be worth a word."""
_WHEN = {
    "daylight": "In daylight",
    "dusk": "At dusk",
    "night": "At night",
    "fog": "In fog",
    "glare": "Against a low sun",
}
_HIDING = {
    "daylight": "against the background",
    "dusk": "in the dusk",
    "night": "in the dark",
    "fog": "in the fog",
    "glare": "in the glare",
}
_MOOD = {
    "daylight": "The scene lies in bright daylight.",
    "dusk": "The last light of the day is left in the sky.",
    "night": "Darkness covers most of the visible image.",
    "fog": "Fog hides whatever is far away.",
    "glare": "The low sun dazzles the camera.",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class _Seen:
    """A boxed thing as a viewer finds it.

    Attributes:
        thing: what it is.
        noun: what to call it.
        place: ``"on the left"``, ``"in the middle"`` or ``"on the right"``.
        hidden: whether the visible image hardly shows it.
        warm: whether the infrared image shows it well.
    """

    thing: Thing
    noun: str
    place: str
    hidden: bool
    warm: bool


@dataclass(frozen=True)
class _View:
    """What there is to talk about.

    Attributes:
        scene: the layout.
        seen: boxed things, left to right.
        around: how many of the other things show, by kind.
        shining: whether street lamps shine into the camera.
        windows: whether lit windows show.
    """

    scene: Scene
    seen: tuple[_Seen, ...]
    around: Counter[type]
    shining: bool
    windows: bool

    @property
    def colours_show(self) -> bool:
        return self.scene.lighting in ("daylight", "fog", "glare")

    @property
    def standing_alone(self) -> list[_Seen]:
        """Boxed things less the bicycles whose riders are seen too: one word, cyclist, stands for both."""
        riders = {(item.thing.x, item.thing.z) for item in self.seen if item.noun == "cyclist"}
        return [
            item
            for item in self.seen
            if not (isinstance(item.thing, Bicycle) and (item.thing.x, item.thing.z) in riders)
        ]


def conspicuity(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean difference in grey levels between masked pixels and the mean of what surrounds them.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        mask: boolean (H, W), not empty.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    margin = 2 + width // 2
    rows = slice(max(0, top - margin), top + height + margin)
    columns = slice(max(0, left - margin), left + width + margin)
    patch, inside = image[rows, columns].astype(np.float32), mask[rows, columns]
    grey = patch.mean(axis=2) if patch.ndim == 3 else patch
    return 0.0 if inside.all() else float(np.abs(grey[inside] - grey[~inside].mean()).mean())


def describe(rendering: Rendering, rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return five captions, three of one thing each and two of the whole, and the focus phrases.

    Args:
        rendering: what to describe.
        rng: chooses among the things worth a sentence.
    """
    view = _look(rendering)
    details = [_detail(item, view) for item in view.standing_alone]
    rng.shuffle(details)
    details = [*dict.fromkeys(details), *_surroundings(view)]
    return (*details[:3], _whole(view), _both(view)), _focus(view)


def _look(rendering: Rendering) -> _View:
    painting = rendering.painting
    width, height = painting.camera.width, painting.camera.height
    seen = []
    for index, box in zip(rendering.boxed, rendering.labels.boxes, strict=True):
        thing, mask = painting.scene.things[index], painting.thing_mask(index)
        centre = float(box[0] + box[2]) / 2 / width
        place = "on the left" if centre < 0.37 else "on the right" if centre > 0.63 else "in the middle"
        clear, warm = (conspicuity(image, mask) >= HARD_TO_SEE for image in (rendering.visible, rendering.infrared))
        seen.append(_Seen(thing, _noun(thing), place, not clear, warm))
    around: Counter[type] = Counter()
    for index, thing in enumerate(painting.scene.things):
        share = _LARGE if isinstance(thing, Building | Tree) else _SMALL
        if painting.visible_pixels[index] > max(12, share * width * height) and index not in painting.dropped:
            around[type(thing)] += 1
    glow = painting.table("emission")
    shining, windows = (
        bool(np.count_nonzero(painting.spread((glow == np.float32(value)).astype(np.uint8))) > 12)
        for value in (LAMP_GLOW, WINDOW_GLOW)
    )
    return _View(painting.scene, tuple(seen), around, shining, windows)


def _noun(thing: Thing) -> str:
    if isinstance(thing, Person):
        return "cyclist" if thing.view == "riding" else "pedestrian"
    return (
        "bicycle" if isinstance(thing, Bicycle) else "van" if isinstance(thing, Car) and thing.body == "van" else "car"
    )


def _detail(item: _Seen, view: _View) -> str:
    thing = item.thing
    distance = " in the foreground" if thing.z < 9.5 else " in the distance" if thing.z > 20 else ""
    where = f"{item.place[0].upper()}{item.place[1:]}{distance}"
    if item.hidden:
        also = " but stands out in the infrared image" if item.warm else ""
        return f"{where}, a {item.noun} is hard to see {_HIDING[view.scene.lighting]}{also}."
    if isinstance(thing, Car):
        colour = f"{thing.colour} " if view.colours_show else ""
        return f"{where}, a {colour}{item.noun} {_driving(thing)}."
    if isinstance(thing, Person):
        dress = f" in a {thing.coat} coat" if view.colours_show and thing.coat != "dark" else ""
        return f"{where}, a {item.noun}{dress} {_walking(thing)}."
    return f"{where}, a bicycle {'is under way' if isinstance(thing, Bicycle) and thing.ridden else 'is parked'}."


def _driving(car: Car) -> str:
    if not car.running:
        return "is parked"
    heading = math.cos(car.yaw)
    if abs(heading) < 0.6:
        return "crosses the view"
    return "drives away from the camera" if heading > 0 else "comes towards the camera"


def _walking(person: Person) -> str:
    if person.view == "riding":
        return "rides to the " + ("right" if person.squeeze > 0 else "left")
    if abs(person.stride) < 0.2:
        return "stands"
    return {
        "left": "walks to the left",
        "right": "walks to the right",
        "front": "walks towards the camera",
        "back": "walks away from the camera",
    }[person.view]


def _surroundings(view: _View) -> list[str]:
    """Sentences about what is no object, the most telling first; at least three."""
    paved, street = view.scene.road.paved, view.scene.setting == "street"
    beside = "beside the road" if paved else "in the field"
    building = "building" if street else "house"
    shine = "shine" if view.shining else "stand"
    about: tuple[tuple[type, str, str], ...] = (
        (Cone, "A traffic cone stands at the edge of the road.", "Traffic cones stand at the edge of the road."),
        (Lamp, f"A street lamp {shine}s {beside}.", f"Street lamps {shine} {beside}."),
        (Building, f"A {building} stands {beside}.", f"{building.capitalize()}s stand {beside}."),
        (Sign, f"A sign stands {beside}.", f"Signs stand {beside}."),
        (Guardrail, "A guardrail runs along the road.", "A guardrail runs along the road."),
        (Fence, "A wooden fence crosses the field.", "A wooden fence crosses the field."),
        (Tree, f"A tree stands {beside}.", f"Trees stand {beside}."),
    )
    said = [one if view.around[kind] == 1 else many for kind, one, many in about if view.around[kind]]
    ground = "A paved road leads to the horizon." if paved else "Two wheel tracks lead across the field."
    return [_MOOD[view.scene.lighting], *said, ground, "The ground fills the lower part of both images."]


def _whole(view: _View) -> str:
    """Light, what there is, and where."""
    place = {"street": "a town street", "country road": "a country road", "field": "a field"}[view.scene.setting]
    building = "building" if view.scene.setting == "street" else "house"
    beside = [
        f"a {noun}" if view.around[kind] == 1 else f"{noun}s"
        for kind, noun in ((Building, building), (Tree, "tree"))
        if view.around[kind]
    ]
    backdrop = f" with {_listed(beside)}" if beside else ""
    when = _WHEN[view.scene.lighting]
    things = view.standing_alone
    if not things:
        return f"{when}, the camera looks {'along' if view.scene.road.paved else 'over'} {place}{backdrop}."
    verb, on = "is" if len(things) == 1 else "are", "on" if view.scene.road.paved else "in"
    return f"{when}, {_counted(things)} {verb} {on} {place}{backdrop}."


def _both(view: _View) -> str:
    """What each image contributes."""
    visible = _only_visible(view)
    people = [item for item in view.seen if isinstance(item.thing, Person) and item.warm]
    hidden = [item for item in people if item.hidden]
    if hidden:
        infrared = f"reveals {_counted(hidden)} that the eye would miss"
    elif people:
        infrared = f"shows {_counted(people)} warm and bright"
    elif any(isinstance(item.thing, Car) and item.thing.running for item in view.seen):
        infrared = "shows the warm wheels and engines of the traffic"
    else:
        infrared = "shows the ground warmer than the sky"
    return f"The visible image gives {_listed(visible)}, while the infrared image {infrared}."


def _only_visible(view: _View) -> list[str]:
    lights = {
        "the light of the street lamps": view.shining,
        "the lit windows": view.windows,
        "the lights of the traffic": any(
            isinstance(item.thing, Car) and item.thing.running and not item.hidden for item in view.seen
        ),
    }
    lines = "the white lines of the road" if view.scene.road.paved else "the texture of the ground"
    if view.scene.lighting == "night":
        lit = [light for light, shows in lights.items() if shows]
        lit += [lines] if view.scene.conditions.headlights else []
        return lit or ["little but the outline of the sky"]
    if view.scene.lighting == "dusk":
        return [*(light for light, shows in lights.items() if shows), "the red sky", lines]
    return ["the colours", lines]


def _focus(view: _View) -> tuple[str, ...]:
    """Noun phrases of things to favour: people first; things alike in one place are taken together."""
    groups: dict[tuple[str, str], list[_Seen]] = {}
    for item in view.standing_alone:
        groups.setdefault((item.noun, item.place), []).append(item)
    phrases = []
    for (noun, place), items in sorted(groups.items(), key=lambda group: not isinstance(group[1][0].thing, Person)):
        thing = items[0].thing
        if len(items) > 1:
            phrases.append(f"the {_number(len(items))} {noun}s {place}")
        elif isinstance(thing, Car) and view.colours_show and not items[0].hidden:
            phrases.append(f"the {thing.colour} {noun} {place}")
        else:
            phrases.append(f"the {noun} {place}")
    return tuple(phrases) or ("the road" if view.scene.road.paved else "the wheel tracks",)


def _counted(items: list[_Seen]) -> str:
    counts = Counter(item.noun for item in items)
    order = ("pedestrian", "cyclist", "car", "van", "bicycle")
    return _listed([f"a {n}" if counts[n] == 1 else f"{_number(counts[n])} {n}s" for n in order if counts[n]])


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
