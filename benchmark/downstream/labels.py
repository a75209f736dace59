"""Labels in the store: ``<root>/labels/<dataset>/<split>-<hash>/``, written once for all methods.

======================  ===============================================================================
``boxes.jsonl``         a line per image: ``key``, ``boxes`` (xyxy, pixels; null where unknown), ``classes``
``segmentation/*.png``  uint8 class ids, of images that have a label map
``labels.json``         what was asked for, the keys in order, what was left out and why, class names
======================  ===============================================================================

``labels.json`` is written last: a folder without it is begun anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import image_size, read_label_map, write_png, write_text
from tgfbench.benchmark.records import StoredFolder, run_id, safe_name
from tgfbench.datasets.base import Dataset, Labels
from tgfbench.metrics.downstream.base import LabelledImage, LabelledSet

FOLDER = "labels"
VERSION = 1
"""Raised whenever other labels could be written for the same request."""

Kind = Literal["boxes", "segmentation"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Choice:
    """Which of a split's images are wanted.

    Attributes:
        kind: the labels that an image must have.
        most: how many images, None for all.
        spread: take them evenly from the whole split instead of from its beginning.
        part: word for the keys offered, where they are not the whole split.
    """

    kind: Kind
    most: int | None = None
    spread: bool = False
    part: str = "all"


class LabelFolder(StoredFolder):
    """Labels that were written.

    Args:
        folder: ``<root>/labels/<dataset>/<split>-<hash>``.

    Attributes:
        keys: images that have labels of the wanted kind, in the dataset's order.
        left_out: why an image that was looked at is of no use, by key.
    """

    JSON, HINT = "labels.json", "remove this folder: labels are written again"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._content = self.read_json()
        self.keys: tuple[str, ...] = tuple(self._content.get("keys", ()))
        self.left_out: dict[str, str] = self._content.get("left_out", {})
        self._boxes: dict[str, dict[str, Any]] = {}

    def complete(self) -> bool:
        """Tell whether everything that was written is still there."""
        maps = (self._map(key) for key in self._content.get("maps", ()))
        return bool(self._content) and (self.folder / "boxes.jsonl").is_file() and all(map(Path.is_file, maps))

    def content_hash(self, keys: Iterable[str]) -> str:
        """Return a hash of the wanted labels of some keys, and of the meaning of their ids."""
        told: dict[str, Any] = {name: self._content[name] for name in ("kind", *_NAMES[self._content["kind"]])}
        told["images"] = [(key, self._content["digests"][key]) for key in keys]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def boxes(self, keys: Iterable[str]) -> int:
        """Return the number of boxes on some keys."""
        counts = self._content["boxes"]
        return sum(counts[key] for key in keys)

    def labelled_set(self, keys: Sequence[str], path_of: Callable[[str], Path]) -> LabelledSet:
        """Return images with these labels.

        Args:
            keys: some of ``self.keys``.
            path_of: where the image of a key lies.

        Raises:
            DataError: what lies in the folder is not what was written.
        """
        boxes = self._boxes = self._boxes or self._checked()
        maps = set(self._content["maps"])
        images = []
        for key in keys:
            height, width = image_size(path_of(key))
            images.append(
                LabelledImage(
                    key=key,
                    path=path_of(key),
                    size=(width, height),
                    boxes=np.asarray(boxes[key]["boxes"] or [], np.float32).reshape(-1, 4),
                    classes=np.asarray(boxes[key]["classes"], np.int64),
                    segmentation=self._map(key) if key in maps else None,
                )
            )
        return LabelledSet(
            images=tuple(images),
            classes=tuple(self._content["classes"]),
            segmentation_classes=tuple(self._content["segmentation_classes"]),
            palette=tuple((r, g, b) for r, g, b in self._content["palette"]),
            ignored_segmentation_class=self._content["ignored_segmentation_class"],
        )

    def _checked(self) -> dict[str, dict[str, Any]]:
        """Return the lines of ``boxes.jsonl`` by key, if these labels are still those that were written."""
        segmented = self._content["kind"] == "segmentation"
        try:
            lines = map(json.loads, (self.folder / "boxes.jsonl").read_text(encoding="utf-8").splitlines())
            boxes = {line.pop("key"): line for line in lines}
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                maps = pool.map(lambda key: read_label_map(self._map(key)) if segmented else None, self.keys)
                digests = {key: _digest(boxes[key], ids) for key, ids in zip(self.keys, maps, strict=True)}
            changed = [key for key in self.keys if digests[key] != self._content["digests"][key]]
        except (DataError, OSError, ValueError, KeyError) as error:
            changed = [error.one_line if isinstance(error, DataError) else f"{type(error).__name__}: {error}"]
        if changed:
            found = f"labels that changed since they were written: {changed[0]}"
            raise DataError(f"reading the labels {self.folder}", found=found, hint=self.HINT)
        return boxes

    def _map(self, key: str) -> Path:
        return self.folder / "segmentation" / f"{key}.png"


def _digest(line: dict[str, Any], segmentation: np.ndarray | None) -> str:
    """Return a hash of the label map, or of the boxes where there is none."""
    if segmentation is None:
        return hashlib.sha256(json.dumps(line).encode()).hexdigest()
    return hashlib.sha256(f"{segmentation.shape}".encode() + segmentation.tobytes()).hexdigest()


_NAMES = {"boxes": ("classes",), "segmentation": ("segmentation_classes", "ignored_segmentation_class")}


def label_folder(
    root: Path,
    dataset: Dataset,
    offered: Sequence[str],
    choice: Choice,
    options: dict[str, Any],
    progress: Progress = lambda done, total: None,
) -> LabelFolder:
    """Return the labels of a choice of images, written if they are not there yet.

    Args:
        root: folder of the store.
        dataset: whose labels.
        offered: keys to choose from.
        choice: which of them.
        options: the dataset's options, which may decide what its labels are.
        progress: called after every image.
    """
    wanted = {
        "version": VERSION,
        "dataset": dataset.info.name,
        "options": {name: str(value) for name, value in options.items()},
        "split": dataset.split,
        "fingerprint": dataset.fingerprint(),
        "choice": vars(choice),
    }
    folder = root / FOLDER / safe_name(dataset.info.name) / f"{safe_name(dataset.split)}-{run_id(wanted)}"
    stored = LabelFolder(folder)
    if stored.complete():
        return stored
    return _write(stored, dataset, offered, choice, wanted, progress)


def spread(items: Sequence[str], most: int | None) -> list[str]:
    """Return at most so many items, evenly spread over all of them."""
    if most is None or most >= len(items):
        return list(items)
    return [items[(2 * index + 1) * len(items) // (2 * most)] for index in range(most)]


def _write(
    stored: LabelFolder,
    dataset: Dataset,
    offered: Sequence[str],
    choice: Choice,
    wanted: dict[str, Any],
    progress: Progress,
) -> LabelFolder:
    looked_at = _Looks(stored.folder, dataset, choice.kind, progress, min(choice.most or len(offered), len(offered)))
    keys = looked_at.spread_over(offered, choice.most) if choice.spread else looked_at.first_of(offered, choice.most)
    lines = [json.dumps({"key": key, **looked_at.lines[key]}) for key in keys]
    write_text(stored.folder / "boxes.jsonl", "".join(f"{line}\n" for line in lines))
    info = dataset.info
    content = {
        "wanted": wanted,
        "kind": choice.kind,
        "keys": keys,
        "left_out": looked_at.left_out,
        "digests": {key: looked_at.digests[key] for key in keys},
        "boxes": {key: len(looked_at.lines[key]["boxes"] or ()) for key in keys},
        "maps": [key for key in keys if key in looked_at.maps],
        "classes": info.classes,
        "segmentation_classes": info.segmentation_classes,
        "palette": info.palette,
        "ignored_segmentation_class": info.ignored_segmentation_class,
    }
    stored.write_json(content)
    return LabelFolder(stored.folder)


class _Looks:
    """Reads the labels of images as they are asked for, several at a time."""

    def __init__(self, folder: Path, dataset: Dataset, kind: Kind, progress: Progress, total: int) -> None:
        self.lines: dict[str, dict[str, Any]] = {}
        self.digests: dict[str, str] = {}
        self.maps: set[str] = set()
        self.left_out: dict[str, str] = {}
        self._folder, self._dataset, self._kind = folder, dataset, kind
        self._progress, self._total = progress, total

    def first_of(self, offered: Sequence[str], most: int | None) -> list[str]:
        """Return the first usable keys."""
        most = len(offered) if most is None else most
        found: list[str] = []
        position = 0
        while len(found) < most and position < len(offered):
            batch = offered[position : position + most - len(found)]
            position += len(batch)
            self._look(batch)
            found += [key for key in batch if key in self.lines]
        return found

    def spread_over(self, offered: Sequence[str], most: int | None) -> list[str]:
        """Return usable keys, evenly spread over those that are not known to be of no use."""
        left = list(offered)
        while True:
            chosen = spread(left, most)
            self._look([key for key in chosen if key not in self.lines])
            if not any(key in self.left_out for key in chosen):
                return chosen
            left = [key for key in left if key not in self.left_out]

    def _look(self, keys: Sequence[str]) -> None:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for key, labels in zip(keys, pool.map(self._labels, keys), strict=True):
                if isinstance(labels, str):
                    self.left_out[key] = labels
                else:
                    self._keep(key, labels)
                self._progress(min(len(self.lines), self._total), self._total)

    def _labels(self, key: str) -> Labels | str:
        """Return the labels of an image, or why there are none."""
        try:
            labels = self._dataset.labels(key)
        except DataError as error:
            return error.one_line
        if labels is None or (not labels.boxes_known and self._kind == "boxes"):
            return "no box file" if self._kind == "boxes" else "no label map"
        if self._kind == "segmentation" and labels.segmentation is None:
            return "no label map"
        return labels

    def _keep(self, key: str, labels: Labels) -> None:
        self.lines[key] = {
            "boxes": labels.boxes.tolist() if labels.boxes_known else None,
            "classes": labels.classes.tolist(),
        }
        if labels.segmentation is not None:
            write_png(self._folder / "segmentation" / f"{key}.png", labels.segmentation)
            self.maps.add(key)
        self.digests[key] = _digest(self.lines[key], labels.segmentation if self._kind == "segmentation" else None)
