"""Downstream evaluation in the store: ``<root>/downstream/<task>/<dataset>/<method>@<weights>/``.

A *work* is one test of one task, method, recipe and seed, in the folder ``<work id>``; a *training* is what it was
tested with, in ``training-<training id>``, and is shared by works that differ in nothing but the test images.
``docs/downstream.md`` lists the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tgfbench.benchmark.records import read_json, read_table, write_json, write_table
from tgfbench.benchmark.store import Run, run_id, safe_name
from tgfbench.metrics.downstream.base import Outcome

FOLDER = "downstream"
SCHEMA = 1
COLUMNS = ("class", "metric", "value")
HINT = "remove this folder: it is done again"


def method_folder(root: Path, identity: Mapping[str, Any]) -> Path:
    """Return the folder of all works of a task, dataset and method."""
    label = f"{safe_name(identity['method'])}@{safe_name(identity['weights'] or 'none')}"
    return root / FOLDER / safe_name(identity["task"]) / safe_name(identity["dataset"]) / label


class Work:
    """The folder of one work.

    Args:
        folder: ``<root>/downstream/<task>/<dataset>/<method>@<weights>/<work id>``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, root: Path, identity: Mapping[str, Any]) -> Work:
        """Return the work of an identity; nothing is written."""
        return cls(method_folder(root, identity) / run_id(identity))

    @property
    def predictions(self) -> Path:
        """Folder of what was predicted."""
        return self.folder / "predictions"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the work against a second process; see ``Run.locked``."""
        return Run(self.folder).locked()

    def read_json(self) -> dict[str, Any]:
        """Return ``work.json``, {} where the work was never begun.

        Raises:
            DataError: the file is damaged or of a newer schema.
        """
        return read_json(self.folder / "work.json", SCHEMA, HINT)

    def finished(self) -> bool:
        """Tell whether the numbers are there."""
        return bool(self.read_json().get("finished_at")) and (self.folder / "metrics.csv").is_file()

    def write_json(self, content: Mapping[str, Any]) -> None:
        """Replace ``work.json`` atomically."""
        write_json(self.folder / "work.json", SCHEMA, content)

    def write_metrics(self, outcome: Outcome) -> None:
        """Write ``metrics.csv``; the class is empty for values over all classes."""
        rows = [("", metric, repr(float(value))) for metric, value in outcome.values.items()]
        rows += [(name, metric, repr(float(value))) for (name, metric), value in outcome.per_class.items()]
        write_table(self.folder / "metrics.csv", COLUMNS, rows)

    def read_metrics(self) -> dict[tuple[str, str], float]:
        """Return values by (class, metric), the class being empty for values over all classes.

        Raises:
            DataError: the file is damaged.
        """
        rows = read_table(self.folder / "metrics.csv", COLUMNS, number="value")
        return {(name, metric): float(value) for name, metric, value in rows}


class Training:
    """The folder of one training.

    Args:
        folder: ``<root>/downstream/<task>/<dataset>/<method>@<weights>/training-<training id>``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, root: Path, identity: Mapping[str, Any]) -> Training:
        """Return the training of an identity; nothing is written."""
        return cls(method_folder(root, identity) / f"training-{run_id(identity)}")

    @property
    def library(self) -> Path:
        """Folder of the task's own files."""
        return self.folder / "library"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the training against a second process; see ``Run.locked``."""
        return Run(self.folder).locked()

    def read_json(self) -> dict[str, Any]:
        """Return ``training.json``, {} where nothing was finished.

        Raises:
            DataError: the file is damaged or of a newer schema.
        """
        return read_json(self.folder / "training.json", SCHEMA, HINT)

    def write_json(self, content: Mapping[str, Any]) -> None:
        """Replace ``training.json`` atomically."""
        write_json(self.folder / "training.json", SCHEMA, content)

    def weights(self) -> Path | None:
        """Return the checkpoint of a finished training, None where there is none."""
        named = self.read_json().get("weights")
        path = self.folder / named if named else None
        return path if path and path.exists() else None


def find_works(root: Path) -> list[Work]:
    """Return all finished works below a store's root, in path order."""
    works = [Work(path.parent) for path in sorted((root / FOLDER).glob("*/*/*/*/work.json"))]
    return [work for work in works if work.finished()]
