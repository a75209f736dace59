"""SIG, the semantic information generator: which objects a text names, and where they are.

The paper derives mask semantics and text semantics from a vision-language model's description. Here a description is
any text; its object nouns come from a fixed vocabulary, and masks come from one of several sources.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.methods.base import FusionBatch

_WORDS = {
    "person": "person people pedestrian man men woman women child children boy girl worker soldier figure",
    "car": "car van minivan suv taxi sedan saloon hatchback vehicle",
    "bus": "bus",
    "truck": "truck lorry pickup",
    "motorcycle": "motorcycle motorbike scooter moped",
    "bicycle": "bicycle bike",
    "traffic light": "traffic-light",
    "lamp": "lamp streetlight headlight lantern",
    "sign": "sign signpost signboard",
    "building": "building house tower shop",
    "road": "road street lane",
    "tree": "tree bush foliage shrub",
    "sky": "sky",
    "person bicycle": "cyclist",
    "person motorcycle": "motorcyclist rider",
}
STUFF = ("building", "road", "tree", "sky")
THINGS = ("person", "car", "bus", "truck", "motorcycle", "bicycle", "traffic light", "lamp", "sign")
"""Nouns that get a mask; the rest of the vocabulary is background."""

_NOUNS: dict[str, tuple[str, ...]] = {
    word: ("traffic light",) if noun == "traffic light" else tuple(noun.split())
    for noun, words in _WORDS.items()
    for word in words.split()
}
SALIENT_DEVIATIONS = 1.0


@cache
def nouns(text: str) -> tuple[str, ...]:
    """Return the nouns of the vocabulary that a text names, in the text's order, each once.

    ``nouns("Pedestrians and a cyclist at the traffic lights")`` is ``("person", "bicycle", "traffic light")``.
    """
    words = re.findall(r"[a-z]+(?:-[a-z]+)*", re.sub(r"traffic[ -]?lights?", "traffic-light", text.lower()))
    found = [noun for word in words for noun in _NOUNS.get(word) or _NOUNS.get(_singular(word), ())]
    return tuple(dict.fromkeys(found))


def things(text: str) -> tuple[str, ...]:
    """Return the nouns of a text that are things rather than background."""
    return tuple(noun for noun in nouns(text) if noun in THINGS)


def saliency(infrared: Tensor) -> Tensor:
    """Return what is hot: 1 where the infrared image exceeds its mean by one standard deviation, else 0.

    Args:
        infrared: float (B, 1, H, W).
    """
    mean, deviation = infrared.mean(dim=(2, 3), keepdim=True), infrared.std(dim=(2, 3), keepdim=True, correction=0)
    return (infrared > mean + SALIENT_DEVIATIONS * deviation).to(infrared.dtype)


class MaskSource(ABC):
    """Says where the things are that a text names.

    Attributes:
        name: what the option ``mask_source`` calls it.
    """

    name: str

    @abstractmethod
    def masks(self, batch: FusionBatch) -> Tensor | None:
        """Return float32 (B, 1, H, W) in [0, 1] on the batch's device, or None for no mask."""

    def describe(self) -> dict[str, Any]:
        """Return what decides the masks, as JSON."""
        return {"mask_source": self.name}


class Given(MaskSource):
    """The masks that come with the batch: dataset labels or the user's own."""

    name = "given"

    def masks(self, batch: FusionBatch) -> Tensor:
        if batch.masks is None:
            raise UsageError(
                f"taking the masks of {', '.join(batch.keys)}",
                found="no masks came with the images",
                expected="masks, because of mask_source=given",
                hint="use a dataset with labels and hand them over, or mask_source=saliency",
            )
        return batch.masks


class Saliency(MaskSource):
    """Hot regions of the infrared image; needs no text and no weights."""

    name = "saliency"

    def masks(self, batch: FusionBatch) -> Tensor:
        return saliency(batch.infrared)


class Nothing(MaskSource):
    """No mask: the network sees 0.5 everywhere."""

    name = "none"

    def masks(self, batch: FusionBatch) -> None:
        return None


class Auto(MaskSource):
    """The masks that come with a batch where there are any, else saliency."""

    name = "auto"

    def masks(self, batch: FusionBatch) -> Tensor:
        return (Saliency() if batch.masks is None else Given()).masks(batch)

    def describe(self) -> dict[str, Any]:
        return {"mask_source": "given where masks come with the images, else saliency"}


def load_mask_source(name: str, weights: str | Path | None = None, device: torch.device | str = "cpu") -> MaskSource:
    """Return a mask source by name.

    Args:
        name: ``auto``, ``given``, ``saliency``, ``none``, ``clipseg`` or ``grounded-sam``.
        weights: a local folder for the last two; None looks in the Hugging Face cache. Nothing is ever downloaded.
        device: where a model computes.

    Raises:
        UsageError: no such source, or weights for a source that has none.
        WeightsError: the weights are absent; says how to get them.
    """
    plain = {source.name: source for source in (Auto, Given, Saliency, Nothing)}
    if name in plain:
        if weights is not None:
            raise UsageError(f"loading the mask source {name!r}", found=f"weights {weights}", expected="none")
        return plain[name]()
    from tgfbench.methods.tesg.segmenters import SEGMENTERS

    if name not in SEGMENTERS:
        raise UsageError(
            f"loading the mask source {name!r}", found="no such source", hint=suggest(name, [*plain, *SEGMENTERS])
        )
    return SEGMENTERS[name](weights, device)


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("ses", "shes", "ches")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
