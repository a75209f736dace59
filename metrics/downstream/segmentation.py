"""Semantic segmentation through mmsegmentation, or through SegFormer of the library transformers.

Training is from random initialisation unless the recipe names a start. The weights of the last step are tested on
whole images at the recipe's size; predictions are brought back to the size of the labels before they are scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from tgfbench.benchmark.errors import DataError, counted
from tgfbench.metrics.card import MetricInfo
from tgfbench.metrics.downstream.base import LabelledSet, Outcome, Progress, Task, share_card
from tgfbench.metrics.downstream.mmseg_library import import_mmseg, undisturbed
from tgfbench.metrics.downstream.recipes import read_recipe
from tgfbench.metrics.downstream.segmentation_networks import HUB_PREFIX, hub_folder
from tgfbench.metrics.downstream.segmentation_recipe import SegmentationRecipe

_JACCARD = "Everingham et al., The PASCAL Visual Object Classes Challenge: A retrospective, IJCV 2015"
_LONG = "Long et al., Fully convolutional networks for semantic segmentation, CVPR 2015"
_SUMMED = "Areas are summed over all test images first. A class without labels is NaN and in no mean."


class Segmentation(Task):
    """Trains and tests segmenters; see ``SegmentationRecipe`` for the networks."""

    name: ClassVar[str] = "segmentation"
    title: ClassVar[str] = "Semantic segmentation"
    version: ClassVar[int] = 1
    labels: ClassVar[Literal["boxes", "segmentation"]] = "segmentation"
    packages: ClassVar[tuple[str, ...]] = ("mmseg", "mmcv", "mmengine", "ftfy", "transformers")
    metrics: ClassVar[tuple[MetricInfo, ...]] = (
        share_card(
            "mIoU", "Mean IoU with background", _JACCARD, f"Class 0 counts, unless the dataset ignores it. {_SUMMED}"
        ),
        share_card("mIoU-fg", "Mean IoU without background", _JACCARD, f"Class 0 does not count. {_SUMMED}"),
        share_card("mAcc", "Mean class accuracy", _LONG, f"Class 0 counts, unless the dataset ignores it. {_SUMMED}"),
        share_card("aAcc", "Pixel accuracy", _LONG, f"Class 0 counts, unless the dataset ignores it. {_SUMMED}"),
    )

    @classmethod
    def recipe(cls, name: str, overrides: Mapping[str, Any]) -> SegmentationRecipe:
        """Read a recipe by name or file with some fields replaced."""
        return read_recipe(SegmentationRecipe, cls.name, name, overrides)

    @classmethod
    def given(cls, weights: Path) -> Path:
        """Return the checkpoint, or the folder that ``hf:NAME`` stands for; see ``Task.given``."""
        named = str(weights)
        return hub_folder(named.removeprefix(HUB_PREFIX)) if named.startswith(HUB_PREFIX) else super().given(weights)

    def check(self, images: LabelledSet) -> None:
        """Refuse a set without classes or label maps, or with maps of another size than the images."""
        from tgfbench.metrics.downstream.segmentation_labels import check_label_sizes

        expected = "label maps and the names of their classes"
        if not images.segmentation_classes:
            raise DataError("preparing segmentation", found="no segmentation classes", expected=expected)
        if not any(image.segmentation for image in images.images):
            found = f"no label map for any of {counted(len(images.images))}"
            raise DataError("preparing segmentation", found=found, expected=expected)
        check_label_sizes(images)

    def train(self, images: LabelledSet, recipe: Any, seed: int, folder: Path, device: str, progress: Progress) -> Path:
        """Train, or continue a training from its last finished epoch.

        Returns:
            ``folder/segmenter.pth``: weights, recipe and class names; no optimiser. It serves the mode ``frozen``.

        Raises:
            DataError: no usable labels.
            WeightsError: the start cannot be used.
        """
        self.check(images)
        self.require()
        import_mmseg(folder)
        from tgfbench.metrics.downstream.segmentation_training import train

        with undisturbed():
            return train(images, recipe, seed, folder, device, progress)

    def test(
        self, weights: Path, images: LabelledSet, recipe: Any, folder: Path, device: str, progress: Progress
    ) -> Outcome:
        """Test ``segmenter.pth`` of a training, or a folder (or ``hf:NAME``) of a SegFormer of transformers.

        Its classes must be those of the images, by name; the order may differ.

        Raises:
            DataError: no usable labels.
            WeightsError: the checkpoint cannot be used; says why.
        """
        self.check(images)
        self.require()
        import_mmseg(folder)
        from tgfbench.metrics.downstream.segmentation_training import test

        with undisturbed():
            return test(weights, images, recipe, folder, device, progress)
