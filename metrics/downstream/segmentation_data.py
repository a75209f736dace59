"""From labelled images to what mmsegmentation trains on and is tested on. Import after ``import_mmseg``."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmseg.datasets.transforms import RandomCrop
from mmseg.registry import TRANSFORMS
from torch.utils.data import DataLoader, Dataset, Sampler

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import read_label_map
from tgfbench.metrics.downstream.base import LabelledImage, LabelledSet
from tgfbench.metrics.downstream.segmentation_networks import IGNORED
from tgfbench.metrics.downstream.segmentation_recipe import SegmentationRecipe


def labelled(images: LabelledSet) -> tuple[LabelledImage, ...]:
    """Return the images that have a label map."""
    return tuple(image for image in images.images if image.segmentation is not None)


def training_loader(
    images: LabelledSet, outputs: Sequence[int], recipe: SegmentationRecipe, seed: int, workers: int
) -> DataLoader:
    """Return the batches of an epoch; which images and crops they hold depends on seed and epoch alone.

    Args:
        images: what to learn from; images without a label map are left out.
        outputs: class id of each output of the network.
        recipe: crops and augmentation.
        seed: of order and augmentation.
        workers: processes that read ahead.
    """
    chosen = labelled(images)
    label_map = {identity: position for position, identity in enumerate(outputs)}
    dataset = SegmentationImages(chosen, images, training_pipeline(recipe, label_map), seed)
    batch = min(recipe.batch, len(chosen))
    order = EpochOrder(len(chosen), seed)
    return DataLoader(
        dataset, batch, sampler=order, num_workers=workers, drop_last=True, collate_fn=pseudo_collate, pin_memory=False
    )


def test_loader(images: LabelledSet, recipe: SegmentationRecipe, workers: int) -> DataLoader:
    """Return the labelled images one by one, whole, in order."""
    dataset = SegmentationImages(labelled(images), images, test_pipeline(recipe))
    return DataLoader(dataset, 1, num_workers=workers, collate_fn=pseudo_collate)


def training_pipeline(recipe: SegmentationRecipe, label_map: dict[int, int]) -> list[Any]:
    """Return the transforms of a training image."""
    size = (recipe.image_size, recipe.image_size)
    distortion = [{"type": "PhotoMetricDistortion"}] if recipe.distortion else []
    return [
        {"type": "LoadImageFromFile"},
        {"type": LoadLabels, "label_map": label_map},
        {"type": "RandomResize", "scale": size, "ratio_range": recipe.scale, "keep_ratio": True},
        {"type": Crop, "size": recipe.crop, "largest_class": recipe.largest_class, "centred": recipe.centred},
        {"type": "RandomFlip", "prob": recipe.flip},
        *distortion,
        {"type": "PackSegInputs"},
    ]


def test_pipeline(recipe: SegmentationRecipe) -> list[Any]:
    """Return the transforms of a test image; its label map keeps its size."""
    size = (recipe.image_size, recipe.image_size)
    return [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": size, "keep_ratio": True},
        {"type": LoadLabels, "label_map": None},
        {"type": "PackSegInputs", "meta_keys": ("key", "img_path", "seg_map_path", "ori_shape", "img_shape")},
    ]


class LoadLabels(BaseTransform):
    """Read a label map.

    Args:
        label_map: output of the network by class id; other ids are ignored. None to keep ids.
    """

    def __init__(self, label_map: dict[int, int] | None) -> None:
        self.table = None
        if label_map is not None:
            self.table = np.full(256, IGNORED, np.uint8)
            self.table[list(label_map)] = list(label_map.values())

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``gt_seg_map``, uint8 (H, W)."""
        ids = read_label_map(Path(results["seg_map_path"]))
        results["gt_seg_map"] = ids if self.table is None else self.table[ids]
        results["seg_fields"].append("gt_seg_map")
        return results


class Crop(RandomCrop):
    """A random crop, or one around an object; see ``SegmentationRecipe``.

    Args:
        size: (height, width) in pixels.
        largest_class: share of one class above which a random crop is drawn again.
        centred: probability of a crop around an object.
    """

    def __init__(self, size: tuple[int, int], largest_class: float, centred: float) -> None:
        super().__init__(size, largest_class, IGNORED)
        self.centred = centred

    def crop_bbox(self, results: dict[str, Any]) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right of the crop."""
        ids = results["gt_seg_map"]
        pixels = np.bincount(ids.ravel(), minlength=256)[:IGNORED]
        others = np.flatnonzero(pixels)
        others = others[others != pixels.argmax()]
        if not others.size or np.random.random() >= self.centred:
            return super().crop_bbox(results)
        places = np.flatnonzero(ids == np.random.choice(others))
        place = np.unravel_index(np.random.choice(places), ids.shape)
        top, left = (self._beginning(int(place[axis]), ids.shape[axis], self.crop_size[axis]) for axis in (0, 1))
        return top, top + self.crop_size[0], left, left + self.crop_size[1]

    @staticmethod
    def _beginning(place: int, length: int, size: int) -> int:
        """Draw where a crop begins that holds the place and lies inside as far as possible."""
        last = max(length - size, 0)
        return int(np.random.randint(min(max(place - size + 1, 0), last), min(place, last) + 1))


class SegmentationImages(Dataset):
    """Images and label maps, read in place.

    Args:
        chosen: the images to serve.
        images: the set they belong to.
        pipeline: transforms; a ``type`` is a class, or a name of mmsegmentation.
        seed: of the random transforms. The index ``epoch * len + i`` then serves image ``i``, transformed as in that
            epoch, whatever was served before.
    """

    def __init__(
        self, chosen: Sequence[LabelledImage], images: LabelledSet, pipeline: Sequence[Any], seed: int = 0
    ) -> None:
        self.chosen, self.seed = tuple(chosen), seed
        self.metainfo = {"classes": images.segmentation_classes, "palette": images.palette}
        with DefaultScope.overwrite_default_scope("mmseg"):
            self.pipeline = Compose([TRANSFORMS.build(step) for step in pipeline])

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.chosen[index % len(self.chosen)]
        found = {
            "key": image.key,
            "img_path": str(image.path),
            "seg_map_path": str(image.segmentation),
            "seg_fields": [],
            "reduce_zero_label": False,
        }
        with drawing_from(self.seed, index):
            served = self.pipeline(found)
        if served is None:
            raise DataError(f"reading {image.path}", found="nothing", expected="an image")
        return served


class EpochOrder(Sampler[int]):
    """A new order of all images for every epoch, as indices of ``SegmentationImages``."""

    def __init__(self, images: int, seed: int) -> None:
        self.images, self.seed, self.epoch = images, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; mmengine calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.images

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.images)
        return iter((self.epoch * self.images + order).tolist())


@contextmanager
def drawing_from(*entropy: int) -> Iterator[None]:
    """Seed the generators that transforms draw from, and give them back as they were."""
    kept = random.getstate(), np.random.get_state()
    word = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)  # the legacy generator is the one that mmcv's transforms use
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
