"""EMS: degraded pairs with prompts that name the flaw and clean targets, the dataset of Text-IF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tgfbench.benchmark.errors import DataError, UsageError, suggest
from tgfbench.datasets.base import DatasetInfo, Problem, Texts, TrainingUse
from tgfbench.datasets.paired import PairedDataset
from tgfbench.datasets.pairing import Folders, read_lines
from tgfbench.datasets.roots import list_folder, subfolder

SPLIT_FOLDERS = {"train": "train", "test": "eval"}


class EMS(PairedDataset):
    """EMS-Lite pairs of every kind of degradation; keys are ``<kind>_<stem>``.

    ``reference`` is the clean visible image, whichever modality is degraded, and ``clean`` the clean pair.
    ``texts.instruction`` holds every prompt of the kind: they belong to the kind, not to an image.

    Args:
        root, split, and further options: as for ``PairedDataset``; ``test`` is the folders called ``eval``.
        kind: the folder of one kind, e.g. ``Low_light``; None serves all of them.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="ems-lite",
        title="EMS-Lite",
        source="https://github.com/XunpengYi/EMS",
        licence="its own terms of use",
        terms="academic, non-commercial, no redistribution",
        citation="Yi et al., Text-IF: Leveraging Semantic Text Guidance for Degradation-Aware and Interactive Image "
        "Fusion, CVPR 2024",
        splits=("test", "train", "all"),
        derived_from=("mfnet", "roadscene", "flir-aligned", "llvip"),
        layout="ems-lite/EMS_lite/{Low_light,Over_exposure,IR_Low_contrast,IR_Noise}/train/"
        "{Visible,Visible_gt,Infrared,Infrared_gt}/NAME.png with train/text.txt, and KIND/eval/{Visible,Infrared}",
        used_in_training_by=(TrainingUse(method="Text-IF"),),
        known_problems=(
            "Infrared images are stored in one or three channels, in several sizes.",
            "A prompt belongs to a kind of degradation, not to an image.",
            "Images come from MFNet, RoadScene, FLIR-aligned and LLVIP: a method trained on EMS has seen them.",
        ),
    )
    inner: tuple[str, ...] = ("EMS_lite", "EMS-Lite")

    def __init__(
        self, root: str | Path | None = None, split: str = "test", *, kind: str | None = None, **options: Any
    ) -> None:
        self.kind = kind
        self._prompts: dict[Path, tuple[tuple[str, ...], list[Problem]]] = {}
        super().__init__(root, split, **options)

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        names = [name for part, name in SPLIT_FOLDERS.items() if split in (part, "all")]
        kinds = _kinds(home)
        if self.kind is not None:
            chosen = [folder for folder in kinds if folder.name.lower() == self.kind.lower()]
            if kinds and not chosen:
                hint = suggest(self.kind, [folder.name for folder in kinds])
                raise UsageError(f"opening {self.info.name} in {home}", found=f"no kind {self.kind!r}", hint=hint)
            kinds = chosen
        places = [(kind, kind / name, f"{kind.name}_") for kind in kinds for name in names]
        if self.kind is None and "eval" in names:
            # Evaluation images may also lie together, of all kinds, and Text-IF ships four without any such folder.
            places += [(home, home / "eval", "eval_"), (home, home, "")]
        parts = [_part(kind, folder, prefix) for kind, folder, prefix in places]
        return [part for part in parts if part.held] or [_part(home, home / "KIND" / names[0], "")]

    def own_texts(self, part: Folders, stem: str, problems: list[Problem]) -> Texts:
        if part.texts is None:
            return Texts()
        if part.texts not in self._prompts:
            self._prompts[part.texts] = _read_prompts(part.texts)
            problems += self._prompts[part.texts][1]
        return Texts(instruction=self._prompts[part.texts][0])


class EMSFull(EMS):
    """EMS with nine kinds of degradation; the arguments are those of ``EMS``."""

    info: ClassVar[DatasetInfo] = EMS.info.model_copy(
        update={
            "name": "ems-full",
            "title": "EMS-Full",
            "layout": "ems-full/EMS_full/KIND/train/{Visible,Visible_gt,Infrared,Infrared_gt}/NAME.png with "
            "train/text.txt, and KIND/eval/{Visible,Infrared}; nine kinds: visible low light, over-exposure, rain, "
            "haze, blur and random noise, infrared low contrast, stripe noise and random noise",
            "known_problems": (
                *EMS.info.known_problems,
                "Low light, over-exposure and low contrast are real with restored targets; the other kinds are "
                "simulated.",
                "The folder names of the kinds are taken as they are found.",
            ),
        }
    )
    inner = ("EMS_full", "EMS-Full", "EMS")


def _kinds(home: Path) -> list[Path]:
    """Return the folders of degradations: by their clean targets for training, or by their name for evaluation."""
    if not home.is_dir():
        return []
    inside = [path for path in list_folder(home, doing=f"looking for kinds of degradation in {home}") if path.is_dir()]
    targets = ("Visible_gt", "Infrared_gt")
    return [
        folder
        for folder in inside
        if any(subfolder(folder / "train", name).is_dir() for name in targets)
        or _part(folder, folder / "eval", "").held
    ]


def _part(kind: Path, folder: Path, prefix: str) -> Folders:
    places = (folder / "text.txt", folder / "text", kind / "text.txt", kind / "text", kind / "train" / "text.txt")
    texts = next((path for path in places if path.exists()), None)
    return Folders(
        subfolder(folder, "Visible"),
        subfolder(folder, "Infrared"),
        clean_visible=subfolder(folder, "Visible_gt"),
        clean_infrared=subfolder(folder, "Infrared_gt"),
        texts=texts,
        prefix=prefix,
    )


def _read_prompts(place: Path) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the prompts of a kind, from one file or a folder of files, one a line."""
    files = sorted(place.glob("*.txt")) if place.is_dir() else [place]
    prompts: list[str] = []
    problems = []
    for path in files:
        try:
            prompts += read_lines(path)
        except DataError as error:
            problems.append(Problem("text", str(path), error.found))
    return tuple(prompts), problems
