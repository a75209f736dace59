"""Boards in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.compare import Comparison
from tgfbench.leaderboards.grouping import counted
from tgfbench.leaderboards.intervals import LEVEL
from tgfbench.leaderboards.layout import Cell, Layout, lay_out
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
    return Group(*overall, *(_BoardView(lay_out(board)) for board in boards))


def _overall(found: Overall) -> list[RenderableType]:
    titles, *rows = found.cells()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=True)
    for number, title in enumerate(titles):
        table.add_column(Text(title), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return [Text(found.heading, style="bold"), table, *(Text(f"- {note}") for note in found.notes), Text("")]


class _BoardView:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.heads = [title.replace("Average rank", "Rank") for title in layout.heads[1:]]
        self.labels = [Text.assemble(row.label, (f" {' '.join(row.marks)}".rstrip(), "dim")) for row in layout.rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        layout = self.layout
        yield Text(layout.heading, style="bold")
        if layout.differences:
            yield Text(f"Differs from the main board: {'; '.join(layout.differences)}.", style="yellow")
        if layout.facts:
            yield Text(" · ".join(layout.facts), style="dim")
        for number, chunk in enumerate(self._chunks(options.max_width)):
            yield self._table(chunk, with_rank=number == 0, width=options.max_width)
        for found in layout.reported:
            numbers = f"reported {found.value}, measured here {found.measured}, gap {found.gap}"
            yield Text(f"- {found.label}: {found.metric}: {numbers} ({found.source})")
        for note in (*layout.findings, *layout.footnotes):
            yield Text(f"- {note}")
        yield Text("")

    def _width(self, column: int) -> int:
        cells = [len(_shown(row.cells[column])) for row in self.layout.rows]
        return max([len(self.layout.columns[column]), *cells]) + _GAP

    def _label_width(self, width: int) -> int:
        longest = max((label.cell_len for label in self.labels), default=0)
        return max(min(longest, width // 2), len("Method"))

    def _chunks(self, width: int) -> list[list[int]]:
        free = width - self._label_width(width) - _GAP
        chunks: list[list[int]] = [[]]
        used = sum(len(title) + _GAP for title in self.heads)
        for column in range(len(self.layout.columns)):
            if used and used + self._width(column) > free:
                chunks.append([])
                used = 0
            chunks[-1].append(column)
            used += self._width(column)
        return chunks

    def _table(self, columns: list[int], *, with_rank: bool, width: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=True)
        label_width = self._label_width(width)
        table.add_column("Method", overflow="fold", min_width=label_width, max_width=label_width)
        if with_rank:
            for title in self.heads:
                table.add_column(title, justify="right", no_wrap=True)
        for column in columns:
            table.add_column(Text(self.layout.columns[column]), justify="right", no_wrap=True)
        for label, row in zip(self.labels, self.layout.rows, strict=True):
            cells = [Text(_shown(row.cells[column]), style=_STYLES[row.cells[column].emphasis]) for column in columns]
            table.add_row(label, *(map(Text, row.head) if with_rank else []), *cells)
        return table


def comparisons_to_console(comparisons: Sequence[Comparison]) -> RenderableType:
    """Return two rows' comparisons, one table per board, as something rich can print."""
    return Group(*(part for comparison in comparisons for part in _comparison(comparison)))


def _comparison(found: Comparison) -> list[RenderableType]:
    a, b = (visible_text(label) for label in found.labels)
    board = found.board
    place = visible_text(f"{board.dataset} ({board.split}, {board.counted}), protocol {board.protocol}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=True)
    for title in ("Metric", "A", "B", "A − B", f"{LEVEL:.0%} interval", "p (Holm)", "A : = : B", "effect"):
        table.add_column(title, justify="left" if title == "Metric" else "right", no_wrap=True)
    table.add_column("verdict")
    for _, row in found.table.iterrows():
        decimals = decimals_for([row["mean_a"], row["mean_b"]])
        numbers = [number_text(row[name], decimals) for name in ("mean_a", "mean_b", "difference", "low", "high")]
        arrow = {True: " ↑", False: " ↓", None: ""}[row["higher_is_better"]]
        table.add_row(
            Text(visible_text(row["title"]) + arrow), *numbers[:3], Text(f"[{numbers[3]}, {numbers[4]}]"),
            f"{row['p_holm']:.2g}", f"{row['wins_a']} : {row['equal']} : {row['wins_b']}", f"{row['effect']:+.2f}",
            Text(_verdict(row, board.unit)),
        )  # fmt: skip
    return [
        Text(place, style="bold"),
        Text(f"A: {a} (run {found.runs[0]})"),
        Text(f"B: {b} (run {found.runs[1]})"),
        table,
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
