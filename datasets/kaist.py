"""KAIST: multispectral pedestrian detection from a car by day and night."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tgfbench.datasets.base import DatasetInfo
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders
from tgfbench.datasets.roots import list_folder, subfolder

ANNOTATION_FOLDERS = ("annotations", "annotation", "annotations_paired", "annotations-xml", "annotations-vbb")
FIRST_TEST_SET = 6


class KAIST(PairedDataset):
    """KAIST pairs; keys are ``setXX_VYYY_IZZZZZ``.

    The arguments are those of ``PairedDataset``. Splits: ``train`` is sets 00 to 05 and ``test`` sets 06 to 11, all of
    their frames; ``all`` is both. The frames that papers use are given by ``names``: a list of ``setXX/VYYY/IZZZZZ``.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="kaist",
        title="KAIST Multispectral Pedestrian",
        source="https://github.com/SoonminHwang/rgbt-ped-detection",
        licence="CC BY-NC-SA 4.0 as far as known",
        terms="non-commercial, cite, share alike",
        citation="Hwang et al., Multispectral Pedestrian Detection: Benchmark Dataset and Baseline, CVPR 2015",
        splits=("test", "train", "all"),
        counts={"all": 95328},
        size=(640, 512),
        classes=("person", "people", "cyclist", "person?"),
        layout="kaist/images/setXX/VYYY/{visible,lwir}/IZZZZZ.jpg with annotations/setXX/VYYY/IZZZZZ.txt (or .xml)",
        known_problems=(
            "Papers train on 7601 sanitised frames and test on 2252 (2257 in some copies): give the list as names.",
            "The original boxes are misaligned between the modalities: use the improved ones for testing and the "
            "sanitised ones for training, or the paired set.",
            "The usual measure is the log-average miss rate in the reasonable setting (height of at least 55 pixels, "
            "no or partial occlusion); occlusion and ignore flags of the box files are not read.",
            "Neighbouring frames of a video are near-duplicates.",
            "Layout, counts and terms are as the paper gives them.",
        ),
    )
    inner = ("kaist-rgbt", "images")

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        images = home if home.name.lower() == "images" else subfolder(home, "images")
        candidates = [subfolder(images.parent, name) for name in ANNOTATION_FOLDERS]
        annotations = next(filter(Path.is_dir, candidates), candidates[0])
        parts = []
        for recorded in _numbered(images, "set"):
            is_test = int(recorded.name[3:]) >= FIRST_TEST_SET
            if split != "all" and is_test != (split == "test"):
                continue
            for video in _numbered(recorded, "v"):
                boxes = subfolder(subfolder(annotations, recorded.name), video.name)
                inside = subfolder(boxes, "visible", "lwir")
                parts.append(
                    Folders(
                        subfolder(video, "visible"),
                        subfolder(video, "lwir"),
                        inside if inside.is_dir() else boxes,
                        prefix=f"{recorded.name}_{video.name}_",
                    )
                )
        return parts or [Folders(images / "setXX/VYYY/visible", images / "setXX/VYYY/lwir")]

    def listed_key(self, name: str) -> str:
        return "_".join(part for part in name.split("/")[-5:] if re.fullmatch(r"(?i)(set|v|i)\d+", part))


def _numbered(folder: Path, letters: str) -> list[Path]:
    if not folder.is_dir():
        return []
    inside = list_folder(folder, doing=f"looking for {letters}NN in {folder}")
    return [path for path in inside if re.fullmatch(rf"(?i){letters}\d+", path.name) and path.is_dir()]
