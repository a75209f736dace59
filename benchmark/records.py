"""What a store is made of: folders with a JSON file that describes them, tables, and journals.

JSON and tables are replaced whole or not at all. A journal grows by a line per finished item; a line that a kill cut
off is ignored on the next reading.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.images import write_text

FAILURES = "failures.csv"
FAILURE_COLUMNS = ("key", "error")


def run_id(identity: Mapping[str, Any]) -> str:
    """Return the short hash of everything that decides what a folder holds."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def safe_name(name: str) -> str:
    """Return a form of a user-given name that is safe as a folder name."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "unnamed"


class StoredFolder:
    """A folder of the store that one JSON file describes.

    Args:
        folder: where it lies; its name is the hash of its identity.
    """

    JSON: ClassVar[str]
    """Name of the describing file."""
    SCHEMA: ClassVar[int] = 1
    """Version of the folder's files; raised when a reader of the old form would misread the new one."""
    HINT: ClassVar[str]
    """What to do when the describing file is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def place(root: Path, identity: Mapping[str, Any]) -> Path:
        """Return ``<root>/<dataset>/<method>@<weights>``."""
        label = f"{safe_name(identity['method'])}@{safe_name(identity['weights'] or 'none')}"
        return root / safe_name(identity["dataset"]) / label

    @property
    def json_path(self) -> Path:
        """The describing file: identity and provenance."""
        return self.folder / self.JSON

    def exists(self) -> bool:
        """Tell whether it was ever begun."""
        return self.json_path.is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process.

        Raises:
            UsageError: another process is at work on it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"working on {self.folder}", found="another process is working on it", hint="wait until it ends"
                ) from None
            yield

    def read_json(self) -> dict[str, Any]:
        """Return the describing file, {} where nothing was ever begun.

        Raises:
            DataError: the file is damaged or of a newer schema.
        """
        doing = f"reading {self.json_path}"
        try:
            content = dict(json.loads(self.json_path.read_text(encoding="utf-8")))
            found = int(content["schema"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            said = f"{type(error).__name__}: {error}"
            raise DataError(doing, found=said, expected="what tgfbench wrote", hint=self.HINT) from error
        if found > self.SCHEMA:
            newer = "use the tgfbench that wrote it, or a newer one"
            raise DataError(doing, found=f"schema {found}", expected=f"at most {self.SCHEMA}", hint=newer)
        return content

    def write_json(self, content: Mapping[str, Any]) -> None:
        """Replace the describing file, headed by its schema and, as ``id``, the name of the folder."""
        described = {"schema": self.SCHEMA, "id": self.folder.name, **content}
        write_text(self.json_path, json.dumps(described, indent=2, ensure_ascii=False) + "\n")

    def save_failures(self, failures: Mapping[str, str]) -> None:
        """Write ``failures.csv`` (message by key), or remove it where there are none."""
        if failures:
            write_table(self.folder / FAILURES, FAILURE_COLUMNS, sorted(failures.items()))
        else:
            (self.folder / FAILURES).unlink(missing_ok=True)


def read_table(path: Path, columns: Sequence[str], number: str = "") -> list[list[str]]:
    """Return the rows of a CSV file without its heading, [] where there is none.

    Args:
        path: the file.
        columns: its heading.
        number: a column that must hold numbers.

    Raises:
        DataError: the file cannot be read, has other columns, or a line that does not fit them; names file and line.
    """
    doing, expected = f"reading {path}", f"the columns {','.join(columns)}"
    hint = "remove the file: what it held is computed again"
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(doing, found=f"{type(error).__name__}: {error}", expected=expected, hint=hint) from error
    bad = next((i for i, row in enumerate(rows) if len(row) != len(columns)), None)
    if rows and tuple(rows[0]) == tuple(columns) and bad is None:
        bad = _first_without_number(rows, columns.index(number)) if number else None
        if bad is None:
            return rows[1:]
    found = f"line {(bad or 0) + 1}: {rows[bad or 0] if rows else 'nothing'}"
    raise DataError(doing, found=found, expected=expected, hint=hint)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Replace a CSV file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    write_text(path, buffer.getvalue())


def read_journal(path: Path) -> list[list[str]]:
    """Return the rows of a journal, [] where there is none."""
    if not path.is_file():
        return []
    rows: list[list[str]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.extend(json.loads(line))
        except ValueError:
            # A kill cut this line off: its item is simply not done yet.
            continue
    return rows


def append_journal(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Add rows that belong together: a kill keeps or loses them together."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(list(rows)) + "\n")


def _first_without_number(rows: Sequence[Sequence[str]], column: int) -> int | None:
    for index, row in enumerate(rows[1:], start=1):
        try:
            float(row[column])
        except ValueError:
            return index
    return None
