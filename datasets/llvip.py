"""LLVIP: people in the street at night."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tgfbench.datasets.base import DatasetInfo
from tgfbench.datasets.paired import Folders, PairedDataset
from tgfbench.datasets.roots import subfolder


class LLVIP(PairedDataset):
    """LLVIP pairs; the arguments are those of ``PairedDataset``."""

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="llvip",
        title="LLVIP",
        source="https://github.com/bupt-ai-cz/LLVIP",
        licence="non-commercial only, cite, no identification of persons",
        citation="Jia et al., LLVIP: A Visible-infrared Paired Dataset for Low-light Vision, ICCV Workshops 2021",
        splits=("test", "train", "all"),
        classes=("person",),
        layout="llvip/LLVIP/{visible,infrared}/{test,train}/SSNNNN.jpg and llvip/LLVIP/Annotations/SSNNNN.xml",
        known_problems=(
            "Half-size copies keep the boxes of the full size: boxes are scaled by the size the xml states.",
            "Misregistration of about 3 pixels; people who move fast differ by up to 40 pixels between the images.",
            "The first two digits of a name are the scene: frames of one scene are near-duplicates.",
        ),
    )
    inner = "LLVIP"

    def folders(self, home: Path, split: str) -> list[Folders]:
        visible, infrared = subfolder(home, "visible"), subfolder(home, "infrared")
        boxes = subfolder(home, "Annotations")
        names = ("test", "train") if split == "all" else (split,)
        return [Folders(subfolder(visible, name), subfolder(infrared, name), boxes) for name in names]
