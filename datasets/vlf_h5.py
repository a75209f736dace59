"""The HDF5 files that FILM's own script makes of VLF: grey pairs with text features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tgfbench.benchmark.errors import DataError, UsageError, counted
from tgfbench.benchmark.images import MAX_PIXELS
from tgfbench.datasets.base import Dataset, DatasetInfo, Problem, Sample
from tgfbench.datasets.features import MAX_FEATURE_VALUES, as_features
from tgfbench.datasets.pairing import UNSAFE_IN_KEYS, unsafe_name
from tgfbench.datasets.roots import list_folder, named_folders, required_root
from tgfbench.datasets.vlf import VLF

GROUPS = ("imageA", "imageB", "text")
SUFFIXES = (".h5", ".hdf5")


class VLFH5(Dataset):
    """Pairs of one HDF5 file with the groups ``imageA`` (infrared), ``imageB`` (visible) and ``text``.

    Args:
        root: the file, or a folder with one such file whose name holds the split's; None reads ``TGFBENCH_DATA``.
        split: ``test`` or ``train``; it only chooses the file.

    Raises:
        UsageError: unknown split, no root, or the package h5py is not installed.
        DataError: no such file, or no pair in it.
    """

    info: ClassVar[DatasetInfo] = VLF.info.model_copy(
        update={
            "name": "vlf-h5",
            "title": "VLF (HDF5)",
            "splits": ("test", "train"),
            "layout": "a file NAME.h5, or vlf-h5/NAME_{test,train}.h5, with the groups imageA (infrared), imageB "
            "(visible) and text, one entry a pair; images (1, H, W) in 0 to 1",
            "known_problems": (
                "The visible images are grey: colour is lost when the file is made.",
                "Training pairs are scaled to 384x288; test pairs keep their size.",
                *VLF.info.known_problems[:2],
            ),
        }
    )

    def __init__(self, root: str | Path | None = None, split: str = "test") -> None:
        self.split = self.check_split(split)
        self.file = _find(root, self.info, split)
        problems: list[Problem] = []
        keys: list[str] = []
        with self._opened() as content:
            names = [set(content[group]) if group in content else set() for group in GROUPS]
            for name in sorted(names[0] | names[1]):
                absent = [group for group, held in zip(GROUPS[:2], names, strict=False) if name not in held]
                if UNSAFE_IN_KEYS.search(name):
                    problems.append(Problem("unreadable", f"{self.file}:{name!r}", unsafe_name(name)))
                elif absent:
                    problems.append(Problem("unpaired", f"{self.file}:{name}", f"not in the group {absent[0]}"))
                elif content["imageA"][name].shape != content["imageB"][name].shape:
                    detail = f"imageA is {content['imageA'][name].shape}, imageB is {content['imageB'][name].shape}"
                    problems.append(Problem("size-mismatch", name, detail))
                else:
                    keys.append(name)
            problems += [Problem("text", name, "no text features") for name in keys if name not in names[2]]
        self.keys, self.problems = tuple(keys), tuple(problems)
        if not keys:
            found = f"{counted(len(problems), 'entry', 'entries')}, none of them usable" if problems else "no entries"
            raise DataError(f"opening {self.file}", found=found, expected=self.info.layout)

    def load(self, key: str) -> Sample:
        if key not in self.keys:
            raise self.unknown_key(key)
        with self._opened() as content:
            infrared, visible = (self._image(content, group, key) for group in GROUPS[:2])
            features = None
            if GROUPS[2] in content and key in content[GROUPS[2]]:
                features = as_features(self._array(content, GROUPS[2], key, MAX_FEATURE_VALUES), self.file)
        return Sample(key, np.repeat(visible[..., None], 3, axis=2), infrared, text_features=features)

    def fingerprint(self, keys: Iterable[str] | None = None) -> str:
        digest = hashlib.sha256()
        with self._opened() as content:
            for key in sorted(set(self.keys if keys is None else keys)):
                if key not in self.keys:
                    raise self.unknown_key(key)
                for group in GROUPS:
                    if group in content and key in content[group]:
                        values = self._array(content, group, key, MAX_PIXELS)
                        digest.update(f"{key} {group} {values.shape} {values.dtype}".encode())
                        digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def _image(self, content: Any, group: str, key: str) -> np.ndarray:
        values = self._array(content, group, key, MAX_PIXELS)
        if values.ndim != 3 or values.shape[0] != 1 or values.dtype.kind != "f":
            expected = "float (1, H, W) in 0 to 1"
            found = f"{values.dtype} {values.shape}"
            raise DataError(f"reading {group}/{key} of {self.file}", found=found, expected=expected)
        return np.rint(np.clip(np.nan_to_num(values[0]), 0, 1) * 255).astype(np.uint8)

    def _array(self, content: Any, group: str, key: str, most: int) -> np.ndarray:
        entry = content[group][key]
        size = getattr(entry, "size", None)
        if size is None or not 0 < size <= most:
            expected = f"an array of at most {most} values"
            raise DataError(f"reading {group}/{key} of {self.file}", found=f"{size} values", expected=expected)
        return np.asarray(entry)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            import h5py
        except ImportError:
            hint = "pip install 'tgfbench[h5]'"
            raise UsageError(f"opening {self.file}", found="the package h5py is not installed", hint=hint) from None
        try:
            with h5py.File(self.file, "r") as content:
                yield content
        # What the HDF5 library finds wrong with a file.
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
            found = f"{type(error).__name__}: {error}"
            raise DataError(f"reading {self.file}", found=found, expected="an HDF5 file as FILM makes it") from error


def _find(root: str | Path | None, info: DatasetInfo, split: str) -> Path:
    place = required_root(root, info)
    if place.is_file():
        return place
    doing = f"opening the dataset {info.name}, split {split}"
    folders = [*named_folders(place, info.name, doing), place]
    for folder in folders:
        inside = list_folder(folder, doing=doing)
        files = [path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file()]
        fitting = [path for path in files if split in path.stem.lower()] or (files if len(files) == 1 else [])
        if len(fitting) == 1:
            return fitting[0]
        if files:
            shown = ", ".join(path.name for path in files)
            expected = f"one file with {split} in its name"
            hint = "give the file itself as data root"
            raise UsageError(doing, found=f"{shown} in {folder}", expected=expected, hint=hint)
    raise DataError(doing, found=f"no HDF5 file in {place}", expected=info.layout, hint=f"see {info.source}")
