"""Audits in the store: ``<root>/audits/<dataset>/<method>@<weights>/<audit id>/``.

======================  =================================================================================
``audit.json``          identity, provenance and, once all samples are measured, statistics and verdict
``prompts.jsonl``       the prompts used
``per_image.csv``       ``key,measure,about,value``, full precision
``maps/<key>.npz``      what naming each object changed, on a coarse grid, for the test over masks
``images/<key>/*.png``  outputs by prompt, of the samples that are pictured and of the one in progress
``pictures/*.png``      sheets of prompts, outputs and differences
``failures.csv``        ``key,error`` of the last attempt, absent when nothing failed
======================  =================================================================================

A measured sample is appended to ``per_image.journal`` at once; a kill loses at most the image in flight.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import read_png_notes, read_visible, write_atomically, write_png, write_text
from tgfbench.benchmark.store import PROMPT_NOTE, Run, run_id, safe_name
from tgfbench.metrics.audit.locality import NamedChange
from tgfbench.metrics.audit.measures import SampleMeasures

FOLDER = "audits"
SCHEMA = 1
COLUMNS = ("key", "measure", "about", "value")


class AuditFolder:
    """The folder of one audit.

    Args:
        folder: ``<root>/audits/<dataset>/<method>@<weights>/<audit id>``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, root: Path, identity: Mapping[str, Any]) -> AuditFolder:
        """Return the folder of an identity; nothing is written."""
        label = f"{safe_name(identity['method'])}@{safe_name(identity['weights'] or 'none')}"
        return cls(root / FOLDER / safe_name(identity["dataset"]) / label / run_id(identity))

    @property
    def json_path(self) -> Path:
        """``audit.json``."""
        return self.folder / "audit.json"

    @property
    def prompts_path(self) -> Path:
        """``prompts.jsonl``."""
        return self.folder / "prompts.jsonl"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the audit against a second process; see ``Run.locked``."""
        return Run(self.folder).locked()

    def read_json(self) -> dict[str, Any]:
        """Return ``audit.json``, {} where the audit was never begun.

        Raises:
            DataError: the file is damaged or of a newer schema.
        """
        doing = f"reading {self.json_path}"
        try:
            content = dict(json.loads(self.json_path.read_text(encoding="utf-8")))
            schema = int(content["schema"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = f"{type(error).__name__}: {error}"
            raise DataError(doing, found=found, hint="remove this file: the measures beside it are kept") from error
        if schema > SCHEMA:
            raise DataError(doing, found=f"schema {schema}", expected=f"at most {SCHEMA}", hint="use a newer tgfbench")
        return content

    def write_json(self, content: Mapping[str, Any]) -> None:
        """Replace ``audit.json`` atomically."""
        text = json.dumps({"schema": SCHEMA, "id": self.folder.name, **content}, indent=2, ensure_ascii=False)
        write_text(self.json_path, text + "\n")

    def load(self, keys: Sequence[str]) -> dict[str, SampleMeasures]:
        """Return the samples that are measured, in the order of the keys."""
        found: dict[str, SampleMeasures] = {}
        for key, measure, about, value in self._rows():
            found.setdefault(key, SampleMeasures(key)).values[measure, about] = float(value)
        complete = {}
        for key in keys:
            changes = self._read_maps(key) if key in found else None
            if changes is not None:
                found[key].changes = changes
                complete[key] = found[key]
        return complete

    def add(self, measured: SampleMeasures) -> None:
        """Store the measures of one sample; its maps come first, so that a noted sample has them."""
        arrays: dict[str, Any] = {f"change{i}": item.change for i, item in enumerate(measured.changes)}
        arrays |= {f"mask{i}": item.mask for i, item in enumerate(measured.changes)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_atomically(self._maps_path(measured.key), lambda file: file.write(buffer.getvalue()))
        rows = [[measured.key, *name, repr(value)] for name, value in measured.values.items()]
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows) + "\n")

    def save(self, keys: Sequence[str]) -> None:
        """Write ``per_image.csv`` in the order of the keys, and empty the journal."""
        position = {key: index for index, key in enumerate(keys)}
        latest = {tuple(row[:3]): row for row in self._rows()}
        rows = sorted(latest.values(), key=lambda row: position.get(row[0], len(position)))
        self._write_csv("per_image.csv", [COLUMNS, *rows])
        self._journal.unlink(missing_ok=True)

    def save_failures(self, failures: Mapping[str, str]) -> None:
        """Write ``failures.csv`` (message by key), or remove it where there are none."""
        if failures:
            self._write_csv("failures.csv", [("key", "error"), *sorted(failures.items())])
        else:
            (self.folder / "failures.csv").unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what was measured and fused, for an audit that starts anew."""
        for name in ("maps", "images", "pictures"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("per_image.csv", "per_image.journal", "audit.json", "failures.csv"):
            (self.folder / name).unlink(missing_ok=True)

    def image_path(self, key: str, prompt: str) -> Path:
        """Return where the output under a prompt lies."""
        return self.folder / "images" / key / f"{prompt}.png"

    def read_image(self, key: str, prompt: str, text: str) -> np.ndarray | None:
        """Return an output that lies there already, None where there is none under this text."""
        path = self.image_path(key, prompt)
        if not path.is_file() or read_png_notes(path).get(PROMPT_NOTE) != text:
            return None
        return read_visible(path)

    def write_image(self, key: str, prompt: str, text: str, pixels: np.ndarray) -> None:
        """Keep an output, uint8 (H, W, 3)."""
        write_png(self.image_path(key, prompt), pixels, {PROMPT_NOTE: text})

    def drop_images(self, key: str) -> None:
        """Remove the outputs of a sample."""
        shutil.rmtree(self.folder / "images" / key, ignore_errors=True)

    def write_picture(self, name: str, png: bytes) -> None:
        """Keep a drawn sheet."""
        write_atomically(self.folder / "pictures" / f"{name}.png", lambda file: file.write(png))

    @property
    def _journal(self) -> Path:
        return self.folder / "per_image.journal"

    def _maps_path(self, key: str) -> Path:
        return self.folder / "maps" / f"{key}.npz"

    def _read_maps(self, key: str) -> list[NamedChange] | None:
        try:
            with np.load(self._maps_path(key), allow_pickle=False) as arrays:
                count = len(arrays.files) // 2
                return [NamedChange(key, arrays[f"change{i}"], arrays[f"mask{i}"]) for i in range(count)]
        except (OSError, ValueError, KeyError, EOFError):
            # Gone or damaged: the sample is measured again.
            return None

    def _rows(self) -> Iterator[list[str]]:
        path = self.folder / "per_image.csv"
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
            if not rows or tuple(rows[0]) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
                raise DataError(
                    f"reading {path}",
                    found="other columns",
                    expected=",".join(COLUMNS),
                    hint="remove the file: what it held is measured again",
                )
            yield from rows[1:]
        if self._journal.is_file():
            for line in self._journal.read_text(encoding="utf-8").splitlines():
                try:
                    yield from json.loads(line)
                except ValueError:
                    # A kill cut this line off: its sample is simply not done yet.
                    continue

    def _write_csv(self, name: str, rows: Iterable[Sequence[str]]) -> None:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        write_text(self.folder / name, buffer.getvalue())


def find_audits(root: Path) -> list[AuditFolder]:
    """Return all audits below a store's root, in path order."""
    return [AuditFolder(path.parent) for path in sorted((root / FOLDER).glob("*/*/*/audit.json"))]
