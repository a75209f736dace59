"""M3FD: road and campus scenes with six object classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets.base import DatasetInfo, TrainingUse
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders, read_names
from tgfbench.datasets.roots import subfolder

TEST_LIST = Path(__file__).parent / "splits" / "m3fd_zxsplit_test.txt"
"""The test names of zxSplit (XueZ-phd/Efficient-RGB-T-Early-Fusion-Detection); its training names are the others."""

ANNOTATION_FOLDERS = {"voc": ("Annotation", "Annotations"), "yolo": ("labels",)}


class M3FD(PairedDataset):
    """M3FD pairs.

    Splits: ``test`` and ``train`` are the scene-wise zxSplit of the 4200 annotated pairs and ``all`` is both;
    ``fusion`` is the 300 pairs of M3FD_Fusion, which have no labels.

    Args:
        root, split, and further options: as for ``PairedDataset``; another split is given by ``names``.
        annotations: ``voc`` (folder ``Annotation``) or ``yolo`` (folder ``labels``); None takes VOC where it is there.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="m3fd",
        title="M3FD",
        source="https://github.com/JinyuanLiu-CV/TarDAL",
        licence="none stated",
        terms="academic use, cite",
        citation="Liu et al., Target-aware Dual Adversarial Learning and a Multi-scenario Multi-Modality Benchmark to "
        "Fuse Infrared and Visible for Object Detection, CVPR 2022",
        splits=("test", "train", "all", "fusion"),
        counts={"test": 1295, "train": 2905, "all": 4200, "fusion": 300},
        size=(1024, 768),
        classes=("People", "Car", "Bus", "Lamp", "Motorcycle", "Truck"),
        layout="m3fd/M3FD_Detection/{Ir,Vis}/NNNNN.png with Annotation/NNNNN.xml or labels/NNNNN.txt, and "
        "m3fd/M3FD_Fusion/{Ir,Vis}/NNNNN.png",
        used_in_training_by=(
            TrainingUse(method="TarDAL", split="all", note="on a scenario list of its own"),
            TrainingUse(method="DCEvo", split="all", note="on 3360 pairs of a random split"),
            TrainingUse(method="ControlFuse", split="all", note="on 3780 pairs"),
            TrainingUse(method="RFC", split="all", note="which pairs is not stated"),
        ),
        known_problems=(
            "No official split; random splits leak, because frames are neighbours in video. The split here is zxSplit, "
            "which keeps scenes together; papers that report 3360/420/420 split at random.",
            "The authors warn of missed and wrong boxes.",
            "Misregistration of 1 to 6 pixels.",
            "A few images are not 1024x768.",
            "Another class order with Lamp and Motorcycle exchanged is in use.",
        ),
    )
    inner = ("M3FD_Detection", "M3FD_Fusion")

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        annotations: Literal["voc", "yolo"] | None = None,
        **options: Any,
    ) -> None:
        if annotations is not None and annotations not in ANNOTATION_FOLDERS:
            raise UsageError("choosing the boxes of m3fd", found=f"annotations={annotations!r}", expected="voc or yolo")
        self.annotations = annotations
        super().__init__(root, split, **options)

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        detection, fusion = self.inner
        beside = home.parent if home.name.lower() in (detection.lower(), fusion.lower()) else home
        if split == "fusion":
            home = subfolder(beside, fusion)
            return [Folders(subfolder(home, "Vis", "vi"), subfolder(home, "Ir"))]
        if home.name.lower() == fusion.lower():
            home = subfolder(beside, detection)
        kinds = (self.annotations,) if self.annotations else tuple(ANNOTATION_FOLDERS)
        candidates = [subfolder(home, *ANNOTATION_FOLDERS[kind]) for kind in kinds]
        boxes = next((folder for folder in candidates if folder.is_dir()), None)
        return [Folders(subfolder(home, "Vis", "vi"), subfolder(home, "Ir"), boxes)]

    def selector(self, split: str) -> Callable[[str], bool]:
        if split not in ("test", "train"):
            return lambda key: True
        test = read_names(TEST_LIST)
        return test.__contains__ if split == "test" else lambda key: key not in test
