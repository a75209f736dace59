"""MSRS: multi-spectral road scenes by day and night, built from MFNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets.base import DatasetInfo, TrainingUse
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders
from tgfbench.datasets.roots import subfolder

Detection = Literal["fusion", "infrared", "visible", "official"]

SEGMENTATION: dict[str, tuple[int, int, int]] = {
    "unlabelled": (0, 0, 0),
    "car": (64, 0, 128),
    "person": (64, 64, 0),
    "bike": (0, 128, 192),
    "curve": (0, 0, 192),
    "car_stop": (128, 128, 0),
    "guardrail": (64, 64, 128),
    "color_cone": (192, 128, 128),
    "bump": (192, 64, 0),
}
"""Segmentation classes in id order with their RGB colours, as in MSRS's ``visualize.py`` and MFNet."""


class MSRS(PairedDataset):
    """MSRS pairs.

    Splits: ``test``, ``train``, ``all`` of them, and ``detection``, the folder of 80 frames that the authors annotated;
    its keys are frame numbers.

    Args:
        root, split, and further options: as for ``PairedDataset``.
        detection: which boxes to read: ``fusion``, ``infrared`` or ``visible`` of the independent annotation of all
            pairs (what an annotator sees in that modality), or ``official``, the authors' for the 80 frames.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="msrs",
        title="MSRS",
        source="https://github.com/Linfeng-Tang/MSRS (boxes: https://github.com/Lele-3/MSRS-detection-label)",
        licence="none stated",
        terms="derived from MFNet, which is for research",
        citation="Tang et al., PIAFusion: A progressive infrared and visible image fusion network based on "
        "illumination aware, Information Fusion 2022",
        splits=("test", "train", "all", "detection"),
        counts={"test": 361, "train": 1083, "all": 1444, "detection": 80},
        size=(640, 480),
        derived_from=("mfnet",),
        classes=("person", "bicycle", "car"),
        segmentation_classes=tuple(SEGMENTATION),
        palette=tuple(SEGMENTATION.values()),
        layout="msrs/{test,train}/{ir,vi}/NNNNND.png, and where present msrs/{test,train}/Segmentation_labels, "
        "msrs/detection/{ir,vi,labels} and msrs/detection_lele3/{fusion,infrared,visible}/{test,train}/NNNNND.txt",
        used_in_training_by=(
            TrainingUse(method="PIAFusion"),
            TrainingUse(method="CDDFuse"),
            TrainingUse(method="EMMA"),
            TrainingUse(method="FILM"),
            TrainingUse(method="TeRF"),
            TrainingUse(method="OCCO", note="FMB, MSRS or both"),
            TrainingUse(method="ControlFuse"),
        ),
        known_problems=(
            "Infrared is dark, its mean is often under 30.",
            "Misregistration of about 3 pixels.",
            "Of the 80 officially annotated frames 48 lie in train, 23 in test and 9 are not in MSRS: training on "
            "train and testing on the 80 leaks.",
            "The test set is about every fourth frame, so that neighbours in video lie in train.",
            "The independent boxes miss people who show mostly in infrared and sometimes put one box around several.",
        ),
    )

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        detection: Detection = "fusion",
        **options: Any,
    ) -> None:
        if detection not in get_args(Detection):
            expected = f"one of {', '.join(get_args(Detection))}"
            raise UsageError("choosing the boxes of msrs", found=f"detection={detection!r}", expected=expected)
        self.detection = detection
        super().__init__(root, split, **options)

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        official = subfolder(home, "detection")
        boxes = subfolder(official, "labels")
        if split == "detection":
            return [Folders(subfolder(official, "vi"), subfolder(official, "ir"), boxes)]
        parts = []
        for name in ("test", "train") if split == "all" else (split,):
            part = subfolder(home, name)
            maps = subfolder(part, "Segmentation_labels", "labels", "Label")
            if self.detection != "official":
                boxes = subfolder(
                    subfolder(subfolder(home, "detection_lele3", "MSRS-detection-label"), self.detection), name
                )
            parts.append(Folders(subfolder(part, "vi"), subfolder(part, "ir"), boxes, maps))
        return parts

    def label_stems(self, stem: str) -> tuple[str, ...]:
        """The official boxes are named by the frame number, without zeros in front and without D or N."""
        return (stem.rstrip("DN").lstrip("0"),) if self.detection == "official" else (stem,)
