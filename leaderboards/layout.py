"""What a reader of a board sees, as plain text: headings, legends, rounded numbers, best and second best, footnotes.

Every output format escapes and decorates this same layout, so all of them say the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from tgfbench.benchmark.errors import counted, listed
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.findings import findings
from tgfbench.leaderboards.reported import ReportedRow, reported_rows
from tgfbench.leaderboards.text import decimals_for, number_text, visible_text

NOT_RANKED = "–"
LEGEND = {
    "A": "weights by the method's authors",
    "P": "weights trained by this project",
    "U": "weights of the user",
    "R": "reconstruction from the paper, no authors' code is public",
    "S": "some of these images were seen in training, see below",
    "I": "numbers made elsewhere and imported",
}
ORIGIN_MARKS = {"authors": "A", "project": "P", "user": "U"}
READING = (
    "Every number is a mean over images, the same for every row of a table; in brackets its 95 % bootstrap interval "
    "over them. Where a table counts seeds, it is a mean over trainings with the row's own seeds, and ± their standard "
    "deviation (n − 1). ↑: higher is better, ↓: lower is better; of the ranked rows the best is bold, the second best "
    "underlined. ≈: does not differ significantly from the best (paired Wilcoxon test over images or seeds, Holm's "
    "adjustment over all pairs of the column, level 0.05). "
    "Average rank: mean over the metrics with a direction, ties sharing a rank; place: 95 % interval of the position "
    "another draw of images or seeds would give. Source images are listed last and not ranked where metrics compare "
    "with them, which tests of trainings do not."
)
CLAIMS = (
    "reported numbers are as printed, by the code of their source and on its images: a gap holds that difference, too"
)

Emphasis = Literal["", "best", "second"]


@dataclass(frozen=True)
class Cell:
    """A rounded number, or n/a, and how it stands out.

    Attributes:
        low, high: ends of its 95 % interval, "" where there is none.
        deviation: over seeds, "" where there is none.
        tied: does not differ significantly from the best.
    """

    text: str
    emphasis: Emphasis = ""
    low: str = ""
    high: str = ""
    deviation: str = ""
    tied: bool = False

    @property
    def interval(self) -> str:
        """The interval in brackets or the deviation, "" where there is neither."""
        return f"± {self.deviation}" if self.deviation else f"[{self.low}, {self.high}]" if self.low else ""


@dataclass(frozen=True)
class Row:
    """One run: its label, the legend's letters that apply, its average rank, the places it could take, its values.

    Before its rank comes its number of seeds, "" on boards of images.
    """

    label: str
    marks: str
    seeds: str
    rank: str
    places: str
    cells: tuple[Cell, ...]

    @property
    def head(self) -> tuple[str, ...]:
        """What stands between the label and the values."""
        return (*([self.seeds] if self.seeds else []), self.rank, self.places)


@dataclass(frozen=True)
class Layout:
    """A board as text, without any escaping.

    Attributes:
        heading: dataset, split, images and protocol.
        differences: what separates the board from the main one, each a clause.
        facts: conditions that hold for the board, each a sentence without its full stop.
        columns: metric titles with their arrows.
        rows: in the order of the board.
        findings: what the tests say about the board as a whole, each a sentence.
        reported: numbers of the papers beside those measured here.
        footnotes: remarks about single rows and metrics.
    """

    heading: str
    differences: tuple[str, ...]
    facts: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    findings: tuple[str, ...]
    reported: tuple[ReportedRow, ...]
    footnotes: tuple[str, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """Titles of what stands before the metrics, see ``Row.head``."""
        seeds = ("Seeds",) if any(row.seeds for row in self.rows) else ()
        return ("Method", *seeds, "Average rank ↓", "Place")


def lay_out(board: Board) -> Layout:
    """Lay a board out for reading."""
    marks = [_marks(row) for _, row in board.rows.iterrows()]
    columns = [_column(board, metric) for metric in board.metrics.index]
    places = board.evidence.intervals.place
    reported = reported_rows(board)
    rows = tuple(
        Row(
            label=visible_text(row["label"]),
            marks=marks[i],
            seeds=str(board.units[i]) if board.unit == "seed" else "",
            rank=f"{row['average_rank']:.2f}" if row["ranked"] else NOT_RANKED,
            places=_places(*places[:, i]),
            cells=tuple(column[i] for column in columns),
        )
        for i, (_, row) in enumerate(board.rows.iterrows())
    )
    return Layout(
        heading=visible_text(f"{board.dataset} ({board.split}, {_images(board)}), protocol {board.protocol}"),
        differences=tuple(visible_text(text) for text in board.differences),
        facts=tuple(visible_text(text) for text in _facts(board, marks)),
        columns=tuple(
            visible_text(title) + {True: " ↑", False: " ↓", None: ""}[direction]
            for title, direction in zip(board.metrics["title"], board.metrics["higher_is_better"], strict=True)
        ),
        rows=rows,
        findings=tuple(visible_text(text) for text in findings(board)),
        reported=reported,
        footnotes=tuple(map(visible_text, ([CLAIMS] if reported else []) + _seen(board) + list(board.notes))),
    )


def _column(board: Board, metric: str) -> list[Cell]:
    values, compared = board.means[metric].to_numpy(), board.compared_means[metric].to_numpy()
    decimals = decimals_for(values)
    emphasis = _emphasis(compared, board.rows["ranked"].to_numpy(dtype=bool), board.metrics["higher_is_better"][metric])
    number = board.means.columns.get_loc(metric)
    nothing = np.full((2, len(values)), np.nan)
    ends = nothing if board.unit == "seed" else board.mean_intervals[:, :, number]
    deviations = board.deviations[:, number] if board.unit == "seed" else nothing[0]
    tests = board.evidence.metrics.get(metric)
    tied = set(tests.tied_with_best) if tests else set()
    return [
        Cell(
            text=number_text(value, decimals),
            emphasis=emphasis[i],
            low=number_text(ends[0, i], decimals) if math.isfinite(ends[0, i]) else "",
            high=number_text(ends[1, i], decimals) if math.isfinite(ends[1, i]) else "",
            deviation=number_text(deviations[i], decimals) if math.isfinite(deviations[i]) else "",
            tied=i in tied and emphasis[i] != "best",
        )
        for i, value in enumerate(values)
    ]


def _places(low: float, high: float) -> str:
    if not math.isfinite(low):
        return ""
    return f"{low:.0f}" if low == high else f"{low:.0f}–{high:.0f}"


def _emphasis(values: np.ndarray, ranked: np.ndarray, higher_is_better: bool | None) -> list[Emphasis]:
    """Mark the best and the second best exact value among ranked rows; equal values share the mark."""
    compared = values[ranked & np.isfinite(values)]
    if higher_is_better is None or len(compared) < 2:
        return [""] * len(values)
    distinct = sorted(set(compared.tolist()), reverse=higher_is_better)
    words: dict[float, Emphasis] = dict(zip(distinct, ("best", "second"), strict=False))  # type: ignore[arg-type]
    return [words.get(value, "") if is_ranked else "" for value, is_ranked in zip(values.tolist(), ranked, strict=True)]


def _marks(row: pd.Series) -> str:
    marks = ORIGIN_MARKS.get(row["weights_origin"], "")
    return marks + "R" * bool(row["reconstruction"]) + "S" * (row["seen_in_training"] > 0) + "I" * bool(row["imported"])


def _images(board: Board) -> str:
    if board.images == board.asked or board.unit == "seed":
        return board.counted
    return f"{board.images} of {counted(board.asked, board.unit)}"


def _facts(board: Board, marks: list[str]) -> list[str]:
    facts = [f"{letter}: {words}" for letter, words in LEGEND.items() if any(letter in mark for mark in marks)]
    policies = board.rows.loc[board.rows["text_policy"] != ""].groupby("text_policy", sort=True)["label"]
    if len(policies) == 1:
        facts.append(f"Text: {next(iter(policies))[0]}")
    elif len(policies) > 1:
        facts.append("Text: " + "; ".join(f"{policy} for {listed(sorted(labels))}" for policy, labels in policies))
    raised = [f"{m['title']} {m['version']}" for _, m in board.metrics.iterrows() if m["version"] != 1]
    if raised:
        others = "" if len(raised) == len(board.metrics) else ", all others 1"
        facts.append(f"Metric versions: {', '.join(raised)}{others}")
    if board.fingerprint:
        what = "Data fingerprint" if board.unit == "image" else "Fingerprint of images, labels and recipe"
        facts.append(f"{what}: {board.fingerprint[:12]}")
    return facts


def _seen(board: Board) -> list[str]:
    notes = []
    for _, row in board.rows.iterrows():
        if row["seen_in_training"] > 0:
            total = f" of {counted(board.asked)}" if board.unit == "image" else ""
            notes.append(f"{row['label']}: seen in training: {row['seen_in_training']}{total}")
        if row["training_note"]:
            notes.append(f"{row['label']}: perhaps seen in training: {row['training_note']}")
    return notes
