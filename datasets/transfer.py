"""Moving files here: from a web server, from a git repository, from a shared drive; each goes on where it stopped."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.datasets.roots import make_folder
from tgfbench.datasets.sources import Shared

CHUNK = 1 << 16
"""A connection that breaks loses less than so many bytes."""

TIMEOUT = 60
ATTEMPTS = 4
NOTHING_LEFT = 416

Progress = Callable[[int, int], None]


def fetch(url: str, path: Path, expected: str, *, progress: Progress = lambda done, total: None) -> Path:
    """Fetch a file; what an interrupted call left is continued, and nothing is fetched again that is there already.

    pooch transfers and hashes. It knows no resuming, so that its downloader is handed a file that is open for
    appending and asked for the rest alone.

    Args:
        url: ``http`` or ``https`` address.
        path: where to; the unfinished file lies beside it with the suffix ``.part``.
        expected: ``<algorithm>:<hex digest>``.
        progress: is called with bytes done and their number in all (0 if the server does not say).

    Returns:
        ``path``, with the expected hash.

    Raises:
        UsageError: pooch is not installed.
        DataError: the server refuses, the connection breaks again and again, or the hash is another one; a file of
            another hash is removed.
    """
    doing = f"fetching {url}"
    hashes = library("pooch.hashes", doing)
    if url.partition(":")[0] not in ("http", "https"):
        raise DataError(doing, found="an address of another kind", expected="http or https")
    if path.is_file() and hashes.hash_matches(str(path), expected):
        return path
    part = path.with_name(f"{path.name}.part")
    make_folder(part.parent, doing)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _append(url, part, progress)
            break
        except OSError as error:  # what requests raises is one, too
            if attempt == ATTEMPTS or not _may_pass(error):
                found = f"{type(error).__name__}: {error}"
                held = part.is_file() and part.stat().st_size
                hint = "the same command goes on where it stopped" if held else "check address and network"
                raise DataError(doing, found=found, expected="the file", hint=hint) from error
            time.sleep(_pause(attempt))
    if not hashes.hash_matches(str(part), expected):
        found = hashes.file_hash(str(part), alg=expected.partition(":")[0])
        part.unlink()
        hint = "the source has changed, or the transfer was damaged: try again"
        raise DataError(doing, found=found, expected=expected, hint=hint)
    part.replace(path)
    return path


def check_out(url: str, folder: Path) -> None:
    """Check the newest state of a git repository out into a folder, without its history.

    git checks every object by its hash and refuses to overwrite files that are not its own; links are written as plain
    files, so that none leads out of the folder.

    Raises:
        UsageError: there is no git.
        DataError: git fails; its own words are on the terminal.
    """
    doing = f"checking out {url}"
    git = shutil.which("git")
    if git is None:
        raise UsageError(doing, found="no program called git", expected="git on the search path", hint="install git")
    make_folder(folder, doing)
    # Variables of a calling git (hooks set them) would lead into another repository; nobody is there to be asked.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_TERMINAL_PROMPT"] = "0"
    for words in (
        ["init", "--quiet"],
        ["fetch", "--depth", "1", url, "HEAD"],
        ["-c", "core.symlinks=false", "checkout", "--quiet", "--detach", "FETCH_HEAD"],
    ):
        done = subprocess.run([git, "-C", str(folder), *words], env=environment, check=False)
        if done.returncode:
            expected = "an answer from the repository, and a folder without other files of the same names"
            hint = "see what git says above; the same command tries again"
            raise DataError(doing, found=f"git {words[0]} ended with {done.returncode}", expected=expected, hint=hint)


def fetch_shared(item: Shared, folder: Path) -> None:
    """Fetch what is shared on a drive into a folder, through gdown.

    Raises:
        UsageError: gdown is not installed.
        DataError: the drive refuses, as it does after many downloads on one day.
    """
    doing = f"fetching {item.url}"
    gdown = library("gdown", doing)
    make_folder(folder, doing)
    get = gdown.download_folder if item.is_folder else gdown.download
    try:
        get(id=item.identifier, output=f"{folder}{os.sep}", resume=True, retries=ATTEMPTS)
    except (gdown.exceptions.DownloadError, OSError) as error:
        found = str(error).strip().replace("\n", " ")
        hint = "fetch it with a browser and unpack it with --archive FILE; the same command goes on where it stopped"
        raise DataError(doing, found=found, expected="the shared files", hint=hint) from error


def library(module: str, doing: str) -> Any:
    """Import a module of the extra ``download``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        hint = "pip install 'tgfbench[download]'"
        raise UsageError(doing, found=f"the package {package} is not installed", hint=hint) from None


def _append(url: str, part: Path, progress: Progress) -> None:
    """Append to ``part`` what it lacks.

    Raises:
        OSError: the server refuses, or the connection breaks before the length it announced.
    """
    downloaders = library("pooch.downloaders", f"fetching {url}")
    with part.open("ab") as file:
        target = _Appended(file, progress)

        def answered(response: Any, **_: object) -> None:
            target.expect(response.status_code, int(response.headers.get("Content-Length") or 0))

        headers = {"Range": f"bytes={target.held}-"} if target.held else {}
        # pooch passes what it does not know on to requests.get.
        get = downloaders.HTTPDownloader(
            chunk_size=CHUNK, timeout=TIMEOUT, headers=headers, hooks={"response": answered}
        )
        try:
            get(url, target, None)
        except OSError as error:
            if getattr(getattr(error, "response", None), "status_code", 0) == NOTHING_LEFT and target.held:
                return  # the part is whole, or larger than the file: the hash will tell
            raise
        os.fsync(file.fileno())


class _Appended:
    """A file open for appending that says how far it is."""

    def __init__(self, file: Any, progress: Progress) -> None:
        self.file, self.progress = file, progress
        self.held: int = file.tell()
        self.total = 0

    def expect(self, status: int, length: int) -> None:
        """Start anew where the server sends everything again."""
        if status == 200 and self.held:
            self.file.truncate(0)
            self.held = 0
        self.total = self.held + length if length else 0

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.held += len(chunk)
        self.progress(self.held, self.total)

    def flush(self) -> None:
        self.file.flush()


def _may_pass(error: OSError) -> bool:
    """Tell whether another attempt makes sense: a connection or a server in trouble may recover, a refusal stays."""
    requests = library("requests", "fetching")
    response = getattr(error, "response", None)
    return isinstance(error, requests.RequestException) and (response is None or response.status_code >= 500)


def _pause(attempt: int) -> float:
    """Return how many seconds to wait before the next attempt."""
    return float(2**attempt)
