"""Scores that were computed elsewhere, put into the store from a CSV file: one run per method, without images."""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.registry import normalise
from tgfbench.benchmark.store import Run
from tgfbench.metrics.evaluation import Protocol

OTHER_NAMES = {
    "avg_gradient": "AG",
    "cross_entropy": "CE",
    "edge_intensity": "EI",
    "entropy": "EN",
    "mutinf": "MI",
    "spatial_frequency": "SF",
    "variance": "SD",
}
"""Names that evaluators give to metrics known here under another one; VIFB's ``Variance`` is a standard deviation."""


def store_scores(file: Path, root: Path, *, dataset: str, split: str, protocol: Protocol, name: str = "") -> list[Run]:
    """Read ``key,method,metric,value`` (``method`` may be absent where ``name`` is given) and store a run per method.

    Runs hold no images, so nothing here vouches for the numbers: boards mark them as imported, and they share boards
    only with scores of the same image names read the same way, never with measured ones.

    Args:
        file: CSV with a header; other columns are ignored.
        root: folder of the store.
        dataset, split: what the scores belong to; free names.
        protocol: the convention the scores follow; its metric names or ``OTHER_NAMES``.
        name: of the one method, where the file has no column ``method``.

    Raises:
        DataError: the file is no such table, or holds a value that is no number or occurs twice; names the line.
        UsageError: the protocol has no such metric, or the method's name is missing.
    """
    doing = f"reading the scores {file}"
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(doing, found=f"{type(error).__name__}: {error}".strip(), expected="a CSV file") from error
    missing = {"key", "metric", "value"} - set(table.columns)
    if missing or table.empty:
        found = f"no column {', '.join(sorted(missing))}" if missing else "no line"
        raise DataError(doing, found=found, expected="the columns key,method,metric,value")
    if "method" not in table:
        if not name:
            raise UsageError(doing, found="no column method", hint="give --name")
        table["method"] = name
    elif name:
        table = table[table["method"] == name]
        if table.empty:
            raise UsageError(doing, found=f"no line of the method {name}")
    table["value"] = [_number(doing, line, text) for line, text in zip(table.index + 2, table["value"], strict=True)]
    names = {metric: protocol.resolve(OTHER_NAMES.get(metric.lower(), metric)) for metric in table["metric"].unique()}
    table["metric"] = table["metric"].map(names)
    twice = table.duplicated(["key", "method", "metric"])
    if twice.any():
        line = table.index[twice][0]
        raise DataError(doing, found=f"line {line + 2}: {table.loc[line, 'key']} a second time", expected="one value")
    keys = sorted(table["key"].unique())
    return [
        _store(str(method), part, keys, root, file, dataset=dataset, split=split, protocol=protocol)
        for method, part in table.groupby("method", sort=True)
    ]


def _number(doing: str, line: int, text: str) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise DataError(doing, found=f"line {line}: {text!r}", expected="a number, or nothing") from None


def _store(
    method: str, part: pd.DataFrame, keys: Sequence[str], root: Path, file: Path, *, dataset: str, split: str,
    protocol: Protocol,
) -> Run:  # fmt: skip
    columns = [part[name].tolist() for name in ("key", "metric", "value")]
    content = "\n".join(sorted(f"{key}\t{metric}\t{value!r}" for key, metric, value in zip(*columns, strict=True)))
    identity = {
        "method": method,
        "algorithm": "precomputed",
        "method_version": 1,
        "weights": "precomputed",
        "weights_sha256": "",
        "options": {},
        "dataset": dataset,
        "split": split,
        "images": len(keys),
        # Names are all that is known of the images; the prefix keeps this apart from a hash of their content.
        "fingerprint": "names:" + hashlib.sha256("\n".join(map(normalise, keys)).encode()).hexdigest(),
        "text_policy": "none",
        "text_seed": 0,
        "masks": "none",
        "device": "unknown",
        "scores_sha256": hashlib.sha256(f"{protocol.name}\n{content}".encode()).hexdigest(),
    }
    present = set(part["metric"])
    metrics = [metric for metric in protocol.metrics if metric in present]
    run = Run.of(root, identity)
    with run.locked():
        run.scores = {(key, metric, protocol.name): value for key, metric, value in zip(*columns, strict=True)}
        run.save(keys, {protocol.name: metrics})
        run.write_json(
            {
                "identity": identity,
                "title": method,
                "weights_origin": "user",
                "weights_card": "",
                "reconstruction": False,
                "tags": ["precomputed", "scores"],
                "seen_in_training": 0,
                "problems": [],
                "metrics": {protocol.name: {m: v for m, v in protocol.versions().items() if m in metrics}},
                "provenance": {},
                "imported": {"file": file.name, "kind": "scores"},
                "finished_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
        )
    return run
