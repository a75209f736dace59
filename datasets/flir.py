"""FLIR-aligned: the pairs of FLIR ADAS that were aligned afterwards, in the re-packings that circulate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets.base import DatasetInfo, Labels
from tgfbench.datasets.labels import canonical, read_boxes
from tgfbench.datasets.paired import Pair, PairedDataset
from tgfbench.datasets.pairing import Folders
from tgfbench.datasets.roots import list_folder, subfolder

LISTS = {"train": ("align_train.txt", "train.txt"), "test": ("align_validation.txt", "test.txt", "val.txt")}
MAX_YAML_BYTES = 65536


class FLIRAligned(PairedDataset):
    """FLIR-aligned pairs, from the VOC layout (one folder of images, two endings) or the layout of a folder each.

    Splits: ``test`` is the validation list, ``train``, and ``all`` of them.

    Args:
        root, split, and further options: as for ``PairedDataset``.
        class_order: names of the ids in YOLO box files, comma-separated, e.g. ``person,bicycle,car``; None reads the
            ``names`` of a ``.yaml`` file in the dataset's folder. Copies differ, so without either no box is served.
        visible_ending, infrared_ending: endings of the stems in the VOC layout.
    """

    info: ClassVar[DatasetInfo] = DatasetInfo(
        name="flir-aligned",
        title="FLIR-aligned",
        source="https://github.com/DocF/multispectral-object-detection or "
        "https://github.com/chanchanchan97/ICAFusion (links to copies)",
        licence="FLIR ADAS dataset terms",
        terms="academic research, no redistribution",
        citation="Zhang et al., Multispectral Fusion for Object Detection with Cyclic Fuse-and-Refine Blocks, ICIP "
        "2020",
        splits=("test", "train", "all"),
        counts={"test": 1013, "train": 4129, "all": 5142},
        size=(640, 512),
        classes=("person", "car", "bicycle"),
        layout="flir-aligned/JPEGImages/FLIR_NNNNN_{RGB.jpg,PreviewData.jpeg} with Annotations/*.xml, align_train.txt "
        "and align_validation.txt, or flir-aligned/{visible,infrared}/{train,test}/NAME.jpg with "
        "labels/{train,test}/NAME.txt",
        known_problems=(
            "The original FLIR ADAS pairs are not aligned and differ in size: they are another dataset.",
            "Copies differ in folder names and in the order of classes.",
            "Frames come from video: neighbours are near-duplicates.",
            "Counts, size and classes are as papers give them.",
        ),
    )
    inner = ("FLIR-align-3class", "FLIR_aligned", "align")

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "test",
        *,
        class_order: str | None = None,
        visible_ending: str = "_RGB",
        infrared_ending: str = "_PreviewData",
        **options: Any,
    ) -> None:
        self.endings = (visible_ending, infrared_ending)
        self.class_order = None if class_order is None else self._ids(class_order.split(","))
        self._order_sought = class_order is not None
        super().__init__(root, split, **options)

    def folders(self, home: Path, split: str) -> Sequence[Folders]:
        images = subfolder(home, "JPEGImages")
        if images.is_dir():
            part = Folders(images, images, subfolder(home, "Annotations"))
            return [dataclasses.replace(part, visible_ending=self.endings[0], infrared_ending=self.endings[1])]
        visible, infrared = subfolder(home, "visible"), subfolder(home, "infrared")
        parts = []
        for name in ("test", "train") if split == "all" else (split,):
            folder = subfolder(visible, name)
            boxes = [subfolder(subfolder(home, "labels"), name), subfolder(subfolder(home, "Annotations"), name)]
            boxes = [*filter(Path.is_dir, boxes), folder]
            parts.append(Folders(folder, subfolder(infrared, name), boxes[0]))
        return parts

    def selector(self, split: str) -> Callable[[str], bool]:
        if split == "all" or not subfolder(self.place.home, "JPEGImages").is_dir():
            return lambda key: True
        return self.named_list(*LISTS[split]).__contains__

    def listed_key(self, name: str) -> str:
        stem = super().listed_key(name)
        for ending in self.endings:
            stem = stem.removesuffix(ending)
        return stem

    def label_stems(self, stem: str) -> tuple[str, ...]:
        visible_ending, infrared_ending = self.endings
        return (stem, stem + infrared_ending, stem + visible_ending)

    def read_labels(self, pair: Pair, path: Path) -> tuple[Labels | None, list[str]]:
        if path.suffix.lower() == ".xml":
            return super().read_labels(pair, path)
        if not self._order_sought:
            self._order_sought, self.class_order = True, self._order_of_copy()
        if self.class_order is None:
            return None, ["the order of classes is not known: give class_order, e.g. person,bicycle,car"]
        names = [self.info.classes[index] for index in self.class_order]
        labels, wrong = read_boxes(path, pair.shape, names)
        if labels is not None:
            labels = Labels(labels.boxes, np.asarray(self.class_order, np.int64)[labels.classes])
        return labels, wrong

    def _ids(self, names: Sequence[str]) -> tuple[int, ...]:
        known = {canonical(name): index for index, name in enumerate(self.info.classes)}
        order = tuple(known.get(canonical(name), -1) for name in names)
        if sorted(order) != sorted(known.values()):
            raise UsageError(
                f"reading the order of classes of {self.info.name}",
                found=", ".join(names),
                expected=f"each of {', '.join(self.info.classes)} once",
            )
        return order

    def _order_of_copy(self) -> tuple[int, ...] | None:
        """Return the class ids in the order that a ``.yaml`` file of the copy gives, or None."""
        import yaml

        home = self.place.home
        for path in list_folder(home, doing=f"looking for class names in {home}"):
            if path.suffix.lower() not in (".yaml", ".yml"):
                continue
            try:
                with path.open("rb") as file:
                    names = yaml.safe_load(file.read(MAX_YAML_BYTES).decode("utf-8-sig"))["names"]
                return self._ids([str(name) for name in (names.values() if isinstance(names, dict) else names)])
            # A yaml file about something else; without a usable one the user is told.
            except (OSError, ValueError, LookupError, TypeError, RecursionError, yaml.YAMLError, UsageError):
                continue
        return None
