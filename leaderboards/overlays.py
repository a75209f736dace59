"""What detectors and segmenters found in the images of a gallery, and the labels of these, drawn over them there."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from tgfbench.benchmark.errors import DataError
from tgfbench.leaderboards.text import visible_text

PREDICTION_COLUMNS = ("run_id", "key", "task", "variant", "boxes", "mask", "classes", "palette")
"""Columns of the frame of predictions: of which fused image, by what, and JSON or the path of an indexed PNG."""

LABELS = "labels"
"""The task of rows that are no predictions but what was to be found. All rows of a board have the same."""
LEAST_SCORE = 0.05
"""Boxes with a lower score are not taken into the page."""
_MEANING = ("task", "variant", "classes", "palette")
_NOUNS = {"detection": "detections"}
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2", "#ffffff")
"""Of classes without a colour of their own: M. Okabe and K. Ito's palette."""
_BACKGROUND = {"background", "unlabelled", "unlabeled", "ignore"}
_ALPHA = 150
_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Box = tuple[float, float, float, float, int, float]
"""x1, y1, x2, y2 in pixels, class, score."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """The predictions of one task in one variant (recipe, mode and seed), or labels of one kind.

    Attributes:
        number: different for every overlay of a site.
        title: for readers.
        kind: boxes or masks.
        truth: these are labels, which belong to an image whoever fused it.
        classes: names, in id order.
        colours: of the classes, as CSS knows them.
        boxes: by (run id, key), best score first.
        masks: by (run id, key), where the PNG of class ids lies.
    """

    number: int
    title: str
    kind: Literal["boxes", "mask"]
    truth: bool
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    boxes: dict[tuple[str, str], list[Box]] = field(default_factory=dict)
    masks: dict[tuple[str, str], Path] = field(default_factory=dict)

    def data(self) -> dict[str, object]:
        """Return what the page's script needs to know about all images."""
        classes = [
            {"name": visible_text(name), "colour": colour, "shown": not self._is_background(number)}
            for number, (name, colour) in enumerate(zip(self.classes, self.colours, strict=True))
        ]
        facts = {"number": self.number, "kind": self.kind, "truth": self.truth}
        return {**facts, "title": visible_text(self.title), "classes": classes}

    def found(self, run: str, key: str) -> list[Box] | bool | None:
        """Return the boxes of an image, True where a mask exists, None where there is no prediction."""
        if self.kind == "mask":
            return True if (run, key) in self.masks else None
        return self.boxes.get((run, key))

    def holder(self, runs: Iterable[str], key: str) -> str | None:
        """Return the first run with something to show for an image, None where there is none."""
        return next((run for run in runs if self.found(run, key) is not None), None)

    def mask(self, run: str, key: str) -> bytes:
        """Return a mask's PNG, wholly transparent where there is background; predictions half so elsewhere.

        Raises:
            DataError: it is no PNG of class ids.
        """
        alpha = 255 if self.truth else _ALPHA
        alphas = [0 if self._is_background(number) else alpha for number in range(len(self.classes))]
        return with_opacity(self.masks[run, key], alphas, self.colours)

    def _is_background(self, number: int) -> bool:
        return self.kind == "mask" and self.classes[number].lower() in _BACKGROUND


def read_overlays(predictions: pd.DataFrame) -> list[Overlay]:
    """Return the overlays of a store, by task and variant, from a frame of ``PREDICTION_COLUMNS``.

    Datasets name their classes differently: each has overlays of its own.
    """
    found: list[Overlay] = []
    for (task, variant, names, colours_of), part in predictions.groupby(list(_MEANING), sort=True):
        classes = tuple(map(str, json.loads(str(names))))
        masks = bool((part["mask"] != "").any())
        # The palette of a dataset is that of its label maps: boxes have classes of their own.
        palette = json.loads(str(colours_of)) if masks else []
        colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in palette[: len(classes)]]
        colours += [_COLOURS[number % len(_COLOURS)] for number in range(len(colours), len(classes))]
        pictures = list(zip(part["run_id"].astype(str), part["key"].astype(str), strict=True))
        overlay = Overlay(
            number=len(found),
            title=str(variant) if task == LABELS else f"{_NOUNS.get(str(task), str(task))}: {variant}",
            kind="mask" if masks else "boxes",
            truth=task == LABELS,
            classes=classes,
            colours=tuple(colours),
        )
        for picture, boxes, mask in zip(pictures, part["boxes"], part["mask"], strict=True):
            if mask:
                overlay.masks[picture] = Path(mask)
            else:
                overlay.boxes[picture] = _boxes(boxes)
        found.append(overlay)
    return found


def _boxes(text: str) -> list[Box]:
    boxes = [
        (round(x1, 1), round(y1, 1), round(x2, 1), round(y2, 1), int(number), round(score, 3))
        for x1, y1, x2, y2, number, score in json.loads(text)
        if score >= LEAST_SCORE
    ]
    return sorted(boxes, key=lambda box: (-box[5], box))


def with_opacity(path: Path, alphas: Sequence[int], colours: Sequence[str] = ()) -> bytes:
    """Return a PNG of class ids as an indexed one with an opacity (0 to 255) per id; ids beyond those are transparent.

    Args:
        path: an indexed PNG, which keeps its palette, or one in eight-bit grey.
        alphas: by id.
        colours: ``#rrggbb`` by id, the palette of a grey PNG.

    Raises:
        DataError: it is another kind of file.
    """
    content = path.read_bytes()
    # The header is the first chunk: its ninth byte is the depth, its tenth the kind of colour, 3 for a palette.
    grey = bool(colours) and content[24:26] == b"\x08\x00"
    if not content.startswith(_SIGNATURE) or not (grey or content[25:26] == b"\x03"):
        raise DataError(f"reading {path}", found="another kind of file", expected="an indexed PNG of class ids")
    chunks, position = [_SIGNATURE], len(_SIGNATURE)
    while position + 12 <= len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        if kind == b"IHDR" and grey:
            palette = b"".join(bytes.fromhex(colour[1:]) for colour in colours).ljust(3 * 256, b"\0")
            chunks.append(
                _chunk(kind, data[:9] + b"\x03" + data[10:]) + _chunk(b"PLTE", palette) + _opacity(alphas, 256)
            )
        elif kind == b"PLTE":
            chunks.append(_chunk(kind, data) + _opacity(alphas, length // 3))
        elif kind != b"tRNS":
            chunks.append(_chunk(kind, data))
        position += 12 + length
    return b"".join(chunks)


def _opacity(alphas: Sequence[int], colours: int) -> bytes:
    return _chunk(b"tRNS", bytes([*alphas, *[0] * 256][:colours]))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
