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
    meanings = [_meaning(name) for name in known]
    return tuple(tuple(index for index, meaning in enumerate(meanings) if meaning == _meaning(name)) for name in wanted)


def _meaning(name: str) -> str:
    words = re.findall(r"[^\W_]+", name.lower())
    return " ".join(_singular(word) for word in words)


def _singular(word: str) -> str:
    if word in _NAME:
        return _NAME[word]
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("ses", "s"), ("s", "")):
        if word.endswith(ending) and not word.endswith(("ss", "us")):
            word = word.removesuffix(ending) + instead
            break
    return _NAME.get(word, word)
