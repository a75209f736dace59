"""Boards in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from tgfbench.benchmark.errors import counted
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.compare import Comparison
from tgfbench.leaderboards.intervals import LEVEL
from tgfbench.leaderboards.layout import Cell, Layout, Row, lay_out
from tgfbench.leaderboards.overall import Overall, overall_boards
from tgfbench.leaderboards.significance import ALPHA
from tgfbench.leaderboards.text import decimals_for, number_text, visible_text

_STYLES = {"": "", "best": "bold green", "second": "underline"}
_GAP = 3  # what rich puts between two columns of this box


def boards_to_console(boards: Sequence[Board]) -> RenderableType:
    """Return the boards as something rich can print.

    Numbers are never cut: where the terminal is too narrow for all metrics, they continue in a further table below.
    """
    overall = (part for found in overall_boards(boards) for part in _overall(found))
    return Group(*overall, *(part for board in boards for part in _board(lay_out(board))))


class _WideTable:
    """Cells that are never cut: where the terminal is too narrow, the columns continue in a further table below.

    Args:
        titles: of the columns; the first column names the rows and is repeated.
        rows: cells, as many as titles.
    """

    def __init__(self, titles: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
        self.titles = titles
        self.rows = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [
            max(map(cell_len, [title, *(row[i].plain for row in self.rows)])) for i, title in enumerate(self.titles)
        ]
        label = max(min(widths[0], options.max_width // 2), cell_len(self.titles[0]))
        free = options.max_width - label - _GAP
        chunks: list[list[int]] = [[]]
        used = 0
        for column, width in enumerate(widths[1:], start=1):
            if used and used + width + _GAP > free:
                chunks.append([])
                used = 0
            chunks[-1].append(column)
            used += width + _GAP
        for chunk in chunks:
            table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=True)
            table.add_column(Text(self.titles[0]), overflow="fold", min_width=label, max_width=label)
            for column in chunk:
                table.add_column(Text(self.titles[column]), justify="right", overflow="fold")
            for row in self.rows:
                table.add_row(row[0], *(row[column] for column in chunk))
            yield table


def _overall(found: Overall) -> list[RenderableType]:
    titles, *rows = found.cells()
    notes = [Text(f"- {note}") for note in found.notes]
    return [Text(found.heading, style="bold"), _WideTable(titles, rows), *notes, Text("")]


def _board(layout: Layout) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(layout.heading, style="bold")]
    if layout.differences:
        parts.append(Text(f"Differs from the main board: {'; '.join(layout.differences)}.", style="yellow"))
    if layout.facts:
        parts.append(Text(" · ".join(layout.facts), style="dim"))
    heads = [title.replace("Average rank", "Rank") for title in layout.heads]
    parts.append(_WideTable([*heads, *layout.columns], list(map(_row, layout.rows))))
    for found in layout.reported:
        numbers = f"reported {found.value}, measured here {found.measured}, gap {found.gap}"
        parts.append(Text(f"- {found.label}: {found.metric}: {numbers} ({found.source})"))
    return [*parts, *(Text(f"- {note}") for note in (*layout.findings, *layout.footnotes)), Text("")]


def _row(row: Row) -> list[Text]:
    label = Text.assemble(row.label, (f" {' '.join(row.marks)}".rstrip(), "dim"))
    return [label, *map(Text, row.head), *(Text(_shown(cell), style=_STYLES[cell.emphasis]) for cell in row.cells)]


def comparisons_to_console(comparisons: Sequence[Comparison]) -> RenderableType:
    """Return two rows' comparisons, one table per board, as something rich can print."""
    return Group(*(part for comparison in comparisons for part in _comparison(comparison)))


def _comparison(found: Comparison) -> list[RenderableType]:
    a, b = (visible_text(label) for label in found.labels)
    board = found.board
    place = visible_text(f"{board.dataset} ({board.split}, {board.counted}), protocol {board.protocol}")
    rows = []
    for _, row in found.table.iterrows():
        decimals = decimals_for([row["mean_a"], row["mean_b"]])
        numbers = [number_text(row[name], decimals) for name in ("mean_a", "mean_b", "difference", "low", "high")]
        arrow = {True: " ↑", False: " ↓", None: ""}[row["higher_is_better"]]
        wins = f"{row['wins_a']} : {row['equal']} : {row['wins_b']}"
        tests = [f"[{numbers[3]}, {numbers[4]}]", f"{row['p_holm']:.2g}", wins, f"{row['effect']:+.2f}"]
        rows.append([visible_text(row["title"]) + arrow, *numbers[:3], *tests, _verdict(row, board.unit)])
    titles = ("Metric", "A", "B", "A − B", f"{LEVEL:.0%} interval", "p (Holm)", "A : = : B", "effect", "verdict")
    return [
        Text(place, style="bold"),
        Text(f"A: {a} (run {found.runs[0]})"),
        Text(f"B: {b} (run {found.runs[1]})"),
        _WideTable(titles, rows),
        Text(
            f"p: Wilcoxon signed-rank test over {board.unit}s, Holm's adjustment over the metrics of this table. "
            f"A : = : B: {board.unit}s on which A is better, both are equal, B is better (without a direction: "
            "larger). effect: rank-biserial correlation, positive where A is larger.",
            style="dim",
        ),
        Text(""),
    ]


def _verdict(row: pd.Series, unit: str) -> str:
    if row["p_holm"] < ALPHA:
        return {"a": "A is better", "b": "B is better"}.get(row["better"], "A differs from B")
    if pd.isna(row["needed"]):
        return "no effect"
    return f"not separated by {counted(row['images'], unit)}; about {row['needed']:,.0f} would be needed"


def _shown(cell: Cell) -> str:
    return cell.text + (f" {cell.interval}" if cell.deviation else "") + "≈" * cell.tied
