"""Small methods and datasets that the engine tests run; registered through the plugin variable."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tgfbench.datasets.base import Dataset, DatasetInfo, Sample, Texts
from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo


class Pairs(Dataset):
    """A few noise pairs; ``count`` and ``version`` change its content."""

    info: ClassVar[DatasetInfo] = DatasetInfo(name="stub-pairs", title="Pairs", source="noise", licence="none needed")

    def __init__(self, root: Path | None = None, split: str = "test", *, count: int = 6, version: int = 0) -> None:
        self.split = self.check_split(split)
        self.version = version
        self.keys = tuple(f"p{i:02d}" for i in range(count))

    def load(self, key: str) -> Sample:
        rng = np.random.default_rng(int(key[1:]) + 100 * self.version)
        visible, infrared = rng.integers(0, 256, (40, 56, 3), np.uint8), rng.integers(0, 256, (40, 56), np.uint8)
        return Sample(key, visible, infrared, Texts(captions=(f"caption of {key}",)))

    def fingerprint(self, keys: tuple[str, ...] | None = None) -> str:
        return hashlib.sha256(f"{self.version}:{keys or self.keys}".encode()).hexdigest()


class Mean(FusionMethod):
    """The mean of the sources, darker with every letter of the prompt; misbehaves on the keys it is told."""

    info: ClassVar[MethodInfo] = MethodInfo(
        name="stub-mean", title="Mean", text_use="test", default_text="default words"
    )

    def __init__(
        self, *, nan_on: str = "", raise_on: str = "", exit_on: str = "", delay: float = 0.0, **common: object
    ) -> None:
        super().__init__(**common)
        self.nan_on, self.raise_on, self.exit_on, self.delay = nan_on, raise_on, exit_on, delay

    def fuse(self, batch: FusionBatch) -> Tensor:
        time.sleep(self.delay)
        if self.raise_on in batch.keys:
            raise ZeroDivisionError("on purpose")
        if self.exit_on in batch.keys:
            sys.exit("on purpose")
        fused = (batch.visible + batch.infrared) / 2
        fused = torch.stack([f * 0.999 ** len(t) for f, t in zip(fused, batch.texts, strict=True)])
        return fused * float("nan") if self.nan_on in batch.keys else fused


class Shrinks(FusionMethod):
    """Returns another size than it was given."""

    info: ClassVar[MethodInfo] = MethodInfo(name="stub-shrinks", title="Shrinks")

    def fuse(self, batch: FusionBatch) -> Tensor:
        return batch.visible[..., 1:]
