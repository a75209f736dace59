"""Numbers that papers print, beside the ones measured here and never mixed with them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from tgfbench.benchmark.registry import normalise
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.text import NOT_AVAILABLE, visible_text


@dataclass(frozen=True)
class Reported:
    """A number of a method's card that belongs to a board's dataset.

    Attributes:
        run: run id of the row.
        metric: as the board calls it.
        value: as printed by the paper.
        measured: the board's mean, NaN where the board has none.
        source: where it is printed.
    """

    run: str
    metric: str
    value: float
    measured: float
    source: str


@dataclass(frozen=True)
class ReportedRow:
    """The same as text."""

    label: str
    metric: str
    value: str
    measured: str
    gap: str
    source: str


def reported_values(board: Board) -> list[Reported]:
    """Return the reported numbers that a board has measured, in the order of its rows and of the cards.

    Numbers of other metrics are on the page of their method, with everything else that its card reports.
    """
    metrics = {normalise(str(metric)): str(metric) for metric in board.metrics.index}
    found = []
    for run, row in board.rows.iterrows():
        for entry in _entries(str(row["reported"])):
            dataset, _, split = str(entry.get("dataset", "")).partition(":")
            if normalise(dataset) != normalise(board.dataset) or (split and normalise(split) != normalise(board.split)):
                continue
            metric = metrics.get(normalise(str(entry.get("metric", ""))))
            if metric is None:
                continue
            measured = float(board.means[metric].to_dict()[run])
            value, source = float(str(entry.get("value", "nan"))), str(entry.get("source", ""))
            found.append(Reported(str(run), metric, value, measured, source))
    return found


def reported_rows(board: Board) -> tuple[ReportedRow, ...]:
    """Return the reported numbers as text; the gap is measured minus reported."""
    return tuple(
        ReportedRow(
            label=visible_text(str(board.rows.loc[found.run, "label"])),
            metric=visible_text(found.metric),
            value=f"{found.value:.6g}",
            measured=f"{found.measured:.6g}" if math.isfinite(found.measured) else NOT_AVAILABLE,
            gap=f"{found.measured - found.value:+.4g}" if math.isfinite(found.measured) else NOT_AVAILABLE,
            source=visible_text(found.source),
        )
        for found in reported_values(board)
    )


def card_rows(reported: object) -> list[tuple[str, ...]]:
    """Return all that a card reports as text: dataset, metric, value and source."""
    entries = [entry for entry in reported if isinstance(entry, dict)] if isinstance(reported, list) else []
    names = ("dataset", "metric", "value", "source")
    return [tuple(visible_text(str(entry.get(name, ""))) for name in names) for entry in entries]


def _entries(text: str) -> list[dict[str, object]]:
    try:
        parsed = json.loads(text or "[]")
    except ValueError:
        return []
    return [entry for entry in parsed if isinstance(entry, dict)] if isinstance(parsed, list) else []
