"""Methods of known behaviour, by which the audit itself is checked: ``tgfbench audit --controls``.

All of them average the two sources; they differ in what a prompt does to the average. They know the labels of the
dataset, so they are no fusion methods and are not registered as such.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tgfbench.datasets.labels import mentioned
from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo
from tgfbench.metrics.audit.directed import ring, showing_source
from tgfbench.metrics.audit.measures import Target
from tgfbench.metrics.audit.movement import luma_of
from tgfbench.metrics.audit.verdict import Verdict

BRIGHTER = 0.1
"""How much brighter (of 1) a control makes what it brightens."""


def _card(name: str, does: str) -> MethodInfo:
    return MethodInfo(name=f"control-{name}", title=f"control: {does}", text_use="test", tags=("control",))


class Control(FusionMethod):
    """The average of the sources, changed by the prompt.

    Args:
        targets: returns the labelled objects of a sample, by key.
    """

    expected: ClassVar[Verdict]

    def __init__(self, targets: Callable[[str], Sequence[Target]]) -> None:
        super().__init__(None, "cpu")
        self.targets = targets

    def fuse(self, batch: FusionBatch) -> Tensor:
        average = (batch.visible + batch.infrared) / 2
        changed = [
            self.guide(average[row], batch, row) if text else average[row] for row, text in enumerate(batch.texts)
        ]
        return torch.stack(changed).clamp(0, 1)

    def guide(self, average: Tensor, batch: FusionBatch, row: int) -> Tensor:
        """Return what the prompt of a row makes of the average (3, H, W); not asked for the empty prompt."""
        return average


class IgnoresText(Control):
    """Ignores the text."""

    info = _card("ignores-text", "ignores the text")
    expected = Verdict.NOTHING


class BrightensAll(Control):
    """Brightens the whole image on any text."""

    info = _card("brightens-all", "brightens all on any text")
    expected = Verdict.GLOBAL

    def guide(self, average: Tensor, batch: FusionBatch, row: int) -> Tensor:
        return average + BRIGHTER


class BoostsNamed(Control):
    """Shows the objects that the text names as the source does in which they stand out, and a little more so."""

    info = _card("boosts-named", "boosts what is named")
    expected = Verdict.LOCAL

    def guide(self, average: Tensor, batch: FusionBatch, row: int) -> Tensor:
        targets = list(self.targets(batch.keys[row]))
        visible = (batch.visible[row].permute(1, 2, 0) * 255).round().byte().numpy()
        infrared = (batch.infrared[row, 0] * 255).round().byte().numpy()
        guided = average.clone()
        for index in mentioned(batch.texts[row], [target.name for target in targets]):
            mask = targets[index].mask
            around = ring(mask)
            if not around.any():
                continue
            source = showing_source(luma_of(visible), infrared, mask, around)
            values = torch.from_numpy(source).float() / 255
            inside, outside = torch.from_numpy(mask), torch.from_numpy(around)
            sign = 1 if values[inside].mean() >= values[outside].mean() else -1
            guided = torch.where(inside, values + sign * BRIGHTER, guided)
        return guided


class AnswersNonsense(Control):
    """Brightens or darkens the whole image by a hash of the text: nonsense moves it as strongly as sense."""

    info = _card("answers-nonsense", "answers nonsense as sense")
    expected = Verdict.WORDING

    def guide(self, average: Tensor, batch: FusionBatch, row: int) -> Tensor:
        digest = hashlib.sha256(batch.texts[row].encode()).digest()
        return average + BRIGHTER * (2 * int.from_bytes(digest[:4], "big") / 2**32 - 1)


CONTROLS: tuple[type[Control], ...] = (IgnoresText, BrightensAll, BoostsNamed, AnswersNonsense)
