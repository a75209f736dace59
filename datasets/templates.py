"""Captions made from labels by templates: "A night street with 2 persons and 1 car."

They say what the labels say and nothing more: objects are counted from boxes; without boxes they are only named, from
the segmentation map, which does not tell one object from two; the time of day is mentioned where it is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from tgfbench.datasets.base import DatasetInfo, Labels, Sample, Texts
from tgfbench.datasets.labels import canonical

DAY_NIGHT_KEYS = ("msrs", "mfnet")
"""Datasets whose keys end in D by day and in N at night."""

SURELY_NIGHT = 40
"""Median luma below which a visible image was taken at night; lit nights are brighter, so nothing follows above."""

SMALLEST_SHARE = 0.002
"""Share of the frame below which a segmented class is not mentioned."""

_WHEN = {"day": "daytime", "night": "night", "dusk": "dusk", "dawn": "dawn"}
_STREET = {"car", "bus", "truck", "motorcycle", "road", "curve", "car stop", "guardrail", "traffic light", "bump"}
_PLACES = ("on the left", "in the middle", "on the right")


def texts_from_labels(sample: Sample, info: DatasetInfo, lighting: str = "") -> Texts:
    """Describe a pair by its labels.

    Args:
        sample: the pair.
        info: the card of its dataset, which names the classes and tells day from night by key where keys do.
        lighting: what is known otherwise, e.g. from a caption sidecar: ``day``, ``night``, ``dusk`` or ``dawn``.

    Returns:
        One to three captions and a focus phrase per class; no text at all where the pair has no labels.
    """
    labels = sample.labels
    if labels is None:
        return Texts()
    when = _WHEN.get(lighting.strip().lower() or lighting_of(sample, info), "")
    names = [canonical(name) for name in info.classes]
    people_first = sorted(labels.classes.tolist(), key=lambda index: (names[index] != "person", index))
    counts = Counter(names[index] for index in people_first)
    seen = list(counts) or _segmented(labels, info)
    place = "street" if _STREET & set(seen) else "scene"
    scene = f"a {when} {place}" if when else f"a {place}"
    if not counts:
        shown = f"{_listed(seen)} in view" if seen else "no labelled object"
        return Texts((_sentence(f"{scene} with {shown}"),), tuple(f"the {name}" for name in seen))
    counted = _listed(_counted(name, count) for name, count in counts.items())
    captions = (
        f"{scene} with {counted}",
        _by_place(labels, names, sample.infrared.shape[1]),
        f"{counted} can be seen {_setting(when, place)}",
    )
    focus = tuple(f"the {name if count == 1 else plural(name)}" for name, count in counts.items())
    return Texts(tuple(map(_sentence, captions)), focus)


def lighting_of(sample: Sample, info: DatasetInfo) -> str:
    """Return ``day`` or ``night`` where the key or a dark visible image tells, else ""."""
    if info.name.partition("+")[0] in DAY_NIGHT_KEYS and sample.key[-1:] in ("D", "N"):
        return "night" if sample.key.endswith("N") else "day"
    luma = cv2.cvtColor(sample.visible, cv2.COLOR_RGB2GRAY)
    return "night" if np.median(luma) < SURELY_NIGHT else ""


def plural(noun: str) -> str:
    """Return the regular plural: cars, buses, lorries; person becomes persons, as class names do."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou") else f"{noun}s"


def _segmented(labels: Labels, info: DatasetInfo) -> list[str]:
    """Return the classes of the segmentation map that cover enough of it, largest first; 0 is the background."""
    if labels.segmentation is None or not labels.segmentation.size:
        return []
    pixels = np.bincount(labels.segmentation.ravel(), minlength=len(info.segmentation_classes))
    order = np.argsort(-pixels, kind="stable")
    large = [index for index in order if index != 0 and pixels[index] >= SMALLEST_SHARE * labels.segmentation.size]
    return list(dict.fromkeys(canonical(info.segmentation_classes[index]) for index in large))


def _by_place(labels: Labels, names: Sequence[str], width: int) -> str:
    """Return the objects from left to right."""
    thirds = np.digitize((labels.boxes[:, 0] + labels.boxes[:, 2]) / 2 / width, (1 / 3, 2 / 3))
    parts = []
    for third, place in enumerate(_PLACES):
        counts = Counter(names[index] for index in np.sort(labels.classes[thirds == third]))
        if counts:
            parts.append(f"{_listed(_counted(name, count) for name, count in counts.items())} {place}")
    return ", ".join(parts)


def _setting(when: str, place: str) -> str:
    where = "on a street" if place == "street" else "in the scene"
    return where + {"": "", "daytime": " by day"}.get(when, f" at {when}")


def _counted(name: str, count: int) -> str:
    return f"{count} {name if count == 1 else plural(name)}"


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
