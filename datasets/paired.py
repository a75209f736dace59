"""The shared base of all datasets that are folders of files: visible and infrared images paired by stem.

A loader says where its folders are (``folders``), which keys a split has (``selector``) and what its card is; the
rest happens here. Opening reads file headers, box files, texts and the caption sidecar, and never decodes an image.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from tgfbench.benchmark.errors import DataError, counted
from tgfbench.benchmark.images import IMAGE_SUFFIXES, image_size, read_infrared, read_label_map, read_visible
from tgfbench.datasets.base import Dataset, Labels, Problem, Sample, Texts
from tgfbench.datasets.features import FEATURE_SUFFIX, check_features, read_features
from tgfbench.datasets.labels import read_boxes
from tgfbench.datasets.pairing import Folders, files_by_key, read_names
from tgfbench.datasets.roots import absolute, locate
from tgfbench.datasets.sidecar import SidecarEntry, read_sidecar

__all__ = ["Folders", "Pair", "PairedDataset"]

BOX_SUFFIXES = (".txt", ".xml")
MAX_PROBLEMS_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Pair:
    """The files of one pair, checked to have readable headers and one size.

    Attributes:
        key: the sample's key.
        visible, infrared: image files.
        shape: (height, width) of both.
        boxes: box file, or None.
        segmentation: label map of the same size, or None.
        clean_visible, clean_infrared: images of the same size without degradation, or None.
        features: encoded text, or None.
        labels: the boxes, already read, or None where nobody annotated the pair.
        texts: the dataset's own texts.
    """

    key: str
    visible: Path
    infrared: Path
    shape: tuple[int, int]
    boxes: Path | None = None
    segmentation: Path | None = None
    clean_visible: Path | None = None
    clean_infrared: Path | None = None
    features: Path | None = None
    labels: Labels | None = None
    texts: Texts = field(default_factory=Texts)

    def files(self) -> dict[str, Path]:
        """Return the files by role."""
        roles = ("visible", "infrared", "boxes", "segmentation", "clean_visible", "clean_infrared", "features")
        return {role: path for role in roles if (path := getattr(self, role)) is not None}


class PairedDataset(Dataset):
    """A dataset in folders.

    Args:
        root: the folder that holds the dataset's folder, or that folder itself; None reads ``TGFBENCH_DATA``.
        split: one of ``info.splits``.
        captions: a caption sidecar; None looks for ``captions/<name>.jsonl`` beside and ``captions.jsonl`` inside the
            dataset's folder. What it says about a pair stands before the dataset's own texts.
        sidecar_boxes: take the sidecar's boxes (placed by eye) as labels of pairs without a box file; None leaves it
            to the dataset.
        names: a text file with the keys to serve, one a line, e.g. the list of a paper; None serves the whole split.

    Raises:
        UsageError: unknown split, or no root.
        DataError: the folder is missing or of another layout, or no pair can be served.
    """

    inner: tuple[str, ...] = ()
    """Names of the folders that the official archives add inside the dataset's folder."""
    takes_sidecar_boxes = False
    """Whether the sidecar's boxes are labels unless the user says otherwise: where there are no others."""

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        captions: str | Path | None = None,
        sidecar_boxes: bool | None = None,
        names: str | Path | None = None,
    ) -> None:
        self.split = self.check_split(split)
        self.place = locate(root, self.info, self._holds_images, inner=self.inner, explain=self.explain)
        self._serve(self.folders(self.place.home, split), captions, sidecar_boxes, names)

    @abstractmethod
    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        """Return the folders of a split, whether or not they exist; ``home`` is the folder that holds them."""

    def selector(self, split: str) -> Callable[[str], bool]:
        """Return what tells whether a key is of a split; by default the folders alone decide."""
        return lambda key: True

    def listed_key(self, name: str) -> str:
        """Return the key of a name in a list of names, which has no suffix but may have folders."""
        return name.rpartition("/")[2]

    def label_stems(self, stem: str) -> tuple[str, ...]:
        """Return the stems that a pair's box file may have."""
        return (stem,)

    def read_labels(self, pair: Pair, path: Path) -> tuple[Labels | None, list[str]]:
        """Return the boxes of a pair in ``info.classes`` and one line per entry that cannot be used."""
        return read_boxes(path, pair.shape, self.info.classes)

    def own_texts(self, part: Folders, stem: str, problems: list[Problem]) -> Texts:
        """Return what the dataset's own text files say about a pair; what cannot be read is added to ``problems``."""
        return Texts()

    def read_pair(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Decode the visible and the infrared image of a pair."""
        return read_visible(pair.visible), read_infrared(pair.infrared)

    def read_segmentation(self, path: Path) -> np.ndarray:
        """Decode a label map to ids into ``info.segmentation_classes``."""
        return read_label_map(path)

    def explain(self, folder: Path) -> str:
        """Return a hint on why ``folder``, which exists, does not hold this dataset; "" for nothing special."""
        return ""

    def load(self, key: str) -> Sample:
        """Decode the pair of a key.

        Raises:
            UsageError: no such key.
            DataError: an image or label map cannot be decoded, or is not what it was on opening; names the file.
        """
        pair = self._pair(key)
        visible, infrared = self.read_pair(pair)
        for path, pixels in ((pair.visible, visible), (pair.infrared, infrared)):
            self._check_shape(path, pixels, pair)
        sample = Sample(key, visible, infrared, self._texts(pair), self._labels(pair))
        if pair.features is not None:
            sample = dataclasses.replace(sample, text_features=read_features(pair.features))
        return self._with_clean(sample, pair)

    def labels(self, key: str) -> Labels | None:
        return self._labels(self._pair(key))

    def files(self, key: str) -> dict[str, Path]:
        return self._pair(key).files()

    def fingerprint(self, keys: Iterable[str] | None = None) -> str:
        """Return a SHA-256 over keys, bytes of images and labels, and texts, in the order of the keys.

        Raises:
            UsageError: no such key.
            DataError: a file has vanished.
        """
        digest = hashlib.sha256()
        for key in sorted(set(self.keys if keys is None else keys)):
            digest.update(json.dumps(self._content(self._pair(key)), sort_keys=True).encode())
        return digest.hexdigest()

    def named_list(self, *names: str) -> frozenset[str]:
        """Return the keys in the first of some lists that lies in the dataset's folder or in ``splits`` there.

        Raises:
            DataError: none of them is there, or it cannot be read.
        """
        homes = list(dict.fromkeys((self.place.home, self.place.dataset_root)))
        places = [folder for home in homes for folder in (home, home / "splits")]
        found = next((path for name in names for folder in places if (path := folder / name).is_file()), None)
        if found is None:
            others = ", ".join(name for name in self.info.splits if name != self.split)
            raise DataError(
                f"opening the dataset {self.info.name}, split {self.split}",
                found=f"no list {' or '.join(names)} in {places[0]}",
                expected="the names of the split, one a line",
                hint=f"put the list there, or take another split ({others})",
            )
        return read_names(found, self.listed_key)

    def _pair(self, key: str) -> Pair:
        pair = self._pairs.get(key)
        if pair is None:
            raise self.unknown_key(key)
        return pair

    def _serve(
        self,
        parts: Sequence[Folders],
        captions: str | Path | None,
        sidecar_boxes: bool | None,
        names: str | Path | None,
    ) -> None:
        """Set ``keys`` and ``problems`` from what the folders hold."""
        problems: list[Problem] = []
        sidecar = absolute(captions) if captions is not None else self.place.captions(self.info.name)
        self._entries: dict[str, SidecarEntry] = {}
        if sidecar is not None:
            self._entries, wrong = read_sidecar(sidecar)
            problems += wrong
        self._sidecar_boxes = self.takes_sidecar_boxes if sidecar_boxes is None else sidecar_boxes
        of_split = self.selector(self.split)
        wanted = None if names is None else read_names(absolute(names), self.listed_key)
        self._part_of_a_split = wanted is not None
        pairs: dict[str, Pair] = {}
        seen: set[str] = set()
        total = 0
        # A user may hold one part of a dataset; a part of which one folder is there is reported all the same.
        for part in [part for part in parts if part.held] or parts:
            files, left_out = part.pairs(f"opening {self.info.name}, split {self.split}")
            total += len(files)
            served = {key for key in files if of_split(key) and (wanted is None or key in wanted)}
            problems += [problem for key, problem in left_out if of_split(key) and (wanted is None or key in wanted)]
            seen |= served | {key for key, _ in left_out}
            boxes = files_by_key(part.boxes, BOX_SUFFIXES)[0]
            extra = (part.segmentation, part.clean_visible, part.clean_infrared)
            maps, clean_visible, clean_infrared = (files_by_key(folder, IMAGE_SUFFIXES)[0] for folder in extra)
            features = files_by_key(part.features, (FEATURE_SUFFIX,))[0]
            for key, (visible, infrared) in files.items():
                if key not in served:
                    continue
                if key in pairs:
                    other = pairs[key].visible
                    problems.append(Problem("duplicate", str(visible), f"the key {key} already belongs to {other}"))
                    continue
                shape = _common_shape(key, visible, infrared, problems)
                if shape:
                    stem = part.stem(key)
                    box_file = next((boxes[name] for name in self.label_stems(stem) if name in boxes), None)
                    texts = self.own_texts(part, stem, problems)
                    pair = Pair(
                        key,
                        visible,
                        infrared,
                        shape,
                        boxes=box_file,
                        segmentation=maps.get(stem),
                        clean_visible=clean_visible.get(stem),
                        clean_infrared=clean_infrared.get(stem),
                        features=features.get(stem),
                        texts=texts,
                    )
                    pairs[key] = self._checked(pair, problems)
        for key in sorted(wanted - seen if wanted else ()):
            problems.append(Problem("unpaired", key, f"listed in {names}, but there is no such pair"))
        self._pairs = {key: pairs[key] for key in sorted(pairs)}
        self.keys = tuple(self._pairs)
        self.problems = tuple(problems)
        if not pairs:
            raise self._nothing_to_serve(parts, total)

    def complete_count(self) -> int | None:
        return None if self._part_of_a_split else super().complete_count()

    def _checked(self, pair: Pair, problems: list[Problem]) -> Pair:
        """Return the pair with its boxes read, and without the files that cannot be used."""
        labels: Labels | None = None
        entry = self._entries.get(pair.key)
        if pair.boxes is not None:
            labels, wrong = self.read_labels(pair, pair.boxes)
            problems += [Problem("label", str(pair.boxes), detail) for detail in wrong]
        elif self._sidecar_boxes and entry is not None:
            labels, wrong = entry.labels(pair.shape, self.info.classes)
            problems += [Problem("label", f"captions of {pair.key}", detail) for detail in wrong]
        features = pair.features
        if features is not None and (reason := check_features(features)):
            problems.append(Problem("text", str(features), reason))
            features = None
        return dataclasses.replace(
            pair,
            labels=labels,
            segmentation=_fitting(pair.segmentation, pair, "label", problems),
            clean_visible=_fitting(pair.clean_visible, pair, "reference", problems),
            clean_infrared=_fitting(pair.clean_infrared, pair, "reference", problems),
            features=features,
        )

    def _with_clean(self, sample: Sample, pair: Pair) -> Sample:
        """Return the sample with its clean images; a modality without one was not degraded."""
        visible, infrared = sample.visible, sample.infrared
        if pair.clean_visible is None and pair.clean_infrared is None:
            return sample
        if pair.clean_visible is not None:
            visible = read_visible(pair.clean_visible)
            self._check_shape(pair.clean_visible, visible, pair)
        if pair.clean_infrared is not None:
            infrared = read_infrared(pair.clean_infrared)
            self._check_shape(pair.clean_infrared, infrared, pair)
        texts = dataclasses.replace(sample.texts, instruction=())
        clean = dataclasses.replace(sample, visible=visible, infrared=infrared, texts=texts)
        return dataclasses.replace(sample, reference=visible, clean=clean)

    def _texts(self, pair: Pair) -> Texts:
        entry = self._entries.get(pair.key)
        if entry is None:
            return pair.texts
        said = entry.texts()
        return Texts(*(getattr(said, f.name) or getattr(pair.texts, f.name) for f in dataclasses.fields(Texts)))

    def _labels(self, pair: Pair) -> Labels | None:
        if pair.segmentation is None:
            return pair.labels
        ids = self.read_segmentation(pair.segmentation)
        self._check_shape(pair.segmentation, ids, pair)
        if ids.size and ids.max() >= len(self.info.segmentation_classes):
            raise DataError(
                f"reading the label map {pair.segmentation}",
                found=f"the class id {ids.max()}",
                expected=f"0 to {len(self.info.segmentation_classes) - 1}",
                hint="store class ids, not colours",
            )
        boxes = pair.labels or Labels()
        return Labels(boxes.boxes, boxes.classes, ids, boxes_known=pair.labels is not None)

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
        content: dict[str, object] = {role: file_digest(path) for role, path in pair.files().items()}
        if entry is not None:
            content["text"] = entry.model_dump(mode="json", exclude_defaults=True)
        if pair.texts != Texts():
            content["own text"] = dataclasses.asdict(pair.texts)
        return content | {"key": pair.key}

    def _holds_images(self, home: Path) -> bool:
        return any(part.complete for split in self.info.splits for part in self.folders(home, split))

    def _nothing_to_serve(self, parts: Sequence[Folders], total: int) -> DataError:
        where = " and ".join(f"{part.visible} and {part.infrared}" for part in parts)
        doing = f"opening {self.info.name}, split {self.split}, from {where}"
        if total and not self.problems:
            others = [name for name in self.info.splits if name != self.split]
            return DataError(
                doing,
                found=f"{counted(total, 'pair')}, none of them in the split {self.split}",
                expected="at least one pair of the split",
                hint=f"another split ({', '.join(others)}), or fetch the missing images",
            )
        shown = "".join(f"\n    {problem}" for problem in self.problems[:MAX_PROBLEMS_SHOWN])
        hints = (self.explain(folder) for part in parts for folder in (part.visible, part.infrared))
        more = len(self.problems) - MAX_PROBLEMS_SHOWN
        empty = "".join(
            f", no image in {folder}"
            for part in parts
            for folder in dict.fromkeys((part.visible, part.infrared))
            if not any(files_by_key(folder, IMAGE_SUFFIXES))
        )
        return DataError(
            doing,
            found="no usable pair" + empty + shown + (f"\n    … and {more} more problems" if more > 0 else ""),
            expected=f"images of equal name and size in two folders: {self.info.layout}",
            hint=next(filter(None, hints), "check the folders"),
        )


def _common_shape(key: str, visible: Path, infrared: Path, problems: list[Problem]) -> tuple[int, int] | None:
    shapes: list[tuple[int, int] | None] = []
    for path in dict.fromkeys((visible, infrared)):
        try:
            shapes.append(image_size(path))
        except DataError as error:
            problems.append(Problem("unreadable", str(path), error.found))
            shapes.append(None)
    first, second = shapes[0], shapes[-1]
    if first is None or second is None:
        return None
    if first != second:
        detail = f"visible is {_size(first)} ({visible}), infrared is {_size(second)} ({infrared})"
        problems.append(Problem("size-mismatch", key, detail))
        return None
    return first


def _fitting(
    path: Path | None, pair: Pair, kind: Literal["label", "reference"], problems: list[Problem]
) -> Path | None:
    """Return the path if it is an image of the pair's size."""
    if path is None:
        return None
    try:
        shape = image_size(path)
        reason = "" if shape == pair.shape else f"{_size(shape)}, expected {_size(pair.shape)} as the images"
    except DataError as error:
        reason = error.found
    if reason:
        problems.append(Problem(kind, str(path), reason))
    return None if reason else path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; while its size and time stay, it is read once.

    Raises:
        DataError: it cannot be read.
    """
    try:
        state = path.stat()
        return _digest(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        found = error.strerror or str(error)
        raise DataError(f"computing the fingerprint of {path}", found=found, expected="a readable file") from None


@lru_cache(maxsize=2**17)
def _digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
