"""What a trainable method brings to the shared training loop of ``tgfbench train``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn


@dataclass(frozen=True)
class TrainingTexts:
    """The texts of one pair, as in ``tgfbench.datasets.Texts``."""

    captions: tuple[str, ...] = ()
    focus: tuple[str, ...] = ()
    instruction: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingBatch:
    """Crops of one size.

    Attributes:
        visible: float32 (B, 3, H, W) RGB in [0, 1].
        infrared: float32 (B, 1, H, W) in [0, 1].
        reference: float32 (B, 3, H, W) in [0, 1]: the clean visible image of a degraded pair, else ``visible``.
        texts: what is said about each pair.
        objects: per pair, float32 (1, H, W) masks in {0, 1} by class name; empty where the dataset has no labels.
        keys: ``dataset/key`` per pair.
        infrared_reference: like ``infrared``: the clean infrared image of a degraded pair, else ``infrared``; None
            where a batch was made without it.
    """

    visible: Tensor
    infrared: Tensor
    reference: Tensor
    texts: tuple[TrainingTexts, ...]
    objects: tuple[Mapping[str, Tensor], ...]
    keys: tuple[str, ...]
    infrared_reference: Tensor | None = None


class Objective(ABC):
    """A network and the loss it is trained with.

    Attributes:
        method: registry name.
        checkpoint_name: what checkpoints call themselves.
        config: arguments that build the same network again; stored in every checkpoint.
    """

    method: str
    checkpoint_name: str
    config: dict[str, Any]

    @abstractmethod
    def build(self) -> nn.Module:
        """Return the network with fresh parameters, drawn from torch's global generator."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        """Return the weighted loss terms by name; the loop minimises their sum.

        Args:
            network: what ``build`` returned, on the device of the batch.
            batch: crops.
            random: the only source of chance, so that a resumed run repeats an uninterrupted one.
        """

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Return everything else that decides the result (loss weights, text encoder), as JSON."""
