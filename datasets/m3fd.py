"""M3FD: road and campus scenes with six object classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.datasets.base import DatasetInfo
from tgfbench.datasets.paired import Folders, PairedDataset, read_names
from tgfbench.datasets.roots import subfolder

ANNOTATION_FOLDERS = {"voc": ("Annotation", "Annotations"), "yolo": ("labels",)}


class M3FD(PairedDataset):
    """The 4200 annotated pairs of M3FD.

    Splits: ``test`` and ``train`` are the scene-wise zxSplit, whose two name lists are read from ``splits/`` in the
    dataset's folder; ``all`` needs no list.

    Args:
        root, split, captions, sidecar_boxes: as for ``PairedDataset``.
        annotations: ``voc`` (folder ``Annotation``) or ``yolo`` (folder ``labels``); None takes VOC where it is there.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="m3fd",
        title="M3FD",
        source="https://github.com/JinyuanLiu-CV/TarDAL",
        licence="none stated; academic use, cite",
        citation="Liu et al., Target-aware Dual Adversarial Learning and a Multi-scenario Multi-Modality Benchmark to "
        "Fuse Infrared and Visible for Object Detection, CVPR 2022",
        splits=("test", "train", "all"),
        classes=("People", "Car", "Bus", "Lamp", "Motorcycle", "Truck"),
        layout="m3fd/M3FD_Detection/{Ir,Vis}/NNNNN.png with Annotation/NNNNN.xml or labels/NNNNN.txt, and "
        "m3fd/splits/zxSplit_{test,train}.txt",
        known_problems=(
            "No official split; random splits leak, because frames are neighbours in video. The split here is zxSplit.",
            "The authors warn of missed and wrong boxes.",
            "Misregistration of 1 to 6 pixels.",
            "Another class order with Lamp and Motorcycle exchanged is in use.",
        ),
    )
    inner = "M3FD_Detection"

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        annotations: Literal["voc", "yolo"] | None = None,
        captions: str | Path | None = None,
        sidecar_boxes: bool = False,
    ) -> None:
        if annotations is not None and annotations not in ANNOTATION_FOLDERS:
            raise UsageError("choosing the boxes of m3fd", found=f"annotations={annotations!r}", expected="voc or yolo")
        self.annotations = annotations
        super().__init__(root, split, captions=captions, sidecar_boxes=sidecar_boxes)

    def folders(self, home: Path, split: str) -> list[Folders]:
        kinds = (self.annotations,) if self.annotations else tuple(ANNOTATION_FOLDERS)
        candidates = [subfolder(home, *ANNOTATION_FOLDERS[kind]) for kind in kinds]
        boxes = next((folder for folder in candidates if folder.is_dir()), None)
        return [Folders(subfolder(home, "Vis", "vi"), subfolder(home, "Ir"), boxes)]

    def selector(self, split: str) -> Callable[[str], bool]:
        if split == "all":
            return lambda key: True
        name = f"zxSplit_{split}.txt"
        folders = [self.place.dataset_root / "splits", self.place.home / "splits", self.place.data_root / "splits"]
        found = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if found is None:
            raise DataError(
                f"opening the dataset m3fd, split {split}",
                found=f"no list {name} in {folders[0]}",
                expected="the names of the split, one a line: M3FD has no official split",
                hint="put the lists of XueZ-phd/Efficient-RGB-T-Early-Fusion-Detection there, or take the split all",
            )
        return read_names(found).__contains__
