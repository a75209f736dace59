"""Checking what a folder holds against the dataset's card: every file is decoded once, and a report is written.

``verify(dataset)`` looks at each pair (readable, of one size, infrared without colour, labels in range, shift between
the modalities) and at all of them together (count, exact and near duplicates, sizes). What makes results wrong is a
problem; what a user should merely know is a note.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np

from tgfbench.benchmark.errors import DataError, TgfbenchError, counted
from tgfbench.benchmark.images import read_visible, write_text
from tgfbench.datasets.base import Dataset, DatasetInfo, Problem, Sample
from tgfbench.datasets.hashing import PairHashes, near_duplicates, pair_hash
from tgfbench.datasets.registration import estimate_shift

MAX_CHANNEL_DIFFERENCE = 8
"""Grey levels by which the channels of an infrared image may differ: compression, but no colours."""

MAX_SHOWN = 50
"""So many problems and notes of one kind are written out in the Markdown report; the CSV has all pairs."""


@dataclass(frozen=True)
class PairRow:
    """What was measured on one pair; a field that could not be measured is None.

    Attributes:
        key: of the pair.
        width, height: in pixels.
        channel_difference: largest difference between the stored channels of the infrared image, in grey levels.
        visible_mean, infrared_mean: mean grey level.
        captions: number of captions.
        boxes: number of boxes, or None without annotation.
        box_classes: how many of which class, e.g. ``person 3, car 1``.
        segmentation_classes: ids in the label map, separated by blanks, or None without one.
        shift_x, shift_y: estimated shift of infrared against visible, in pixels.
        shift: its length.
        shift_confident: whether the estimate says anything.
        near_duplicate_of: the nearest other pair that shows the same thing, or "".
    """

    key: str
    width: int
    height: int
    channel_difference: int | None
    visible_mean: float
    infrared_mean: float
    captions: int
    boxes: int | None
    box_classes: str
    segmentation_classes: str | None
    shift_x: float
    shift_y: float
    shift: float
    shift_confident: bool
    near_duplicate_of: str = ""


@dataclass(frozen=True)
class Held:
    """How much of a split a user has.

    Attributes:
        split: its name.
        pairs: number of pairs that can be opened.
        complete: number of pairs where nothing is absent, or None where that is not known.
    """

    split: str
    pairs: int
    complete: int | None

    def __str__(self) -> str:
        return f"{self.split} {self.pairs}" + (f" of {self.complete}" if self.complete is not None else "")


@dataclass(frozen=True)
class Report:
    """What ``verify`` found.

    Attributes:
        name, title, split: of the dataset.
        expected: pairs of the complete split, or None where that is not known.
        splits: how much of each of the dataset's splits is there.
        pairs: one row a pair that could be decoded, in the order of the dataset.
        boxes: number of boxes by class, in the order of the classes.
        problems: what makes results wrong, those found on opening first.
        notes: what a user should know.
    """

    name: str
    title: str
    split: str
    expected: int | None
    splits: tuple[Held, ...]
    pairs: tuple[PairRow, ...]
    boxes: dict[str, int]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    @property
    def shifts(self) -> list[float]:
        """The lengths of the confident shifts, in pixels."""
        return [row.shift for row in self.pairs if row.shift_confident]

    def summary(self) -> list[tuple[str, str]]:
        """Return labelled one-line facts, for a terminal."""
        rows = self.pairs
        sizes = Counter(f"{row.width}x{row.height}" for row in rows).most_common()
        shown = ", ".join(f"{size} ({count})" for size, count in sizes[:5])
        boxed = sum(row.boxes is not None for row in rows)
        pairs = counted(len(rows), "pair")
        boxes = counted(sum(self.boxes.values()), "box", "boxes")
        by_class = ", ".join(f"{count} {name}" for name, count in self.boxes.items())
        maps = sum(row.segmentation_classes is not None for row in rows)
        shifts = self.shifts
        estimate = f"median {statistics.median(shifts):.1f} px, largest {max(shifts):.1f} px" if shifts else "none"
        return [
            ("dataset", f"{self.title}, split {self.split}"),
            ("pairs", f"{len(rows)}" + (f" of {self.expected}" if self.expected is not None else "")),
            *([("splits", ", ".join(map(str, self.splits)))] if len(self.splits) > 1 else []),
            ("sizes", shown + (f", … ({len(sizes)} sizes)" if len(sizes) > 5 else "")),
            ("with captions", str(sum(row.captions > 0 for row in rows))),
            ("with boxes", f"{boxed}" + (f" ({boxes}: {by_class})" if self.boxes else "")),
            ("with label map", str(maps)),
            ("misregistration", f"{estimate} ({len(shifts)} of {pairs} with a confident estimate)"),
            ("problems", str(len(self.problems))),
        ]

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``<name>-<split>.csv`` (one row a pair) and ``<name>-<split>.md`` (everything else).

        Returns:
            The two files.
        """
        stem = f"{self.name}-{self.split}".replace(":", "_")
        table, text = folder / f"{stem}.csv", folder / f"{stem}.md"
        write_text(table, self._table())
        write_text(text, self._text(table.name))
        return table, text

    def _table(self) -> str:
        buffer = io.StringIO()
        names = [field.name for field in fields(PairRow)]
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(getattr(row, name)) for name in names] for row in self.pairs)
        return buffer.getvalue()

    def _text(self, table: str) -> str:
        lines = [f"# {self.title}, split {self.split}", "", "| what | found |", "|---|---|"]
        lines += [f"| {label} | {value} |" for label, value in self.summary()[1:]]
        lines += ["", "## Problems", ""]
        lines += _listed([f"**{p.kind}** `{p.item}`: {p.detail}" for p in self.problems])
        lines += ["", "## Notes", "", *_listed(self.notes), "", f"Every pair: [{table}]({table}).", ""]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Measured:
    row: PairRow
    boxes: Counter[str]
    hashes: tuple[int | None, int | None]
    digest: bytes


def verify(
    dataset: Dataset,
    *,
    splits: Sequence[Held] = (),
    complete: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Check a dataset: decode every pair once, measure it, and compare with the card.

    Args:
        dataset: opened; its own ``problems`` are part of the report.
        splits: of ``held_splits``; part of the report.
        complete: whether absent pairs are a problem; else they are a note, since a user may hold a part on purpose.
        workers: threads; None takes as many as there are cores.
        progress: is called with the number of pairs done and of all.
    """
    problems = list(dataset.problems)
    measured: list[_Measured] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for done, one in enumerate(pool.map(lambda key: _measure(dataset, key), dataset.keys), start=1):
            if isinstance(one, Problem):
                problems.append(one)
            else:
                measured.append(one)
            progress(done, len(dataset))
    rows = [one.row for one in measured]
    total = sum((one.boxes for one in measured), Counter[str]())
    problems += [_channels(row) for row in rows if (row.channel_difference or 0) > MAX_CHANNEL_DIFFERENCE]
    problems += _exact_duplicates(measured)
    expected = dataset.complete_count()
    notes: list[str] = []
    if expected is not None and len(dataset) != expected:
        found = f"{len(dataset)} of the {expected} pairs of the complete split {dataset.split} are here"
        notes.append(found)
        if complete:
            problems.append(Problem("count", dataset.info.name, found))
    rows, resembling = _with_near_duplicates(measured)
    notes += resembling + _notes(dataset, rows)
    return Report(
        name=dataset.info.name,
        title=dataset.info.title,
        split=dataset.split,
        expected=expected,
        splits=tuple(splits),
        pairs=tuple(rows),
        boxes={name: total[name] for name in dataset.info.classes if total[name]},
        problems=tuple(problems),
        notes=tuple(notes),
    )


def held_splits(info: DatasetInfo, opened: Callable[[str], Dataset]) -> tuple[Held, ...]:
    """Return how much of each split is there, without decoding an image; splits that cannot be opened are left out.

    Args:
        info: the dataset's card.
        opened: opens a split.
    """
    held = []
    for split in info.splits:
        try:
            dataset = opened(split)
        except DataError:
            continue  # a user may hold some splits only
        held.append(Held(split, len(dataset), dataset.complete_count()))
    return tuple(held)


def _measure(dataset: Dataset, key: str) -> _Measured | Problem:
    try:
        sample = dataset.load(key)
        difference = _channel_difference(dataset.files(key))
    except TgfbenchError as error:
        return Problem("label" if "label map" in error.doing else "unreadable", key, error.one_line)
    shift = estimate_shift(sample.visible, sample.infrared)
    height, width = sample.infrared.shape
    labels = sample.labels
    boxes = Counter(dataset.info.classes[index] for index in (() if labels is None else labels.classes))
    ids = None
    if labels is not None and labels.segmentation is not None:
        ids = np.flatnonzero(np.bincount(labels.segmentation.ravel()))
    row = PairRow(
        key=key,
        width=width,
        height=height,
        channel_difference=difference,
        visible_mean=float(sample.visible.mean()),
        infrared_mean=float(sample.infrared.mean()),
        captions=len(sample.texts.captions),
        boxes=None if labels is None else len(labels.boxes),
        box_classes=", ".join(f"{name} {count}" for name, count in sorted(boxes.items())),
        segmentation_classes=None if ids is None else " ".join(map(str, ids)),
        shift_x=shift.x,
        shift_y=shift.y,
        shift=shift.length,
        shift_confident=shift.confident,
    )
    return _Measured(row, boxes, pair_hash(sample.visible, sample.infrared), _digest(sample))


def _digest(sample: Sample) -> bytes:
    content = hashlib.blake2b(digest_size=16)
    for image in (sample.visible, sample.infrared):
        content.update(repr(image.shape).encode())
        content.update(np.ascontiguousarray(image).data)
    return content.digest()


def _channel_difference(files: dict[str, Path]) -> int | None:
    infrared = files.get("infrared")
    if infrared is None or infrared == files.get("visible"):
        return None
    red, green, blue = cv2.split(read_visible(infrared))
    return int(max(cv2.absdiff(red, green).max(), cv2.absdiff(green, blue).max(), cv2.absdiff(red, blue).max()))


def _channels(row: PairRow) -> Problem:
    found = f"the channels of infrared differ by up to {row.channel_difference} grey levels"
    return Problem("channels", row.key, f"{found}, expected at most {MAX_CHANNEL_DIFFERENCE}: is it in false colours?")


def _exact_duplicates(measured: Iterable[_Measured]) -> list[Problem]:
    first: dict[bytes, str] = {}
    problems = []
    for one in measured:
        other = first.setdefault(one.digest, one.row.key)
        if other != one.row.key:
            problems.append(Problem("duplicate", one.row.key, f"both images have the same pixels as {other}"))
    return problems


def _with_near_duplicates(measured: Sequence[_Measured]) -> tuple[list[PairRow], list[str]]:
    rows = {one.row.key: one.row for one in measured}
    matches = near_duplicates(PairHashes.of("", list(rows), [one.hashes for one in measured]))
    for match in reversed(matches):  # the nearest is written last and stays
        for key, other in ((match.first, match.second), (match.second, match.first)):
            rows[key] = replace(rows[key], near_duplicate_of=other)
    alike = sum(row.near_duplicate_of != "" for row in rows.values())
    nearest = ", ".join(f"{match.first} and {match.second}" for match in matches[:3])
    notes = [f"{alike} pairs resemble another one closely (nearest: {nearest})"] if matches else []
    return list(rows.values()), notes


def _notes(dataset: Dataset, rows: Sequence[PairRow]) -> list[str]:
    notes = []
    if dataset.info.size is not None:
        other = [row.key for row in rows if (row.width, row.height) != dataset.info.size]
        if other:
            size = "{}x{}".format(*dataset.info.size)
            notes.append(f"{counted(len(other), 'pair')} not of {size} as the card says (first: {other[0]})")
    odd = sum(row.width % 2 == 1 or row.height % 2 == 1 for row in rows)
    if odd:
        notes.append(f"{odd} pairs have an odd side: pad, do not resize, where metrics are computed")
    dark = sum(row.infrared_mean < 30 for row in rows)
    if dark:
        notes.append(f"{dark} infrared images have a mean under 30 of 255")
    shifted = sorted((row for row in rows if row.shift_confident), key=lambda row: -row.shift)[:3]
    if shifted:
        worst = ", ".join(f"{row.key} ({row.shift:.1f} px)" for row in shifted)
        notes.append(f"largest estimated shifts between the modalities: {worst}")
    return notes


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else value


def _listed(items: Sequence[str]) -> list[str]:
    shown = [f"- {item}" for item in items[:MAX_SHOWN]] or ["None."]
    more = len(items) - MAX_SHOWN
    return [*shown, f"- … and {more} more"] if more > 0 else shown
