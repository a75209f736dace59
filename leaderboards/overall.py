"""Boards over several datasets: average ranks by dataset and by group of metrics, with intervals over the images.

Only main boards of one split and protocol are averaged, and only rows that all of them rank. Ranks are taken anew
among these rows, averaged over the metrics of a dataset and then over datasets, so that every dataset weighs the same.
Intervals resample the images of every dataset independently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from tgfbench.benchmark.errors import counted, listed
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.intervals import board_intervals, percentile_interval, places_of
from tgfbench.leaderboards.text import visible_text

QUALITY, TEXT, DOWNSTREAM, COST = "quality", "text guidance", "downstream", "cost"
GROUPS = (QUALITY, TEXT, DOWNSTREAM)
"""Of metrics; cost is a group beside them."""
SECONDS = "seconds per image"


@dataclass(frozen=True, eq=False)
class Overall:
    """One table over several datasets.

    Attributes:
        split, protocol, group: what its boards have in common.
        datasets: in alphabetical order.
        table: index label, best first. ``average_rank``, ``low``, ``high``, ``place_low``, ``place_high``, one column
            per dataset with the average rank there, and ``seconds per image`` (median, averaged over datasets; NaN
            where unknown).
        notes: about rows that are absent and about the seconds.
    """

    split: str
    protocol: str
    group: str
    datasets: tuple[str, ...]
    table: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def heading(self) -> str:
        """What is averaged."""
        return visible_text(
            f"Overall, {self.group}: {counted(len(self.datasets), 'dataset')} ({self.split}), protocol {self.protocol}"
        )

    def cells(self) -> list[list[str]]:
        """The table as plain text, titles first."""
        with_seconds = self.table[SECONDS].notna().any()
        titles = ["Method", "Average rank ↓", "95 % interval", "Place", *map(visible_text, self.datasets)]
        rows = [[*titles, SECONDS] if with_seconds else titles]
        for label, row in self.table.iterrows():
            ends = [row["place_low"], row["place_high"]]
            known = math.isfinite(ends[0])
            cells = [
                visible_text(str(label)),
                f"{row['average_rank']:.2f}",
                f"[{row['low']:.2f}, {row['high']:.2f}]" if known else "",
                "–".join(dict.fromkeys(f"{end:.0f}" for end in ends)) if known else "",
                *(f"{row[name]:.2f}" for name in self.datasets),
            ]
            rows.append([*cells, f"{row[SECONDS]:.3g}" if math.isfinite(row[SECONDS]) else "n/a"][: len(rows[0])])
        return rows


def group_of(protocol: str, metric: str) -> str:
    """Return the group a metric belongs to."""
    words = f"{protocol} {metric}".lower()
    if any(word in words for word in ("downstream", "detection", "segmentation")):
        return DOWNSTREAM
    return TEXT if "text" in words or "audit" in words else QUALITY


def overall_boards(boards: Sequence[Board]) -> list[Overall]:
    """Average the main boards of at least two datasets, by split, protocol and group of metrics."""
    found = []
    places = sorted({(board.split, board.protocol) for board in boards})
    for split, protocol in places:
        mains = [b for b in boards if (b.split, b.protocol) == (split, protocol) and not b.differences]
        for group in GROUPS:
            parts = [(b, metrics) for b in mains if (metrics := _metrics(b, group)).any() and b.rows["ranked"].any()]
            if len(parts) > 1:
                overall = _overall(split, protocol, group, parts)
                if overall is not None:
                    found.append(overall)
        cost = _cost(split, protocol, [board for board in mains if board.unit == "image"])
        # Protocols do not change what fusion takes.
        if cost is not None and not any(cost.group == f.group and cost.table.equals(f.table) for f in found):
            found.append(cost)
    return found


def _metrics(board: Board, group: str) -> np.ndarray:
    counts = board.metrics["counts"].to_numpy(dtype=bool)
    return counts & [group_of(board.protocol, str(metric)) == group for metric in board.metrics.index]


def _overall(split: str, protocol: str, group: str, parts: Sequence[tuple[Board, np.ndarray]]) -> Overall | None:
    ranked = [board.rows["ranked"] for board, _ in parts]
    common, notes = _common([board for board, _ in parts], ranked, "not ranked")
    if len(common) < 2:
        return None
    columns, draws = {}, []
    for stream, (board, metrics) in enumerate(parts):
        at = [list(board.rows["label"]).index(label) for label in common]
        signs = np.array([math.nan if up is None else -1.0 if up else 1.0 for up in board.metrics["higher_is_better"]])
        means = board.compared_means.to_numpy()[at]
        columns[board.dataset] = rankdata(means[:, metrics] * signs[metrics], axis=0).mean(axis=1)
        everything = np.ones(len(at), dtype=bool)
        intervals = board_intervals(
            board.compared_scores[at][:, metrics],
            means[:, metrics],
            signs[metrics],
            metrics[metrics],
            everything,
            stream,
        )
        draws.append(intervals.average_rank_draws)
    table = pd.DataFrame(columns, index=pd.Index(common, name="label"))
    table.insert(0, "average_rank", table.mean(axis=1))
    resampled = np.mean(draws, axis=0)
    resampled = resampled[np.isfinite(resampled).all(axis=1)]
    ends = np.full((4, len(common)), math.nan)
    if len(resampled):
        ends = np.concatenate([percentile_interval(resampled), places_of(resampled)])
    for position, name in enumerate(("low", "high", "place_low", "place_high"), start=1):
        table.insert(position, name, ends[position - 1])
    table[SECONDS], more = _seconds([board for board, _ in parts], common)
    order = sorted(range(len(table)), key=lambda i: (round(table["average_rank"].iloc[i], 9), i))
    datasets = tuple(board.dataset for board, _ in parts)
    return Overall(split, protocol, group, datasets, table.iloc[order], tuple(map(visible_text, (*notes, *more))))


def _cost(split: str, protocol: str, boards: Sequence[Board]) -> Overall | None:
    """Rank by seconds per image; None where they were measured on different machines, or for fewer than two rows."""
    timed = [board.rows["ranked"] & (board.rows["seconds"] > 0) for board in boards]
    boards = [board for board, rows in zip(boards, timed, strict=True) if rows.any()]
    common, notes = (
        _common(boards, [rows for rows in timed if rows.any()], "not timed") if len(boards) > 1 else ([], [])
    )
    if len(common) < 2:
        return None
    seconds, more = _seconds(boards, common)
    if not np.isfinite(seconds).all():
        return None
    columns = {board.dataset: rankdata(board.rows.set_index("label").loc[common, "seconds"]) for board in boards}
    table = pd.DataFrame(columns, index=pd.Index(common, name="label"))
    table.insert(0, "average_rank", table.mean(axis=1))
    for position, name in enumerate(("low", "high", "place_low", "place_high"), start=1):
        table.insert(position, name, math.nan)
    table[SECONDS] = seconds
    table = table.iloc[
        sorted(range(len(table)), key=lambda i: (round(table["average_rank"].iloc[i], 9), seconds[i], i))
    ]
    return Overall(split, protocol, COST, tuple(columns), table, tuple(map(visible_text, (*notes, *more))))


def _common(boards: Sequence[Board], kept: Sequence[pd.Series], why: str) -> tuple[list[str], list[str]]:
    """Return the labels of rows that are kept on all boards, and a note for every other one."""
    labels = [set(map(str, board.rows.loc[rows, "label"])) for board, rows in zip(boards, kept, strict=True)]
    every = sorted(set.union(*labels), key=lambda label: (label.casefold(), label))
    notes = []
    for label in every:
        lacking = [board.dataset for board, here in zip(boards, labels, strict=True) if label not in here]
        if lacking:
            notes.append(f"not in this table: {label}: {why} on {listed(lacking)}")
    return [label for label in every if all(label in here for here in labels)], notes


def _seconds(boards: Sequence[Board], labels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    rows = [board.rows.set_index("label").loc[list(labels)] for board in boards]
    devices = sorted({str(device) for part in rows for device in part.loc[part["seconds"].notna(), "device"]})
    if len(devices) > 1:
        return np.full(len(labels), math.nan), [f"{SECONDS}: n/a, measured on different machines: {listed(devices)}"]
    seconds = np.mean([part["seconds"].to_numpy(dtype=np.float64) for part in rows], axis=0)
    return seconds, [f"{SECONDS}: median per dataset, on {devices[0] or 'an unknown machine'}"] if devices else []
