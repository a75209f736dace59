"""TNO Image Fusion Dataset: the official tree of figshare, and the flattened copies that fusion papers pass around."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from tgfbench.datasets.base import DatasetInfo, Problem
from tgfbench.datasets.labels import ROAD_CLASSES
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders, LeftOut
from tgfbench.datasets.roots import list_folder, subfolder

SCENES = Path(__file__).parent / "splits" / "tno_scenes.csv"
"""The scenes with a long-wave infrared image: the tree has no naming rule, so its pairs have to be a table."""

WITHOUT_INFRARED = ("Balls", "House", "pancake_house", "Veluwe", "Vlasakkers")
SEQUENCES = ("FEL_images", "DHV_images")
THERMAL, VISUAL = ("thermal", "rad"), ("visual", "dhv", "vis")


@dataclass(frozen=True)
class SceneTable(Folders):
    """The still scenes of the official tree; both modalities lie in one folder per scene."""

    @property
    def held(self) -> bool:
        return any((self.visible / visible).is_file() for _, _, visible in read_scenes())

    @property
    def complete(self) -> bool:
        return self.held

    def pairs(self, doing: str) -> tuple[dict[str, tuple[Path, Path]], LeftOut]:
        found: dict[str, tuple[Path, Path]] = {}
        left_out: LeftOut = []
        for scene, infrared, visible in read_scenes():
            files = (self.visible / visible, self.infrared / infrared)
            absent = [path for path in files if not path.is_file()]
            if not absent:
                found[scene] = files
            elif len(absent) == 1:
                (held,) = set(files) - set(absent)
                left_out.append((scene, Problem("unpaired", str(held), f"no file {absent[0]}")))
        return found, left_out


@dataclass(frozen=True)
class Video(Folders):
    """Frames of a video, numbered by the last digits of their names."""

    def visible_key(self, stem: str) -> str | None:
        number = re.search(r"(\d+)\D*$", stem)
        return self.prefix + number[1] if number else None

    infrared_key = visible_key


class TNO(PairedDataset):
    """TNO pairs; the arguments are those of ``PairedDataset``.

    Splits: ``test`` is the still scenes of the official tree, or everything in a flattened copy; ``sequences`` is the
    videos of the official tree.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="tno",
        title="TNO Image Fusion Dataset",
        source="https://figshare.com/articles/dataset/1008029; flattened copies come with fusion papers",
        licence="CC BY as far as known",
        terms="name the authors",
        citation="Toet, The TNO Multiband Image Data Collection, Data in Brief 15, 2017",
        splits=("test", "sequences"),
        counts={"test": 55},
        classes=ROAD_CLASSES,
        layout="tno/TNO_Image_Fusion_Dataset/{Athena_images,Triclobs_images,DHV_images,FEL_images,tank} as on "
        "figshare, or a flattened copy: tno/ir/NN.png and tno/vi/NN.png (or vis), equal names",
        known_problems=(
            "Of the 60 still scenes of the official tree five have no long-wave infrared image and are left out: "
            f"{', '.join(WITHOUT_INFRARED)}.",
            "Numbers of different flattened copies do not denote the same scenes, and copies have 21, 25, 30 or 42 "
            "pairs: name the copy in results.",
            "Many sizes, some not divisible by 8.",
            "Misregistration of up to 8 to 9 pixels in some pairs.",
            "No colour: the visible images are grey.",
            "No labels: boxes come from the caption sidecar alone.",
        ),
    )
    inner = ("TNO_Image_Fusion_Dataset",)
    takes_sidecar_boxes = True

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        if split == "sequences":
            return _sequences(home)
        flat = Folders(subfolder(home, "vi", "vis", "visible"), subfolder(home, "ir", "infrared"))
        tree = SceneTable(home, home)
        return [tree] if tree.held and not flat.held else [flat]

    def complete_count(self) -> int | None:
        # What is complete is known for the official tree alone; only there are keys scenes.
        official = self.keys[0] in {scene for scene, _, _ in read_scenes()}
        return super().complete_count() if official else None


@cache
def read_scenes() -> tuple[tuple[str, str, str], ...]:
    """Return (scene, infrared file, visible file) of every still scene with both, as paths within the official tree."""
    with SCENES.open(encoding="utf-8", newline="") as file:
        return tuple((row["scene"], row["lwir"], row["visible"]) for row in csv.DictReader(file))


def _sequences(home: Path) -> list[Folders]:
    """Return the folders of the videos: ``FEL_images/*_sequence`` and the parts of ``DHV_images/Fire*``."""
    parts: list[Folders] = []
    for group in SEQUENCES:
        top = subfolder(home, group)
        if not top.is_dir():
            continue
        for scene in list_folder(top, doing=f"looking for sequences in {top}"):
            for folder in [scene, *sorted(scene.glob("part_*"))]:
                thermal, visual = subfolder(folder, *THERMAL), subfolder(folder, *VISUAL)
                if thermal.is_dir() or visual.is_dir():
                    name = "_".join(folder.relative_to(top).parts)
                    parts.append(Video(visual, thermal, prefix=f"{name}_"))
    return parts or [Folders(home / "FEL_images", home / "FEL_images")]
