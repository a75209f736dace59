"""The embedded dataset: paired road and field scenes, rendered on demand; nothing is read from disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar

import numpy as np

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.datasets.base import Dataset, DatasetInfo, Sample, Texts
from tgfbench.datasets.degradations.operators import VERSION as DEGRADATIONS_VERSION
from tgfbench.datasets.msrs import SEGMENTATION
from tgfbench.datasets.sample.captions import describe
from tgfbench.datasets.sample.degrade import degrade
from tgfbench.datasets.sample.layout import lay_out
from tgfbench.datasets.sample.rendering import VERSION, render_scene
from tgfbench.datasets.sample.scene import Scene

SMALLEST_WIDTH, SMALLEST_HEIGHT = 64, 48
_COUNTS = {"train": 200, "val": 24, "test": 24}
_SPLIT_IDS = {"train": 0, "val": 1, "test": 2}
_LAYOUT, _NOISE, _WORDS, _DEGRADATION, _LIGHTING = range(5)
_ROTA = ("daylight", "dusk", "night", "night", "fog", "glare")
"""Lightings of six scenes in a row, in an order drawn anew for every six: night is where fusion matters most."""


class SampleDataset(Dataset):
    """Deterministic renderings of paired road and field scenes with labels and texts.

    The same seed, key and size give the same arrays. A scene is laid out free of resolution: its key fixes it, the size
    fixes the pixels, ``count`` only says how many are served.

    With ``degraded`` the visible image suffers from low light, over-exposure, haze, noise, low contrast or blur, the
    texts carry an instruction that asks to mend it, and ``reference`` is the undegraded visible image of the same key
    (not a fused image: what an ideal fusion of the pair would be is not defined).

    Args:
        root: ignored; present because every dataset takes it.
        split: ``"test"``, ``"train"`` or ``"val"``; no scene is in two of them.
        count: number of scenes; 200 for train, 24 for val and test by default.
        width: of the images, at least 64.
        height: of the images, at least 48.
        seed: of the whole dataset, not negative.
        degraded: whether visible images are degraded.

    Raises:
        UsageError: no such split, or a size, count or seed out of range.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="sample",
        title="Sample (rendered)",
        source="rendered by tgfbench; made of no other data",
        licence="Apache-2.0",
        splits=("test", "train", "val"),
        classes=("person", "bicycle", "car"),
        segmentation_classes=tuple(SEGMENTATION),
        palette=tuple(SEGMENTATION.values()),
        known_problems=(
            "rendered scenes: good for trying, testing and training, not evidence of quality on real images",
            "the class car_stop never occurs",
            "degraded variants: the reference is the clean visible image, not a fused one",
        ),
        layout="none: nothing is read from disk",
    )

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        count: int | None = None,
        width: int = 640,
        height: int = 480,
        seed: int = 0,
        degraded: bool = False,
    ) -> None:
        del root
        self.split = self.check_split(split)
        count = _COUNTS[split] if count is None else count
        for name, value, least in (
            ("width", width, SMALLEST_WIDTH),
            ("height", height, SMALLEST_HEIGHT),
            ("count", count, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise UsageError(
                    "opening the dataset sample", found=f"{name}={value}", expected=f"{name} of at least {least}"
                )
        self.width, self.height, self.seed, self.degraded = width, height, seed, degraded
        self.keys = tuple(f"{split}-{index:04d}" for index in range(count))
        self._index = {key: index for index, key in enumerate(self.keys)}

    def scene(self, key: str) -> Scene:
        """Return the layout of a key, the same at every size.

        Raises:
            UsageError: no such key.
        """
        block, position = divmod(self._find(key), len(_ROTA))
        lighting = _ROTA[self._generator(block, _LIGHTING).permutation(len(_ROTA))[position]]
        return lay_out(self._generator(self._find(key), _LAYOUT), lighting)

    def load(self, key: str) -> Sample:
        """Render the sample of a key.

        Raises:
            UsageError: no such key.
        """
        scene, index = self.scene(key), self._find(key)
        rendering = render_scene(scene, self.width, self.height, self._seed_sequence(index, _NOISE))
        captions, focus = describe(rendering, self._generator(index, _WORDS))
        clean, infrared = rendering.visible, rendering.infrared
        if not self.degraded:
            return Sample(key, clean, infrared, Texts(captions, focus), rendering.labels)
        visible, instruction = degrade(clean, infrared, scene.lighting, self._generator(index, _DEGRADATION))
        texts = Texts(captions, focus, instruction)
        undegraded = Sample(key, clean, infrared, Texts(captions, focus), rendering.labels)
        return Sample(key, visible, infrared, texts, rendering.labels, reference=clean, clean=undegraded)

    def fingerprint(self, keys: tuple[str, ...] | None = None) -> str:
        """Return a hex digest of what decides the content of the given (default: all) samples; renders nothing."""
        chosen = self.keys if keys is None else keys
        for key in chosen:
            self._find(key)
        degraded = self.degraded and f"degradations {DEGRADATIONS_VERSION}"
        parameters = [VERSION, self.seed, self.width, self.height, degraded, chosen]
        return hashlib.sha256(json.dumps(parameters).encode()).hexdigest()

    def _find(self, key: str) -> int:
        if key not in self._index:
            raise UsageError(
                f"looking up the sample {key!r} in sample, split {self.split}",
                found="no such key",
                hint=suggest(key, self.keys),
            )
        return self._index[key]

    def _seed_sequence(self, index: int, purpose: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.seed, spawn_key=(_SPLIT_IDS[self.split], index, purpose))

    def _generator(self, index: int, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(self._seed_sequence(index, purpose)))
