"""Audits in the store: ``<root>/audits/<dataset>/<method>@<weights>/<audit id>/``.

======================  =================================================================================
``audit.json``          identity, provenance and, once all samples are measured, statistics and verdict
``prompts.jsonl``       the prompts used
``per_image.csv``       ``key,measure,about,value``, full precision
``maps/<key>.npz``      what naming each object changed, on a coarse grid, and how many numbers the sample has
``images/<key>/*.png``  outputs by prompt, of the samples that are pictured; raw (``.npy``) of the one in progress
``pictures/*.png``      sheets of prompts, outputs and differences
``failures.csv``        ``key,error`` of the last attempt, absent when nothing failed
======================  =================================================================================

A measured sample is appended to ``per_image.journal`` at once; a kill loses at most the image in flight.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from tgfbench.benchmark.images import read_png_notes, read_visible, write_atomically, write_png
from tgfbench.benchmark.records import (
    FAILURES,
    StoredFolder,
    append_journal,
    read_journal,
    read_table,
    run_id,
    write_table,
)
from tgfbench.benchmark.store import PROMPT_NOTE
from tgfbench.metrics.audit.locality import NamedChange
from tgfbench.metrics.audit.measures import SampleMeasures

FOLDER = "audits"
COLUMNS = ("key", "measure", "about", "value")


class AuditFolder(StoredFolder):
    """The folder of one audit.

    Args:
        folder: ``<root>/audits/<dataset>/<method>@<weights>/<audit id>``.
    """

    JSON, HINT = "audit.json", "remove this file: the measures beside it are kept"

    @classmethod
    def of(cls, root: Path, identity: Mapping[str, Any]) -> AuditFolder:
        """Return the folder of an identity; nothing is written."""
        return cls(cls.place(root / FOLDER, identity) / run_id(identity))

    @property
    def prompts_path(self) -> Path:
        """``prompts.jsonl``."""
        return self.folder / "prompts.jsonl"

    def load(self, keys: Sequence[str]) -> dict[str, SampleMeasures]:
        """Return the samples that are measured, in the order of the keys."""
        found: dict[str, SampleMeasures] = {}
        for key, measure, about, value in self._rows():
            found.setdefault(key, SampleMeasures(key)).values[measure, about] = float(value)
        return {key: found[key] for key in keys if key in found and self._complete(found[key])}

    def add(self, measured: SampleMeasures) -> None:
        """Store the measures of one sample; its maps come first, so that a noted sample has them."""
        arrays: dict[str, Any] = {"measures": len(measured.values)}
        arrays |= {f"change{i}": item.change for i, item in enumerate(measured.changes)}
        arrays |= {f"mask{i}": item.mask for i, item in enumerate(measured.changes)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomically(self._maps_path(measured.key), lambda file: file.write(buffer.getvalue()))
        rows = [[measured.key, *name, repr(value)] for name, value in measured.values.items()]
        append_journal(self._journal, rows)

    def save(self, keys: Sequence[str]) -> None:
        """Write ``per_image.csv`` in the order of the keys, and empty the journal."""
        position = {key: index for index, key in enumerate(keys)}
        latest = {tuple(row[:3]): row for row in self._rows()}
        rows = sorted(latest.values(), key=lambda row: position.get(row[0], len(position)))
        write_table(self._table, COLUMNS, rows)
        self._journal.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what was measured and fused, for an audit that starts anew."""
        for name in ("maps", "images", "pictures"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in (self._table, self._journal, self.json_path, self.folder / FAILURES):
            path.unlink(missing_ok=True)

    def image_path(self, key: str, prompt: str) -> Path:
        """Return where the output under a prompt lies once it is kept."""
        return self.folder / "images" / key / f"{prompt}.png"

    def read_output(self, key: str, prompt: str, text: str) -> np.ndarray | None:
        """Return an output that lies there already, uint8 (H, W, 3); None where there is none under this text."""
        try:
            return np.load(self._raw_path(key, prompt), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            # Not in progress, or cut off.
            pass
        path = self.image_path(key, prompt)
        if not path.is_file() or read_png_notes(path).get(PROMPT_NOTE) != text:
            return None
        return read_visible(path)

    def write_output(self, key: str, prompt: str, pixels: np.ndarray) -> None:
        """Hold an output, uint8 (H, W, 3), until its sample is measured; raw, because most are dropped then."""
        write_atomically(self._raw_path(key, prompt), lambda file: np.save(file, pixels))

    def keep_images(self, key: str, outputs: Mapping[str, tuple[str, np.ndarray]]) -> None:
        """Keep the outputs of a sample for good, text and pixels by prompt."""
        for prompt, (text, pixels) in outputs.items():
            write_png(self.image_path(key, prompt), pixels, {PROMPT_NOTE: text})
            self._raw_path(key, prompt).unlink(missing_ok=True)

    def drop_images(self, key: str) -> None:
        """Remove the outputs of a sample."""
        shutil.rmtree(self.folder / "images" / key, ignore_errors=True)

    def picture_path(self, key: str) -> Path:
        """Return where the sheet of a sample lies."""
        return self.folder / "pictures" / f"{key}.png"

    def write_picture(self, key: str, png: bytes) -> None:
        """Keep the sheet of a sample."""
        write_atomically(self.picture_path(key), lambda file: file.write(png))

    @property
    def _table(self) -> Path:
        return self.folder / "per_image.csv"

    @property
    def _journal(self) -> Path:
        return self.folder / "per_image.journal"

    def _raw_path(self, key: str, prompt: str) -> Path:
        return self.folder / "images" / key / f"{prompt}.npy"

    def _maps_path(self, key: str) -> Path:
        return self.folder / "maps" / f"{key}.npz"

    def _complete(self, measured: SampleMeasures) -> bool:
        """Fill in the maps of a sample that was read; False where they or some of its numbers are gone or damaged."""
        try:
            with np.load(self._maps_path(measured.key), allow_pickle=False) as arrays:
                places = range(len(arrays.files) // 2)
                measured.changes = [NamedChange(measured.key, arrays[f"change{i}"], arrays[f"mask{i}"]) for i in places]
                return len(measured.values) == int(arrays["measures"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return False

    def _rows(self) -> list[list[str]]:
        journal = read_journal(self._journal)
        # A sample that was measured again has all its numbers from there.
        again = {row[0] for row in journal}
        return [*(row for row in read_table(self._table, COLUMNS, "value") if row[0] not in again), *journal]


def find_audits(root: Path) -> list[AuditFolder]:
    """Return all audits below a store's root, in path order."""
    return [AuditFolder(path.parent) for path in sorted((root / FOLDER).glob("*/*/*/audit.json"))]
