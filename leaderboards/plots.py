"""Plots of a board for its page: average ranks with their intervals, and quality against time."""

from __future__ import annotations

import math
import re

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tgfbench.benchmark.errors import listed
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.diagrams import INK, critical_difference_diagram, to_bytes
from tgfbench.leaderboards.text import visible_text


def rank_plot(board: Board) -> str:
    """Draw every ranked row's average rank with its 95 % interval; SVG for a page, "" where nothing is ranked."""
    rows = np.flatnonzero(board.rows["ranked"].to_numpy(dtype=bool))
    if len(rows) < 2:
        return ""
    ranks = board.rows["average_rank"].to_numpy(dtype=np.float64)[rows]
    low, high = board.evidence.intervals.average_rank[:, rows]
    labels = [_label(board, row) for row in rows]
    figure = Figure(figsize=(7.2, 0.9 + 0.27 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    at = np.arange(len(rows))
    if np.isfinite(low).all():
        axes.hlines(at, low, high, color=INK, linewidth=2.2)
    axes.plot(ranks, at, "o", color=INK, markersize=5)
    axes.set_yticks(at, labels=labels, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(f"average rank, 95 % interval over {board.unit}s (left is better)")
    axes.grid(axis="x", color=INK, alpha=0.15)
    return _inline(_inked(figure), f"rank-{_name(board)}", "Average ranks with their intervals")


def pareto_plot(board: Board) -> str:
    """Draw average rank against seconds per image; rows that no other beats in both are joined; "" without times."""
    seconds, usable = board.rows["seconds"].to_numpy(dtype=np.float64), _timed(board)
    if usable.sum() < 2 or no_pareto_plot(board):
        return ""
    rows = np.flatnonzero(usable)
    ranks = board.rows["average_rank"].to_numpy(dtype=np.float64)
    front = [r for r in sorted(rows, key=lambda r: (seconds[r], ranks[r])) if ranks[r] <= min(
        ranks[o] for o in rows if (seconds[o], o) <= (seconds[r], r))]  # fmt: skip
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(seconds[front], ranks[front], color=INK, linewidth=0.8, linestyle="--")
    axes.plot(seconds[rows], ranks[rows], "o", color=INK, markersize=5)
    for row in rows:
        axes.annotate(
            _label(board, row), (seconds[row], ranks[row]), (6, 5), textcoords="offset points", fontsize=8, color=INK,
            parse_math=False,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.2, y=0.15)
    axes.invert_yaxis()
    axes.yaxis.set_major_locator(MaxNLocator(6))
    device = visible_text(str(board.rows["device"].iloc[rows[0]])) or "an unknown machine"
    axes.set_xlabel(f"median seconds per image on {device}", parse_math=False)
    axes.set_ylabel("average rank (up is better)")
    return _inline(_inked(figure), f"pareto-{_name(board)}", "Average rank against seconds per image")


def no_pareto_plot(board: Board) -> str:
    """Return why seconds that were measured are not drawn, "" where nothing stands against it."""
    devices = board.rows["device"][_timed(board)].unique()
    return f"Not drawn: seconds of different machines, {listed(sorted(devices))}." if len(devices) > 1 else ""


def _timed(board: Board) -> np.ndarray:
    """Return which rows are ranked and have a time, bool (rows,)."""
    return np.asarray(board.rows["ranked"].astype(bool) & (board.rows["seconds"] > 0))


def difference_plot(board: Board) -> str:
    """Return the critical-difference diagram for a page, "" where there is none."""
    image = critical_difference_diagram(board, "svg")
    return _inline(image, f"cd-{_name(board)}", "Critical-difference diagram") if image else ""


def _label(board: Board, row: int | np.integer) -> str:
    label = visible_text(str(board.rows["label"].iloc[int(row)]))
    return label if len(label) <= 34 else label[:33] + "…"


def _name(board: Board) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{board.dataset}-{board.split}-{board.protocol}".lower())


def _inked(figure: Figure) -> bytes:
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=INK, which="both")
        for part in (axes.xaxis.label, axes.yaxis.label):
            part.set_color(INK)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(INK)
    return to_bytes(figure, "svg")


def _inline(image: bytes, name: str, title: str) -> str:
    """Prepare an SVG for a page: its ink becomes the page's, its ids its own, its size that of the column."""
    text = image.decode("utf-8")
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    width = re.search(r'width="([\d.]+)pt"', text)
    text = re.sub(r'\swidth="[\d.]+pt"\sheight="[\d.]+pt"', "", text, count=1)
    most = math.ceil(float(width[1]) * 4 / 3) if width else 700
    return text.replace(
        "<svg", f'<svg role="img" aria-label="{title}" style="width:100%;max-width:{most}px;height:auto"', 1
    )
