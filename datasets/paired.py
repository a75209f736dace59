"""The shared base of all datasets that are folders of files: visible and infrared images paired by stem.

A loader says where its folders are (``folders``), which keys a split has (``selector``) and what its card is; the
rest happens here. Opening reads file headers, box files and the caption sidecar, and never decodes an image.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import IMAGE_SUFFIXES, image_size, read_infrared, read_label_map, read_visible
from tgfbench.datasets.base import Dataset, Labels, Problem, Sample, Texts
from tgfbench.datasets.labels import read_boxes
from tgfbench.datasets.roots import absolute, list_folder, locate
from tgfbench.datasets.sidecar import SidecarEntry, read_sidecar

BOX_SUFFIXES = (".txt", ".xml")
MAX_PROBLEMS_SHOWN = 5
UNSAFE_IN_KEYS = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]|[. ]$')


class Folders(NamedTuple):
    """The folders of one part of a dataset; files of one pair have one stem.

    Attributes:
        visible, infrared: image folders.
        boxes: folder of YOLO txt or VOC xml files; files may be absent.
        segmentation: folder of label maps; files may be absent.
    """

    visible: Path
    infrared: Path
    boxes: Path | None = None
    segmentation: Path | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """The files of one pair, checked to have readable headers and one size.

    Attributes:
        key: the sample's key.
        visible, infrared: image files.
        shape: (height, width) of both.
        boxes: box file, or None.
        segmentation: label map of the same size, or None.
        labels: the boxes, already read, or None where nobody annotated the pair.
    """

    key: str
    visible: Path
    infrared: Path
    shape: tuple[int, int]
    boxes: Path | None = None
    segmentation: Path | None = None
    labels: Labels | None = None


class PairedDataset(Dataset):
    """A dataset in folders.

    Args:
        root: the folder that holds the dataset's folder, or that folder itself; None reads ``TGFBENCH_DATA``.
        split: one of ``info.splits``.
        captions: a caption sidecar; None looks for ``captions/<name>.jsonl`` beside and ``captions.jsonl`` inside the
            dataset's folder.
        sidecar_boxes: take the sidecar's boxes (placed by eye) as labels of pairs without a box file.

    Raises:
        UsageError: unknown split, or no root.
        DataError: the folder is missing or of another layout, or no pair can be served.
    """

    inner = ""
    """Name of the folder that the official archive adds inside the dataset's folder."""

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        captions: str | Path | None = None,
        sidecar_boxes: bool = False,
    ) -> None:
        self.split = self.check_split(split)
        self.place = locate(root, self.info, self._holds_images, inner=self.inner, explain=self.explain)
        self._serve(self.folders(self.place.home, split), captions, sidecar_boxes)

    @abstractmethod
    def folders(self, home: Path, split: str) -> list[Folders]:
        """Return the folders of a split, whether or not they exist; ``home`` is the folder that holds them."""

    def selector(self, split: str) -> Callable[[str], bool]:
        """Return what tells whether a key is of a split; by default the folders alone decide."""
        return lambda key: True

    def label_stem(self, key: str) -> str:
        """Return the stem of a pair's box file."""
        return key

    def explain(self, folder: Path) -> str:
        """Return a hint on why ``folder``, which exists, does not hold this dataset; "" for nothing special."""
        return ""

    def load(self, key: str) -> Sample:
        """Decode the pair of a key.

        Raises:
            UsageError: no such key.
            DataError: an image or label map cannot be decoded, or is not what it was on opening; names the file.
        """
        pair = self._pairs.get(key)
        if pair is None:
            raise self.unknown_key(key)
        visible, infrared = read_visible(pair.visible), read_infrared(pair.infrared)
        for path, pixels in ((pair.visible, visible), (pair.infrared, infrared)):
            self._check_shape(path, pixels, pair)
        entry = self._entries.get(key)
        return Sample(key, visible, infrared, entry.texts() if entry else Texts(), self._labels(pair))

    def fingerprint(self, keys: Iterable[str] | None = None) -> str:
        """Return a SHA-256 over keys, bytes of images and labels, and caption entries, in the order of the keys.

        Raises:
            UsageError: no such key.
            DataError: a file has vanished.
        """
        digest = hashlib.sha256()
        for key in sorted(set(self.keys if keys is None else keys)):
            if key not in self._pairs:
                raise self.unknown_key(key)
            digest.update(json.dumps(self._content(self._pairs[key]), sort_keys=True).encode())
        return digest.hexdigest()

    def _serve(self, parts: Sequence[Folders], captions: str | Path | None, sidecar_boxes: bool) -> None:
        """Set ``keys`` and ``problems`` from what the folders hold."""
        problems: list[Problem] = []
        sidecar = absolute(captions) if captions is not None else self.place.captions(self.info.name)
        self._entries: dict[str, SidecarEntry] = {}
        if sidecar is not None:
            self._entries, found = read_sidecar(sidecar)
            problems += found
        selected = self.selector(self.split)
        pairs: dict[str, Pair] = {}
        total = 0
        # A user may hold one part of a dataset; a part of which one folder is there is reported all the same.
        held = [part for part in parts if part.visible.is_dir() or part.infrared.is_dir()]
        for part in held or parts:
            stems, found = _paired_stems(part, f"opening {self.info.name}, split {self.split}")
            total += len(stems)
            problems += [problem for stem, problem in found if selected(stem)]
            boxes = _by_stem(part.boxes, BOX_SUFFIXES)[0]
            maps = _by_stem(part.segmentation, IMAGE_SUFFIXES)[0]
            for key, (visible, infrared) in stems.items():
                if not selected(key):
                    continue
                if key in pairs:
                    other = pairs[key].visible
                    problems.append(Problem("duplicate", str(visible), f"the key {key} already belongs to {other}"))
                    continue
                shape = _common_shape(key, visible, infrared, problems)
                if shape:
                    pair = Pair(key, visible, infrared, shape, boxes.get(self.label_stem(key)), maps.get(key))
                    pairs[key] = self._annotated(pair, sidecar_boxes, problems)
        self._pairs = {key: pairs[key] for key in sorted(pairs)}
        self.keys = tuple(self._pairs)
        self.problems = tuple(problems)
        if not pairs:
            raise self._nothing_to_serve(parts, total)

    def _annotated(self, pair: Pair, sidecar_boxes: bool, problems: list[Problem]) -> Pair:
        """Return the pair with its boxes read and an unusable label map dropped."""
        labels, segmentation = None, pair.segmentation
        entry = self._entries.get(pair.key)
        if pair.boxes is not None:
            labels, wrong = read_boxes(pair.boxes, pair.shape, self.info.classes)
            problems += [Problem("label", str(pair.boxes), detail) for detail in wrong]
        elif sidecar_boxes and entry is not None:
            labels, wrong = entry.labels(pair.shape, self.info.classes)
            problems += [Problem("label", f"captions of {pair.key}", detail) for detail in wrong]
        if segmentation is not None:
            try:
                shape, wrong = image_size(segmentation), []
                if shape != pair.shape:
                    wrong = [f"{_size(shape)}, expected {_size(pair.shape)} as the images"]
            except DataError as error:
                wrong = [error.found]
            if wrong:
                problems.append(Problem("label", str(segmentation), wrong[0]))
                segmentation = None
        return Pair(pair.key, pair.visible, pair.infrared, pair.shape, pair.boxes, segmentation, labels)

    def _labels(self, pair: Pair) -> Labels | None:
        if pair.segmentation is None:
            return pair.labels
        ids = read_label_map(pair.segmentation)
        self._check_shape(pair.segmentation, ids, pair)
        if ids.size and ids.max() >= len(self.info.segmentation_classes):
            raise DataError(
                f"reading the label map {pair.segmentation}",
                found=f"the class id {ids.max()}",
                expected=f"0 to {len(self.info.segmentation_classes) - 1}",
                hint="store class ids, not colours",
            )
        boxes = pair.labels or Labels()
        return Labels(boxes.boxes, boxes.classes, ids)

    def _check_shape(self, path: Path, pixels: np.ndarray, pair: Pair) -> None:
        if pixels.shape[:2] != pair.shape:
            raise DataError(
                f"reading the sample {pair.key} of {self.info.name}",
                found=f"{path} of {_size(pixels.shape[:2])}",
                expected=f"{_size(pair.shape)}, as its header said when the dataset was opened",
                hint="do not change the files during a run",
            )

    def _content(self, pair: Pair) -> dict[str, object]:
        entry = self._entries.get(pair.key)
        files = {
            "visible": pair.visible, "infrared": pair.infrared, "boxes": pair.boxes, "segmentation": pair.segmentation,
        }  # fmt: skip
        content: dict[str, object] = {role: _file_digest(path) for role, path in files.items() if path is not None}
        if entry is not None:
            content["text"] = entry.model_dump(mode="json", exclude_defaults=True)
        return content | {"key": pair.key}

    def _holds_images(self, home: Path) -> bool:
        parts = [part for split in self.info.splits for part in self.folders(home, split)]
        return any(part.visible.is_dir() and part.infrared.is_dir() for part in parts)

    def _nothing_to_serve(self, parts: Sequence[Folders], total: int) -> DataError:
        where = " and ".join(f"{part.visible} and {part.infrared}" for part in parts)
        doing = f"opening {self.info.name}, split {self.split}, from {where}"
        if total and not self.problems:
            others = [name for name in self.info.splits if name != self.split]
            return DataError(
                doing,
                found=f"{total} pairs, none of them in the split {self.split}",
                expected="at least one pair of the split",
                hint=f"another split ({', '.join(others)}), or fetch the missing images",
            )
        shown = "".join(f"\n    {p.kind}: {p.item}: {p.detail}" for p in self.problems[:MAX_PROBLEMS_SHOWN])
        hints = (self.explain(folder) for part in parts for folder in (part.visible, part.infrared))
        more = len(self.problems) - MAX_PROBLEMS_SHOWN
        return DataError(
            doing,
            found="no usable pair" + shown + (f"\n    … and {more} more problems" if more > 0 else ""),
            expected=f"images of equal name and size in two folders: {self.info.layout}",
            hint=next(filter(None, hints), "check the folders"),
        )


def read_names(path: Path) -> frozenset[str]:
    """Return the stems listed in a text file, one name a line, with or without an image suffix.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"reading the list of names {path}", found=str(error), expected="one name a line") from None
    names = (Path(line.strip()) for line in lines if line.strip())
    return frozenset(name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name for name in names)


def _by_stem(folder: Path | None, suffixes: Sequence[str]) -> tuple[dict[str, Path], list[tuple[str, Problem]]]:
    """Return the files of a folder by stem, and what was left out because it cannot have or share a key."""
    found: dict[str, Path] = {}
    left_out: list[tuple[str, Problem]] = []
    if folder is None or not folder.is_dir():
        return found, left_out
    for path in list_folder(folder, doing=f"listing {folder}"):
        if path.suffix.lower() not in suffixes or not path.is_file():
            continue
        if UNSAFE_IN_KEYS.search(path.stem):
            printable = str(path).encode("utf-8", "backslashreplace").decode()
            problem = Problem("unreadable", printable, "its name cannot be used as the name of a result: rename it")
            left_out.append((path.stem, problem))
        elif path.stem in found:
            detail = f"shares its stem with {found[path.stem].name}, which is used; expected one file a stem"
            left_out.append((path.stem, Problem("duplicate", str(path), detail)))
        else:
            found[path.stem] = path
    return found, left_out


def _paired_stems(part: Folders, doing: str) -> tuple[dict[str, tuple[Path, Path]], list[tuple[str, Problem]]]:
    for folder in (part.visible, part.infrared):
        if not folder.is_dir():
            raise DataError(doing, found=f"no folder {folder}", expected="a folder of images", hint="check the path")
    visible, problems = _by_stem(part.visible, IMAGE_SUFFIXES)
    infrared, more = _by_stem(part.infrared, IMAGE_SUFFIXES)
    problems += more
    for stem in sorted(visible.keys() ^ infrared.keys()):
        path, other = (visible[stem], part.infrared) if stem in visible else (infrared[stem], part.visible)
        problems.append((stem, Problem("unpaired", str(path), f"no image with the stem {stem} in {other}")))
    return {stem: (visible[stem], infrared[stem]) for stem in visible if stem in infrared}, problems


def _common_shape(key: str, visible: Path, infrared: Path, problems: list[Problem]) -> tuple[int, int] | None:
    shapes = []
    for path in (visible, infrared):
        try:
            shapes.append(image_size(path))
        except DataError as error:
            problems.append(Problem("unreadable", str(path), error.found))
    if len(shapes) < 2:
        return None
    if shapes[0] != shapes[1]:
        detail = f"visible is {_size(shapes[0])} ({visible}), infrared is {_size(shapes[1])} ({infrared})"
        problems.append(Problem("size-mismatch", key, detail))
        return None
    return shapes[0]


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        found = error.strerror or str(error)
        raise DataError(f"computing the fingerprint of {path}", found=found, expected="a readable file") from None


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
