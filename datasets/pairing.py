"""Which files of some folders are a pair, and the small text files that come with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import IMAGE_SUFFIXES
from tgfbench.datasets.base import Problem
from tgfbench.datasets.roots import list_folder

UNSAFE_IN_KEYS = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]|[. ]$')
MAX_TEXT_BYTES = 4_000_000
"""No name list, prompt file or caption comes near; a larger one is something else."""

KeyOf = Callable[[str], str | None]
"""Gives the key of a file's stem, or None where the file is not one of those looked for."""

LeftOut = list[tuple[str, Problem]]
"""The keys of files that cannot be used, each with the reason."""


@dataclass(frozen=True)
class Folders:
    """The folders of one part of a dataset; files of one pair have one stem.

    Attributes:
        visible, infrared: image folders; they may be one folder.
        boxes: folder of YOLO txt, KAIST txt or VOC xml files; files may be absent.
        segmentation: folder of label maps; files may be absent.
        clean_visible, clean_infrared: folders of the images without degradation; files may be absent.
        texts: folder or file of the dataset's own texts; what it looks like is the dataset's affair.
        features: folder of encoded texts, ``.npy``; files may be absent.
        prefix: stands before the stem in the key, where several parts use the same stems.
        visible_ending, infrared_ending: what stems of that modality end with beyond the common stem.
    """

    visible: Path
    infrared: Path
    boxes: Path | None = None
    segmentation: Path | None = None
    clean_visible: Path | None = None
    clean_infrared: Path | None = None
    texts: Path | None = None
    features: Path | None = None
    prefix: str = ""
    visible_ending: str = ""
    infrared_ending: str = ""

    @property
    def held(self) -> bool:
        """Whether the user has at least one of the two modalities."""
        return self.visible.is_dir() or self.infrared.is_dir()

    @property
    def complete(self) -> bool:
        """Whether the user has both modalities."""
        return self.visible.is_dir() and self.infrared.is_dir()

    def visible_key(self, stem: str) -> str | None:
        """Return the key of a visible file's stem, or None where the file is not a visible image."""
        return self._key(stem, self.visible_ending)

    def infrared_key(self, stem: str) -> str | None:
        """Return the key of an infrared file's stem, or None where the file is not an infrared image."""
        return self._key(stem, self.infrared_ending)

    def pairs(self, doing: str) -> tuple[dict[str, tuple[Path, Path]], LeftOut]:
        """Return visible and infrared file by key, and what was left out.

        Raises:
            DataError: a folder is missing.
        """
        for folder in (self.visible, self.infrared):
            if not folder.is_dir():
                found = f"no folder {folder}"
                raise DataError(doing, found=found, expected="a folder of images", hint="check the path")
        visible, problems = files_by_key(self.visible, IMAGE_SUFFIXES, self.visible_key)
        infrared, more = files_by_key(self.infrared, IMAGE_SUFFIXES, self.infrared_key)
        # Where both modalities are in one file, its problems are found twice.
        problems += [found for found in more if found not in problems]
        for key in sorted(visible.keys() ^ infrared.keys()):
            path, other = (visible[key], self.infrared) if key in visible else (infrared[key], self.visible)
            problems.append((key, Problem("unpaired", str(path), f"no image for the key {key} in {other}")))
        return {key: (visible[key], infrared[key]) for key in visible if key in infrared}, problems

    def stem(self, key: str) -> str:
        """Return the common stem of a key's files."""
        return key.removeprefix(self.prefix)

    def _key(self, stem: str, ending: str) -> str | None:
        return self.prefix + stem.removesuffix(ending) if stem.endswith(ending) else None


def files_by_key(
    folder: Path | None, suffixes: Sequence[str], key_of: KeyOf = lambda stem: stem
) -> tuple[dict[str, Path], LeftOut]:
    """Return the files of a folder by key, and what was left out because it cannot have or share a key."""
    found: dict[str, Path] = {}
    left_out: LeftOut = []
    if folder is None or not folder.is_dir():
        return found, left_out
    for path in list_folder(folder, doing=f"listing {folder}"):
        if path.suffix.lower() not in suffixes or not path.is_file():
            continue
        key = key_of(path.stem)
        if key is None:
            continue
        if UNSAFE_IN_KEYS.search(path.stem):
            printable = str(path).encode("utf-8", "backslashreplace").decode()
            problem = Problem("unreadable", printable, unsafe_name(path.stem))
            left_out.append((key, problem))
        elif key in found:
            detail = f"shares its stem with {found[key].name}, which is used; expected one file a stem"
            left_out.append((key, Problem("duplicate", str(path), detail)))
        else:
            found[key] = path
    return found, left_out


def unsafe_name(stem: str) -> str:
    """Return why a stem cannot be a key: what it holds that not every file system takes."""
    unsafe = sorted({match[0] for match in UNSAFE_IN_KEYS.finditer(stem)})
    return f"its name holds {', '.join(map(ascii, unsafe))} and cannot be used as the name of a result: rename it"


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file, stripped, without empty ones.

    Raises:
        DataError: the file is missing, too large or not UTF-8; names the file.
    """
    doing = f"reading the text file {path}"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise DataError(doing, found=f"more than {MAX_TEXT_BYTES} bytes", expected="a short text file")
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(doing, found=str(error), expected="UTF-8 text") from None
    return [line.strip() for line in lines if line.strip()]


def read_names(path: Path, key_of: Callable[[str], str] = lambda name: name.rpartition("/")[2]) -> frozenset[str]:
    """Return the keys listed in a text file, one name a line, with or without an image suffix.

    Args:
        path: the file.
        key_of: gives the key of a listed name without suffix; by default what follows the last ``/``.

    Raises:
        DataError: the file cannot be read.
    """
    names = (Path(line.replace("\\", "/")) for line in read_lines(path))
    bare = (name.with_suffix("") if name.suffix.lower() in IMAGE_SUFFIXES else name for name in names)
    return frozenset(key_of(name.as_posix()) for name in bare)
