"""The plain files that a store is made of: JSON with a schema, tables, and journals.

JSON and tables are replaced whole or not at all. A journal grows by a line per finished item; a line that a kill cut
off is ignored on the next reading.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import write_text


def read_json(path: Path, schema: int, hint: str) -> dict[str, Any]:
    """Return a JSON file that ``write_json`` wrote, {} where there is none.

    Args:
        path: the file.
        schema: the newest schema that is understood.
        hint: what to do about a damaged file.

    Raises:
        DataError: the file is damaged or of a newer schema; names it.
    """
    doing = f"reading {path}"
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        found = int(content["schema"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise DataError(doing, found=said, expected="what tgfbench wrote", hint=hint) from error
    if found > schema:
        newer = "use the tgfbench that wrote it, or a newer one"
        raise DataError(doing, found=f"schema {found}", expected=f"at most {schema}", hint=newer)
    return content


def write_json(path: Path, schema: int, content: Mapping[str, Any]) -> None:
    """Replace a JSON file, headed by its schema and, as ``id``, the name of its folder."""
    text = json.dumps({"schema": schema, "id": path.parent.name, **content}, indent=2, ensure_ascii=False)
    write_text(path, text + "\n")


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


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
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
