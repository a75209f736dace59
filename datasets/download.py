"""Getting datasets: fetched where the source allows, else the exact steps.

One archive of a known hash and public git repositories are fetched at once. Most datasets of this field lie on shared
drives, without a hash, under terms that a user has to read first: those are fetched for a user who says so
(``accept_terms``), or an archive that the user has fetched is unpacked in the right place (``archive``).
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from tgfbench.benchmark.errors import TgfbenchError
from tgfbench.datasets import DATASETS, load_dataset
from tgfbench.datasets.archives import unpack
from tgfbench.datasets.base import DatasetInfo
from tgfbench.datasets.roots import absolute
from tgfbench.datasets.sources import SOURCES, Source
from tgfbench.datasets.transfer import Progress, check_out, fetch, fetch_shared

WAITING = ".downloads"
"""Below the dataset's folder: what is fetched and not yet unpacked. Loaders skip hidden folders."""

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".rar", ".7z")


@dataclass(frozen=True)
class Outcome:
    """What ``download`` did.

    Attributes:
        folder: the dataset's folder below the data root.
        files: number of files that are new there; 0 where nothing was fetched.
        held: pairs that were there before, so that nothing was fetched.
        hashes: name and SHA-256 of each file for which the source publishes no hash.
        steps: what is left for the user to do, one step a line.
    """

    folder: Path
    files: int = 0
    held: int = 0
    hashes: tuple[tuple[str, str], ...] = ()
    steps: tuple[str, ...] = ()


def download(
    name: str,
    root: str | Path,
    *,
    archive: str | Path | None = None,
    accept_terms: bool = False,
    progress: Progress = lambda done, total: None,
) -> Outcome:
    """Fetch and unpack a dataset, or say how to get it.

    Args:
        name: registry name.
        root: the folder that holds datasets side by side; is made if absent.
        archive: an archive that the user has fetched already; it is unpacked where the loader looks for it.
        accept_terms: the user has read the terms of a dataset on a shared drive and accepts them.
        progress: is called with bytes done and their number in all.

    Returns:
        What was done; ``steps`` is empty where nothing is left to do.

    Raises:
        UsageError: no such dataset, or a package or program that fetches it is not installed.
        DataError: the dataset cannot be fetched, has another hash, or is no safe archive.
    """
    info = DATASETS.load(name).info
    source = SOURCES.get(info.name, Source())
    folder = absolute(root) / info.name
    if archive is not None:
        return Outcome(folder, unpack(absolute(archive), folder, progress))
    fetchable = source.url is not None or source.repositories or (source.shared and accept_terms)
    if fetchable and (held := _held(info, folder)):
        return Outcome(folder, held=held)
    if source.url is not None:
        fetched = fetch(source.url, folder / WAITING / source.file, source.hash, progress=progress)
        files = unpack(fetched, folder, progress)
        shutil.rmtree(folder / WAITING)
        return Outcome(folder, files)
    if source.repositories:
        for repository in source.repositories:
            check_out(repository.url, folder / repository.into)
        return Outcome(folder, _count_files(folder))
    if source.shared and accept_terms:
        for item in source.shared:
            fetch_shared(item, folder / WAITING)
        return _put_in_place(folder, progress)
    return Outcome(folder, steps=tuple(manual_steps(info, source, folder)))


def manual_steps(info: DatasetInfo, source: Source, folder: Path) -> list[str]:
    """Return what a user has to do to get a dataset, one step a line."""
    if not (info.source.startswith("http") or source != Source()):
        return [f"{info.title}: nothing to download ({info.source})."]
    command = f"tgfbench datasets download {info.name} --data-root {folder.parent}"
    terms = "; ".join(filter(None, (info.licence, info.terms)))
    steps = [f"Read the terms: {terms}.", f"Source: {info.source}"]
    if source.url is not None:
        steps.append(f"Fetch {source.file} ({source.hash}): {source.url}")
    for repository in source.repositories:
        target = folder / repository.into
        steps.append(f"Fetch {repository.what}: git clone --depth 1 {repository.url} {target}")
    steps += [f"Fetch {item.what}: {item.url}" for item in source.shared]
    steps += [step.format(folder=folder) for step in source.steps]
    if source.unpacks:
        steps.append(f"Unpack each archive: {command} --archive FILE")
    if source.shared:
        steps.append(f"Or, if you accept the terms, all of it at once through gdown: {command} --accept-terms")
    steps.append(f"In the end {folder.parent} must hold: {info.layout}")
    steps.append(f"Check: tgfbench datasets verify {info.name} --data-root {folder.parent}")
    return steps


def _held(info: DatasetInfo, folder: Path) -> int:
    """Return how many pairs are there already if none is absent, else 0."""
    try:
        dataset = load_dataset(info.name, folder, info.widest_split)
    except TgfbenchError:
        return 0  # nothing there yet, or only a part that cannot be opened
    complete = dataset.complete_count()
    return len(dataset) if complete is None or len(dataset) >= complete else 0


def _put_in_place(folder: Path, progress: Progress) -> Outcome:
    """Unpack the archives among the fetched files, move the others as they are, and remove what is done with."""
    waiting = folder / WAITING
    count = 0
    hashes = []
    for path in sorted(path for path in waiting.rglob("*") if path.is_file()):
        name = path.relative_to(waiting)
        if path.suffix.lower() in ARCHIVE_SUFFIXES:
            with path.open("rb") as file:
                hashes.append((str(name), hashlib.file_digest(file, "sha256").hexdigest()))
            count += unpack(path, folder, progress)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(folder / name)
            count += 1
    shutil.rmtree(waiting)
    return Outcome(folder, count, hashes=tuple(hashes))


def _count_files(folder: Path) -> int:
    return sum(path.is_file() and ".git" not in path.relative_to(folder).parts for path in folder.rglob("*"))
