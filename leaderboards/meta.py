"""What the metrics of a board say about each other: who agrees with whom, and how much one of them decides.

Agreement is Kendall's τ_b between the orders two metrics give the ranked rows, directions taken into account: +1 the
same order, −1 the opposite one. Once on the means, once on every image and averaged; the second does not depend on a
lucky mean. Leaving one metric out shows how far the average rank hangs on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from tgfbench.benchmark.errors import counted
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.render import markdown_text
from tgfbench.leaderboards.text import visible_text


@dataclass(frozen=True, eq=False)
class MetaAnalysis:
    """Agreement and influence of the metrics of one board.

    Attributes:
        board: the board.
        on_means: (metrics, metrics) τ_b between the orders by mean; NaN where a metric ties all rows.
        on_images: (metrics, metrics) τ_b averaged over the images on which it exists.
        without: index metric: ``tau`` between the orders by average rank with and without it, ``winner`` without it,
            ``changed`` (the winner is another), ``largest_move`` (of a row, in places) and ``moved`` (which row).
    """

    board: Board
    on_means: pd.DataFrame
    on_images: pd.DataFrame
    without: pd.DataFrame


def analyse_metrics(board: Board) -> MetaAnalysis | None:
    """Analyse the metrics that count; None with fewer than three ranked rows or two such metrics."""
    counts = board.metrics["counts"].to_numpy(dtype=bool)
    ranked = board.rows["ranked"].to_numpy(dtype=bool)
    if ranked.sum() < 3 or counts.sum() < 2:
        return None
    names = [str(metric) for metric in board.metrics.index[counts]]
    signs = np.array([-1.0 if up else 1.0 for up in board.metrics["higher_is_better"][counts]])
    means = board.compared_means.to_numpy()[ranked][:, counts] * signs
    scores = board.compared_scores[ranked][:, counts] * signs[:, None]
    taus = np.stack([kendall_taus(scores[:, :, image]) for image in range(len(board.compared))])
    known = np.isfinite(taus).sum(axis=0)
    with np.errstate(invalid="ignore"):
        on_images = np.nansum(taus, axis=0) / np.where(known, known, np.nan)
    return MetaAnalysis(
        board,
        pd.DataFrame(kendall_taus(means), index=names, columns=names),
        pd.DataFrame(on_images, index=names, columns=names),
        _without(means, names, [str(label) for label in board.rows.loc[ranked, "label"]]),
    )


def kendall_taus(values: np.ndarray) -> np.ndarray:
    """Return Kendall's τ_b between all pairs of columns of (rows, columns); NaN for a column without any order."""
    first, second = np.triu_indices(len(values), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        order = np.sign(values[first] - values[second])
        size = np.sqrt((order**2).sum(axis=0))
        return np.clip(order.T @ order / np.outer(size, size), -1.0, 1.0)


def _without(means: np.ndarray, names: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    ranks = rankdata(means, axis=0)
    full = ranks.mean(axis=1).round(9)
    best, places = int(np.argmin(full)), rankdata(full)
    rows = []
    for column in range(len(names)):
        rest = np.delete(ranks, column, axis=1).mean(axis=1).round(9)
        moves = np.abs(rankdata(rest) - places)
        winner = int(np.argmin(rest))
        rows.append(
            {
                "tau": float(kendall_taus(np.stack([full, rest], axis=1))[0, 1]),
                "winner": labels[winner],
                "changed": bool(rest[best] > rest[winner]),
                "largest_move": float(moves.max()),
                "moved": labels[int(np.argmax(moves))] if moves.max() > 0 else "",
            }
        )
    return pd.DataFrame(rows, index=pd.Index(names, name="metric"))


def render_meta(boards: Sequence[Board]) -> str:
    """Render the analysis of every main board as Markdown."""
    parts = [
        "# How the metrics agree",
        "τ: Kendall's rank correlation between the orders that two metrics give the ranked rows, directions taken into "
        "account; below the diagonal by the means, above it averaged over images (or seeds).",
    ]
    for board in boards:
        found = None if board.differences else analyse_metrics(board)
        if found is None:
            continue
        heading = f"{board.dataset} ({board.split}, {board.counted}), protocol {board.protocol}"
        parts += [f"## {markdown_text(visible_text(heading))}", _taus(found), *_summary(found), _influence(found)]
    if len(parts) == 2:
        parts.append("No board has three ranked rows and two metrics that count.")
    return "\n\n".join(parts) + "\n"


def _taus(found: MetaAnalysis) -> str:
    names = [markdown_text(visible_text(name)) for name in found.on_means.index]
    means, images = found.on_means.to_numpy(), found.on_images.to_numpy()
    lines = [_line(["", *names]), _line(["---", *["---:"] * len(names)])]
    for i, name in enumerate(names):
        values = [math.nan if i == j else (means if j < i else images)[i, j] for j in range(len(names))]
        cells = [
            f"{value:+.2f}" if math.isfinite(value) else ("–" if i == j else "n/a") for j, value in enumerate(values)
        ]
        lines.append(_line([name, *cells]))
    return "\n".join(lines)


def _summary(found: MetaAnalysis) -> list[str]:
    taus = found.on_means.to_numpy()
    pairs = [(taus[i, j], i, j) for i in range(len(taus)) for j in range(i) if math.isfinite(taus[i, j])]
    if not pairs:
        return []
    names = [visible_text(name) for name in found.on_means.index]
    (least, a, b), (most, c, d) = min(pairs), max(pairs)
    opposed = sum(tau < 0 for tau, _, _ in pairs)
    return [
        markdown_text(
            f"Most alike: {names[d]} and {names[c]} ({most:+.2f}). "
            f"Most opposed: {names[b]} and {names[a]} ({least:+.2f}). "
            f"Of {counted(len(pairs), 'pair')} of metrics, {opposed} order the rows against each other."
        )
    ]


def _influence(found: MetaAnalysis) -> str:
    lines = [
        _line(["Without", "τ with the full order", "Winner", "Largest move"]),
        _line(["---", "---:", "---", "---"]),
    ]
    for metric, row in found.without.iterrows():
        winner = markdown_text(visible_text(row["winner"]))
        move = f"{row['largest_move']:g} ({markdown_text(visible_text(row['moved']))})" if row["moved"] else "0"
        tau = f"{row['tau']:.2f}" if math.isfinite(row["tau"]) else "n/a"
        lines.append(
            _line([markdown_text(visible_text(str(metric))), tau, f"**{winner}**" if row["changed"] else winner, move])
        )
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
