"""Boards in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.layout import Layout, lay_out

_STYLES = {"": "", "best": "bold green", "second": "underline"}
_GAP = 3  # what rich puts between two columns of this box
_RANK_TITLE = "Rank ↓"


def boards_to_console(boards: Sequence[Board]) -> RenderableType:
    """Return the boards as something rich can print.

    Numbers are never cut: where the terminal is too narrow for all metrics, they continue in a further table below.
    """
    return Group(*(_BoardView(lay_out(board)) for board in boards))


class _BoardView:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
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
        for note in layout.footnotes:
            yield Text(f"- {note}")
        yield Text("")

    def _width(self, column: int) -> int:
        cells = [len(row.cells[column].text) for row in self.layout.rows]
        return max([len(self.layout.columns[column]), *cells]) + _GAP

    def _label_width(self, width: int) -> int:
        longest = max((label.cell_len for label in self.labels), default=0)
        return max(min(longest, width // 2), len("Method"))

    def _chunks(self, width: int) -> list[list[int]]:
        free = width - self._label_width(width) - _GAP
        chunks: list[list[int]] = [[]]
        used = len(_RANK_TITLE) + _GAP
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
            table.add_column(_RANK_TITLE, justify="right", no_wrap=True)
        for column in columns:
            table.add_column(Text(self.layout.columns[column]), justify="right", no_wrap=True)
        for label, row in zip(self.labels, self.layout.rows, strict=True):
            cells = [Text(row.cells[column].text, style=_STYLES[row.cells[column].emphasis]) for column in columns]
            table.add_row(label, *([Text(row.rank)] if with_rank else []), *cells)
        return table
