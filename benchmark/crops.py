"""Random crops for training: samples of several datasets, decoded once, with their texts and object masks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.datasets import load_dataset
from tgfbench.datasets.degradations.grammar import parse_entry
from tgfbench.methods.objective import TrainingBatch, TrainingTexts

if TYPE_CHECKING:
    from tgfbench.datasets.base import Dataset, DatasetInfo, Sample


@dataclass(frozen=True)
class Source:
    """One entry of the data mix.

    Attributes:
        name: registry name of the dataset, or the name of a degraded one.
        split: its split.
        share: relative frequency of its crops.
    """

    name: str
    split: str = "train"
    share: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read ``name[:split][*share]``, where ``name`` may be degraded: ``msrs+haze:3*2``, ``sample+noise:2:train``.

        Raises:
            UsageError: another form, no such degradation, or a share that is not positive.
        """
        entry, star, share = text.partition("*")
        if star and not (re.fullmatch(r"\s*\d+(\.\d+)?\s*", share) and float(share) > 0):
            raise UsageError("reading the training data", found=repr(text), expected="a positive number after the '*'")
        name, split = parse_entry(entry, "the training data")
        return cls(name, split or "train", float(share or 1))


@dataclass(frozen=True)
class Scene:
    """One decoded sample: uint8 images (H, W, C), texts, and a bool mask (H, W) per class that is present."""

    key: str
    visible: np.ndarray
    infrared: np.ndarray
    reference: np.ndarray
    infrared_reference: np.ndarray
    texts: TrainingTexts
    objects: dict[str, np.ndarray]

    @property
    def mebibytes(self) -> float:
        arrays = [self.visible, self.infrared, self.reference, self.infrared_reference, *self.objects.values()]
        return sum({id(array): array.nbytes for array in arrays}.values()) / 2**20


class CropPool:
    """Draws batches of crops.

    Args:
        sources: the data mix.
        root: folder of the datasets that need one.
        batch: crops per batch.
        crop: their height and width; smaller images are mirrored outwards.
        longest_side: larger images are reduced by a whole factor (area mean) until they fit.
        memory_mib: decoded scenes beyond this are not kept.

    Raises:
        UsageError: a dataset or split that does not exist.
        DataError: a dataset without samples.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        root: Path | None,
        *,
        batch: int,
        crop: int,
        longest_side: int,
        memory_mib: int,
    ) -> None:
        self.batch, self.crop, self.longest_side, self.memory_mib = batch, crop, longest_side, memory_mib
        self.datasets = [load_dataset(source.name, root=root, split=source.split) for source in sources]
        for source, dataset in zip(sources, self.datasets, strict=True):
            if not len(dataset):
                raise DataError(f"opening {source.name}, split {source.split}, for training", found="no samples")
        shares = np.array([source.share for source in sources])
        self.shares = shares / shares.sum()
        self._kept: dict[tuple[int, str], Scene] = {}
        self._kept_mib = 0.0

    def keys(self) -> dict[str, tuple[str, ...]]:
        """Return the keys of all samples by ``dataset:split``; a degraded pair is a pair of the undegraded dataset."""
        return {f"{dataset.info.name.partition('+')[0]}:{dataset.split}": dataset.keys for dataset in self.datasets}

    def draw(self, random: np.random.Generator, device: torch.device | str = "cpu") -> TrainingBatch:
        """Return a batch; the same state of ``random`` always gives the same one."""
        crops = []
        for which in random.choice(len(self.datasets), self.batch, p=self.shares):
            keys = self.datasets[which].keys
            crops.append(self._cut(self._scene(int(which), keys[random.integers(len(keys))]), random))
        return TrainingBatch(
            visible=_images([crop.visible for crop in crops], device),
            infrared=_images([crop.infrared for crop in crops], device),
            reference=_images([crop.reference for crop in crops], device),
            texts=tuple(crop.texts for crop in crops),
            objects=tuple(
                {
                    name: torch.from_numpy(mask.copy())[None].to(device, torch.float32)
                    for name, mask in crop.objects.items()
                }
                for crop in crops
            ),
            keys=tuple(crop.key for crop in crops),
            infrared_reference=_images([crop.infrared_reference for crop in crops], device),
        )

    def _scene(self, which: int, key: str) -> Scene:
        if (which, key) in self._kept:
            return self._kept[which, key]
        dataset: Dataset = self.datasets[which]
        scene = decode(dataset.load(key), dataset.info, self.longest_side)
        if self._kept_mib + scene.mebibytes <= self.memory_mib:
            self._kept[which, key] = scene
            self._kept_mib += scene.mebibytes
        return scene

    def _cut(self, scene: Scene, random: np.random.Generator) -> Scene:
        height, width = scene.infrared.shape[:2]
        top, left = (int(random.integers(max(0, side - self.crop) + 1)) for side in (height, width))
        mirrored = random.random() < 0.5

        def cut(array: np.ndarray) -> np.ndarray:
            part = array[top : top + self.crop, left : left + self.crop]
            missing = [(0, self.crop - part.shape[0]), (0, self.crop - part.shape[1])]
            if missing != [(0, 0), (0, 0)]:
                part = np.pad(part, missing + [(0, 0)] * (array.ndim - 2), mode="symmetric")
            return part[:, ::-1] if mirrored else part

        objects = {name: cut(mask) for name, mask in scene.objects.items()}
        visible, infrared, reference = (cut(a) for a in (scene.visible, scene.infrared, scene.reference))
        infrared_reference = cut(scene.infrared_reference)
        return Scene(scene.key, visible, infrared, reference, infrared_reference, scene.texts, objects)


def decode(sample: Sample, info: DatasetInfo, longest_side: int) -> Scene:
    """Return a sample as the pool keeps it."""
    factor = -(-max(sample.infrared.shape) // longest_side)
    visible, infrared = _reduced(sample.visible, factor), _reduced(sample.infrared[..., None], factor)
    reference = visible if sample.reference is None else _reduced(sample.reference, factor)
    clean = None if sample.clean is None else sample.clean.infrared
    infrared_reference = infrared if clean is None else _reduced(clean[..., None], factor)
    objects = {name: _reduced(mask * np.uint8(255), factor) > 127 for name, mask in object_masks(sample, info).items()}
    texts = TrainingTexts(sample.texts.captions, sample.texts.focus, sample.texts.instruction)
    return Scene(f"{info.name}/{sample.key}", visible, infrared, reference, infrared_reference, texts, objects)


def object_masks(sample: Sample, info: DatasetInfo) -> dict[str, np.ndarray]:
    """Return a bool mask (H, W) per labelled class that is present.

    A segmentation map is taken as it is. Of a box only the pixels count whose infrared value exceeds the box's mean:
    its corners show background, and the objects of these datasets are warm.
    """
    labels = sample.labels
    if labels is None:
        return {}
    if labels.segmentation is not None:
        present = np.unique(labels.segmentation)
        return {info.segmentation_classes[i]: labels.segmentation == i for i in present if i != 0}
    masks: dict[str, np.ndarray] = {}
    for (left, top, right, bottom), which in zip(labels.boxes, labels.classes, strict=True):
        mask = masks.setdefault(info.classes[which], np.zeros(sample.infrared.shape, bool))
        area = np.s_[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
        mask[area] |= sample.infrared[area] > sample.infrared[area].mean()
    return masks


def _reduced(array: np.ndarray, factor: int) -> np.ndarray:
    """Reduce (H, W) or (H, W, C) uint8 by averaging factor x factor blocks; rows and columns left over are dropped."""
    if factor == 1:
        return array
    height, width = (side // factor for side in array.shape[:2])
    blocks = array[: height * factor, : width * factor].reshape(height, factor, width, factor, *array.shape[2:])
    return np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)


def _images(arrays: list[np.ndarray], device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device).permute(0, 3, 1, 2).to(torch.float32) / 255
