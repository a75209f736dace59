"""What the gallery of a board shows: which images, in which order, and the numbers beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.overlays import Box, Overlay
from tgfbench.leaderboards.text import decimals_for, number_text, visible_text

IMAGE_COLUMNS = ("run_id", "key", "text", "path")
"""Columns of the frame of fused images: the prompt given and where the PNG lies."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """The images of one board.

    Attributes:
        board: whose rows are shown.
        keys: the images, most disputed first.
        dispute: by key, 0 (all metrics order the rows alike) to 1; empty where the board has no numbers of images.
        paths: by (run id, key), where the PNG lies.
        prompts: by (run id, key).
        overlays: what was found in these images, and their labels.
    """

    board: Board
    keys: tuple[str, ...]
    dispute: dict[str, float]
    paths: dict[tuple[str, str], Path]
    prompts: dict[tuple[str, str], str]
    overlays: tuple[Overlay, ...]

    def data(self) -> dict[str, object]:
        """Return what the page's script needs: sources and methods, and per image its files, prompts and numbers."""
        board = self.board
        decimals = [decimals_for(board.means[metric]) for metric in board.metrics.index]
        position = {key: i for i, key in enumerate(board.keys)} if board.unit == "image" else {}
        runs = list(map(str, board.rows.index))
        images: list[dict[str, object]] = []
        for key in self.keys:
            shown = {}
            for number, run in enumerate(runs):
                if (run, key) in self.paths:
                    values = board.scores[number, :, position[key]] if key in position else np.empty(0)
                    shown[run] = {
                        "prompt": visible_text(self.prompts[run, key]),
                        "values": [number_text(v, d) for v, d in zip(values, decimals, strict=False)],
                        "found": {one.number: one.found(run, key) for one in self.overlays if not one.truth},
                    }
            images.append({"key": key, "shown": shown, "labels": self._labels(key)})
            if key in self.dispute:
                images[-1]["dispute"] = round(self.dispute[key], 3)
        rows = [
            {"run": str(run), "label": visible_text(str(row["label"])), "source": bool(row["source"])}
            for run, row in board.rows.iterrows()
        ]
        arrows = {True: " ↑", False: " ↓", None: ""}
        metrics = [
            visible_text(str(card["title"])) + arrows[card["higher_is_better"]] for _, card in board.metrics.iterrows()
        ]
        overlays = [overlay.data() for overlay in self.overlays]
        return {"rows": rows, "metrics": metrics if position else [], "images": images, "overlays": overlays}

    def masks(self) -> Iterator[tuple[Overlay, str, str]]:
        """Yield the masks that the page shows: overlay, run and key."""
        runs = list(map(str, self.board.rows.index))
        for overlay in self.overlays:
            if overlay.truth:
                held = [(run, key) for key in self.keys if (run := overlay.holder(runs, key)) is not None]
                yield from ((overlay, *name) for name in held if name in overlay.masks)
            else:
                yield from ((overlay, *name) for name in sorted(self.paths.keys() & overlay.masks.keys()))

    def _labels(self, key: str) -> dict[int, list[Box] | str]:
        """Return an image's labels by overlay: boxes, or the run under which the mask lies."""
        found: dict[int, list[Box] | str] = {}
        for overlay in self.overlays:
            run = overlay.holder(map(str, self.board.rows.index), key) if overlay.truth else None
            if run is not None:
                found[overlay.number] = overlay.boxes.get((run, key), run)
        return found


def build_gallery(board: Board, images: pd.DataFrame, most: int, overlays: Sequence[Overlay] = ()) -> Gallery | None:
    """Choose a board's most disputed images among those with at least two fused images; None where there are none.

    A board of trainings has no numbers of images: the first of its test images are shown.

    Args:
        board: the board.
        images: ``IMAGE_COLUMNS``.
        most: number of images at most.
        overlays: of the whole store; those that show anything here are offered.
    """
    here = images[images["run_id"].isin(board.rows.index)]
    dispute = disputes(board) if board.unit == "image" else {}
    here = here[here["key"].isin(board.keys)] if dispute else here
    shown = here.groupby("key")["run_id"].nunique()
    several = [str(key) for key, runs in shown.items() if runs > 1]
    keys = sorted(several, key=lambda key: (-round(dispute.get(key, 0.0), 9), key))[:most]
    if not keys:
        return None
    here = here[here["key"].isin(keys)]
    names = list(zip(here["run_id"], here["key"], strict=True))
    return Gallery(
        board=board,
        keys=tuple(keys),
        dispute=dispute,
        paths=dict(zip(names, map(Path, here["path"]), strict=True)),
        prompts=dict(zip(names, here["text"], strict=True)),
        overlays=tuple(o for o in overlays if any(o.found(*name) is not None for name in names)),
    )


def disputes(board: Board) -> dict[str, float]:
    """Return by image how much the metrics disagree about the ranked rows: 1 − W, Kendall's concordance over metrics.

    0 where all metrics that count order the rows alike; 0 as well where there is nothing to compare.
    """
    counts = board.metrics["counts"].to_numpy(dtype=bool)
    ranked = board.rows["ranked"].to_numpy(dtype=bool)
    if counts.sum() < 2 or ranked.sum() < 2:
        return dict.fromkeys(board.keys, 0.0)
    signs = np.array([-1.0 if up else 1.0 for up in board.metrics["higher_is_better"][counts]])
    values = board.scores[ranked][:, counts] * signs[:, None]
    found = {}
    for position, key in enumerate(board.keys):
        here = values[:, :, position]
        here = here[:, np.isfinite(here).all(axis=0)]
        rows, metrics = here.shape
        if metrics < 2:
            found[key] = 0.0
            continue
        ranks = rankdata(here, axis=0)
        sums = ranks.sum(axis=1)
        # With ties: M. Kendall and J. Gibbons, Rank Correlation Methods, 1990, chapter 6.
        largest = metrics * (ranks**2).sum() - metrics**2 * rows * ((rows + 1) / 2) ** 2
        found[key] = float(1 - ((sums - sums.mean()) ** 2).sum() / largest) if largest > 0 else 0.0
    return found
