"""Downstream evaluation in the store: ``<root>/downstream/<task>/<dataset>/<method>@<weights>/``.

A *work* is one test of one task, method, recipe and seed, in the folder ``<work id>``; a *training* is what it was
tested with, in ``training-<training id>``, and is shared by works that differ in nothing but the test images.
``docs/downstream.md`` lists the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgfbench.benchmark.records import StoredFolder, read_table, run_id, safe_name, write_table
from tgfbench.metrics.downstream.base import Outcome

FOLDER = "downstream"
COLUMNS = ("class", "metric", "value")


def method_folder(root: Path, identity: Mapping[str, Any]) -> Path:
    """Return the folder of all works of a task, dataset and method."""
    return StoredFolder.place(root / FOLDER / safe_name(identity["task"]), identity)


class Work(StoredFolder):
    """The folder of one work.

    Args:
        folder: ``<root>/downstream/<task>/<dataset>/<method>@<weights>/<work id>``.
    """

    JSON, HINT = "work.json", "remove this folder: it is done again"

    @classmethod
    def of(cls, root: Path, identity: Mapping[str, Any]) -> Work:
        """Return the work of an identity; nothing is written."""
        return cls(method_folder(root, identity) / run_id(identity))

    @property
    def predictions(self) -> Path:
        """Folder of what was predicted."""
        return self.folder / "predictions"

    def finished(self) -> bool:
        """Tell whether all its numbers are there."""
        content = self.read_json()
        if not content.get("finished_at") or not (self.folder / "metrics.csv").is_file():
            return False
        return {("", card["name"]) for card in content.get("metrics", ())} <= set(self.read_metrics())

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


class Training(StoredFolder):
    """The folder of one training.

    Args:
        folder: ``<root>/downstream/<task>/<dataset>/<method>@<weights>/training-<training id>``.
    """

    JSON, HINT = "training.json", "remove this folder: it is done again"

    @classmethod
    def of(cls, root: Path, identity: Mapping[str, Any]) -> Training:
        """Return the training of an identity; nothing is written."""
        return cls(method_folder(root, identity) / f"training-{run_id(identity)}")

    @property
    def library(self) -> Path:
        """Folder of the task's own files."""
        return self.folder / "library"

    def weights(self) -> Path | None:
        """Return the checkpoint of a finished training, None where there is none."""
        named = self.read_json().get("weights")
        path = self.folder / named if named else None
        return path if path and path.exists() else None


def find_works(root: Path) -> list[Work]:
    """Return all finished works below a store's root, in path order."""
    works = [Work(path.parent) for path in sorted((root / FOLDER).glob("*/*/*/*/work.json"))]
    return [work for work in works if work.finished()]
