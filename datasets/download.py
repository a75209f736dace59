"""Getting datasets: fetched where the source gives a file address and its hash, else the exact steps.

Most datasets of this field lie on cloud drives, without a hash, under terms that a user has to read first. For those
``download`` says what to do, and unpacks an archive that the user has fetched: ``download(name, root, archive=PATH)``.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgfbench.benchmark.errors import DataError
from tgfbench.datasets import DATASETS
from tgfbench.datasets.archives import unpack
from tgfbench.datasets.base import DatasetInfo
from tgfbench.datasets.roots import absolute
from tgfbench.datasets.sources import SOURCES, Source

CHUNK = 1 << 20
TIMEOUT = 60
ATTEMPTS = 5
SCHEMES = ("http", "https", "file")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What ``download`` did.

    Attributes:
        folder: the dataset's folder below the data root.
        files: number of files unpacked; 0 where nothing could be fetched.
        steps: what is left for the user to do, one step a line.
    """

    folder: Path
    files: int
    steps: tuple[str, ...]


def download(
    name: str,
    root: str | Path,
    *,
    archive: str | Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Outcome:
    """Fetch and unpack a dataset, or say how to get it.

    Args:
        name: registry name.
        root: the folder that holds datasets side by side; is made if absent.
        archive: an archive that the user has fetched already; it is unpacked where the loader looks for it.
        progress: is called with bytes done and their number in all.

    Returns:
        What was done; ``steps`` is empty where nothing is left to do.

    Raises:
        UsageError: no such dataset.
        DataError: the file cannot be fetched, has another hash, or is no safe archive.
    """
    info = DATASETS.load(name).info
    source = SOURCES.get(info.name, Source())
    folder = absolute(root) / info.name
    if archive is not None:
        files = unpack(absolute(archive), folder, progress)
        return Outcome(folder, files, ())
    if source.url is None:
        return Outcome(folder, 0, tuple(manual_steps(info, source, folder)))
    fetched = fetch(source.url, folder / ".downloads" / source.file, source.hash, progress=progress)
    files = unpack(fetched, folder, progress)
    fetched.unlink()
    fetched.parent.rmdir()
    return Outcome(folder, files, ())


def manual_steps(info: DatasetInfo, source: Source, folder: Path) -> list[str]:
    """Return what a user has to do to get a dataset, one step a line."""
    if not info.source.startswith("http") and not source.steps:
        return [f"{info.title}: nothing to download ({info.source})."]
    terms = "; ".join(filter(None, (info.licence, info.terms)))
    steps = [f"Read the terms: {terms}.", f"Source: {info.source}"]
    steps += [step.format(folder=folder) for step in source.steps]
    if source.unpacks:
        command = f"tgfbench datasets download {info.name} --data-root {folder.parent} --archive FILE"
        steps.append(f"Unpack each archive: {command}")
    steps.append(f"In the end {folder.parent} must hold: {info.layout}")
    steps.append(f"Check: tgfbench datasets verify {info.name} --data-root {folder.parent}")
    return steps


def fetch(url: str, path: Path, expected: str, *, progress: Progress = lambda done, total: None) -> Path:
    """Fetch a file; what an interrupted call left is continued, and nothing is fetched again that is there already.

    Args:
        url: ``http``, ``https`` or ``file`` address.
        path: where to; the unfinished file lies beside it with the suffix ``.part``.
        expected: ``<algorithm>:<hex digest>``.
        progress: is called with bytes done and their number in all (0 if the server does not say).

    Returns:
        ``path``, with the expected hash.

    Raises:
        DataError: the server refuses, the connection breaks again and again, or the hash is another one; a file of
            another hash is removed.
    """
    doing = f"fetching {url}"
    if url.partition(":")[0] not in SCHEMES:
        raise DataError(doing, found="an address of another kind", expected=f"one of {', '.join(SCHEMES)}")
    if path.is_file() and _digest(path, expected) == expected:
        return path
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, part, progress)
            break
        except (OSError, EOFError, http.client.HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if refused or attempt == ATTEMPTS:
                found = f"{type(error).__name__}: {error}"
                hint = "the same command goes on where it stopped" if part.is_file() else "check address and network"
                raise DataError(doing, found=found, expected="the file", hint=hint) from error
            time.sleep(_pause(attempt))
    digest = _digest(part, expected)
    if digest != expected:
        part.unlink()
        hint = "the source has changed, or the transfer was damaged: try again"
        raise DataError(doing, found=digest, expected=expected, hint=hint)
    part.replace(path)
    return path


def _transfer(url: str, part: Path, progress: Progress) -> None:
    """Append to ``part`` what it lacks.

    Raises:
        OSError: the server refuses or the connection breaks.
        EOFError: the server ends before the length it announced.
    """
    held = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "tgfbench"})
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # schemes are checked by fetch
    except urllib.error.HTTPError as error:
        if error.code == 416 and held:  # nothing is left to send: the part is whole, or larger than the file
            return
        raise
    with response:
        if held and not _continues(response, held):
            held = 0  # the server sends everything again
        length = response.headers.get("Content-Length")
        total = held + int(length) if length else 0
        with part.open("ab" if held else "wb") as file:
            for chunk in iter(lambda: response.read(CHUNK), b""):
                file.write(chunk)
                held += len(chunk)
                progress(held, total)
            file.flush()
            os.fsync(file.fileno())
    if total and held < total:
        raise EOFError(f"{held} of {total} bytes")


def _continues(response: Any, held: int) -> bool:
    return response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(f"bytes {held}-")


def _digest(path: Path, expected: str) -> str:
    algorithm = expected.partition(":")[0]
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _pause(attempt: int) -> float:
    """Return how many seconds to wait before the next attempt."""
    return float(2**attempt)
