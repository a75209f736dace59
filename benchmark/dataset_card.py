"""The card of a dataset as a reader sees it: what it holds, under which terms, and who was trained on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tgfbench.benchmark.errors import PluginError, counted
from tgfbench.benchmark.registry import normalise
from tgfbench.datasets.sources import SOURCES

if TYPE_CHECKING:
    from tgfbench.datasets.base import DatasetInfo
    from tgfbench.methods.base import MethodInfo

Row = tuple[str, str]


def print_dataset_card(info: DatasetInfo) -> None:
    """Print the card of a registered dataset, with what other cards say about it."""
    from tgfbench.benchmark.catalogue import print_table
    from tgfbench.datasets.leakage import cards

    print_table([(f"  {label}", text) for label, text in card_rows(info, cards(), _methods())])


def card_rows(info: DatasetInfo, datasets: Mapping[str, DatasetInfo], methods: Iterable[MethodInfo]) -> list[Row]:
    """Return the labelled lines of a card; a field of several lines has its label on the first.

    Args:
        info: the card.
        datasets: the cards of all datasets, by registry name.
        methods: the cards of methods whose weights may have seen images of this dataset.
    """
    size = "{}x{}".format(*info.size) if info.size else "many"
    fields: list[tuple[str, Iterable[str]]] = [
        ("title", [info.title]),
        ("source", [info.source]),
        ("licence", [info.licence]),
        ("terms", [info.terms]),
        ("citation", [info.citation]),
        ("splits", [_split(info, split) for split in info.splits]),
        ("size", [size]),
        ("derived from", [", ".join(info.derived_from)]),
        ("classes (boxes)", [f"{index} {name}" for index, name in enumerate(info.classes)]),
        ("classes (label map)", _segmentation(info)),
        ("used in training by", _training(info, datasets)),
        ("shipped weights", _weights(info, methods)),
        ("known problems", info.known_problems),
        ("layout", [info.layout]),
        ("get it", [f"tgfbench datasets download {info.name} --data-root DIR"] if info.name in SOURCES else []),
    ]
    rows: list[Row] = []
    for label, lines in fields:
        shown = [line for line in lines if line]
        rows += [(label if number == 0 else "", line) for number, line in enumerate(shown)]
    return rows


def _split(info: DatasetInfo, split: str) -> str:
    count = info.counts.get(split)
    default = " (taken unless another is named)" if split == info.splits[0] and len(info.splits) > 1 else ""
    return f"{split}: {counted(count, 'pair')}{default}" if count is not None else f"{split}{default}"


def _segmentation(info: DatasetInfo) -> list[str]:
    lines = []
    for index, name in enumerate(info.segmentation_classes):
        colour = f", RGB {' '.join(map(str, info.palette[index]))}" if info.palette else ""
        ignored = ", left out of the mean IoU" if index == info.ignored_segmentation_class else ""
        lines.append(f"{index} {name}{colour}{ignored}")
    return lines


def _training(info: DatasetInfo, datasets: Mapping[str, DatasetInfo]) -> list[str]:
    lines = [str(use) for use in info.used_in_training_by]
    for other in datasets.values():
        for relation, derived, origin in (("holds images of this one", other, info), ("is a source", info, other)):
            if normalise(origin.name) in map(normalise, derived.derived_from):
                lines += [f"{use}, through {other.name}, which {relation}" for use in other.used_in_training_by]
    return lines


def _weights(info: DatasetInfo, methods: Iterable[MethodInfo]) -> list[str]:
    """Say which weights that come with tgfbench have seen pairs of this dataset: boards mark them."""
    return [
        f"{method.name}:{weights.name} has seen {counted(len(keys), 'pair')} of it; boards mark those among the "
        "tested ones"
        for method in methods
        for weights in method.weights
        for name, keys in weights.trained_keys.items()
        if normalise(name) == normalise(info.name)
    ]


def _methods() -> Iterable[MethodInfo]:
    from tgfbench.methods import METHODS

    for name in METHODS.names():
        try:
            yield METHODS.load(name).info
        except PluginError:
            continue  # doctor reports it; the other methods' cards are what was asked for
