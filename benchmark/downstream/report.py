"""Tables of finished works: methods by metric with their seeds, values per class, and what was counted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from tgfbench.benchmark.downstream.store import Work
from tgfbench.benchmark.errors import counted

UNDEFINED = "n/a"
TOLD_ALREADY = ("images", "labels")
MOST_CLASS_TABLES = 2
"""The other metrics per class are in ``metrics.csv``."""


@dataclass(frozen=True)
class Row:
    """The works of one method, a seed each.

    Attributes:
        title: method and weights.
        contents: of ``work.json``, one per seed.
        values: of ``metrics.csv``, likewise, by (class, metric).
    """

    title: str
    contents: tuple[dict[str, Any], ...]
    values: tuple[dict[tuple[str, str], float], ...]

    @classmethod
    def of(cls, title: str, works: Iterable[Work]) -> Row:
        """Read the works of a method."""
        every = list(works)
        return cls(title, tuple(w.read_json() for w in every), tuple(w.read_metrics() for w in every))

    @property
    def source(self) -> bool:
        """Whether it is a source image instead of a fusion."""
        return "source" in self.contents[0]["tags"]

    def mean(self, name: str, metric: str) -> float:
        """Return the mean over the seeds; NaN where one is undefined."""
        return statistics.fmean(values.get((name, metric), math.nan) for values in self.values)

    def deviation(self, name: str, metric: str) -> float:
        """Return the standard deviation over the seeds (n - 1); NaN for a single one."""
        found = [values.get((name, metric), math.nan) for values in self.values]
        return statistics.stdev(found) if len(found) > 1 and all(map(math.isfinite, found)) else math.nan


def report(rows: Sequence[Row]) -> list[RenderableType]:
    """Return the tables of works that share recipe, mode and images; fused images first, the best at the top."""
    first = rows[0].contents[0]
    cards = first["metrics"]
    sign = -1 if cards[0]["higher_is_better"] else 1
    ordered = sorted(
        rows, key=lambda row: (row.source, _last_if_undefined(sign * row.mean("", cards[0]["name"])), row.title)
    )
    parts: list[RenderableType] = [_main_table(ordered, cards, f"{first['identity']['protocol']}: {_place(first)}")]
    for metric in _metrics_per_class(rows)[:MOST_CLASS_TABLES]:
        parts.append(_class_table(ordered, metric, first["classes"]))
    parts.append("\n".join(_remarks(rows)))
    return parts


def _main_table(rows: Sequence[Row], cards: Sequence[dict[str, Any]], title: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    table.add_column("method")
    for card in cards:
        table.add_column(f"{escape(card['name'])} {'↑' if card['higher_is_better'] else '↓'}", justify="right")
    table.add_column("model" if rows[0].contents[0]["model"] else "seed", justify="right")
    for row in rows:
        cells = [_with_deviation(row.mean("", card["name"]), row.deviation("", card["name"])) for card in cards]
        seeds = [content["identity"]["seed"] for content in row.contents]
        named = ", ".join("given" if seed is None else str(seed) for seed in seeds)
        table.add_row(escape(row.title) + (" (source)" if row.source else ""), *cells, named)
        for content, values in zip(row.contents, row.values, strict=True) if len(seeds) > 1 else ():
            table.add_row(f"  {content['unit']}", *(_number(values["", card["name"]]) for card in cards), style="dim")
    return table


def _class_table(rows: Sequence[Row], metric: str, classes: Sequence[str]) -> Table:
    named = {name for row in rows for values in row.values for name, found in values if found == metric and name}
    columns = [name for name in classes if name in named] + sorted(named - set(classes))
    several = ", mean over the seeds" if any(len(row.values) > 1 for row in rows) else ""
    table = Table(title=escape(f"{metric} per class{several}"), title_justify="left")
    table.add_column("method")
    for name in columns:
        table.add_column(escape(name), justify="right")
    for row in rows:
        table.add_row(escape(row.title), *(_number(row.mean(name, metric)) for name in columns))
    return table


def _metrics_per_class(rows: Sequence[Row]) -> list[str]:
    """Return the metrics that have values per class, in the order in which the task gives them."""
    return list(dict.fromkeys(metric for row in rows for values in row.values for name, metric in values if name))


def _remarks(rows: Sequence[Row]) -> list[str]:
    first = rows[0].contents[0]
    counts = first["counts"]
    lines = [f"one model for all: {first['model']}"]
    if first["train_split"]:
        lines = [f"trained on {_told(counts, 'training')} of split {first['train_split']}"]
    lines.append(f"tested on {_told(counts, 'test')} of split {first['identity']['split']}")
    for name in [name for name in counts if " " not in name and name not in TOLD_ALREADY]:
        found = {row.title: [content["counts"].get(name, 0) for content in row.contents] for row in rows}
        alike = {count for every in found.values() for count in every}
        told = "; ".join(f"{title} {', '.join(map(str, every))}" for title, every in found.items())
        lines.append(f"{name}: {alike.pop() if len(alike) == 1 else told}")
    if first["label_problems"]:
        lines.append("label problems: " + ", ".join(f"{n} {kind}" for kind, n in first["label_problems"].items()))
    lines += [f"note: {note}" for note in first["notes"]]
    if not any(row.source for row in rows):
        lines.append("note: no source row to compare with; -m sources adds visible and infrared alone")
    if any(math.isnan(value) for row in rows for values in row.values for value in values.values()):
        lines.append(f"{UNDEFINED}: undefined, a class without labels")
    return [escape(line) for line in lines]


def _told(counts: dict[str, int], part: str) -> str:
    boxes = counts.get(f"{part} boxes")
    images = counted(counts[f"{part} images"])
    return images if boxes is None else f"{images} with {counted(boxes, 'box', 'boxes')}"


def _place(content: dict[str, Any]) -> str:
    return f"{content['identity']['dataset']}, split {content['identity']['split']}"


def _with_deviation(mean: float, deviation: float) -> str:
    return _number(mean) + (f" ± {deviation:.4f}" if math.isfinite(deviation) else "")


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else UNDEFINED


def _last_if_undefined(value: float) -> float:
    return math.inf if math.isnan(value) else value
