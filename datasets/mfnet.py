"""MFNet: urban scenes by day and night with segmentation labels; MSRS is made from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import image_size
from tgfbench.datasets.base import DatasetInfo, TrainingUse
from tgfbench.datasets.msrs import SEGMENTATION
from tgfbench.datasets.paired import Pair, PairedDataset
from tgfbench.datasets.pairing import Folders
from tgfbench.datasets.roots import subfolder


class MFNet(PairedDataset):
    """MFNet pairs, from the official images of four channels or from separate folders of the two modalities.

    The arguments are those of ``PairedDataset``. Splits come from the lists ``train.txt``, ``val.txt`` and ``test.txt``
    of the dataset; ``test_day`` and ``test_night`` are the test names that end in D and N; ``all`` needs no list.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="mfnet",
        title="MFNet",
        source="project page mil_multispectral of the University of Tokyo; https://github.com/haqishen/MFNet-pytorch",
        licence="none stated",
        terms="research",
        citation="Ha et al., MFNet: Towards Real-Time Semantic Segmentation for Autonomous Vehicles with "
        "Multi-Spectral Scenes, IROS 2017",
        splits=("test", "train", "val", "all", "test_day", "test_night"),
        counts={"test": 393, "train": 784, "val": 392, "all": 1569},
        size=(640, 480),
        segmentation_classes=tuple(SEGMENTATION),
        palette=tuple(SEGMENTATION.values()),
        layout="mfnet/ir_seg_dataset/images/NNNNND.png (RGB and thermal in four channels) with labels/NNNNND.png, or "
        "mfnet/{RGB,Thermal,Label}/NNNNND.png; train.txt, val.txt and test.txt beside them",
        used_in_training_by=(
            TrainingUse(method="SegMiF"),
            TrainingUse(method="RFC", split="all", note="which pairs is not stated"),
        ),
        known_problems=(
            "The thermal channel is raw and of low contrast.",
            "125 pairs are misaligned; MSRS leaves them out.",
            "Copies hold mirrored images (*_flip), which are skipped here.",
            "The MFNet code leaves class 0 out of the mean IoU and RTFNet-style evaluation keeps it: they differ by "
            "several points.",
            "The sizes of the three splits are as the paper gives them; their sum was checked.",
        ),
    )
    inner = ("ir_seg_dataset",)

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        maps = subfolder(home, "labels", "Label", "Labels")
        images = subfolder(home, "images")
        if images.is_dir():
            return [Folders(images, images, segmentation=maps)]
        return [Folders(subfolder(home, "RGB"), subfolder(home, "Thermal", "THE"), segmentation=maps)]

    def selector(self, split: str) -> Callable[[str], bool]:
        part, _, light = split.partition("_")
        listed = None if split == "all" else self.named_list(f"{part}.txt")

        def selected(key: str) -> bool:
            lit = key.endswith(light[:1].upper())
            return lit and not key.endswith("_flip") and (listed is None or key in listed)

        return selected

    def read_pair(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        if pair.visible != pair.infrared:
            return super().read_pair(pair)
        pixels = _read_four_channels(pair.visible)
        return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])


def _read_four_channels(path: Path) -> np.ndarray:
    image_size(path)  # refuses what is missing, unreadable or absurdly large
    doing = f"reading the image {path}"
    try:
        with Image.open(path) as image:
            if image.mode == "RGBA":
                return np.array(image)
            found = f"mode {image.mode}"
    # Decoders report broken data through any of these.
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, IndexError, TypeError) as error:
        raise DataError(doing, found=f"{type(error).__name__}: {error}", expected="a complete image") from error
    raise DataError(doing, found=found, expected="four channels: red, green, blue, thermal")
