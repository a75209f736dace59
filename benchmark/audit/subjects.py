"""From samples to what the audit asks of them: the objects with their masks, and what prompts are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tgfbench.benchmark.plan import PromptRule
from tgfbench.datasets.degradations.instructions import INSTRUCTIONS, instructions_for
from tgfbench.datasets.labels import canonical, rasterise
from tgfbench.metrics.audit.measures import Target
from tgfbench.metrics.audit.prompts import Subject, plural

if TYPE_CHECKING:
    from tgfbench.datasets.base import DatasetInfo, Sample
    from tgfbench.methods.base import MethodInfo

SMALLEST_TARGET = 0.0005
"""Share of the frame below which an object is too small to be asked for (150 pixels of 640 x 480)."""
LARGEST_TARGET = 0.5
"""Share above which "inside the object" is no place any more."""

_UNLIKE = {
    "low-light": "over-exposure",
    "over-exposure": "low-light",
    "haze": "noise",
    "rain": "low-light",
    "noise": "haze",
    "stripe-noise": "haze",
    "blur": "over-exposure",
    "low-contrast": "noise",
    "down-sampling": "over-exposure",
}
"""For every kind of degradation one whose remedy is another."""


def targets_of(sample: Sample, info: DatasetInfo) -> list[Target]:
    """Return the labelled objects of a sample, one per class, with the mask of all its instances.

    The mask is that of the segmentation map where the map knows the class, else that of the boxes. Objects that are
    very small or fill the frame are left out.
    """
    if sample.labels is None:
        return []
    segmented = [canonical(name) for name in info.segmentation_classes]
    by_name: dict[str, list[int]] = {}
    for index in sorted(set(sample.labels.classes.tolist())):
        by_name.setdefault(canonical(info.classes[index]), []).append(index)
    targets = []
    for name, ids in by_name.items():
        same = [i for i, other in enumerate(segmented) if other == name]
        labels = sample.labels
        if not same or labels.segmentation is None:
            labels = type(labels)(labels.boxes, labels.classes)
        mask = rasterise(labels, sample.infrared.shape, ids, same) > 0
        if SMALLEST_TARGET <= mask.mean() <= LARGEST_TARGET:
            targets.append(Target(name, mask))
    return targets


def subject_of(sample: Sample, targets: Sequence[Target], info: MethodInfo, seed: int) -> Subject:
    """Return what the prompts of a sample are made from, for a method of this card.

    The matching prompt is the one that an ordinary run with the same seed gives; where neither the dataset nor the
    method has a text, it lists the labelled objects.
    """
    texts, names = sample.texts, tuple(target.name for target in targets)
    matching = PromptRule("dataset", info.text_role, info.default_text, seed).choose(sample.key, texts)
    if not matching.strip():
        listed = " and ".join(f"the {plural(name)}" for name in names)
        matching = f"A scene with {listed}." if listed else "A scene with nothing in particular."
    # Without a clean reference nothing is measured under instructions, unless they are what the method reads.
    instructed = info.text_role == "instruction" or sample.reference is not None
    right = PromptRule("dataset", "instruction", "", seed).choose(sample.key, texts) if instructed else ""
    wrong = _wrong_instruction(right) if right else ""
    return Subject(
        sample.key,
        matching,
        names,
        (*texts.captions, *texts.focus, *texts.instruction),
        texts.instruction if info.text_role == "instruction" else (),
        right,
        wrong,
    )


def _wrong_instruction(right: str) -> str:
    """Return an instruction that asks to mend something that the given one does not speak of."""
    asked = {kind for kind in INSTRUCTIONS for image in ("visible", "infrared") if _speaks_of(right, kind, image)}
    image = "infrared" if "infrared image" in right.lower() and "visible image" not in right.lower() else "visible"
    for kind in sorted(asked) or ("noise",):
        if _UNLIKE[kind] not in asked:
            return instructions_for(_UNLIKE[kind], image)[0]
    free = [kind for kind in INSTRUCTIONS if kind not in asked]
    return instructions_for(free[0], image)[0] if free else ""


def _speaks_of(text: str, kind: str, image: str) -> bool:
    known = any(sentence in text for sentence in instructions_for(kind, image))
    return known or kind.replace("-", " ") in text.lower()
