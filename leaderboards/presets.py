"""Named boards fixed in advance: which datasets, protocol and metrics count, so that nobody picks them afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tgfbench.benchmark.errors import UsageError, listed, suggest
from tgfbench.benchmark.registry import normalise
from tgfbench.leaderboards.frames import options_of
from tgfbench.leaderboards.grouping import plain_label

AUDIT = "audit"
"""Protocol of text-guidance audits: a preset shows their numbers in the rows of the runs they belong to."""

_CORE = ("EN", "SD", "SF", "AG", "MI", "SCD", "CC", "PSNR", "MSE", "SSIM", "MS-SSIM", "VIF", "Qabf")
_AUDIT = ("Specificity", "Contrast gain", "Gradient gain", "Information gain", "PSNR over wrong")
_SPOILT = (
    "low-light",
    "over-exposure",
    "haze",
    "rain",
    "noise",
    "stripe-noise",
    "blur",
    "low-contrast",
    "down-sampling",
)


@dataclass(frozen=True)
class Preset:
    """A board fixed in advance. What it holds never changes; another choice gets another name.

    Attributes:
        name: for ``--preset``.
        purpose: what it answers.
        datasets: all of them count; their test split.
        metrics: what counts, by protocol; all metrics of a board weigh the same.
        prompted: runs of methods that are steered by a prompt count only with the dataset's own texts.
    """

    name: str
    purpose: str
    datasets: tuple[str, ...]
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"correct": _CORE})
    prompted: bool = False

    def select(
        self, runs: pd.DataFrame, scores: pd.DataFrame, metrics: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return the part of a store's frames that belongs to the preset.

        Raises:
            UsageError: nothing does.
        """
        wanted = {normalise(name) for name in self.datasets}
        kept = runs["dataset"].map(lambda name: normalise(str(name)) in wanted) & (runs["split"] == "test")
        if self.prompted and "card" in runs:
            steered = np.array([_card(run).get("text_use") == "test" for run in runs.to_dict("records")], dtype=bool)
            kept &= ~steered | (runs["text_policy"] == "dataset")
        runs = runs[kept]
        scores = scores[self._holds(scores) & scores["run_id"].isin(runs["run_id"])]
        if scores.empty:
            raise UsageError(
                f"making the board {self.name}",
                found=f"no score under the protocol {' or '.join(self.metrics)} on any of its datasets",
                expected=f"runs on the test split of {listed(self.datasets)}",
                hint=f"tgfbench run -m all -d {','.join(self.datasets)} --data-root DIR",
            )
        runs, metrics = runs[runs["run_id"].isin(scores["run_id"])], metrics[self._holds(metrics)]
        return join_audits(runs, scores, metrics) if AUDIT in self.metrics else (runs, scores, metrics)

    def _holds(self, frame: pd.DataFrame) -> pd.Series:
        held = pd.Series(False, index=frame.index)
        for protocol, metrics in self.metrics.items():
            held |= (frame["protocol"] == protocol) & frame["metric"].isin(metrics)
        return held

    def introduction(self, runs: pd.DataFrame) -> tuple[str, ...]:
        """Return what heads the board: its purpose, and what this store lacks of it."""
        stored = {normalise(str(name)) for name in runs["dataset"]}
        absent = [name for name in self.datasets if normalise(name) not in stored]
        fixed = "; ".join(f"protocol {protocol}: {', '.join(names)}" for protocol, names in self.metrics.items())
        lines = [
            f"Preset {self.name}: {self.purpose} Fixed in advance: test split of {listed(self.datasets)}; {fixed}."
        ]
        if absent:
            lines.append(f"Incomplete: this store holds no run on {listed(absent)}.")
        if AUDIT in self.metrics:
            lines += _verdicts(runs)
        return tuple(lines)


def find_preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        UsageError: there is none of that name.
    """
    for preset in PRESETS:
        if normalise(preset.name) == normalise(name):
            return preset
    hint = suggest(name, [preset.name for preset in PRESETS])
    raise UsageError(f"making the board {name}", found="no preset of that name", hint=hint)


def join_audits(
    runs: pd.DataFrame, scores: pd.DataFrame, metrics: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Put the numbers of every audit into the rows of the runs of the same method on the same images.

    Method, weights, options, texts and images must agree; of several such audits the newest counts. Metrics of an audit
    that found a run are called ``audit …`` there. An audit that found none keeps its own row under its own protocol.
    """
    records = {str(row["run_id"]): row for row in runs.to_dict("records")}
    audited = set(scores.loc[scores["protocol"] == AUDIT, "run_id"].astype(str))
    newest: dict[tuple[str, ...], str] = {}
    for run in sorted(audited, key=lambda run: (str(records[run]["finished_at"]), run)):
        newest[_alike(records[run])] = run
    own = scores[scores["protocol"] != AUDIT]
    places = own[["run_id", "protocol"]].drop_duplicates().astype(str)
    parts, found = [own.astype({"metric": str, "protocol": str})], set()
    for run, protocol in sorted(places.itertuples(index=False, name=None)):
        audit = newest.get(_alike(records[run]))
        if audit is None:
            continue
        found.add(audit)
        part = scores[(scores["run_id"] == audit) & (scores["protocol"] == AUDIT)]
        parts.append(part.assign(run_id=run, protocol=protocol, metric=[f"{AUDIT} {name}" for name in part["metric"]]))
        card = {**_card(records[run]), "verdict": _card(records[audit]).get("verdict", "")}
        records[run] = {**records[run], "card": json.dumps(card, sort_keys=True)}
    superseded = {run for run in audited if newest[_alike(records[run])] in found}
    left = audited - superseded
    parts.append(scores[scores["run_id"].isin(left) & (scores["protocol"] == AUDIT)])
    kept = [row for run, row in records.items() if run not in superseded or run in set(places["run_id"])]
    joined = pd.concat(parts, ignore_index=True)
    return pd.DataFrame(kept, columns=runs.columns), joined, _with_audit(metrics, sorted(set(places["protocol"])))


def _alike(run: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return what a run and its audit have in common: an audit counts whichever of its texts a pair was given."""
    given = options_of(str(run["options"])) or {}
    options = {name: value for name, value in given.items() if name not in ("prompts", "text_seed")}
    facts = ("dataset", "split", "fingerprint", "method", "weights", "weights_origin", "text_policy")
    return (*(str(run[name]) for name in facts), json.dumps(options, sort_keys=True))


def _with_audit(metrics: pd.DataFrame, protocols: list[str]) -> pd.DataFrame:
    """Add the audit's metrics to protocols, after the metrics these have."""
    audit = metrics[metrics["protocol"] == AUDIT]
    behind = 1 + max(metrics["order"], default=0)
    added = [
        audit.assign(
            protocol=protocol,
            metric=[f"{AUDIT} {name}" for name in audit["metric"]],
            title=[f"{title} (audit)" for title in audit["title"]],
            order=audit["order"] + behind,
        )
        for protocol in protocols
    ]
    return pd.concat([metrics, *added], ignore_index=True)


def _verdicts(runs: pd.DataFrame) -> list[str]:
    """Return a line per dataset with the verdicts of its audits."""
    said: dict[str, dict[str, str]] = {}
    for row in runs.to_dict("records"):
        verdict = _card(row).get("verdict")
        if verdict:
            said.setdefault(str(row["dataset"]), {})[plain_label(pd.Series(row))] = str(verdict)
    lines = []
    for dataset, by_label in sorted(said.items()):
        verdicts = "; ".join(f"{label}: {verdict}" for label, verdict in sorted(by_label.items()))
        lines.append(f"What the audit says on {dataset}: {verdicts}.")
    return lines


def _card(run: Mapping[Any, Any]) -> dict[str, Any]:
    card = run.get("card")
    return (options_of(card) if isinstance(card, str) else None) or {}


PRESETS = (
    Preset("ivif-core", "How good are the fused images?", ("tno", "roadscene", "msrs", "llvip", "m3fd")),
    Preset(
        "text-guided",
        "How good are the images when the text says what matters?",
        ("sample", "ems-lite", "ivt", "vlf", "llvip", "msrs"),
        {"correct": _CORE, AUDIT: _AUDIT},
        prompted=True,
    ),
    Preset(
        "degradation",
        "How good are the images when the sources are spoilt?",
        ("ems-lite", *(f"msrs+{kind}-3" for kind in _SPOILT)),
        prompted=True,
    ),
)
"""All presets."""
