"""Whether a method may have seen a test pair in training: what the cards say, and what the images show.

The cards name the methods trained on a dataset and the datasets its images come from; ``seen_in_training`` answers
from them alone, ``training_overlap`` also from the training pairs that weights list. ``overlap`` compares images by
perceptual hash, for a dataset or split of which no card tells.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tgfbench.benchmark.errors import TgfbenchError, counted
from tgfbench.benchmark.registry import normalise
from tgfbench.datasets import DATASETS
from tgfbench.datasets.base import Dataset, DatasetInfo, TrainingUse
from tgfbench.datasets.hashing import THRESHOLD, Match, PairHashes, near_duplicates, pair_hash

EVERYTHING = "all"


class Seen(BaseModel):
    """That a method has, or may have, seen the pairs it is tested on.

    Attributes:
        level: ``seen`` where the method was trained on this very split; ``possible`` where it was trained on images
            of the same origin and it is not stated which.
        reason: one clause, for a footnote.
    """

    model_config = ConfigDict(frozen=True)

    level: Literal["seen", "possible"]
    reason: str


def cards() -> dict[str, DatasetInfo]:
    """Return the cards of all datasets that can be imported, by registry name."""
    return {name: dataset.info for name, dataset in DATASETS.load_all().items()}


def seen_in_training(
    method: str, dataset: str, split: str, known: Mapping[str, DatasetInfo] | None = None
) -> tuple[Seen, ...]:
    """Return why the results of a method on a split are not those of unseen pairs, as far as the cards tell.

    Args:
        method: its name; case, ``-`` and ``_`` do not matter.
        dataset: registry name; degradations (``msrs+haze:3``) do not matter.
        split: of the dataset.
        known: the cards; None takes those of all registered datasets.

    Returns:
        Nothing where no card tells of it, which does not prove that the pairs are unseen.
    """
    by_name = {normalise(name): info for name, info in (cards() if known is None else known).items()}
    info = by_name.get(normalise(dataset.partition("+")[0]))
    if info is None:
        return ()
    found = []
    for use in _uses(info, method):
        if split in (use.split, EVERYTHING):
            found.append(Seen(level="seen", reason=f"trained on {info.name}, split {_said(use)}"))
        elif use.split == EVERYTHING:
            which = use.note or "which pairs is not stated"
            found.append(Seen(level="possible", reason=f"trained on {info.name}, {which}"))
    for other in by_name.values():
        derived, origin = (other, info) if _comes_from(other, info) else (info, other)
        if not _comes_from(derived, origin):
            continue
        for use in _uses(other, method):
            if use.images_of and normalise(info.name) not in map(normalise, use.images_of):
                continue
            # Where splits were mixed, any pair of one dataset may be in the training part of the other.
            if not derived.keeps_splits or split in (use.split, EVERYTHING) or use.split == EVERYTHING:
                shared = f"trained on {other.name}, split {_said(use)}, which shares images with {info.name}"
                found.append(Seen(level="possible", reason=shared))
    return tuple(dict.fromkeys(found))


def training_overlap(
    method: str,
    origin: str,
    trained_keys: Mapping[str, Sequence[str]],
    tested: Dataset,
    known: Mapping[str, DatasetInfo] | None = None,
) -> tuple[int, str]:
    """Return how many of the tested pairs some weights were trained on, and what else may have been seen.

    Args:
        method: its name.
        origin: of the weights: ``authors``, ``project`` or ``user``.
        trained_keys: the pairs the weights were trained on, by dataset; {} where they bring no list along.
        tested: the dataset; degradations do not matter.
        known: the cards; None takes those of all registered datasets.

    Returns:
        The number of pairs known to have been seen, and a clause, "" where there is nothing to say.
    """
    cards_of = cards() if known is None else known
    name = tested.info.name.partition("+")[0]
    if trained_keys:
        of_dataset = {key for trained, keys in trained_keys.items() if _same(trained, name) for key in keys}
        notes = [
            f"trained on {counted(len(keys), 'pair')} of {trained}, which shares images with {name}"
            for trained, keys in trained_keys.items()
            if not _same(trained, name) and _share_images(trained, name, cards_of)
        ]
        return len(of_dataset & set(tested.keys)), "; ".join(notes)
    found = seen_in_training(method, name, tested.split, cards_of)
    certain = origin == "authors"
    seen = len(tested) if certain and any(one.level == "seen" for one in found) else 0
    notes = [one.reason for one in found if not (certain and one.level == "seen")]
    if notes and not certain:
        notes[0] = f"the authors' weights were {notes[0]}"
    return seen, "; ".join(notes)


def hash_dataset(
    dataset: Dataset, *, workers: int | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> PairHashes:
    """Decode and hash every pair of a dataset; pairs that cannot be decoded are left out.

    Args:
        dataset: opened.
        workers: threads; None takes as many as there are cores.
        progress: is called with the number of pairs done and of all.
    """

    def hashed(key: str) -> tuple[int | None, int | None] | None:
        try:
            sample = dataset.load(key)
        except TgfbenchError:
            return None  # verify names it; an image that cannot be decoded cannot leak
        return pair_hash(sample.visible, sample.infrared)

    keys, hashes = [], []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for done, (key, found) in enumerate(zip(dataset.keys, pool.map(hashed, dataset.keys), strict=True), start=1):
            if found is not None:
                keys.append(key)
                hashes.append(found)
            progress(done, len(dataset))
    return PairHashes.of(f"{dataset.info.name}, split {dataset.split}", keys, hashes)


def overlap(train: Dataset, test: Dataset, threshold: int = THRESHOLD) -> list[Match]:
    """Return which pairs of a test set show the same thing as a pair of a training set, nearest first.

    ``first`` of a match is the key of the training pair, ``second`` that of the test pair.
    """
    return near_duplicates(hash_dataset(train), hash_dataset(test), threshold)


def _uses(info: DatasetInfo, method: str) -> list[TrainingUse]:
    return [use for use in info.used_in_training_by if normalise(use.method) == normalise(method)]


def _comes_from(derived: DatasetInfo, origin: DatasetInfo) -> bool:
    return normalise(origin.name) in map(normalise, derived.derived_from)


def _same(name: str, other: str) -> bool:
    return normalise(name) == normalise(other)


def _share_images(name: str, other: str, known: Mapping[str, DatasetInfo]) -> bool:
    """Tell whether one of two datasets is made from the other, or both from a third one."""
    origins = [{normalise(one)} for one in (name, other)]
    for card in known.values():
        for found, one in zip(origins, (name, other), strict=True):
            if _same(card.name, one):
                found |= set(map(normalise, card.derived_from))
    return bool(origins[0] & origins[1])


def _said(use: TrainingUse) -> str:
    return f"{use.split} ({use.note})" if use.note else use.split
