"""Audits as rows of leaderboards: numbers per image under a protocol of their own, ``audit``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from tgfbench.benchmark.audit.store import FOLDER, AuditFolder, find_audits
from tgfbench.metrics.audit.measures import VERSION, SampleMeasures
from tgfbench.metrics.audit.prompts import read_prompts
from tgfbench.metrics.audit.report import groups_of
from tgfbench.metrics.base import MetricInfo

PROTOCOL = "audit"
CONTROL_TAG = "control"
"""Tag of the methods of known behaviour: they check the audit and are no entries of a board."""


def _card(name: str, title: str, better: bool | None, unit: str, notes: str) -> tuple[MetricInfo, bool | None]:
    info = MetricInfo(
        name=name,
        title=title,
        higher_is_better=bool(better),
        range=(-math.inf, math.inf),
        needs=("fused",),
        citation="docs/audit.md",
        unit=unit,
        notes=notes,
        version=VERSION,
    )
    return info, better


_BOARD: dict[str, tuple[tuple[str, str | None], tuple[MetricInfo, bool | None]]] = {
    "Text moves": (
        ("rms", "presence"),
        _card("Text moves", "movement when the prompt is taken away", None, "grey level", "Neither good nor bad."),
    ),
    "Meaning moves": (
        ("rms", "meaning"),
        _card("Meaning moves", "movement under another meaning", None, "grey level", "Neither good nor bad."),
    ),
    "Noise floor": (
        ("rms", "floor"),
        _card("Noise floor", "movement under noise of one grey level", None, "grey level", ""),
    ),
    "Specificity": (
        ("specificity", None),
        _card("Specificity", "share of the change in the named object, less that under controls", True, "", ""),
    ),
    "Contrast gain": (
        ("contrast gain", None),
        _card("Contrast gain", "contrast of an object when named, less that under controls", True, "grey level", ""),
    ),
    "Gradient gain": (
        ("gradient gain", None),
        _card("Gradient gain", "gradients of an object when named, less those under controls", True, "", ""),
    ),
    "Information gain": (
        ("information gain", None),
        _card("Information gain", "information from the showing source, likewise", True, "bit", ""),
    ),
    "PSNR over wrong": (
        ("PSNR gain", "right over wrong"),
        _card("PSNR over wrong", "PSNR under the right instruction, less that under a wrong one", True, "dB", ""),
    ),
}
"""What a board shows of an audit: the measure, and what it is about (None: the mean over the objects)."""


def audit_rows(root: Path) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
    """Return the finished audits of a store as rows of runs and of scores; see ``tgfbench.benchmark.results``.

    Args:
        root: folder of the store.

    Raises:
        DataError: a file of the store is damaged; names it.
    """
    runs, scores = [], []
    for folder in find_audits(root):
        content = folder.read_json()
        if content.get("result") and CONTROL_TAG not in content["tags"]:
            runs.append(_run_row(folder, content))
            scores += _score_rows(folder, content["identity"]["measures"])
    return runs, scores


def picture_frame(root: Path) -> pd.DataFrame:
    """Return the pictures of the finished audits of a store, ``run_id``, ``caption`` and ``path``, sheets first."""
    rows = []
    audits = [(folder, folder.read_json()) for folder in find_audits(root)]
    finished = [(folder, content) for folder, content in audits if content.get("result")]
    group_by_id = {
        content["id"]: group
        for group, members in groups_of([content for _, content in finished]).items()
        for content in members
    }
    for folder, content in finished:
        run = folder.folder.name
        for path in sorted((folder.folder / "pictures").rglob("*.png")):
            key = path.relative_to(folder.folder / "pictures").with_suffix("").as_posix()
            rows.append((run, f"Audit of {key}: outputs under its prompts, and what each prompt changes", str(path)))
        summary = root / FOLDER / f"{group_by_id[content['id']]}.png"
        if summary.is_file():
            rows.append((run, "Summary over the methods audited on these images", str(summary)))
    return pd.DataFrame(rows, columns=["run_id", "caption", "path"])


def audit_metrics() -> dict[str, tuple[MetricInfo, bool | None]]:
    """Return the card and the direction (None: no direction) of every metric under the protocol, in order."""
    return {name: card for name, (_, card) in _BOARD.items()}


def _run_row(folder: AuditFolder, content: dict[str, Any]) -> dict[str, Any]:
    identity, provenance = content["identity"], content.get("provenance", {})
    options = {**identity["options"], "prompts": identity["prompts_origin"]}
    options |= {"masks": identity["masks"]} if identity["masks"] != "none" else {}
    return {
        **{name: identity[name] for name in ("dataset", "split", "fingerprint", "images", "method", "weights")},
        **{name: content[name] for name in ("title", "weights_origin", "reconstruction", "seen_in_training")},
        "run_id": folder.folder.name,
        "tags": ",".join(content["tags"]),
        "text_policy": identity["text_policy"],
        "options": json.dumps(options, sort_keys=True),
        "finished_at": provenance.get("started_at", ""),
        "training_note": content.get("training_note", ""),
        "card": json.dumps({**provenance.get("card", {}), "verdict": content["result"]["verdict"]}, sort_keys=True),
    }


def _score_rows(folder: AuditFolder, version: int) -> list[tuple[Any, ...]]:
    keys = list(dict.fromkeys(prompt.key for prompt in read_prompts(folder.prompts_path)))
    samples = folder.load(keys)
    rows = []
    for name, (place, _) in _BOARD.items():
        values = {key: _value(sample, *place) for key, sample in samples.items()}
        if any(map(math.isfinite, values.values())):
            # Undefined is a value too: a sample without objects has no specificity, whichever method is audited.
            rows += [(folder.folder.name, key, PROTOCOL, name, value, version) for key, value in values.items()]
    return rows


def _value(sample: SampleMeasures, measure: str, about: str | None) -> float:
    return sample.mean(measure) if about is None else sample.about(measure, about)
