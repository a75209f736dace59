"""The labels that finished works were tested against, found again in the store by their hash."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tgfbench.benchmark.downstream.labels import FOLDER, LabelFolder
from tgfbench.benchmark.errors import DataError

TASK = "labels"
"""What stands for the task in rows of labels."""

Row = dict[str, Any]


class GroundTruth:
    """Labels of a store.

    Args:
        root: folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[tuple[str, frozenset[str], str], list[Row]] = {}

    def rows(self, content: Mapping[str, Any], keys: Iterable[str]) -> list[Row]:
        """Return the labels of a work's test images; none where the store no longer holds them as they were.

        Args:
            content: of ``work.json``.
            keys: of the test images.

        Returns:
            Per image and kind of label: ``key``, ``task`` (``labels``), ``variant`` (the kind, and the options of the
            dataset that are not as usual), ``boxes``, ``mask``, ``classes`` and ``palette`` as in
            ``tgfbench.benchmark.results.prediction_frame``. A mask is grey: its values are class ids. A box has the
            score 1.

        Raises:
            DataError: a file of labels is damaged; names it.
        """
        options = ", ".join(f"{name}={value}" for name, value in sorted(content.get("data_options", {}).items()))
        asked = content["identity"].get("test_labels", ""), frozenset(keys), f" ({options})" if options else ""
        if asked not in self._known:
            self._known[asked] = self._rows(*asked)
        return self._known[asked]

    @cached_property
    def _folders(self) -> list[LabelFolder]:
        places = sorted((self._root / FOLDER).glob("*/*/labels.json"))
        return [folder for place in places if (folder := LabelFolder(place.parent)).complete()]

    def _rows(self, labels_hash: str, keys: frozenset[str], options: str) -> list[Row]:
        for folder in self._folders:
            ordered = [key for key in folder.keys if key in keys]
            if keys and len(ordered) == len(keys) and folder.content_hash(ordered) == labels_hash:
                return _labels(folder, ordered, options)
        return []


def _labels(folder: LabelFolder, keys: Sequence[str], options: str) -> list[Row]:
    content, path = folder.read_json(), folder.folder / "boxes.jsonl"
    common = {"task": TASK, "boxes": "", "mask": "", "palette": json.dumps(content["palette"])}
    boxes = {**common, "variant": f"boxes{options}", "classes": _names(content["classes"])}
    maps = {**common, "variant": f"segmentation{options}", "classes": _names(content["segmentation_classes"])}
    try:
        lines = {line["key"]: line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
        known = [key for key in keys if lines[key]["boxes"] is not None]
        rows = [{**boxes, "key": key, "boxes": _boxes(lines[key]["boxes"], lines[key]["classes"])} for key in known]
    except (KeyError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise DataError(f"reading {path}", found=said, expected="boxes of every image", hint=folder.HINT) from error
    held = set(content["maps"])
    maps_of = {key: str(folder.folder / "segmentation" / f"{key}.png") for key in keys if key in held}
    return rows + [{**maps, "key": key, "mask": place} for key, place in maps_of.items()]


def _names(classes: Sequence[str]) -> str:
    return json.dumps(classes, ensure_ascii=False)


def _boxes(boxes: Sequence[Sequence[float]], classes: Sequence[int]) -> str:
    return json.dumps([[*map(float, box), int(number), 1.0] for box, number in zip(boxes, classes, strict=True)])
