"""What detectors and segmenters found in the images of a gallery, drawn over them there."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from tgfbench.benchmark.errors import DataError
from tgfbench.leaderboards.text import visible_text

PREDICTION_COLUMNS = ("run_id", "key", "task", "variant", "boxes", "mask", "classes", "palette")
"""Columns of the frame of predictions: of which fused image, by what, and JSON or the path of an indexed PNG."""

LEAST_SCORE = 0.05
"""Boxes with a lower score are not taken into the page."""
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
    """The predictions of one task in one variant (recipe, mode and seed).

    Attributes:
        number: different for every overlay of a site.
        title: for readers.
        kind: boxes or masks.
        classes: names, in id order.
        colours: of the classes, as CSS knows them.
        boxes: by (run id, key), best score first.
        masks: by (run id, key), where the PNG of class ids lies.
    """

    number: int
    title: str
    kind: Literal["boxes", "mask"]
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
        return {"number": self.number, "title": visible_text(self.title), "kind": self.kind, "classes": classes}

    def found(self, run: str, key: str) -> list[Box] | bool | None:
        """Return the boxes of an image, True where a mask exists, None where there is no prediction."""
        if self.kind == "mask":
            return True if (run, key) in self.masks else None
        return self.boxes.get((run, key))

    def mask(self, run: str, key: str) -> bytes:
        """Return a mask's PNG, half transparent, and wholly so where there is background.

        Raises:
            DataError: it is no indexed PNG.
        """
        path = self.masks[run, key]
        return with_opacity(path, [0 if self._is_background(i) else _ALPHA for i in range(len(self.classes))])

    def _is_background(self, number: int) -> bool:
        return self.kind == "mask" and self.classes[number].lower() in _BACKGROUND


def read_overlays(predictions: pd.DataFrame) -> list[Overlay]:
    """Return the overlays of a store, by task and variant, from a frame of ``PREDICTION_COLUMNS``."""
    found: list[Overlay] = []
    for (task, variant), part in predictions.groupby(["task", "variant"], sort=True):
        longest = max(map(str, part["classes"]), key=lambda text: (len(text), text))
        classes = tuple(map(str, json.loads(longest)))
        masks = bool((part["mask"] != "").any())
        # The palette of a dataset is that of its label maps: boxes have classes of their own.
        palette = json.loads(max(map(str, part["palette"]), key=lambda text: (len(text), text))) if masks else []
        colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in palette[: len(classes)]]
        colours += [_COLOURS[number % len(_COLOURS)] for number in range(len(colours), len(classes))]
        names = list(zip(part["run_id"].astype(str), part["key"].astype(str), strict=True))
        overlay = Overlay(
            number=len(found),
            title=f"{_NOUNS.get(str(task), str(task))}: {variant}",
            kind="mask" if masks else "boxes",
            classes=classes,
            colours=tuple(colours),
        )
        for name, boxes, mask in zip(names, part["boxes"], part["mask"], strict=True):
            if mask:
                overlay.masks[name] = Path(mask)
            else:
                overlay.boxes[name] = _boxes(boxes)
        found.append(overlay)
    return found


def _boxes(text: str) -> list[Box]:
    boxes = [
        (round(x1, 1), round(y1, 1), round(x2, 1), round(y2, 1), int(number), round(score, 3))
        for x1, y1, x2, y2, number, score in json.loads(text)
        if score >= LEAST_SCORE
    ]
    return sorted(boxes, key=lambda box: (-box[5], box))


def with_opacity(path: Path, alphas: Sequence[int]) -> bytes:
    """Return an indexed PNG with an opacity (0 to 255) per palette entry; entries beyond those given are transparent.

    Raises:
        DataError: it is no indexed PNG.
    """
    content = path.read_bytes()
    # The header is the first chunk; its tenth byte is the kind of colour, 3 for a palette.
    if not content.startswith(_SIGNATURE) or content[25:26] != b"\x03":
        raise DataError(f"reading {path}", found="another kind of file", expected="an indexed PNG of class ids")
    chunks, position = [_SIGNATURE], len(_SIGNATURE)
    while position + 12 <= len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind, end = content[position + 4 : position + 8], position + 12 + length
        if kind != b"tRNS":
            chunks.append(content[position:end])
        if kind == b"PLTE":
            data = b"tRNS" + bytes([*alphas, *[0] * 256][: length // 3])
            chunks.append(struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)))
        position = end
    return b"".join(chunks)
