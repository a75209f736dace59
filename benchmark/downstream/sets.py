"""Which images are trained on and which are tested on: the dataset's splits, or an honest part of the one at hand."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tgfbench.benchmark.downstream.labels import Choice, Kind, LabelFolder, Progress, label_folder
from tgfbench.benchmark.errors import MAX_NAMED, DataError, UsageError, counted, listed
from tgfbench.benchmark.plan import DatasetRequest
from tgfbench.datasets import DATASETS
from tgfbench.datasets.base import Dataset, Problem, Sample

HELD_OUT = 3
"""One of so many images is held out for the test where a split has to serve for both."""

REMEMBERED_BYTES = 2**29

LABEL_PROBLEMS = {
    "box outside its image or empty": r"outside the image|is empty|not finite",
    "class out of range": r": class |class id",
}
"""Kinds of entries that a loader dropped, by what it says about them; everything else is an entry that is damaged."""


UNUSABLE = {"no box file": "image without box file", "no label map": "image without label map"}
"""Kinds of images that are left out, by the reason; everything else is a label map that cannot be used."""


@dataclass(frozen=True)
class Images:
    """Images of one split that have labels.

    Attributes:
        dataset: where they are from.
        labels: their labels.
        keys: which of the labelled images.
    """

    dataset: Dataset
    labels: LabelFolder
    keys: tuple[str, ...]

    @property
    def labels_hash(self) -> str:
        """Content of the keys and their labels."""
        return self.labels.content_hash(self.keys)


@dataclass(frozen=True)
class Sets:
    """What a downstream evaluation works on.

    Attributes:
        test: images to be tested on.
        train: images to learn from; None in the mode ``frozen``.
        notes: what a reader of the numbers must know about the choice.
        problems: number of labels that could not be used, by kind.
    """

    test: Images
    train: Images | None
    notes: tuple[str, ...]
    problems: dict[str, int]


def choose_sets(
    request: DatasetRequest,
    train_split: str | None,
    train_images: int | None,
    kind: Kind,
    root: Path,
    progress: Progress = lambda done, total: None,
) -> Sets:
    """Choose the images and write their labels into the store.

    Args:
        request: the test images; its limit takes the first so many labelled ones.
        train_split: the split to learn from, None where nothing is trained. Where it has no labelled pair, or is the
            test split itself, every third image of the other one, in the order of a hash of its key, is held out for
            the test, and the rest is learnt from.
        train_images: most images to learn from.
        kind: the labels that an image must have.
        root: folder of the store.
        progress: told about every image whose labels are read.

    Raises:
        UsageError, DataError: no such dataset or split, or too few images with labels.
    """
    _refuse_without_labels(request, kind)
    chooser = _Chooser(request, kind, root, progress)
    if train_split is None:
        return chooser.sets(chooser.whole(request.split, request.limit), None, [])
    why = f"split {request.split} is asked for as both"
    found: list[Images] = []
    if train_split != request.split:
        errors = []
        for split, most, spread in ((request.split, request.limit, False), (train_split, train_images, True)):
            try:
                images = chooser.whole(split, most, spread)
            except DataError as error:
                errors.append(error)
                continue
            if images.keys:
                found.append(images)
            else:
                errors.append(chooser.nothing(images))
        if not errors:
            return chooser.sets(found[0], found[1], [])
        if not found:
            raise errors[0]
        absent = train_split if found[0].dataset.split == request.split else request.split
        why = f"no labelled pair of split {absent} here"
    here = found[0].dataset if found else chooser.open(request.split)
    test, train = chooser.parts(here, request.limit, train_images)
    share = f"every {HELD_OUT}rd image of split {here.split}, in the order of a hash of its key"
    return chooser.sets(test, train, [f"{why}: {share}, is held out for the test and the rest is learnt from"])


class _Chooser:
    def __init__(self, request: DatasetRequest, kind: Kind, root: Path, progress: Progress) -> None:
        self.request, self.kind, self.root, self.progress = request, kind, root, progress

    def open(self, split: str) -> Dataset:
        """Open a split without the limit, which counts labelled images only."""
        return remembering(dataclasses.replace(self.request, split=split, limit=None).open())

    def whole(self, split: str, most: int | None, spread: bool = False) -> Images:
        """Choose from a whole split."""
        dataset = self.open(split)
        return self._images(dataset, dataset.keys, Choice(self.kind, most, spread))

    def parts(self, dataset: Dataset, most: int | None, train_images: int | None) -> tuple[Images, Images]:
        """Divide a split into images to be tested on and images to learn from."""
        held_out = hold_out(dataset.keys)
        rest = [key for key in dataset.keys if key not in held_out]
        test = self._images(
            dataset, [*filter(held_out.__contains__, dataset.keys)], Choice(self.kind, most, part="test")
        )
        train = self._images(dataset, rest, Choice(self.kind, train_images, spread=True, part="train"))
        return test, train

    def sets(self, test: Images, train: Images | None, notes: list[str]) -> Sets:
        """Put the two together, the training images without those that are tested on."""
        for found in (test, *([train] if train else [])):
            if not found.keys or (self.kind == "boxes" and not found.labels.boxes(found.keys)):
                raise self.nothing(found)
        if train:
            train, twins = _without(train, test)
            if twins:
                twice = counted(len(twins), "training image")
                notes.append(f"{twice} that the test holds too left out: {_some(twins)}")
            if not train.keys:
                raise self.nothing(train)
        problems: Counter[str] = Counter()
        both = [test, train] if train else [test]
        for dataset in {id(found.dataset): found.dataset for found in both}.values():
            dropped = [problem for problem in dataset.problems if problem.kind == "label"]
            problems.update(map(_label_kind, dropped))
            if dropped:
                told = _some(f"{Path(problem.item).name}: {problem.detail}" for problem in dropped)
                notes.append(f"split {dataset.split}: {counted(len(dropped), 'label')} dropped: {told}")
        for found in both:
            left_out = found.labels.left_out
            problems.update(UNUSABLE.get(why, "label map unusable") for why in left_out.values())
            if left_out:
                told = _some(f"{key} ({why})" for key, why in left_out.items())
                notes.append(f"split {found.dataset.split}: {counted(len(left_out), 'image')} left out: {told}")
        return Sets(test, train, tuple(notes), dict(sorted(problems.items())))

    def nothing(self, found: Images) -> DataError:
        """Return the error for a set that nothing can be done with."""
        labels = "boxes" if self.kind == "boxes" else "label maps"
        told = _some(f"{key}: {why}" for key, why in found.labels.left_out.items())
        looked_at = counted(len(found.keys) + len(found.labels.left_out), "image")
        return DataError(
            f"looking for {labels} in {found.dataset.info.name}, split {found.dataset.split}",
            found=f"none on {looked_at}" + (f" ({told})" if told else ""),
            expected=f"images to train on and images to test on with {labels}",
            hint=found.dataset.info.layout,
        )

    def _images(self, dataset: Dataset, offered: Sequence[str], choice: Choice) -> Images:
        labels = label_folder(self.root, dataset, offered, choice, dict(self.request.options), self.progress)
        return Images(dataset, labels, labels.keys)


def hold_out(keys: Iterable[str]) -> frozenset[str]:
    """Return every third key, in the order of a hash of the keys."""
    return frozenset(sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())[::HELD_OUT])


def remembering(dataset: Dataset, budget: int = REMEMBERED_BYTES) -> Dataset:
    """Have a dataset keep the samples it loads, up to so many bytes: every method wants the same ones."""
    kept: dict[str, Sample] = {}
    load, left = dataset.load, budget

    def remembered(key: str) -> Sample:
        nonlocal left
        if key in kept:
            return kept[key]
        sample = load(key)
        size = sample.visible.nbytes + sample.infrared.nbytes
        size += sample.labels.segmentation.nbytes if sample.labels and sample.labels.segmentation is not None else 0
        if size <= left and sample.clean is None:
            kept[key] = sample
            left -= size
        return sample

    dataset.load = remembered  # type: ignore[method-assign]  # this instance only
    return dataset


def _refuse_without_labels(request: DatasetRequest, kind: Kind) -> None:
    name = request.name.partition("+")[0]
    field = "classes" if kind == "boxes" else "segmentation_classes"
    if not getattr(DATASETS.load(name).info, field):
        able = [other for other, cls in DATASETS.load_all().items() if getattr(cls.info, field)]
        raise UsageError(
            f"evaluating on {name}",
            found=f"a dataset without {'boxes' if kind == 'boxes' else 'label maps'}",
            expected=f"one of {', '.join(able)}",
        )


def _without(train: Images, test: Images) -> tuple[Images, list[str]]:
    """Return the training images of which no file is a test image, and the keys of the others."""
    from tgfbench.datasets.paired import file_digest

    def digest(images: Images, key: str) -> str:
        visible = images.dataset.files(key).get("visible")
        return file_digest(visible) if visible else ""

    tested = {digest(test, key) for key in test.keys} - {""}
    twins = [key for key in train.keys if digest(train, key) in tested] if tested else []
    return dataclasses.replace(train, keys=tuple(key for key in train.keys if key not in twins)), twins


def _label_kind(problem: Problem) -> str:
    found = (kind for kind, said in LABEL_PROBLEMS.items() if re.search(said, problem.detail))
    return next(found, "label file or entry damaged")


def _some(items: Iterable[str]) -> str:
    return listed(items, MAX_NAMED, "; ")
