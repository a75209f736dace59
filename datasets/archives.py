"""Unpacking archives from elsewhere: nothing is written outside the folder, and nothing grows without bounds."""

from __future__ import annotations

import gzip
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tgfbench.benchmark.errors import DataError
from tgfbench.datasets.roots import make_folder

MAX_MEMBERS = 1_000_000
MAX_BYTES = 200 * 2**30
"""More than any dataset of this field unpacks to."""

MAX_RATIO = 100
"""Images hardly shrink; what grows a hundredfold on unpacking is no dataset."""

FREE_ALLOWANCE = 64 * 2**20
"""The ratio is not looked at below so many bytes."""

CHUNK = 1 << 20
MAX_READ = 1 << 26
MAX_NAME = 1000
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        path: where it goes, relative, checked.
        size: bytes it says it unpacks to.
        open: returns its content.
    """

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Unpack a zip or tar archive into a folder; what the folder holds already stays unless a member replaces it.

    All names are checked before anything is written. Members are unpacked beside the folder's content and moved into
    place at the end, so that a refused or broken archive leaves nothing behind.

    Args:
        archive: the file.
        folder: is made if absent.
        progress: is called with the bytes written and their number in all.

    Returns:
        The number of files.

    Raises:
        DataError: no archive, a broken one, one with members that lead out of the folder (absolute paths, ``..``,
            links), that are no files or share a name, or one that unpacks to an absurd size; names archive and member.
    """
    doing = f"unpacking {archive}"
    make_folder(folder, doing)
    staging = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    try:
        with _members(archive, doing) as members:
            total = _check_room(members, folder, doing)
            done = 0
            for member in members:
                target = staging / member.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, target.open("wb") as file:
                    while chunk := source.read(CHUNK):
                        file.write(chunk)
                        done += len(chunk)
                        progress(done, total)
        for member in members:
            target = folder / member.path
            _refuse_links(target.parent, folder, doing)
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / member.path).replace(target)
    # What the standard library finds wrong with an archive, and names that the file system refuses.
    except BROKEN as error:
        found = f"{type(error).__name__}: {error}"
        raise _refusal(doing, found, "a whole zip or tar archive", "fetch it again") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(members)


@contextmanager
def _members(archive: Path, doing: str) -> Iterator[list[Member]]:
    """List the files of an archive with checked paths and sizes; directories are left out."""
    if not archive.is_file():
        raise _refusal(doing, "no such file", "an archive", "check the path")
    most = min(MAX_BYTES, max(FREE_ALLOWANCE, archive.stat().st_size * MAX_RATIO))
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _checked(_zip_members(opened, doing), most, doing)
        return
    with archive.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    with gzip.open(archive) if packed else archive.open("rb") as plain, _opened_tar(plain, doing) as opened_tar:
        yield _checked(_tar_members(opened_tar, doing), most, doing)


def _opened_tar(plain: IO[bytes] | gzip.GzipFile, doing: str) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=_Bounded(plain), mode="r:")  # type: ignore[call-overload]  # reads, seeks, tells
    except tarfile.ReadError as error:
        raise _refusal(doing, f"neither a zip nor a tar archive ({error})", ".zip, .tar or .tar.gz") from None


class _Bounded:
    """A file that refuses to be read in huge pieces: a tar header may ask for as much as it likes."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self.file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.file.read(size)


def _zip_members(opened: zipfile.ZipFile, doing: str) -> Iterator[Member]:
    for info in opened.infolist():
        path = _checked_path(info.filename, doing)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refusal(doing, f"{info.filename!r} is a link or a device", "files and folders only")
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refusal(
                doing, f"{info.filename!r} is encrypted or packed in a rare way", "stored or deflated members"
            )
        if not info.is_dir():
            yield Member(path, info.file_size, partial(opened.open, info))


def _tar_members(opened: tarfile.TarFile, doing: str) -> Iterator[Member]:
    for info in opened:
        path = _checked_path(info.name, doing)
        if not (info.isreg() or info.isdir()) or info.issparse():
            raise _refusal(doing, f"{info.name!r} is a link or a device", "files and folders only")
        if info.isreg():
            yield Member(path, info.size, partial(_tar_content, opened, info))


def _tar_content(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = opened.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"{info.name} has no content")
    return content


def _checked_path(name: str, doing: str) -> PurePosixPath:
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    escapes = plain.startswith("/") or ".." in parts or any(":" in part for part in parts)
    if escapes or not name.isprintable() or len(name) > MAX_NAME:
        shown = name if len(name) <= MAX_NAME else f"{name[:60]}…"
        raise _refusal(
            doing, f"a member called {shown!r}", "names within the folder, without '..', ':' or a leading '/'"
        )
    return PurePosixPath(*parts)


def _checked(found: Iterator[Member], most: int, doing: str) -> list[Member]:
    """Refuse members that are too many or too large, or overwrite each other, also where capitals do not matter.

    A member is checked before the next one is looked for: in a packed tar that means unpacking this one.
    """
    members: list[Member] = []
    names: set[str] = set()
    folders: set[str] = set()
    total = 0
    for member in found:
        name = str(member.path).lower()
        if name in names or not member.path.parts:
            raise _refusal(doing, f"two members called {str(member.path)!r}", "one file a name")
        names.add(name)
        folders.update(str(parent).lower() for parent in member.path.parents)
        members.append(member)
        total += member.size
        if total > most or len(members) > MAX_MEMBERS:
            expected = f"at most {most} bytes ({MAX_RATIO} times its size) in {MAX_MEMBERS} files"
            raise _refusal(doing, f"{len(members)} files of {total} bytes, and perhaps more", expected)
    if both := names & folders:
        raise _refusal(doing, f"{min(both)!r} is a file and a folder", "one or the other")
    if not members:
        raise _refusal(doing, "no file in it", "files")
    return members


def _check_room(members: list[Member], folder: Path, doing: str) -> int:
    total, free = sum(member.size for member in members), shutil.disk_usage(folder).free
    if total > free:
        raise _refusal(doing, f"{total} bytes to write, {free} free", "enough room", "another data root")
    return total


def _refuse_links(parent: Path, folder: Path, doing: str) -> None:
    """Refuse to write through a link that lies in the folder already."""
    while parent != folder:
        if parent.is_symlink():
            raise _refusal(doing, f"{parent} is a link", "a plain folder", "remove the link")
        parent = parent.parent


def _refusal(doing: str, found: str, expected: str, hint: str = "do not use this archive") -> DataError:
    return DataError(doing, found=found, expected=expected, hint=hint)
