"""Which classes of a model are which of a dataset, told by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SAME = {
    "person": "people pedestrian human",
    "bicycle": "bike",
    "motorcycle": "motorbike moto",
    "truck": "lorry",
    "lamp": "streetlamp",
}
"""Other words for a class in the label lists of COCO, M3FD, MSRS, LLVIP, FLIR and KAIST, in the singular."""
_NAME = {word: name for name, words in _SAME.items() for word in words.split()}


def match_classes(known: Sequence[str], wanted: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Match classes by name, whatever the capitals, the number and the usual other words.

    Args:
        known: class names of a model, in the order of its ids.
        wanted: class names of a dataset.

    Returns:
        For every wanted class, the ids of the known classes that mean it; empty where the model lacks it.
    """
    forms = [_forms(name) for name in known]
    return tuple(tuple(index for index, form in enumerate(forms) if _alike(form, _forms(name))) for name in wanted)


def _forms(name: str) -> list[set[str]]:
    """Return for every word of a name what it could be in the singular, and the usual word for that."""
    return [_singulars(word) for word in re.findall(r"[^\W_]+", name.lower())]


def _singulars(word: str) -> set[str]:
    endings = {"s": "", "es": "", "ies": "y"}
    forms = {word} | {word.removesuffix(ending) + new for ending, new in endings.items() if word.endswith(ending)}
    return forms | {_NAME[form] for form in forms if form in _NAME}


def _alike(first: list[set[str]], second: list[set[str]]) -> bool:
    return len(first) == len(second) and all(a & b for a, b in zip(first, second, strict=True))
