"""Annotations: reading box files (YOLO txt, VOC xml, KAIST txt), matching class words, painting masks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from tgfbench.benchmark.errors import counted
from tgfbench.datasets.base import Labels

MAX_FILE_BYTES = 1_000_000
"""No box file of one image comes near; a larger one is something else."""

MAX_PROBLEMS = 20
"""So many problems of one box file are described; the rest is counted."""

MAX_DEPTH = 20
"""VOC files nest five deep."""

ROAD_CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
"""Classes of datasets that have no annotation of their own, for boxes that a caption sidecar brings."""

_MEANS = {
    "person": "person people pedestrian man men woman women child children boy girl worker soldier rider cyclist "
    "motorcyclist skateboarder crowd figure",
    "bicycle": "bicycle bike",
    "car": "car van minivan suv taxi sedan hatchback saloon vehicle",
    "motorcycle": "motorcycle motorbike moto scooter",
    "bus": "bus buses",
    "truck": "truck lorry lorries pickup",
}
_CANONICAL = {word: name for name, words in _MEANS.items() for word in words.split()}

FoundBoxes = tuple[list[tuple[float, float, float, float]], list[int], list[str]]
"""Boxes xyxy in pixels, their class ids, and what was wrong with the entries that were dropped."""


def canonical(word: str) -> str:
    """Return the name under which equal classes meet: ``"People"`` and ``"pedestrians"`` become ``"person"``."""
    words = [_singular(part) for part in re.findall(r"[^\W_]+", word.lower())]
    return " ".join(words)


def mentioned(text: str, names: Sequence[str]) -> tuple[int, ...]:
    """Return the ids of the classes (positions in ``names``) that a text speaks of.

    ``mentioned("the pedestrians near the van", ("person", "bicycle", "car"))`` is ``(0, 2)``.
    """
    said = f" {canonical(text)} "
    return tuple(index for index, name in enumerate(names) if f" {canonical(name)} " in said)


def read_boxes(path: Path, shape: tuple[int, int], names: Sequence[str]) -> tuple[Labels | None, list[str]]:
    """Read the boxes of one image.

    Boxes are clipped to the image. An entry that cannot be read, has a class that is not in ``names`` or lies outside
    the image is dropped and described; an empty YOLO file is an image without objects.

    Args:
        path: a YOLO ``.txt`` (class, centre x, centre y, width, height as fractions); a KAIST ``.txt``, which begins
            with ``% bbGt`` (class, left, top, width, height in pixels, and more); or a VOC ``.xml``, whose corners are
            scaled from the size the xml states to ``shape``: copies of a dataset at another size keep their xml.
        shape: (height, width) of the image.
        names: class names in id order; names in VOC and KAIST files match in any capitals and number.

    Returns:
        The labels (None where the file as a whole cannot be used) and one line per problem.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None, [f"{path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES}"]
        data = path.read_bytes()
        parse = _parse_yolo
        if path.suffix.lower() == ".xml":
            parse = _parse_voc
        elif data.lstrip().startswith(b"% bbGt"):
            parse = _parse_kaist
        boxes, classes, problems = parse(data, shape, names)
    except (OSError, ValueError, expat.ExpatError, ElementTree.ParseError, LookupError) as error:
        return None, [f"{type(error).__name__}: {error}"]
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"and {len(problems) - MAX_PROBLEMS} more entries that cannot be used"]
    return as_labels(boxes, classes), problems


def as_labels(boxes: Sequence[Sequence[float]], classes: Sequence[int]) -> Labels:
    """Return labels from lists of xyxy boxes and class ids."""
    return Labels(np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(classes, np.int64))


def clip_box(box: Sequence[float], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return an xyxy box clipped to the image.

    Raises:
        ValueError: the corners are not finite or not in order, or the box lies outside the image.
    """
    x1, y1, x2, y2 = box
    height, width = shape
    text = ", ".join(f"{value:g}" for value in box)
    if not all(map(math.isfinite, box)):
        raise ValueError(f"box ({text}) is not finite")
    if x1 >= x2 or y1 >= y2:
        raise ValueError(f"box ({text}) is empty")
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    # float32, in which boxes are kept, may round a sliver at the border to nothing.
    as_kept = np.asarray(clipped, np.float32)
    if as_kept[0] >= as_kept[2] or as_kept[1] >= as_kept[3]:
        raise ValueError(f"box ({text}) lies outside the image of {width}x{height}")
    return clipped


def rasterise(
    labels: Labels,
    shape: tuple[int, int],
    class_ids: Iterable[int] | None = None,
    segmentation_ids: Iterable[int] | None = None,
) -> np.ndarray:
    """Paint the objects of some classes: from the segmentation map where there is one, else from the boxes.

    Args:
        labels: annotations of the image.
        shape: (height, width) of the image.
        class_ids: ids into ``DatasetInfo.classes``; None for all.
        segmentation_ids: ids into ``DatasetInfo.segmentation_classes``; None for all but 0, the background.

    Returns:
        uint8 (H, W), 1 on the objects and 0 elsewhere.
    """
    if labels.segmentation is not None:
        if segmentation_ids is None:
            return (labels.segmentation != 0).astype(np.uint8)
        return np.isin(labels.segmentation, np.asarray(list(segmentation_ids), np.int64)).astype(np.uint8)
    mask = np.zeros(shape, np.uint8)
    chosen = None if class_ids is None else set(class_ids)
    for (x1, y1, x2, y2), class_id in zip(labels.boxes.tolist(), labels.classes.tolist(), strict=True):
        if chosen is None or class_id in chosen:
            mask[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = 1
    return mask


def _parse_yolo(data: bytes, shape: tuple[int, int], names: Sequence[str]) -> FoundBoxes:
    height, width = shape
    boxes, classes, problems = [], [], []
    for number, line in enumerate(data.decode("utf-8-sig").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            if len(fields) != 5:
                raise ValueError(
                    f"{counted(len(fields), 'value')}, expected 5 (class, centre x, centre y, width, height)"
                )
            class_id, x, y, w, h = (float(value) for value in fields)
            if not (class_id.is_integer() and 0 <= class_id < len(names)):
                raise ValueError(f"class {fields[0]}, expected 0 to {len(names) - 1} ({', '.join(names)})")
            corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            boxes.append(clip_box(corners, shape))
            classes.append(int(class_id))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return boxes, classes, problems


def _parse_voc(data: bytes, shape: tuple[int, int], names: Sequence[str]) -> FoundBoxes:
    _refuse_hostile_xml(data)
    root = ElementTree.fromstring(data)
    stated_width, stated_height = _number(root, "size/width"), _number(root, "size/height")
    if not (stated_width > 0 and stated_height > 0):
        raise ValueError(f"size {stated_width:g}x{stated_height:g}, expected the size the boxes refer to")
    scale = (shape[1] / stated_width, shape[0] / stated_height)
    ids = _ids_by_word(names)
    boxes, classes, problems = [], [], []
    for number, item in enumerate(root.iter("object"), start=1):
        try:
            class_id = _class_id(item.findtext("name", "").strip(), ids, names)
            corners = [_number(item, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
            boxes.append(clip_box([value * scale[index % 2] for index, value in enumerate(corners)], shape))
            classes.append(class_id)
        except ValueError as error:
            problems.append(f"object {number}: {error}")
    return boxes, classes, problems


def _parse_kaist(data: bytes, shape: tuple[int, int], names: Sequence[str]) -> FoundBoxes:
    """Read the text format of the Caltech pedestrian tools; occlusion, visible part, ignore flag and angle follow."""
    ids = _ids_by_word(names)
    boxes, classes, problems = [], [], []
    for number, line in enumerate(data.decode("utf-8-sig").splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] == "%":
            continue
        try:
            if len(fields) < 5:
                raise ValueError(
                    f"{counted(len(fields), 'value')}, expected at least 5 (class, left, top, width, height)"
                )
            class_id = _class_id(fields[0], ids, names)
            left, top, width, height = (float(value) for value in fields[1:5])
            boxes.append(clip_box((left, top, left + width, top + height), shape))
            classes.append(class_id)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return boxes, classes, problems


def _ids_by_word(names: Sequence[str]) -> dict[str, int]:
    ids = {name.lower(): index for index, name in enumerate(names)}
    for index, name in enumerate(names):
        ids.setdefault(canonical(name), index)
    return ids


def _class_id(word: str, ids: dict[str, int], names: Sequence[str]) -> int:
    # The word as it stands comes first: in KAIST person, people and ``person?`` are three classes.
    for form in (word.lower(), canonical(word)):
        if form in ids:
            return ids[form]
    raise ValueError(f"class {word!r}, expected one of {', '.join(names)}")


def _refuse_hostile_xml(data: bytes) -> None:
    """Raise ``ValueError`` for a document type, through which a small file can grow without bounds, or deep nesting."""
    depth = 0

    def refuse(*_: object) -> None:
        raise ValueError("a document type declaration (<!DOCTYPE …>), expected plain VOC elements")

    def enter(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"elements nested more than {MAX_DEPTH} deep")

    def leave(*_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = enter
    parser.EndElementHandler = leave
    parser.Parse(data, True)


def _number(item: ElementTree.Element, path: str) -> float:
    text = item.findtext(path)
    if text is None:
        raise ValueError(f"no <{path}>")
    return float(text)


def _singular(word: str) -> str:
    if word in _CANONICAL:
        return _CANONICAL[word]
    stem = word[:-1] if word.endswith("s") and not word.endswith("ss") else word
    return _CANONICAL.get(stem, stem)
