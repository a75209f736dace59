"""From the numbers of many samples to statistics and a verdict; ``docs/audit.md`` explains and limits both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from tgfbench.benchmark.errors import counted
from tgfbench.metrics.audit.directed import Prominence
from tgfbench.metrics.audit.locality import mask_permutation
from tgfbench.metrics.audit.measures import SampleMeasures
from tgfbench.metrics.audit.statistics import Estimate, holm, mean_estimate, ratio_estimate

LEVEL = 0.01
"""Of every test that a verdict rests on."""
FEWEST_IMAGES = 10
"""With fewer, the smallest p-value of a sign test (2^-n), taken three times for three tests, is near the level."""
WORDING = 0.8
"""If the interval of the paraphrase ratio reaches this, meaning is not shown to count for more than wording."""

MOVEMENTS = ("repeat", "jitter", "presence", "paraphrase", "meaning", "shuffled", "nonsense")
DISTANCES = ("mae", "rms", "1-ssim", "lpips")
INSTRUCTED = ("PSNR", "SSIM", "LPIPS")


class Verdict(StrEnum):
    """What the text does."""

    UNDECIDED = "undecided"
    NOTHING = "text has no measurable effect"
    WORDING = "effect of the wording, not of the meaning"
    GLOBAL = "global effect only"
    UNDIRECTED = "local effect, not directed"
    LOCAL = "local and directed effect"


@dataclass(frozen=True)
class Audit:
    """The result for one method.

    Attributes:
        verdict: see ``Verdict``.
        reasons: the statistics that justify it, in words and numbers.
        remarks: what else a reader should know.
        estimates: every statistic by name, in the order of the report.
        images: audited samples.
        objects: labelled objects on which locality and direction were measured.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    estimates: dict[str, Estimate]
    images: int
    objects: int


@dataclass
class _Argument:
    """Collects what is said for a verdict."""

    reasons: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def judge(samples: Sequence[SampleMeasures], text_use: str = "test") -> Audit:
    """Return the statistics and the verdict over all samples of one method.

    Args:
        samples: one per image.
        text_use: of the method's card; methods that read no text at test time are expected to be unmoved.
    """
    found = _movements(samples) | _objects(samples) | _instructions(samples) | _language(samples)
    said = _Argument()
    verdict = _verdict(found, len(samples), said)
    _remark(found, verdict, text_use, said)
    objects = sum(len(sample.changes) for sample in samples)
    return Audit(verdict, tuple(said.reasons), tuple(said.remarks), found, len(samples), objects)


def _movements(samples: Sequence[SampleMeasures]) -> dict[str, Estimate]:
    def column(measure: str, about: str) -> list[float]:
        return [sample.about(measure, about) for sample in samples]

    found = {}
    for distance in DISTANCES:
        for about in MOVEMENTS:
            values = column(distance, about)
            if np.isfinite(values).any():
                found[f"{about} {distance}"] = mean_estimate(values)
    floor = np.asarray(column("rms", "floor"))
    for about in ("presence", "meaning"):
        found[f"{about} / floor"] = ratio_estimate(column("rms", about), list(floor))
        found[f"{about} above floor"] = mean_estimate(list(column("rms", about) - floor), tested=True)
    for about, below in (("paraphrase", "meaning"), ("shuffled", "meaning"), ("nonsense response", "sense response")):
        found[f"{about} / {below}"] = ratio_estimate(column("mae", about), column("mae", below))
    return found


def _objects(samples: Sequence[SampleMeasures]) -> dict[str, Estimate]:
    labelled = [sample for sample in samples if sample.changes]
    if not labelled:
        return {}

    def column(measure: str) -> list[float]:
        return [sample.mean(measure) for sample in labelled]

    moved, floor = np.asarray(column("object movement")), np.asarray(column("object floor"))
    found = {
        "object movement / floor": ratio_estimate(list(moved), list(floor)),
        "object movement above floor": mean_estimate(list(moved - floor), tested=True),
        "energy share": mean_estimate(column("energy share")),
        "area share": mean_estimate(column("area share")),
        "energy / area": ratio_estimate(column("energy share"), column("area share")),
        "pointing": mean_estimate(column("pointing")),
    }
    p = mask_permutation([change for sample in labelled for change in sample.changes])
    excess = mean_estimate([sample.mean("energy share") - sample.mean("area share") for sample in labelled])
    found["energy share above area"] = Estimate(excess.value, excess.low, excess.high, excess.images, p)
    found["specificity"] = mean_estimate(column("specificity"))
    found["specificity over best"] = mean_estimate(column("specificity over best"), tested=True)
    for name in Prominence._fields:
        over_best = np.asarray(column(f"{name} gain over best"))
        found[f"{name} gain"] = mean_estimate(column(f"{name} gain"))
        found[f"{name} gain over best"] = mean_estimate(list(over_best))
        found[f"{name} gain above floor"] = mean_estimate(list(over_best - column(f"{name} floor")), tested=True)
    return found


def _instructions(samples: Sequence[SampleMeasures]) -> dict[str, Estimate]:
    found = {}
    for name in INSTRUCTED:
        for over in ("none", "wrong"):
            values = [sample.about(f"{name} gain", f"right over {over}") for sample in samples]
            if np.isfinite(values).any():
                found[f"{name} gain, right over {over}"] = mean_estimate(values, tested=True)
    return found


def _language(samples: Sequence[SampleMeasures]) -> dict[str, Estimate]:
    found = {}
    agreement = [sample.about("agreement", "meaning") for sample in samples]
    if np.isfinite(agreement).any():
        found["language-image agreement"] = mean_estimate(agreement, tested=True)
    original, improved, confidence = (
        np.asarray([sample.about(measure, "matching") for sample in samples])
        for measure in ("attention original", "attention improved", "confidence")
    )
    known = np.isfinite(original) & np.isfinite(improved) & np.isfinite(confidence)
    if known.sum() > 1:
        original, improved, confidence = original[known], improved[known], confidence[known]
        # The expectation over all exchanges of confidences between pairs: each pair gets the mean of the others'.
        shuffled = (confidence.sum() - confidence) / (len(confidence) - 1)
        gain = improved - original
        found["text attention, matching confidence"] = mean_estimate(list(original + confidence * gain))
        found["text attention, shuffled confidence"] = mean_estimate(list(original + shuffled * gain))
        found["text attention, matching over shuffled"] = mean_estimate(
            list((confidence - shuffled) * gain), tested=True
        )
    return found


def _verdict(found: dict[str, Estimate], images: int, said: _Argument) -> Verdict:
    if images < FEWEST_IMAGES:
        said.reasons.append(f"{counted(images)}; at least {FEWEST_IMAGES} are needed")
        return Verdict.UNDECIDED
    moves = {
        name: _p(found, f"{name} above floor")
        for name in ("presence", "meaning", "object movement")
        if f"{name} above floor" in found
    }
    adjusted = holm(moves)
    for name, p in adjusted.items():
        ratio = found[f"{name} / floor"]
        said.reasons.append(f"{name}: {_shown(ratio)} times the noise floor, p = {p:.2g}")
    if min(adjusted.values()) > LEVEL:
        return Verdict.NOTHING
    local, directed = _local(found, said), _directed(found, said)
    if local:
        return Verdict.LOCAL if directed else Verdict.UNDIRECTED
    ratio = found["paraphrase / meaning"]
    if adjusted["meaning"] <= LEVEL:
        said.reasons.append(f"a paraphrase moves the output {_shown(ratio)} times as far as another meaning")
        if ratio.high >= WORDING:
            return Verdict.WORDING
    return Verdict.GLOBAL


def _local(found: dict[str, Estimate], said: _Argument) -> bool:
    """Whether the named object's own pixels change, more than elsewhere and more than under any control."""
    if "specificity" not in found:
        return False
    tests = ("object movement above floor", "energy share above area", "specificity over best")
    p_values = {name: _p(found, name) for name in tests}
    said.reasons.append(
        f"the named object's share of the change is {_shown(found['energy / area'])} times its share of the area, and "
        f"its difference to that under other words {_shown(found['specificity'])}; "
        + ", ".join(f"p = {p:.2g} ({name})" for name, p in p_values.items())
    )
    # All of them must hold, so that each is tested at the full level.
    return max(p_values.values()) <= LEVEL


def _directed(found: dict[str, Estimate], said: _Argument) -> bool:
    """Whether naming an object raises its contrast, gradient or information, by more than noise, over any control."""
    if "contrast gain" not in found:
        return False
    adjusted = holm({measure: _p(found, f"{measure} gain above floor") for measure in Prominence._fields})
    said.reasons.append(
        "naming an object changes, against other words, "
        + "; ".join(
            f"its {measure} by {_shown(found[f'{measure} gain'])}, against the best other words by "
            f"{_shown(found[f'{measure} gain over best'])} (p = {adjusted[measure]:.2g} for more than noise does)"
            for measure in Prominence._fields
        )
    )
    return min(adjusted.values()) <= LEVEL


def _remark(found: dict[str, Estimate], verdict: Verdict, text_use: str, said: _Argument) -> None:
    if "specificity" not in found:
        said.remarks.append("no labelled object is named by a prompt: place and direction could not be tested")
    repeat = found.get("repeat mae")
    if repeat is not None and repeat.value > 0:
        said.remarks.append(f"not deterministic: the same prompt twice differs by {repeat.value:.3g} grey levels")
    if verdict is Verdict.NOTHING and text_use != "test":
        said.remarks.append("reads no text at test time, and is unmoved as expected")
    if verdict in (Verdict.UNDECIDED, Verdict.NOTHING):
        return
    if text_use != "test":
        said.remarks.append("UNEXPECTED: its card says that it reads no text at test time")
    if _p(found, "energy share above area") <= LEVEL < _p(found, "specificity over best"):
        said.remarks.append("the change favours labelled objects, whatever is named")
    nonsense = found["nonsense response / sense response"]
    if nonsense.high >= 1:
        said.remarks.append(f"answers nonsense as strongly as sense: {_shown(nonsense)} times")
    gains = [f"PSNR gain, right over {other}" for other in ("none", "wrong")]
    if all(gain in found for gain in gains):
        follows = all(_p(found, gain) <= LEVEL for gain in gains)
        said.remarks.append(
            f"{'follows' if follows else 'is not shown to follow'} instructions: "
            f"{_shown(found[gains[0]])} dB over none, {_shown(found[gains[1]])} dB over the wrong one"
        )


def _p(found: dict[str, Estimate], name: str) -> float:
    """Return the p-value of a test, 1 where nothing could be tested."""
    p = found[name].p if name in found else None
    return 1.0 if p is None else p


def _shown(estimate: Estimate | None) -> str:
    """Return an estimate with its interval."""
    if estimate is None or not np.isfinite(estimate.value):
        return "n/a"
    interval = f" [{estimate.low:.3g}, {estimate.high:.3g}]" if np.isfinite(estimate.low) else ""
    return f"{estimate.value:.3g}{interval}"
