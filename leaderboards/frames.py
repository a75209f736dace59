"""The three frames a leaderboard is built from, checked and put into one canonical form.

``runs``: one row per run. ``run_id``; ``dataset``, ``split``, ``fingerprint`` (content of the served images),
``images`` (pairs asked for); ``method``, ``title``, ``weights``, ``weights_origin`` (authors, project, user or none),
``reconstruction``, ``tags`` (comma-joined), ``text_policy``, ``options`` (JSON), ``seen_in_training`` (how many of the
images the weights were trained on), ``finished_at`` (ISO 8601). Optional: ``reported`` (JSON, the card's list of
``dataset``, ``metric``, ``value`` and ``source``), ``seconds`` (of one fusion, median), ``device``, ``imported`` (True
where numbers came in by `tgfbench import`), ``card`` (JSON, what a page about the method shows), ``training_note`` (why
the weights may have seen images beyond those counted).

``scores``: one row per run, image, protocol and metric. ``run_id``, ``key``, ``protocol``, ``metric``, ``value``,
``metric_version``.

``metrics``: one row per protocol and metric. ``protocol``, ``metric``, ``title``, ``higher_is_better`` (True, False or
None), ``order``.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from tgfbench.benchmark.errors import DataError, UsageError, counted

RUN_TEXTS = (
    *("run_id", "dataset", "split", "fingerprint", "method", "title", "weights", "weights_origin", "tags"),
    *("text_policy", "options", "finished_at"),
)
RUN_COLUMNS = (*RUN_TEXTS, "images", "reconstruction", "seen_in_training")
RUN_OPTIONAL: dict[str, Any] = {
    "reported": "[]",
    "seconds": float("nan"),
    "device": "",
    "imported": False,
    "card": "{}",
    "training_note": "",
}
"""Columns a store need not have, with what stands for their absence."""
SCORE_COLUMNS = ("run_id", "key", "protocol", "metric", "value", "metric_version")
METRIC_COLUMNS = ("protocol", "metric", "title", "higher_is_better", "order")


def clean_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs indexed and sorted by id, empty texts for missing ones, ``finished`` as a UTC time.

    Raises:
        UsageError: there is no run.
        DataError: a column is missing or a run id occurs twice.
    """
    if runs.empty:
        raise _nothing_stored("no finished run")
    _require_columns("runs", runs, RUN_COLUMNS)
    given = [column for column in RUN_OPTIONAL if column in runs.columns]
    clean = runs[[*RUN_COLUMNS, *given]].copy()
    for column, absent in RUN_OPTIONAL.items():
        if column not in given:
            clean[column] = [absent] * len(clean)
        else:
            clean[column] = clean[column].where(clean[column].notna(), absent)
    clean["seconds"] = clean["seconds"].astype("float64")
    clean["imported"] = clean["imported"].astype(bool)
    for column in RUN_TEXTS:
        clean[column] = clean[column].astype("object").where(clean[column].notna(), "").astype(str)
    clean["options"] = clean["options"].map(_canonical_options)
    clean["images"] = clean["images"].astype("int64")
    clean["seen_in_training"] = clean["seen_in_training"].fillna(0).astype("int64")
    clean["reconstruction"] = clean["reconstruction"].fillna(False).astype(bool)
    clean["finished"] = pd.to_datetime(clean["finished_at"], utc=True, format="ISO8601", errors="coerce")
    clean["finished"] = clean["finished"].fillna(pd.Timestamp(0, tz="UTC"))
    repeated = sorted(clean.loc[clean["run_id"].duplicated(), "run_id"].unique())
    if repeated:
        raise DataError("reading the runs", found=f"run {repeated[0]} twice", expected="every run id once")
    return clean.set_index("run_id").sort_index()


def clean_scores(scores: pd.DataFrame, run_ids: pd.Index) -> pd.DataFrame:
    """Return the scores, per run, protocol and metric of the newest stored metric version only.

    Values of an older version that a re-measured run still holds are dropped, so that one mean never mixes two.

    Raises:
        UsageError: there is no score.
        DataError: a column is missing, a run is unknown, or an image has two different values of one metric.
    """
    if scores.empty:
        raise _nothing_stored(f"{counted(len(run_ids), 'run')} but no score")
    _require_columns("scores", scores, SCORE_COLUMNS)
    clean = scores[list(SCORE_COLUMNS)]
    unknown = sorted(set(clean["run_id"].unique()) - set(run_ids))
    if unknown:
        raise DataError("reading the scores", found=f"scores of run {unknown[0]}", expected="a run known to the store")
    clean = clean.astype({"value": "float64", "metric_version": "int64"})
    clean = clean.astype(dict.fromkeys(["run_id", "key", "protocol", "metric"], "category"))
    newest = clean.groupby(["run_id", "protocol", "metric"], observed=True)["metric_version"].transform("max")
    clean = clean[clean["metric_version"] == newest].drop_duplicates()
    twice = clean.duplicated(["run_id", "key", "protocol", "metric"])
    if twice.any():
        names = clean.loc[twice, ["run_id", "key", "metric"]].astype(str).agg(" / ".join, axis=1)
        raise DataError(
            "reading the scores",
            found=f"two different values for {names.min()}",
            expected="one value per run, image and metric",
            hint="measure that run again with the overwrite mode `always`",
        )
    return clean


def clean_metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the metrics indexed by (protocol, metric); ``higher_is_better`` holds True, False or None.

    Raises:
        DataError: a column is missing.
    """
    _require_columns("metrics", metrics, METRIC_COLUMNS)
    clean = metrics[list(METRIC_COLUMNS)].copy()
    directions = [None if pd.isna(value) else bool(value) for value in metrics["higher_is_better"]]
    clean["higher_is_better"] = pd.Series(directions, index=clean.index, dtype="object")
    return clean.drop_duplicates(["protocol", "metric"]).set_index(["protocol", "metric"]).sort_index()


def options_of(text: str) -> dict[str, Any] | None:
    """Return the options as a dictionary, or None where the text is not a JSON object."""
    try:
        parsed = json.loads(text or "{}")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _canonical_options(text: str) -> str:
    options = options_of(text)
    return text if options is None else json.dumps(options, sort_keys=True, ensure_ascii=False)


def _require_columns(name: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(f"reading the frame of {name}", found=f"no column {', '.join(missing)}")


def _nothing_stored(found: str) -> UsageError:
    return UsageError(
        "building the leaderboard",
        found=found,
        expected="at least one run with scores",
        hint="run `tgfbench run -m average -d sample` first",
    )
