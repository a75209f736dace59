"""The store as pandas frames: the only thing leaderboards and statistics ever see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from tgfbench.benchmark.audit.results import PROTOCOL as AUDIT
from tgfbench.benchmark.audit.results import audit_metrics, audit_rows
from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.store import Run, find_runs

RUN_COLUMNS = (
    "run_id", "dataset", "split", "fingerprint", "images", "method", "title", "weights", "weights_origin",
    "reconstruction", "tags", "text_policy", "options", "seen_in_training", "finished_at",
    "reported", "seconds", "device", "imported", "card", "training_note",
)  # fmt: skip
SCORE_COLUMNS = ("run_id", "key", "protocol", "metric", "value", "metric_version")
METRIC_COLUMNS = ("protocol", "metric", "title", "higher_is_better", "order", "card")
_NAMES = ("run_id", "key", "protocol", "metric")
IMAGE_COLUMNS = ("run_id", "key", "text", "path")


def store_frames(root: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read all runs of a store.

    Args:
        root: folder of the store.

    Returns:
        Three frames: runs (``RUN_COLUMNS``), scores (tidy, ``SCORE_COLUMNS``) and metrics (``METRIC_COLUMNS``).

    Raises:
        UsageError: the store holds no run.
        DataError: a file of the store is damaged; names it.
    """
    runs, (audits, audit_scores) = find_runs(root), audit_rows(root)
    if not runs and not audits:
        raise UsageError(f"reading the store {root}", found="no run", hint="tgfbench run -m tesg,baselines -d sample")
    run_rows, parts = list(audits), [_score_part(audit_scores)]
    for run in runs:
        content = run.read_json()
        run_rows.append(_run_row(run, content))
        versions = content.get("metrics", {})
        # A second Run object, so that what it read is given back before the next one is read.
        loaded = Run(run.folder).load().scores
        parts.append(
            _score_part(
                (run.folder.name, key, protocol, metric, value, versions.get(protocol, {}).get(metric, 0))
                for (key, metric, protocol), value in loaded.items()
            )
        )
    scores = _stack(parts)
    return pd.DataFrame(run_rows, columns=list(RUN_COLUMNS)), scores, _metric_frame(scores)


def _score_part(rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    """Return scores with their names as categories: a store of millions of scores has few different names."""
    part = pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
    return part.astype({**dict.fromkeys(_NAMES, "category"), "value": "float64", "metric_version": "int64"})


def _stack(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    parts = [part for part in parts if len(part)] or [parts[0]]
    names = {name: union_categoricals([part[name] for part in parts], sort_categories=True) for name in _NAMES}
    numbers = {name: np.concatenate([part[name] for part in parts]) for name in ("value", "metric_version")}
    return pd.DataFrame(names | numbers)[list(SCORE_COLUMNS)]


def image_frame(root: Path) -> pd.DataFrame:
    """Return all fused images of a store that are in place (``IMAGE_COLUMNS``)."""
    rows = [
        (run.folder.name, key, image.text, str(path))
        for run in find_runs(root)
        for key, image in run.load().images.items()
        if (path := run.image_path(key)).is_file()
    ]
    return pd.DataFrame(rows, columns=list(IMAGE_COLUMNS))


def _run_row(run: Run, content: Mapping[str, Any]) -> dict[str, Any]:
    identity = content["identity"]
    provenance = content.get("provenance", {})
    card = provenance.get("card", {})
    options = {**identity["options"], **({"masks": identity["masks"]} if identity["masks"] != "none" else {})}
    return {
        **{name: identity[name] for name in ("dataset", "split", "fingerprint", "images", "method", "weights")},
        **{name: content[name] for name in ("title", "weights_origin", "reconstruction", "seen_in_training")},
        "run_id": run.folder.name,
        "tags": ",".join(content["tags"]),
        "text_policy": identity["text_policy"],
        "options": json.dumps(options, sort_keys=True),
        "finished_at": content.get("finished_at") or "",
        # A paper speaks of its own weights: beside ours its numbers would be a comparison nobody made.
        "reported": json.dumps([] if content["weights_origin"] == "project" else card.get("reported", [])),
        "seconds": content.get("fuse_seconds"),
        "device": "; ".join(filter(None, (provenance.get("device"), provenance.get("machine")))),
        "imported": "imported" in content and not (run.folder / "fused").is_dir(),
        "training_note": content.get("training_note", ""),
        "card": json.dumps({**card, "weights_card": content.get("weights_card", "")}, sort_keys=True),
    }


def _metric_frame(scores: pd.DataFrame) -> pd.DataFrame:
    from tgfbench.metrics import load_protocol

    rows = []
    for name, group in scores.groupby("protocol", sort=True, observed=True):
        if name == AUDIT:
            for order, (metric, (info, better)) in enumerate(audit_metrics().items()):
                rows.append((name, metric, metric, better, order, info.model_dump_json()))
            continue
        protocol = load_protocol(str(name)).select(group["metric"].unique())
        for order, metric in enumerate(protocol.metrics):
            info = protocol.info(metric)
            rows.append((name, metric, metric, info.higher_is_better, order, info.model_dump_json()))
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))
