"""VLF: image pairs with paragraphs and BLIP-2 text features, the dataset of FILM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tgfbench.benchmark.errors import DataError, UsageError, suggest
from tgfbench.datasets.base import DatasetInfo, Problem, Texts, TrainingUse
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders, read_lines, read_names
from tgfbench.datasets.roots import list_folder, subfolder

TASK = "IVF"
"""The infrared-visible part; the others are multi-exposure, multi-focus and medical pairs."""


class VLF(PairedDataset):
    """The infrared-visible pairs of VLF; keys are ``<subset>_<name>``, ``text_features`` the authors' BLIP-2 features.

    Args:
        root, split, and further options: as for ``PairedDataset``; ``test`` and ``train`` are the lists of the subsets.
        subset: one of ``MSRS``, ``M3FD`` and ``RoadScene``; None serves all that the user holds.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="vlf",
        title="VLF",
        source="https://github.com/Zhaozixiang1228/IF-FILM",
        licence="none stated",
        terms="the images keep the terms of MSRS, M3FD and RoadScene",
        citation="Zhao et al., Image Fusion via Vision-Language Model, ICML 2024",
        splits=("test", "train", "all"),
        derived_from=("msrs", "m3fd", "roadscene"),
        keeps_splits=True,
        layout="vlf/VLFDataset/Image/IVF/SUBSET/{IR,VI}/NAME.png with train.txt and test.txt, "
        "TextFeature/IVF/SUBSET/NAME.npy and Text/IVF/SUBSET/NAME.txt",
        used_in_training_by=(TrainingUse(method="FILM", note="the MSRS subset"),),
        known_problems=(
            "The image pairs are those of MSRS, M3FD and RoadScene: do not count both.",
            "The published tables test on 361 pairs of MSRS, 50 of RoadScene and 300 of M3FD, as papers give them.",
            "The folder name of the paragraphs is as papers give it.",
        ),
    )
    inner = ("VLFDataset",)

    def __init__(
        self, root: str | Path | None = None, split: str = "test", *, subset: str | None = None, **options: Any
    ) -> None:
        self.subset = subset
        super().__init__(root, split, **options)

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        images, features, texts = (subfolder(subfolder(home, name), TASK) for name in ("Image", "TextFeature", "Text"))
        inside = list_folder(images, doing=f"looking for subsets in {images}") if images.is_dir() else []
        names = [folder.name for folder in inside if folder.is_dir()]
        if self.subset is not None:
            chosen = [name for name in names if name.lower() == self.subset.lower()]
            if names and not chosen:
                hint = suggest(self.subset, names)
                raise UsageError(f"opening vlf in {home}", found=f"no subset {self.subset!r}", hint=hint)
            names = chosen
        return [
            Folders(
                subfolder(images / name, "VI"),
                subfolder(images / name, "IR"),
                texts=subfolder(texts, name),
                features=subfolder(features, name),
                prefix=f"{name}_",
            )
            for name in names or ["SUBSET"]
        ]

    def selector(self, split: str) -> Callable[[str], bool]:
        if split == "all":
            return lambda key: True
        keys: set[str] = set()
        for part in self.folders(self.place.home, split):
            path = part.visible.parent / f"{split}.txt"
            if part.held and not path.is_file():
                raise DataError(
                    f"opening the dataset vlf, split {split}",
                    found=f"no list {path}",
                    expected="the names of the split, one a line",
                    hint="fetch the list, or take the split all",
                )
            # The authors cut names at the first dot.
            keys |= {part.prefix + name.partition(".")[0] for name in read_names(path)}
        return keys.__contains__

    def own_texts(self, part: Folders, stem: str, problems: list[Problem]) -> Texts:
        path = part.texts / f"{stem}.txt" if part.texts else None
        if path is None or not path.is_file():
            return Texts()
        try:
            return Texts(tuple(filter(None, (" ".join(read_lines(path)),))))
        except DataError as error:
            problems.append(Problem("text", str(path), error.found))
            return Texts()
