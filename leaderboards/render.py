"""Writing boards to files. The same store gives the same bytes every time: no dates, no machine, no input order."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.benchmark.images import write_text
from tgfbench.leaderboards.board import Board, build_boards
from tgfbench.leaderboards.layout import NOT_AVAILABLE, READING, Cell, Layout, Row, lay_out

FILE_STEM = "leaderboard"
_RUN_COLUMNS = ("method", "weights", "weights_origin", "reconstruction", "text_policy", "seen_in_training", "options")
_MARKDOWN_SPECIAL = re.compile(r"[\\`*\[\]~|$]|(?<![^\W_])_|_(?![^\W_])")
_HTML_SPECIAL = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def write_leaderboards(
    runs: pd.DataFrame,
    scores: pd.DataFrame,
    metrics: pd.DataFrame,
    folder: Path,
    formats: Sequence[str] = ("csv", "md"),
) -> list[Path]:
    """Build all boards and write ``leaderboard.<format>`` for every format; each file appears whole or not at all.

    Args:
        runs, scores, metrics: the store's frames, see ``tgfbench.leaderboards.frames``.
        folder: where to write, created where it does not exist.
        formats: any of ``RENDERERS``.

    Returns:
        The written files, in the order of ``formats``.

    Raises:
        UsageError: a format is unknown, or the store holds no run or no score; nothing is written.
        DataError: the frames contradict themselves.
    """
    for name in formats:
        if name not in RENDERERS:
            hint = suggest(name, RENDERERS)
            raise UsageError("writing the leaderboard", found=f"unknown format '{name}'", hint=hint)
    boards = build_boards(runs, scores, metrics)
    written = []
    for name in dict.fromkeys(formats):
        path = folder / f"{FILE_STEM}.{name}"
        write_text(path, RENDERERS[name](boards))
        written.append(path)
    return written


def render_csv(boards: Sequence[Board]) -> str:
    """Render one line per board and row, values in full precision.

    A metric that the board does not have is empty; a value that does not exist is ``n/a``. ``differences`` is empty on
    the main board of a dataset, split and protocol.
    """
    order: dict[str, int] = {}
    for board in boards:
        for position, metric in enumerate(board.metrics.index):
            order[metric] = min(position, order.get(metric, position))
    metrics = sorted(order, key=lambda metric: (order[metric], metric))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["dataset", "split", "protocol", "images", *_RUN_COLUMNS, "run_id", "differences", "average_rank", *metrics]
    )
    for board in boards:
        place = [board.dataset, board.split, board.protocol, board.images]
        for run, row in board.rows.iterrows():
            values = [_full(board.means.loc[run, m]) if m in board.means.columns else "" for m in metrics]
            facts = [row[column] for column in _RUN_COLUMNS]
            rank = _full(row["average_rank"]) if row["ranked"] else ""
            writer.writerow([*place, *facts, run, "; ".join(board.differences), rank, *values])
    return buffer.getvalue()


def render_markdown(boards: Sequence[Board]) -> str:
    """Render one GitHub-flavoured Markdown table per board."""
    parts = ["# Leaderboard", READING]
    for board in boards:
        parts += _markdown_board(lay_out(board))
    return "\n\n".join(parts) + "\n"


def markdown_text(text: str) -> str:
    """Escape text so that Markdown shows it literally, inside a table cell as well as outside."""
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", text).translate(_HTML_SPECIAL)


RENDERERS: dict[str, Callable[[Sequence[Board]], str]] = {"csv": render_csv, "md": render_markdown}
"""Output formats by file suffix."""


def _markdown_board(layout: Layout) -> list[str]:
    parts = [f"## {markdown_text(layout.heading)}"]
    if layout.differences:
        parts.append(f"Differs from the main board: {markdown_text('; '.join(layout.differences))}.")
    if layout.facts:
        parts.append(" · ".join(markdown_text(fact) for fact in layout.facts))
    titles = ["Method", "Average rank ↓", *layout.columns]
    lines = [_line([markdown_text(title) for title in titles]), _line(["---", *["---:"] * (len(titles) - 1)])]
    lines += [_line(_markdown_row(row)) for row in layout.rows]
    parts.append("\n".join(lines))
    if layout.footnotes:
        parts.append("\n".join(f"- {markdown_text(note)}" for note in layout.footnotes))
    return parts


def _markdown_row(row: Row) -> list[str]:
    marks = f" <sup>{' '.join(row.marks)}</sup>" if row.marks else ""
    return [markdown_text(row.label) + marks, row.rank, *(_markdown_cell(cell) for cell in row.cells)]


def _markdown_cell(cell: Cell) -> str:
    return {"best": f"**{cell.text}**", "second": f"<u>{cell.text}</u>"}.get(cell.emphasis, cell.text)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _full(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else NOT_AVAILABLE
