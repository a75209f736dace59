"""RoadScene: road scenes cut from the FLIR ADAS video, aligned by its authors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from tgfbench.datasets.base import DatasetInfo, TrainingUse
from tgfbench.datasets.labels import ROAD_CLASSES
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders, read_names
from tgfbench.datasets.roots import subfolder

TEST_LIST = Path(__file__).parent / "splits" / "roadscene_test50.txt"
"""The 50 test names of CDDFuse (Zhao et al., CVPR 2023)."""

UNALIGNED = ("crop_HR_visible", "infrared")
HIGH_RESOLUTION_HINT = (
    "use cropinfrared with crop_LR_visible: in RoadScene crop_HR_visible is about three times larger than the infrared "
    "crop, and infrared is the uncropped frame, so neither ever matches another folder pixel for pixel"
)


class RoadScene(PairedDataset):
    """RoadScene pairs; the arguments are those of ``PairedDataset``.

    Splits: ``test`` is the 50-name list of CDDFuse, ``train`` the rest, ``all`` both.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="roadscene",
        title="RoadScene",
        source="https://github.com/hanna-xu/RoadScene",
        licence="none stated",
        terms="citation required; the pictures come from FLIR ADAS, which is for research use",
        citation="Xu et al., U2Fusion: A Unified Unsupervised Image Fusion Network, TPAMI 2022",
        splits=("test", "train", "all"),
        counts={"test": 50, "train": 171, "all": 221},
        classes=ROAD_CLASSES,
        layout="roadscene/cropinfrared/FLIR_NNNNN.jpg and roadscene/crop_LR_visible/FLIR_NNNNN.jpg",
        used_in_training_by=(
            TrainingUse(method="ControlFuse", split="all", note="on 171 pairs"),
            TrainingUse(method="RFC", split="all", note="which pairs is not stated"),
        ),
        known_problems=(
            "218 sizes in 221 pairs, 167 with an odd side: pad, never resize, when metrics are computed.",
            "crop_HR_visible and infrared never match another folder in size.",
            "No official split: papers that report 50 test pairs may not mean the same 50.",
            "Frames come from few videos, so neighbours may fall into both splits.",
            "No labels: boxes come from the caption sidecar alone.",
        ),
    )

    takes_sidecar_boxes = True

    def folders(self, home: Path, split: str) -> list[Folders]:
        return [Folders(subfolder(home, "crop_LR_visible"), subfolder(home, "cropinfrared"))]

    def selector(self, split: str) -> Callable[[str], bool]:
        test = read_names(TEST_LIST)
        return {"test": lambda key: key in test, "train": lambda key: key not in test, "all": lambda key: True}[split]

    def explain(self, folder: Path) -> str:
        own = folder.name.lower() == self.info.name
        incomplete = any(subfolder(folder, name).is_dir() for name in UNALIGNED[: 2 if own else 1])
        return HIGH_RESOLUTION_HINT if incomplete else explain_unaligned(folder)


def explain_unaligned(folder: Path) -> str:
    """Return why a folder of RoadScene matches no other, or "" for any other folder."""
    certain = folder.name == UNALIGNED[0] or (folder.name in UNALIGNED and (folder.parent / "cropinfrared").is_dir())
    return HIGH_RESOLUTION_HINT if certain else ""
