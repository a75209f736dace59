"""From the fused images of one sample under all its prompts to numbers; ``docs/audit.md`` defines each of them.

A number is named by a measure and by what it is about: a comparison of prompts, or an object. ``∅`` is the output under
the empty prompt, ``matching`` the one under the matching prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tgfbench.metrics.audit.agreement import ImageTextModel, agreement
from tgfbench.metrics.audit.attention import attention_parts
from tgfbench.metrics.audit.directed import LEAST_PIXELS, Prominence, prominence, ring, showing_source
from tgfbench.metrics.audit.locality import NamedChange, change_map, coarse, energy_share, points_at
from tgfbench.metrics.audit.movement import lpips, luma_of, movement, psnr, rms, ssim
from tgfbench.metrics.audit.prompts import Prompt
from tgfbench.metrics.audit.statistics import NOTHING

VERSION = 4
"""Raised whenever a number could move; part of an audit's identity."""

Name = tuple[str, str]
"""(measure, what it is about)"""


@dataclass(frozen=True, eq=False)
class Target:
    """A labelled object.

    Attributes:
        name: singular, as the prompts know it.
        mask: boolean (H, W), all instances of it.
    """

    name: str
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything the measures of one sample are made from.

    Attributes:
        key: the sample.
        prompts: its prompts.
        fused: uint8 (H, W, 3) by text; must hold the text of every prompt.
        repeated: the output under the matching prompt, computed a second time.
        jittered: the output under the matching prompt, the inputs changed by one grey level.
        visible: uint8 (H, W, 3), as the method saw it.
        infrared: uint8 (H, W), as the method saw it.
        targets: the labelled objects.
        reference: uint8 (H, W, 3), the clean image of a degraded sample, or None.
        model: an image-text model for language-image agreement, or None.
    """

    key: str
    prompts: Sequence[Prompt]
    fused: Mapping[str, np.ndarray]
    repeated: np.ndarray
    jittered: np.ndarray
    visible: np.ndarray
    infrared: np.ndarray
    targets: Sequence[Target] = ()
    reference: np.ndarray | None = None
    model: ImageTextModel | None = None

    def output(self, prompt: Prompt) -> np.ndarray:
        """Return the fused image under a prompt."""
        return self.fused[prompt.text]

    def of_kind(self, *kinds: str) -> list[Prompt]:
        """Return the prompts of some kinds."""
        return [prompt for prompt in self.prompts if prompt.kind in kinds]

    def under(self, kind: str) -> np.ndarray:
        """Return the output under the one prompt of a kind."""
        return self.output(self.of_kind(kind)[0])


@dataclass(eq=False)
class SampleMeasures:
    """The numbers of one sample.

    Attributes:
        key: the sample.
        values: by (measure, about).
        changes: what naming each object changed, for the permutation test over masks.
    """

    key: str
    values: dict[Name, float] = field(default_factory=dict)
    changes: list[NamedChange] = field(default_factory=list)

    def about(self, measure: str, about: str) -> float:
        """Return a number, NaN where the sample has none."""
        return self.values.get((measure, about), np.nan)

    def mean(self, measure: str) -> float:
        """Return the mean of a measure over all it is about (the objects of a sample), NaN where there is none."""
        found = [value for (name, _), value in self.values.items() if name == measure and np.isfinite(value)]
        return float(np.mean(found)) if found else np.nan


def measure_sample(evidence: Evidence) -> SampleMeasures:
    """Measure one sample; what cannot be measured (no objects, no reference, no such prompts) is absent."""
    measured = SampleMeasures(evidence.key)
    _movements(evidence, measured)
    for target in evidence.targets:
        _object(evidence, target, measured)
    _instructions(evidence, measured)
    _language(evidence, measured)
    return measured


def _movements(evidence: Evidence, measured: SampleMeasures) -> None:
    matching, empty = evidence.under("matching"), evidence.under("empty")

    def note(about: str, others: Sequence[np.ndarray], origin: np.ndarray = matching) -> None:
        distances = [movement(origin, other) for other in others]
        for measure in distances[0] if distances else ():
            measured.values[measure, about] = float(np.mean([distance[measure] for distance in distances]))

    def outputs(*kinds: str) -> list[np.ndarray]:
        return [evidence.output(prompt) for prompt in evidence.of_kind(*kinds)]

    note("repeat", [evidence.repeated])
    note("jitter", [evidence.jittered])
    note("presence", [empty])
    note("paraphrase", outputs("paraphrase"))
    note("meaning", outputs("other", "contradictory"))
    note("shuffled", outputs("shuffled"))
    note("nonsense", outputs("nonsense"))
    note("sense response", outputs("matching", "focus"), empty)
    note("nonsense response", outputs("nonsense"), empty)
    measured.values["rms", "floor"] = max(measured.values["rms", about] for about in ("repeat", "jitter"))


def _object(evidence: Evidence, target: Target, measured: SampleMeasures) -> None:
    naming = next((p for p in evidence.of_kind("focus") if p.names == target.name), None)
    controls = [p for p in evidence.of_kind("focus", "absent") if p.names != target.name]
    around = ring(target.mask)
    if naming is None or not controls or min(target.mask.sum(), around.sum()) < LEAST_PIXELS:
        return
    named, empty = evidence.output(naming), evidence.under("empty")
    others = [evidence.output(prompt) for prompt in controls]
    against = [*others, *(evidence.output(prompt) for prompt in evidence.of_kind("nonsense"))]

    def note(measure: str, value: float) -> None:
        # Differences of equal numbers, summed in another order, are nothing.
        measured.values[measure, target.name] = 0.0 if abs(value) < NOTHING else value

    change = change_map(named, empty)
    share = energy_share(change, target.mask)
    shares = [energy_share(change_map(output, empty), target.mask) for output in against]
    note("area share", float(target.mask.mean()))
    note("energy share", share)
    note("pointing", points_at(change, target.mask))
    note("specificity", share - float(np.mean(shares)))
    note("specificity over best", share - max(shares))
    measured.changes.append(NamedChange(evidence.key, coarse(change), coarse(target.mask)))

    matching = evidence.under("matching")
    noise = [rms(matching, other, target.mask) for other in (evidence.repeated, evidence.jittered)]
    note("object movement", float(np.mean([rms(named, output, target.mask) for output in others])))
    note("object floor", max(noise))

    source = showing_source(luma_of(evidence.visible), evidence.infrared, target.mask, around)

    def shown(image: np.ndarray) -> Prominence:
        return prominence(luma_of(image), source, target.mask, around)

    named_shown, others_shown = np.asarray(shown(named)), np.asarray([shown(output) for output in against])
    # What the noise floor is to movement: how far each measure moves though nothing of meaning did.
    shaken = [np.abs(np.subtract(shown(other), shown(matching))) for other in (evidence.repeated, evidence.jittered)]
    for index, measure in enumerate(Prominence._fields):
        note(f"{measure} floor", float(np.max(shaken, axis=0)[index]))
        note(f"{measure} gain", float(named_shown[index] - others_shown[:, index].mean()))
        note(f"{measure} gain over best", float(named_shown[index] - others_shown[:, index].max()))


def _instructions(evidence: Evidence, measured: SampleMeasures) -> None:
    """Quality under the right instruction, less that under none and under the wrong one; positive is better."""
    reference = evidence.reference
    right, wrong = evidence.of_kind("right"), evidence.of_kind("wrong")
    if reference is None or not right:
        return
    qualities: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
        "PSNR": psnr,
        "SSIM": ssim,
        "LPIPS": lambda image, clean: None if (found := lpips(image, clean)) is None else -found,
    }
    for name, quality in qualities.items():
        best = quality(evidence.output(right[0]), reference)
        for about, prompts in (("none", evidence.of_kind("empty")), ("wrong", wrong)):
            other = quality(evidence.output(prompts[0]), reference) if prompts else None
            if best is not None and other is not None:
                measured.values[f"{name} gain", f"right over {about}"] = best - other


def _language(evidence: Evidence, measured: SampleMeasures) -> None:
    """What an image-text model and text attention say about the output under the matching prompt."""
    matching = evidence.of_kind("matching")[0]
    output = evidence.output(matching)
    parts = attention_parts(
        luma_of(output), luma_of(evidence.visible), evidence.infrared, matching.text, evidence.targets
    )
    measured.values |= {(measure, "matching"): value for measure, value in parts.items()}
    others = evidence.of_kind("other", "contradictory")
    if evidence.model is not None and others:
        pairs = [(prompt.text, evidence.output(prompt)) for prompt in others]
        measured.values["agreement", "meaning"] = agreement(evidence.model, (matching.text, output), pairs)
