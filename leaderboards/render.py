"""Writing boards to files. The same store gives the same bytes every time: no dates, no machine, no input order."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.benchmark.images import write_atomically, write_text
from tgfbench.leaderboards.board import Board, build_boards
from tgfbench.leaderboards.latex import render_latex
from tgfbench.leaderboards.layout import READING, Cell, Layout, Row, lay_out
from tgfbench.leaderboards.machine import render_json
from tgfbench.leaderboards.overall import overall_boards
from tgfbench.leaderboards.reported import reported_values
from tgfbench.leaderboards.text import NOT_AVAILABLE

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
    """Build all boards and write them in every format; each file appears whole or not at all.

    The files are ``leaderboard.<format>``; ``svg`` and ``png`` are the critical-difference diagrams of the main boards,
    ``critical-difference/<dataset>-<split>-<protocol>.<format>``.

    Args:
        runs, scores, metrics: the store's frames, see ``tgfbench.leaderboards.frames``.
        folder: where to write, created where it does not exist.
        formats: any of ``RENDERERS`` and ``DIAGRAMS``.

    Returns:
        The written files, in the order of ``formats``.

    Raises:
        UsageError: a format is unknown, or the store holds no run or no score; nothing is written.
        DataError: the frames contradict themselves.
    """
    check_formats(formats)
    return write_boards(build_boards(runs, scores, metrics), folder, formats)


def check_formats(formats: Sequence[str]) -> None:
    """Refuse unknown formats before anything is computed."""
    for name in formats:
        if name not in RENDERERS and name not in DIAGRAMS:
            hint = suggest(name, [*RENDERERS, *DIAGRAMS])
            raise UsageError("writing the leaderboard", found=f"unknown format '{name}'", hint=hint)


def write_boards(
    boards: Sequence[Board],
    folder: Path,
    formats: Sequence[str],
    introduction: Sequence[str] = (),
    stem: str = FILE_STEM,
) -> list[Path]:
    """Write boards that are built already; see ``write_leaderboards``.

    Args:
        introduction: paragraphs for readers, above everything else.
        stem: of the file names.
    """
    check_formats(formats)
    written = []
    for name in dict.fromkeys(formats):
        if name in DIAGRAMS:
            written += _write_diagrams(boards, folder, "svg" if name == "svg" else "png")
            continue
        path = folder / f"{stem}.{name}"
        write_text(path, RENDERERS[name](boards, introduction))
        written.append(path)
    return written


def board_slugs(boards: Sequence[Board]) -> list[str]:
    """Return a file name stem for every board, each different, of letters, digits, dots and hyphens only."""
    slugs: list[str] = []
    for board in boards:
        stem = re.sub(r"[^a-z0-9.]+", "-", f"{board.dataset}-{board.split}-{board.protocol}".lower()).strip("-.")
        number = 1
        while (slug := stem if number == 1 else f"{stem}-{number}") in slugs:
            number += 1
        slugs.append(slug)
    return slugs


def _write_diagrams(boards: Sequence[Board], folder: Path, image_format: Literal["svg", "png"]) -> list[Path]:
    from tgfbench.leaderboards.diagrams import critical_difference_diagram

    written = []
    for board, slug in zip(boards, board_slugs(boards), strict=True):
        content = critical_difference_diagram(board, image_format) if not board.differences else None
        if content is not None:
            path = folder / "critical-difference" / f"{slug}.{image_format}"
            write_atomically(path, methodcaller("write", content))
            written.append(path)
    return written


def render_csv(boards: Sequence[Board], introduction: Sequence[str] = ()) -> str:
    """Render one line per board and row, values in full precision.

    A metric that the board does not have is empty; a value that does not exist is ``n/a``. ``images`` is the number of
    images, or of the row's own seeds. ``differences`` is empty on the main board of a dataset, split and protocol.
    After the means come 95 % intervals (``low``, ``high``) of the average rank, the place and every mean, numbers that
    papers report, under the same rule, and standard deviations over seeds.
    """
    order: dict[str, int] = {}
    for board in boards:
        for position, metric in enumerate(board.metrics.index):
            order[metric] = min(position, order.get(metric, position))
    metrics = sorted(order, key=lambda metric: (order[metric], metric))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ends = [f"{name} {end}" for name in ("average_rank", "place", *metrics) for end in ("low", "high")]
    # Of several sources the card's first counts, which is the method's own paper where it has one.
    reported = [{(r.run, r.metric): r.value for r in reversed(reported_values(board))} for board in boards]
    claimed = [metric for metric in metrics if any(metric == key[1] for found in reported for key in found)]
    repeated = [metric for metric in metrics if any(b.unit == "seed" and metric in b.metrics.index for b in boards)]
    head = ["dataset", "split", "protocol", "images", "unit", *_RUN_COLUMNS, "run_id", "differences", "average_rank"]
    more = [*(f"{metric} reported" for metric in claimed), *(f"{metric} std" for metric in repeated)]
    writer.writerow([*head, *metrics, *ends, *more])
    for board, claims in zip(boards, reported, strict=True):
        found, means = board.evidence.intervals, board.mean_intervals
        for number, (run, row) in enumerate(board.rows.iterrows()):
            at = {str(metric): column for column, metric in enumerate(board.means.columns)}
            values = [_full(board.means.iloc[number, at[m]]) if m in at else "" for m in metrics]
            pairs: list[Any] = [found.average_rank[:, number], found.place[:, number]]
            pairs += [means[:, number, at[m]] if m in at else (math.nan, math.nan) for m in metrics]
            intervals = [_finite(end) for pair in pairs for end in pair]
            claim = [_full(claims[str(run), m]) if (str(run), m) in claims else "" for m in claimed]
            spread = board.deviations[number] if board.unit == "seed" else np.full(len(at), np.nan)
            deviations = [_finite(spread[at[m]]) if m in at else "" for m in repeated]
            place = [board.dataset, board.split, board.protocol, board.units[number], board.unit]
            facts = [row[column] for column in _RUN_COLUMNS]
            rank = _full(row["average_rank"]) if row["ranked"] else ""
            why = "; ".join(board.differences)
            writer.writerow([*place, *facts, run, why, rank, *values, *intervals, *claim, *deviations])
    return buffer.getvalue()


def render_markdown(boards: Sequence[Board], introduction: Sequence[str] = ()) -> str:
    """Render GitHub-flavoured Markdown: boards over several datasets, then one table per board."""
    parts = ["# Leaderboard", *map(markdown_text, introduction), READING]
    for overall in overall_boards(boards):
        titles, *rows = overall.cells()
        lines = [_line(map(markdown_text, titles)), _line(["---", *["---:"] * (len(titles) - 1)])]
        parts += [
            f"## {markdown_text(overall.heading)}",
            "\n".join([*lines, *(_line(map(markdown_text, r)) for r in rows)]),
        ]
        parts += ["\n".join(f"- {markdown_text(note)}" for note in overall.notes)] if overall.notes else []
    for board in boards:
        parts += _markdown_board(lay_out(board))
    return "\n\n".join(parts) + "\n"


def markdown_text(text: str) -> str:
    """Escape text so that Markdown shows it literally, inside a table cell as well as outside."""
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", text).translate(_HTML_SPECIAL)


RENDERERS: dict[str, Callable[[Sequence[Board], Sequence[str]], str]] = {
    "csv": render_csv,
    "md": render_markdown,
    "tex": render_latex,
    "json": render_json,
}
"""Output formats by file suffix."""

DIAGRAMS = ("svg", "png")
"""Formats of the critical-difference diagrams."""


def _markdown_board(layout: Layout) -> list[str]:
    parts = [f"## {markdown_text(layout.heading)}"]
    if layout.differences:
        parts.append(f"Differs from the main board: {markdown_text('; '.join(layout.differences))}.")
    if layout.facts:
        parts.append(" · ".join(markdown_text(fact) for fact in layout.facts))
    titles = [*layout.heads, *layout.columns]
    lines = [_line([markdown_text(title) for title in titles]), _line(["---", *["---:"] * (len(titles) - 1)])]
    lines += [_line(_markdown_row(row)) for row in layout.rows]
    parts.append("\n".join(lines))
    if layout.reported:
        lines = [_line(["Method", "Metric", "Reported", "Measured here", "Gap", "Source"])]
        lines.append(_line(["---", "---", "---:", "---:", "---:", "---"]))
        for found in layout.reported:
            lines.append(_line([markdown_text(text) for text in vars(found).values()]))
        parts.append("\n".join(lines))
    if layout.findings or layout.footnotes:
        parts.append("\n".join(f"- {markdown_text(note)}" for note in (*layout.findings, *layout.footnotes)))
    return parts


def _markdown_row(row: Row) -> list[str]:
    marks = f" <sup>{' '.join(row.marks)}</sup>" if row.marks else ""
    return [markdown_text(row.label) + marks, *row.head, *(_markdown_cell(cell) for cell in row.cells)]


def _markdown_cell(cell: Cell) -> str:
    text = {"best": f"**{cell.text}**", "second": f"<u>{cell.text}</u>"}.get(cell.emphasis, cell.text)
    interval = f"<br><sub>{cell.interval}</sub>" if cell.interval else ""
    return text + " ≈" * cell.tied + interval


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _finite(value: float) -> str:
    return _full(value) if math.isfinite(value) else ""


def _full(value: Any) -> str:
    return repr(float(value)) if math.isfinite(value) else NOT_AVAILABLE
