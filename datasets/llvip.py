"""LLVIP: people in the street at night."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tgfbench.datasets.base import DatasetInfo, TrainingUse
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders
from tgfbench.datasets.roots import subfolder


class LLVIP(PairedDataset):
    """LLVIP pairs; the arguments are those of ``PairedDataset``."""

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="llvip",
        title="LLVIP",
        source="https://github.com/bupt-ai-cz/LLVIP",
        licence="its own terms of use",
        terms="non-commercial only, cite, no identification of persons, new annotations must point back",
        citation="Jia et al., LLVIP: A Visible-infrared Paired Dataset for Low-light Vision, ICCV Workshops 2021",
        splits=("test", "train", "all"),
        counts={"test": 3463, "train": 12025, "all": 15488},
        size=(1280, 1024),
        classes=("person",),
        layout="llvip/LLVIP/{visible,infrared}/{test,train}/SSNNNN.jpg and llvip/LLVIP/Annotations/SSNNNN.xml",
        used_in_training_by=(TrainingUse(method="RFC", split="all", note="which pairs is not stated"),),
        known_problems=(
            "Half-size copies keep the boxes of the full size: boxes are scaled by the size the xml states.",
            "Misregistration of about 3 pixels; people who move fast differ by up to 40 pixels between the images.",
            "The first two digits of a name are the scene: frames of one scene are near-duplicates.",
            "Copies in fusion repositories may hold degraded versions under the same names.",
            "Not every person is boxed.",
            "The sizes of the two splits are as the paper gives them; their sum was checked.",
        ),
    )
    inner = ("LLVIP",)

    def folders(self, home: Path, split: str) -> list[Folders]:
        visible, infrared = subfolder(home, "visible"), subfolder(home, "infrared")
        boxes = subfolder(home, "Annotations")
        names = ("test", "train") if split == "all" else (split,)
        return [Folders(subfolder(visible, name), subfolder(infrared, name), boxes) for name in names]
