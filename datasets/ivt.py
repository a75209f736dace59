"""IVT: infrared, visible and text, the dataset of TextFusion with five captions a pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.images import read_infrared
from tgfbench.datasets.base import DatasetInfo, Problem, Texts, TrainingUse
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders, read_lines
from tgfbench.datasets.roots import list_folder, subfolder

CAPTIONS = 5
TEST = "IVT_test_"
MAP_FILE = "Final_Finetuned_BinaryInterestedMap.png"


class IVT(PairedDataset):
    """IVT pairs; keys are ``<set>_<number>`` with the set ``train``, ``LLVIP``, ``RoadScene`` or ``TNO``.

    The arguments are those of ``PairedDataset``. Splits: ``train``; ``test`` is the test sets the user holds together;
    ``test_llvip``, ``test_roadscene`` and ``test_tno`` are one of them each; ``all`` is everything.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="ivt",
        title="IVT",
        source="https://github.com/AWCXV/TextFusion",
        licence="none stated (code: MIT)",
        terms="the images keep the terms of LLVIP (non-commercial), RoadScene and TNO",
        citation="Cheng et al., TextFusion: Unveiling the Power of Textual Semantics for Controllable Image Fusion, "
        "Information Fusion 2025",
        splits=("test", "train", "test_llvip", "test_roadscene", "test_tno", "all"),
        counts={
            "test": 330, "train": 2000, "test_llvip": 250, "test_roadscene": 50, "test_tno": 30, "all": 2330,
        },
        derived_from=("llvip", "roadscene", "tno"),
        layout="ivt/IVT_train/{ir,vis}/N.png, IVT_train/text/N_K.txt with K = 1 to 5, "
        "IVT_train/association/IVT_LLVIP_2000_imageIndex_N_textIndex_K/, and "
        "ivt/IVT_test_{LLVIP,RoadScene,TNO}/{ir,vis}",
        used_in_training_by=(TrainingUse(method="TextFusion", images_of=("llvip",)),),
        known_problems=(
            "Numbers do not tell which image of LLVIP, RoadScene or TNO a pair is.",
            "The training pairs are LLVIP: a method trained on them has seen LLVIP scenes.",
            "The published fused images (fuseN.jpg) are results, not clean targets, and are not read.",
        ),
    )  # fmt: skip

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        kind, _, wanted = split.partition("_")
        parts = []
        if kind in ("train", "all"):
            parts.append(self._part(subfolder(home, "IVT_train"), "train"))
        if kind in ("test", "all") and home.is_dir():
            for folder in list_folder(home, doing=f"looking for test sets in {home}"):
                name = folder.name[len(TEST) :]
                if folder.name.lower().startswith(TEST.lower()) and name.lower().startswith(wanted) and folder.is_dir():
                    parts.append(self._part(folder, name))
        return parts or [self._part(home / f"{TEST}{wanted.upper() or 'TNO'}", wanted)]

    def own_texts(self, part: Folders, stem: str, problems: list[Problem]) -> Texts:
        captions = []
        for index in range(1, CAPTIONS + 1):
            path = part.texts / f"{stem}_{index}.txt" if part.texts else None
            if path is None or not path.is_file():
                continue
            try:
                captions.append(" ".join(read_lines(path)))
            except DataError as error:
                problems.append(Problem("text", str(path), error.found))
        return Texts(tuple(filter(None, captions)))

    def association(self, key: str, caption: int) -> np.ndarray | None:
        """Return where the image shows what one of its captions speaks of, as the authors computed it.

        Args:
            key: of a sample.
            caption: which caption, 0 to 4.

        Returns:
            uint8 (H, W), 0 or 255, or None where there is no map.

        Raises:
            UsageError: no such key or caption.
            DataError: the map cannot be read.
        """
        if not 0 <= caption < CAPTIONS:
            raise UsageError(f"reading a map of {key}", found=f"caption {caption}", expected=f"0 to {CAPTIONS - 1}")
        visible = self.files(key)["visible"]
        name = f"IVT_LLVIP_2000_imageIndex_{visible.stem}_textIndex_{caption + 1}"
        path = subfolder(visible.parent.parent, "association") / name / MAP_FILE
        return read_infrared(path) if path.is_file() else None

    @staticmethod
    def _part(folder: Path, name: str) -> Folders:
        return Folders(
            subfolder(folder, "vis", "vi"), subfolder(folder, "ir"), texts=subfolder(folder, "text"), prefix=f"{name}_"
        )
