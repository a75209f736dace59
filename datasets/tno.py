"""TNO Image Fusion Dataset, in the flattened layout that fusion papers pass around."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tgfbench.datasets.base import DatasetInfo
from tgfbench.datasets.labels import ROAD_CLASSES
from tgfbench.datasets.paired import Folders, PairedDataset
from tgfbench.datasets.roots import subfolder


class TNO(PairedDataset):
    """TNO pairs; the arguments are those of ``PairedDataset``, with ``sidecar_boxes`` on by default."""

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="tno",
        title="TNO Image Fusion Dataset",
        source="https://figshare.com/articles/dataset/1008029; flattened copies come with fusion papers",
        licence="CC BY as far as known",
        citation="Toet, The TNO Multiband Image Data Collection, Data in Brief 15, 2017",
        classes=ROAD_CLASSES,
        layout="tno/ir/NN.png and tno/vi/NN.png (or vis), equal names",
        known_problems=(
            "Numbers of different copies do not denote the same scenes: name the copy in results.",
            "Many sizes, some not divisible by 8.",
            "Misregistration of up to 8 to 9 pixels in some pairs.",
            "No colour: the visible images are grey.",
            "No labels: boxes come from the caption sidecar alone.",
        ),
    )

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        captions: str | Path | None = None,
        sidecar_boxes: bool = True,
    ) -> None:
        super().__init__(root, split, captions=captions, sidecar_boxes=sidecar_boxes)

    def folders(self, home: Path, split: str) -> list[Folders]:
        return [Folders(subfolder(home, "vi", "vis", "visible"), subfolder(home, "ir", "infrared"))]
