"""Two rows against each other, image by image: effect, interval, p-value, wins, and how many images would decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tgfbench.benchmark.errors import UsageError, listed, suggest
from tgfbench.benchmark.registry import normalise
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.intervals import image_draws, percentile_interval, resampled_means
from tgfbench.leaderboards.significance import ALPHA, holm, images_needed, signed_rank_tests


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two rows of one board.

    Attributes:
        board: which they share.
        runs, labels: of both rows.
        table: index metric. ``title``, ``higher_is_better``, ``images`` (on which both have a value), ``mean_a``,
            ``mean_b``, ``difference`` (a − b), ``low`` and ``high`` (its 95 % bootstrap interval), ``wins_a``,
            ``equal``, ``wins_b`` (numbers of images, in the metric's direction; without one, of larger values),
            ``effect`` (rank-biserial, positive where a is larger), ``p`` (Wilcoxon), ``p_holm`` (adjusted over the
            metrics of this table), ``better`` (``"a"``, ``"b"`` or ``""``) and ``needed`` (images that would separate
            the two at this effect; NaN where they differ already or not at all).
    """

    board: Board
    runs: tuple[str, str]
    labels: tuple[str, str]
    table: pd.DataFrame


def compare(boards: Sequence[Board], first: str, second: str, dataset: str = "") -> list[Comparison]:
    """Compare two rows on every board that holds both.

    Args:
        boards: from ``build_boards``.
        first, second: a row's label, run id or method name.
        dataset: only boards of this dataset, "" for all.

    Raises:
        UsageError: a name is unknown or means several rows, both mean one row, no board holds both, or they have
            no seed or no metric in common; says what keeps them apart.
    """
    doing = f"comparing {first} with {second}"
    if dataset:
        kept = [board for board in boards if normalise(board.dataset) == normalise(dataset)]
        if not kept:
            hint = suggest(dataset, {board.dataset for board in boards})
            raise UsageError(doing, found=f"no score on the dataset {dataset}", hint=hint)
        boards = kept
    found = {name: [(board, row) for board in boards if (row := _row(board, name))] for name in (first, second)}
    for name, places in found.items():
        if not places:
            known = {label for board in boards for label in board.rows["label"]}
            raise UsageError(doing, found=f"no row is called {name}", hint=suggest(name, known))
    rows_of_second = {id(board): row for board, row in found[second]}
    shared = [(board, row, rows_of_second[id(board)]) for board, row in found[first] if id(board) in rows_of_second]
    if not shared:
        raise UsageError(
            doing,
            found=_apart(first, [b for b, _ in found[first]], second, [b for b, _ in found[second]]),
            expected="both on the same images, under one protocol, with the same version of every metric",
            hint="run the two in one command: `tgfbench run -m A,B -d DATASET`",
        )
    if any(a == b for _, a, b in shared):
        raise UsageError(doing, found="one and the same row", expected="two rows")
    paired = [(board, a, b) for board, a, b in shared if _in_common(board, a, b).any()]
    if not paired:
        board, *rows = shared[0]
        ours, theirs = (listed(np.array(board.keys)[board.owned[at]]) for at in _at(board, *rows))
        raise UsageError(
            doing,
            found=f"no {board.unit} in common on {_title(board)}: {first} has {ours}, {second} {theirs}",
            expected=f"a {board.unit} that both have",
            hint="tgfbench downstream TASK -m A,B --seeds 0,1,2",
        )
    comparisons = [_comparison(board, a, b) for board, a, b in paired]
    if all(comparison.table.empty for comparison in comparisons):
        raise UsageError(
            doing,
            found=f"no metric with a value for both on any {paired[0][0].unit} in common",
            hint="the notes under the board say what is undefined or missing",
        )
    return [comparison for comparison in comparisons if not comparison.table.empty]


def _row(board: Board, name: str) -> str:
    """Return the run id of the row a name means on a board, "" where none is meant."""
    labels = board.rows["label"]
    if name in board.rows.index:
        return name
    for matches in (
        labels == name,
        labels.map(normalise) == normalise(name),
        board.rows["method"].map(normalise) == normalise(name),
    ):
        hits = labels[matches]
        if len(hits) == 1:
            return str(hits.index[0])
        if len(hits) > 1:
            raise UsageError(
                f"looking for {name} on {_title(board)}",
                found=f"{len(hits)} rows of that name: {listed(f'{label} (run {run})' for run, label in hits.items())}",
                hint="give the whole label, or the run id",
            )
    return ""


def _at(board: Board, first: str, second: str) -> list[int]:
    return [list(board.rows.index).index(run) for run in (first, second)]


def _in_common(board: Board, first: str, second: str) -> np.ndarray:
    """Return which keys both rows have, bool (keys,): all of them, but on boards of trainings."""
    return np.asarray(board.owned[_at(board, first, second)].all(axis=0))


def _comparison(board: Board, first: str, second: str) -> Comparison:
    at, common = _at(board, first, second), _in_common(board, first, second)
    drawn = image_draws(int(common.sum())) if common.sum() > 1 else None
    records = {}
    for column, metric in enumerate(board.metrics.index):
        pair = board.scores[:, column][at][:, common]
        pair = np.where(np.isfinite(pair).all(axis=0), pair, np.nan)
        difference = pair[0] - pair[1]
        known = np.isfinite(difference)
        if not known.any():
            continue
        low = high = math.nan
        if drawn is not None and known.sum() > 1:
            draws = resampled_means(difference[None], drawn)[:, 0]
            low, high = percentile_interval(draws[np.isfinite(draws)])
        tests = signed_rank_tests(difference[known][None])
        up = board.metrics["higher_is_better"].iloc[column]
        sign = -1 if up is False else 1
        records[metric] = {
            "title": board.metrics["title"].iloc[column],
            "higher_is_better": up,
            "images": int(known.sum()),
            "mean_a": float(pair[0, known].mean()),
            "mean_b": float(pair[1, known].mean()),
            "difference": float(difference[known].mean()),
            "low": float(low),
            "high": float(high),
            "wins_a": int((sign * difference[known] > 0).sum()),
            "equal": int((difference[known] == 0).sum()),
            "wins_b": int((sign * difference[known] < 0).sum()),
            "effect": float(tests.effect[0]),
            "p": float(tests.p[0]),
            "nonzero": float(tests.nonzero[0] / known.sum()),
        }
    table = pd.DataFrame.from_dict(records, orient="index").rename_axis("metric")
    if not table.empty:
        table["p_holm"] = holm(table["p"].to_numpy())
        table["better"] = [_better(row) for _, row in table.iterrows()]
        table["needed"] = [
            math.nan if row["p_holm"] < ALPHA else images_needed(row["effect"], row["nonzero"], len(table)) or math.nan
            for _, row in table.iterrows()
        ]
        table = table.drop(columns="nonzero")
    labels = str(board.rows.loc[first, "label"]), str(board.rows.loc[second, "label"])
    return Comparison(board, (first, second), labels, table)


def _better(row: pd.Series) -> str:
    if row["higher_is_better"] is None or row["p_holm"] >= ALPHA:
        return ""
    return "a" if (row["effect"] > 0) == row["higher_is_better"] else "b"


def _apart(first: str, ours: Sequence[Board], second: str, theirs: Sequence[Board]) -> str:
    """Say what keeps the closest two boards of two rows apart."""
    reasons = [(_differences(a, b), a, b) for a in ours for b in theirs]
    found, a, b = min(reasons, key=lambda reason: (len(reason[0]), reason[0]))
    what = "; ".join(found)
    return f"no common board: {first} is on {_title(a)}, {second} on {_title(b)}; they differ in {what}"


def _differences(a: Board, b: Board) -> list[str]:
    found = [
        f"{name} ({getattr(a, name)}, {getattr(b, name)})"
        for name in ("dataset", "split", "protocol")
        if getattr(a, name) != getattr(b, name)
    ]
    if set(a.keys) != set(b.keys):
        found.append(f"{a.unit}s ({a.images} and {b.images}, {len(set(a.keys) & set(b.keys))} in common)")
    elif a.fingerprint != b.fingerprint:
        found.append("the content of the images (data fingerprint)")
    if a.protocol == b.protocol:
        ours, theirs = a.metrics["version"].to_dict(), b.metrics["version"].to_dict()
        for metric in (name for name in ours if ours[name] != theirs.get(name, ours[name])):
            found.append(f"the version of {metric} ({ours[metric]}, {theirs[metric]})")
    return found or [f"the {a.unit}s they have scores for"]


def _title(board: Board) -> str:
    return f"{board.dataset} ({board.split}, {board.counted}, protocol {board.protocol})"
