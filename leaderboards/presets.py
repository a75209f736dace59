"""Named boards fixed in advance: which datasets, protocol and metrics count, so that nobody picks them afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.benchmark.registry import normalise
from tgfbench.leaderboards.grouping import listed

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
        metrics: what counts, by protocol; all metrics of a protocol weigh the same.
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
            steered = runs["card"].map(_steered)
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
        return runs[runs["run_id"].isin(scores["run_id"])], scores, metrics[self._holds(metrics)]

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


def _steered(card: str) -> bool:
    try:
        return json.loads(card or "{}").get("text_use") == "test"
    except (ValueError, AttributeError):
        return False


PRESETS = (
    Preset("ivif-core", "How good are the fused images?", ("tno", "roadscene", "msrs", "llvip", "m3fd")),
    Preset(
        "text-guided",
        "How good are the images when the text says what matters?",
        ("ems-lite", "ivt", "vlf", "llvip", "msrs"),
        {"correct": _CORE, "audit": _AUDIT},
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
