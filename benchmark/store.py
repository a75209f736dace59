"""The store: one folder per run, safe against a kill at any moment; leaderboards are always rebuilt from it.

``docs/architecture.md`` lists the files. Finished images and scores are first appended to journals, a line each, and
moved into sorted CSV files when a run is opened or ends. A line cut off by a kill is ignored on the next reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tgfbench.benchmark.images import read_png_notes, write_png
from tgfbench.benchmark.records import StoredFolder, append_journal, read_journal, read_table, run_id, write_table
from tgfbench.benchmark.weights import sha256_of

IMAGES, SCORES = "images.csv", "per_image.csv"
IMAGE_COLUMNS = ("key", "text", "sha256")
SCORE_COLUMNS = ("key", "metric", "protocol", "value")

RUN_NOTE, PROMPT_NOTE = "tgfbench-run", "tgfbench-prompt"
"""Keywords of the notes inside every fused PNG."""

ScoreName = tuple[str, str, str]
"""(key, metric, protocol)"""


@dataclass(frozen=True)
class Image:
    """A fused image that lies in the store.

    Attributes:
        text: the prompt the method was given.
        sha256: of the PNG file.
    """

    text: str
    sha256: str


class Run(StoredFolder):
    """The folder of one run and, once ``load`` was called, what it holds.

    Args:
        folder: ``runs/<dataset>/<method>@<weights>/<run id>``.

    Attributes:
        images: finished images by key.
        scores: values by (key, metric, protocol); NaN where a metric is undefined.
    """

    JSON, HINT = "run.json", "remove this run's folder"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images: dict[str, Image] = {}
        self.scores: dict[ScoreName, float] = {}

    @classmethod
    def of(cls, root: Path, identity: Mapping[str, Any]) -> Run:
        """Return the run of an identity; nothing is written."""
        return cls(cls.place(root, identity) / run_id(identity))

    def image_path(self, key: str) -> Path:
        """Return where the fused image of a key lies."""
        return self.folder / "fused" / f"{key}.png"

    def load(self) -> Run:
        """Read images and scores, journals included; returns itself."""
        image_rows = [*read_table(self.folder / IMAGES, IMAGE_COLUMNS), *read_journal(self._journal(IMAGES))]
        score_rows = [*read_table(self.folder / SCORES, SCORE_COLUMNS, "value"), *read_journal(self._journal(SCORES))]
        self.images = {key: Image(text, sha256) for key, text, sha256 in image_rows}
        self.scores = {(key, metric, protocol): float(value) for key, metric, protocol, value in score_rows}
        return self

    def drop_changed_images(self) -> list[str]:
        """Forget images whose PNG is gone or has other bytes than noted, with their scores; returns their keys."""
        changed = [
            key
            for key, image in self.images.items()
            if not self.image_path(key).is_file() or sha256_of(self.image_path(key)) != image.sha256
        ]
        self.forget(changed)
        return changed

    def write_image(self, key: str, pixels: np.ndarray, text: str) -> Image:
        """Write the PNG of a key (uint8 (H, W, 3) RGB); it carries its prompt and run inside."""
        path = self.image_path(key)
        write_png(path, pixels, {RUN_NOTE: self.folder.name, PROMPT_NOTE: text})
        return Image(text, sha256_of(path))

    def adopt_images(self, keys: Iterable[str]) -> None:
        """Take in images that were written whole but not noted yet when a kill came."""
        for key in keys:
            if key not in self.images and self.image_path(key).is_file():
                notes = read_png_notes(self.image_path(key))
                if notes.get(RUN_NOTE) == self.folder.name:
                    self.images[key] = Image(notes.get(PROMPT_NOTE, ""), sha256_of(self.image_path(key)))

    def forget(self, keys: Iterable[str]) -> None:
        """Forget images and their scores, in memory; ``save`` makes it last."""
        gone = set(keys)
        self.images = {key: image for key, image in self.images.items() if key not in gone}
        self.scores = {name: value for name, value in self.scores.items() if name[0] not in gone}

    def forget_scores(self, protocol: str, metrics: Iterable[str]) -> None:
        """Forget all scores of some metrics under a protocol, in memory; ``save`` makes it last."""
        gone = set(metrics)
        self.scores = {n: value for n, value in self.scores.items() if n[2] != protocol or n[1] not in gone}

    def add_image(self, key: str, image: Image) -> None:
        """Note that the PNG of a key is in place."""
        self.images[key] = image
        append_journal(self._journal(IMAGES), [[key, image.text, image.sha256]])

    def add_scores(self, key: str, protocol: str, values: Mapping[str, float]) -> None:
        """Note scores of one image under one protocol."""
        self.scores.update({(key, metric, protocol): value for metric, value in values.items()})
        append_journal(
            self._journal(SCORES), [[key, metric, protocol, repr(value)] for metric, value in values.items()]
        )

    def save(self, keys: Sequence[str], metrics: Mapping[str, Sequence[str]]) -> None:
        """Write the CSV files, sorted, and empty the journals.

        Args:
            keys: the dataset's order.
            metrics: metric order by protocol.
        """
        position = {key: i for i, key in enumerate(keys)}
        column = {(metric, protocol): i for protocol, names in metrics.items() for i, metric in enumerate(names)}
        images = sorted(self.images.items(), key=lambda item: position.get(item[0], -1))
        names = sorted(self.scores, key=lambda n: (n[2], position.get(n[0], -1), column.get(n[1:], -1), n))
        write_table(self.folder / IMAGES, IMAGE_COLUMNS, [[key, image.text, image.sha256] for key, image in images])
        write_table(self.folder / SCORES, SCORE_COLUMNS, [[*name, repr(self.scores[name])] for name in names])
        for table in (IMAGES, SCORES):
            self._journal(table).unlink(missing_ok=True)

    def _journal(self, table: str) -> Path:
        return (self.folder / table).with_suffix(".journal")


def find_runs(root: Path) -> list[Run]:
    """Return all runs below a store's root, in path order."""
    return [Run(path.parent) for path in sorted(root.glob("*/*/*/run.json"))]
