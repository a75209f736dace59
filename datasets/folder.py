"""Any two folders of images, paired by stem."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets.base import DatasetInfo
from tgfbench.datasets.labels import ROAD_CLASSES
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders
from tgfbench.datasets.roadscene import explain_unaligned
from tgfbench.datasets.roots import Place, absolute, subfolder

VISIBLE_NAMES = ("visible", "vi", "vis", "rgb")
INFRARED_NAMES = ("infrared", "ir", "thermal", "lwir")


class FolderDataset(PairedDataset):
    """Two folders of images of equal names.

    Args:
        root: a folder that holds both, named ``vi``/``ir``, ``visible``/``infrared``, ``Vis``/``Ir`` or alike.
        split: ``test``, the only one.
        visible, infrared: the two folders, instead of ``root``.
        captions: a caption sidecar; None looks for ``captions.jsonl`` beside the two folders.
        sidecar_boxes: take the sidecar's boxes as labels; on unless told otherwise.
        names: a text file with the keys to serve.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="folder",
        title="Two folders of images",
        source="your own images",
        licence="yours",
        classes=ROAD_CLASSES,
        layout="DIR/visible/NAME.png and DIR/infrared/NAME.png (or vi/ir, Vis/Ir), equal names and sizes",
        known_problems=("Boxes come from the caption sidecar alone.",),
    )
    takes_sidecar_boxes = True

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        visible: str | Path | None = None,
        infrared: str | Path | None = None,
        captions: str | Path | None = None,
        sidecar_boxes: bool | None = None,
        names: str | Path | None = None,
    ) -> None:
        doing = "opening a pair of folders"
        if visible is None and infrared is None:
            if root is None:
                raise UsageError(
                    doing,
                    found="no folder",
                    expected="a visible and an infrared folder, or a root that holds both",
                    hint=f"--visible DIR --infrared DIR, or --data-root DIR with {self.info.layout}",
                )
            super().__init__(root, split, captions=captions, sidecar_boxes=sidecar_boxes, names=names)
            return
        if visible is None or infrared is None:
            missing = "visible" if visible is None else "infrared"
            raise UsageError(doing, found=f"no {missing} folder", expected="both folders", hint=f"--{missing} DIR")
        if root is not None:
            raise UsageError(doing, found=f"a root ({root}) and two folders", expected="one or the other")
        self.split = self.check_split(split)
        part = Folders(absolute(visible), absolute(infrared))
        if part.visible == part.infrared:
            raise UsageError(doing, found=f"{part.visible} for both", expected="two different folders")
        # Without a common root only the folder that holds both can be where captions are looked for.
        common = part.visible.parent if part.visible.parent == part.infrared.parent else part.visible
        self.place = Place(common, common)
        self._serve([part], captions, sidecar_boxes, names)

    def folders(self, home: Path, split: str) -> list[Folders]:
        return [Folders(subfolder(home, *VISIBLE_NAMES), subfolder(home, *INFRARED_NAMES))]

    def explain(self, folder: Path) -> str:
        return explain_unaligned(folder)
