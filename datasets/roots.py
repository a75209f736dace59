"""Finding a dataset below the folder a user names, whatever the capitals and the level they point at."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.registry import normalise
from tgfbench.datasets.base import DatasetInfo

ROOT_VARIABLE = "TGFBENCH_DATA"
MAX_ENTRIES_SHOWN = 8


@dataclass(frozen=True)
class Place:
    """Where a dataset was found.

    Attributes:
        dataset_root: the dataset's own folder, e.g. ``m3fd``.
        home: the folder whose sub-folders hold the images, e.g. ``m3fd/M3FD_Detection``; often ``dataset_root`` itself.
    """

    dataset_root: Path
    home: Path

    @property
    def data_root(self) -> Path:
        """The folder that holds datasets side by side, and ``captions/``."""
        return self.dataset_root.parent

    def captions(self, name: str) -> Path | None:
        """Return the caption sidecar of this dataset, or None where there is none."""
        candidates = (
            self.dataset_root / "captions.jsonl",
            self.home / "captions.jsonl",
            self.data_root / "captions" / f"{name}.jsonl",
            self.dataset_root / "captions" / f"{name}.jsonl",
        )
        return next((path for path in candidates if path.is_file()), None)


def absolute(path: str | Path) -> Path:
    """Return a path with ``~``, ``.`` and ``..`` removed but links kept: its parent is the one written."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  # Path.resolve would follow links


def locate(
    root: str | Path | None,
    info: DatasetInfo,
    holds_images: Callable[[Path], bool],
    *,
    inner: Sequence[str] = (),
    explain: Callable[[Path], str] = lambda folder: "",
) -> Place:
    """Find a dataset below ``root``, which may hold the dataset's folder, be it, or be the folder inside it.

    Args:
        root: what the user gave; None reads ``TGFBENCH_DATA``.
        info: the dataset's card; its name (any capitals) is the name of the dataset's folder.
        holds_images: tells whether a folder has the image folders of this dataset.
        inner: names of the folders that the official archives add inside the dataset's folder.
        explain: a hint for a folder that exists but does not hold the dataset; "" for the general one.

    Raises:
        UsageError: no root given.
        DataError: no such folder, or none of the places holds the images.
    """
    folder = required_root(root, info)
    doing = f"opening the dataset {info.name}"
    inside = list_folder(folder, doing=doing)
    named = named_folders(folder, info.name, doing)
    for dataset_root in [*named, folder]:
        for home in [*_inner(dataset_root, inner), dataset_root]:
            if not holds_images(home):
                continue
            nested = any(_same(home.name, name) for name in inner) and _same(home.parent.name, info.name)
            return Place(home.parent if nested else dataset_root, home)
    shown = ", ".join(child.name for child in inside[:MAX_ENTRIES_SHOWN])
    shown += ", …" if len(inside) > MAX_ENTRIES_SHOWN else ""
    raise DataError(
        f"{doing} in {folder}",
        found=f"a folder with {shown}" if inside else "an empty folder",
        expected=f"this layout: {info.layout}",
        hint=next(filter(None, map(explain, [*named, folder])), f"check the data root; {_get(info)}"),
    )


def required_root(root: str | Path | None, info: DatasetInfo) -> Path:
    """Return the data root the user gave, or that of the environment, as an absolute path.

    Raises:
        UsageError: there is neither.
    """
    chosen = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
    if chosen is None:
        raise UsageError(
            f"opening the dataset {info.name}",
            found=f"no data root: none was given and the environment variable {ROOT_VARIABLE} is not set",
            expected=f"a folder with this layout: {info.layout}",
            hint=f"give the folder as data root or set {ROOT_VARIABLE}; {_get(info)}",
        )
    return absolute(chosen)


def named_folders(folder: Path, name: str, doing: str) -> list[Path]:
    """Return the sub-folders that are called as a dataset, in any capitals and with ``-`` or ``_``.

    Raises:
        DataError: the folder cannot be listed.
    """
    inside = list_folder(folder, doing=doing)
    return [child for child in inside if normalise(child.name) == normalise(name) and child.is_dir()]


def subfolder(home: Path, *names: str) -> Path:
    """Return the sub-folder that has one of the names in any capitals; where none exists, the path it should have."""
    for name in names:
        exact = home / name
        if exact.is_dir():
            # A case-insensitive file system answers here too, which is what is wanted.
            return exact
    wanted = {name.lower() for name in names}
    if home.is_dir():
        for child in list_folder(home, doing=f"looking for {names[0]} in {home}"):
            if child.name.lower() in wanted and child.is_dir():
                return child
    return home / names[0]


def list_folder(folder: Path, *, doing: str) -> list[Path]:
    """Return what a folder holds, sorted by name, without hidden entries.

    Raises:
        DataError: the folder is missing, is a file or cannot be read.
    """
    try:
        shown = (child for child in folder.iterdir() if not child.name.startswith("."))
        return sorted(shown, key=lambda child: child.name)
    except FileNotFoundError:
        found = "no such folder"
    except NotADirectoryError:
        found = "a file"
    except OSError as error:
        found = str(error)
    raise DataError(doing, found=f"{found}: {folder}", expected="a readable folder", hint="check the path")


def make_folder(folder: Path, doing: str) -> None:
    """Make a folder where there is none.

    Raises:
        DataError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        reason = "" if os.access(folder, os.W_OK) else "no permission to write"
    if reason:
        raise DataError(doing, found=f"{reason}: {folder}", expected="a place to write to", hint="another folder")


def _get(info: DatasetInfo) -> str:
    return f"get it with `tgfbench datasets download {info.name}` (source: {info.source})"


def _same(name: str, other: str) -> bool:
    return name.lower() == other.lower()


def _inner(folder: Path, names: Sequence[str]) -> list[Path]:
    return [found for name in names if (found := subfolder(folder, name)).is_dir()]
