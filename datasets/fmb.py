"""FMB: full-time multi-modality benchmark, road scenes with segmentation labels of fourteen classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets.base import DatasetInfo, TrainingUse
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders
from tgfbench.datasets.roots import subfolder

SEGMENTATION: dict[str, tuple[int, int, int]] = {
    "unlabelled": (0, 0, 0),
    "road": (179, 228, 228),
    "sidewalk": (181, 57, 133),
    "building": (67, 162, 177),
    "traffic lamp": (200, 178, 50),
    "traffic sign": (132, 45, 199),
    "vegetation": (66, 172, 84),
    "sky": (179, 73, 79),
    "person": (76, 99, 166),
    "car": (66, 121, 253),
    "truck": (6, 6, 6),
    "bus": (12, 12, 12),
    "motorcycle": (105, 153, 140),
    "bicycle": (222, 215, 158),
    "pole": (135, 113, 90),
}
"""Segmentation classes in id order with RGB colours; those of truck and bus differ between code bases."""


class FMB(PairedDataset):
    """FMB pairs.

    Args:
        root, split, and further options: as for ``PairedDataset``.
        label_offset: what to add to the stored ids, modulo 256. Copies that count road as 0 and keep 255 for unlabelled
            need 1.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="fmb",
        title="FMB",
        source="https://github.com/JinyuanLiu-CV/SegMiF",
        licence="none stated",
        terms="academic use, cite",
        citation="Liu et al., Multi-interactive Feature Learning and a Full-time Multi-modality Benchmark for Image "
        "Fusion and Segmentation, ICCV 2023",
        splits=("test", "train", "all"),
        counts={"test": 280, "train": 1220, "all": 1500},
        size=(800, 600),
        segmentation_classes=tuple(SEGMENTATION),
        ignored_segmentation_class=0,
        palette=tuple(SEGMENTATION.values()),
        layout="fmb/{test,train}/{Visible,Infrared,Label}/NNNNN.png",
        used_in_training_by=(
            TrainingUse(method="SegMiF"),
            TrainingUse(method="OCCO", note="FMB, MSRS or both"),
            TrainingUse(method="RFC", split="all", note="which pairs is not stated"),
        ),
        known_problems=(
            "Misregistration of about 4 pixels.",
            "Class 0 is unlabelled and left out of the mean IoU: fourteen classes are scored.",
            "Some copies count road as 0 and unlabelled as 255: label_offset=1.",
            "Never decode labels by colour: the colours differ between code bases.",
            "The sizes of the splits are as the paper gives them.",
        ),
    )
    inner = ("FMB",)

    def __init__(
        self, root: str | Path | None = None, split: str = "test", *, label_offset: int = 0, **options: Any
    ) -> None:
        if not 0 <= label_offset < 256:
            raise UsageError("opening the dataset fmb", found=f"label_offset={label_offset}", expected="0 to 255")
        self.label_offset = label_offset
        super().__init__(root, split, **options)

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        parts = [subfolder(home, name) for name in (("test", "train") if split == "all" else (split,))]
        return [
            Folders(
                subfolder(part, "Visible"), subfolder(part, "Infrared"), segmentation=subfolder(part, "Label", "labels")
            )
            for part in parts
        ]

    def read_segmentation(self, path: Path) -> np.ndarray:
        # uint8 wraps: with an offset of 1 the stored 255 becomes 0.
        return super().read_segmentation(path) + np.uint8(self.label_offset)
