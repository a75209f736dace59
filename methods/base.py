"""The contract between fusion methods and everything that runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from tgfbench.benchmark.weights import Checkpoint, WeightsInfo


@dataclass
class FusionBatch:
    """The input of a fusion method; all images of a batch have one size.

    Attributes:
        visible: float32 (B, 3, H, W) RGB in [0, 1].
        infrared: float32 (B, 1, H, W) in [0, 1].
        texts: one prompt per image; ``""`` means no guidance.
        masks: float32 (B, 1, H, W) in [0, 1], the objects to favour, or None where nobody supplied any.
        keys: one sample key per image, for error messages.
    """

    visible: Tensor
    infrared: Tensor
    texts: list[str]
    masks: Tensor | None
    keys: list[str]


class Reported(BaseModel):
    """A published number, shown beside the measured one and never mixed with it.

    Attributes:
        dataset, metric: registry names.
        value: as printed.
        source: the method's own paper or repository, or the paper that tested the authors' weights again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    metric: str
    value: float
    source: str


def reported(source: str, metrics: Sequence[str], rows: Mapping[str, Sequence[float]]) -> tuple[Reported, ...]:
    """Return the numbers of a printed table.

    Args:
        source: of the table.
        metrics: its columns.
        rows: values by dataset.
    """
    return tuple(
        Reported(dataset=dataset, metric=metric, value=value, source=source)
        for dataset, values in rows.items()
        for metric, value in zip(metrics, values, strict=True)
    )


class MethodInfo(BaseModel):
    """The card of a method.

    Attributes:
        name: registry name.
        title: the name as the paper writes it.
        paper: title of the paper ("" for baselines that have none).
        venue, year, arxiv: where it was published.
        licence: licence of the authors' code ("" where there is none).
        repository: the authors' repository, as documentation.
        text_use: "test" if the prompt steers the output, "train" if text was used in training only, "none" otherwise.
        text_role: which of a sample's texts the method wants.
        default_text: the prompt used where a dataset has none and under the text policy ``default``.
        weights: catalogue of named checkpoints, the default one first; empty where the method has no parameters.
        reconstruction: True where no authors' code is public and the network follows the paper's words only.
        trained_on: dataset names (with split) that the authors trained on.
        reported: published numbers.
        tags: free words, e.g. "baseline", "source".
        version: raised whenever the output for the same weights may change; part of every run's identity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    paper: str = ""
    venue: str = ""
    year: int | None = None
    arxiv: str = ""
    licence: str = ""
    repository: str = ""
    text_use: Literal["test", "train", "none"] = "none"
    text_role: Literal["caption", "focus", "instruction"] = "caption"
    default_text: str = ""
    weights: tuple[WeightsInfo, ...] = ()
    reconstruction: bool = False
    trained_on: tuple[str, ...] = ()
    reported: tuple[Reported, ...] = ()
    tags: tuple[str, ...] = ()
    version: int = 1


class FusionMethod(ABC):
    """A fusion method, ready to run on one device.

    Everything that belongs to the published method (colour handling, padding to a multiple, value ranges, rounding, its
    text encoder) happens inside ``fuse``. Options are the keyword arguments of a subclass's constructor.

    Args:
        checkpoint: the weights to load, already resolved and verified; None for a method without parameters.
        device: where to compute.
    """

    info: ClassVar[MethodInfo]

    def __init__(self, checkpoint: Checkpoint | None = None, device: torch.device | str = "cpu") -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device)

    @abstractmethod
    def fuse(self, batch: FusionBatch) -> Tensor:
        """Fuse a batch.

        Args:
            batch: images on ``self.device``.

        Returns:
            float32 (B, 3, H, W) RGB in [0, 1], same H and W as the inputs.
        """

    def provenance(self) -> dict[str, Any]:
        """Return what decides the output besides weights and inputs (options, mask source, text encoder), as JSON."""
        return {}

    def close(self) -> None:  # noqa: B027  (most methods hold nothing)
        """Release what the method holds (GPU memory, files)."""
