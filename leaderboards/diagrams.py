"""Critical-difference diagrams: who is better than whom, and who cannot be told apart (J. Demšar, 2006, figure 1)."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tgfbench.benchmark.errors import counted
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.significance import Friedman, tie_groups
from tgfbench.leaderboards.text import visible_text

INK = "#1f2328"
"""Colour of all lines and letters, so that a page can replace it by its own."""


def critical_difference_diagram(board: Board, image_format: Literal["svg", "png"]) -> bytes | None:
    """Draw a board's ranked rows at the rank they have on an image, averaged over metrics and images.

    Bars join rows whose mean ranks differ by less than Nemenyi's critical difference at level 0.05.

    Returns:
        The file's content, the same bytes for the same board; None where fewer than two rows or images are ranked.
    """
    found = board.evidence.overall
    if found is None:
        return None
    labels = [visible_text(board.rows["label"].iloc[row]) for row in found.rows]
    return to_bytes(draw(labels, found.friedman, board.unit), image_format)


def draw(labels: Sequence[str], test: Friedman, unit: str = "image") -> Figure:
    """Draw the diagram of a Friedman test over images or seeds; labels are in the order of its mean ranks' entries."""
    ranks, count = test.mean_ranks, len(labels)
    groups = tie_groups(ranks, test.critical_difference)
    order = np.argsort(ranks, kind="stable")
    left, right = order[: math.ceil(count / 2)], order[math.ceil(count / 2) :]
    top = 0.55 + 0.16 * len(groups)
    height = top + 0.24 * len(left) + 0.2
    figure = Figure(figsize=(7.2, height + 0.75))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, 7.2)
    axes.set_ylim(height, -0.75)

    def at(rank: float) -> float:
        return 2.1 + 3.0 * (rank - 1) / max(count - 1, 1)

    def line(x: Sequence[float], y: Sequence[float], width: float = 0.9) -> None:
        axes.plot(x, y, color=INK, linewidth=width, solid_capstyle="butt")

    def text(x: float, y: float, words: str, **kwargs: Any) -> None:
        axes.text(x, y, words, color=INK, fontsize=9, parse_math=False, va="center", **kwargs)

    line([at(1), at(count)], [0, 0])
    for tick in range(1, count + 1):
        line([at(tick), at(tick)], [-0.07, 0])
        if count <= 20 or tick % 5 == 0 or tick == 1:
            text(at(tick), -0.17, str(tick), ha="center")
    text(0.1, -0.17, "better", ha="left")
    if math.isfinite(test.critical_difference):
        width = min(test.critical_difference, count - 1)
        line([at(1), at(1 + width)], [-0.42, -0.42], 1.6)
        least = f"{test.critical_difference:.2f}"
        text(at(1), -0.58, f"critical difference {least}, {counted(test.images, unit)}", ha="left")
    for side, members in ((-1, left), (1, right[::-1])):
        for place, row in enumerate(members):
            y = top + 0.24 * place
            end = 1.95 if side < 0 else 5.25
            line([at(ranks[row]), at(ranks[row]), end], [0, y, y])
            label = labels[row] if len(labels[row]) <= 27 else labels[row][:26] + "…"
            name = f"{label} {ranks[row]:.2f}" if side < 0 else f"{ranks[row]:.2f} {label}"
            text(end + 0.06 * side, y, name, ha="right" if side < 0 else "left")
    for place, group in enumerate(groups):
        ends = [ranks[group[0]], ranks[group[-1]]]
        line([at(ends[0]) - 0.05, at(ends[1]) + 0.05], [0.3 + 0.16 * place] * 2, 3.2)
    return figure


def to_bytes(figure: Figure, image_format: Literal["svg", "png"]) -> bytes:
    """Render a figure without dates, versions or random ids."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if image_format == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "tgfbench", "svg.fonttype": "none"}), warnings.catch_warnings():
        # Of letters that matplotlib's font lacks: an SVG keeps them, a PNG shows a box.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format=image_format, dpi=200, metadata=metadata, transparent=image_format == "svg")
    return buffer.getvalue()
