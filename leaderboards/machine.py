"""Boards as JSON for other programs: everything a table shows and everything behind it, at full precision."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.compare import Comparison
from tgfbench.leaderboards.evidence import MetricEvidence
from tgfbench.leaderboards.findings import findings
from tgfbench.leaderboards.frames import options_of
from tgfbench.leaderboards.intervals import DRAWS, LEVEL
from tgfbench.leaderboards.overall import overall_boards
from tgfbench.leaderboards.reported import reported_values
from tgfbench.leaderboards.significance import ALPHA

JSON_SCHEMA = 1
"""Raised when a reader of the old form would misread the new one."""

_FACTS = (
    *("method", "title", "weights", "weights_origin", "reconstruction", "tags", "text_policy", "seen_in_training"),
    *("imported", "seconds", "device"),
)


def render_json(boards: Sequence[Board], introduction: Sequence[str] = ()) -> str:
    """Render all boards as one object; a value that does not exist is null."""
    content = {
        "schema": JSON_SCHEMA,
        "intervals": {"level": LEVEL, "draws": DRAWS, "kind": "percentile bootstrap over images or seeds"},
        "tests": {"level": ALPHA, "pairs": "Wilcoxon signed-rank, Holm over the pairs of a metric"},
        "introduction": introduction,
        "overall": [
            {
                **{name: getattr(found, name) for name in ("split", "protocol", "group", "datasets", "notes")},
                "rows": [{"label": label, **row.to_dict()} for label, row in found.table.iterrows()],
            }
            for found in overall_boards(boards)
        ],
        "boards": [_board(board) for board in boards],
    }
    return json.dumps(_plain(content), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def comparisons_to_json(comparisons: Sequence[Comparison]) -> str:
    """Render paired comparisons, one object per board."""
    content = [
        {
            **{name: getattr(found.board, name) for name in ("dataset", "split", "protocol", "fingerprint")},
            "a": {"run_id": found.runs[0], "label": found.labels[0]},
            "b": {"run_id": found.runs[1], "label": found.labels[1]},
            "metrics": [{"metric": metric, **row.to_dict()} for metric, row in found.table.iterrows()],
        }
        for found in comparisons
    ]
    return json.dumps(_plain(content), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _board(board: Board) -> dict[str, Any]:
    evidence = board.evidence
    metrics = [
        {
            "metric": metric,
            **card[["title", "higher_is_better", "version", "counts"]].to_dict(),
            "tests": _tests(board, evidence.metrics.get(str(metric))),
        }
        for metric, card in board.metrics.iterrows()
    ]
    return {
        **{
            name: getattr(board, name)
            for name in ("dataset", "split", "protocol", "fingerprint", "unit", "images", "asked")
        },
        "compared": board.compared if board.unit == "seed" else None,
        "main": not board.differences,
        "differences": board.differences,
        "notes": board.notes,
        "findings": findings(board),
        "metrics": metrics,
        "rank_per_image": _tests(board, evidence.overall),
        "rows": [_row(board, number) for number in range(len(board.rows))],
        "reported": [vars(found) for found in reported_values(board)],
    }


def _row(board: Board, number: int) -> dict[str, Any]:
    row, found = board.rows.iloc[number], board.evidence.intervals
    values = {
        metric: {
            "mean": board.means.iloc[number, column],
            "interval": board.mean_intervals[:, number, column],
            "deviation": board.deviations[number, column] if board.unit == "seed" else None,
            "rank_interval": found.rank[:, number, column],
            "tied_with_best": metric in board.evidence.metrics
            and number in board.evidence.metrics[metric].tied_with_best,
        }
        for column, metric in enumerate(map(str, board.metrics.index))
    }
    return {
        "run_id": row.name,
        "label": row["label"],
        **{name: row[name] for name in _FACTS},
        "options": options_of(row["options"]),
        "units": int(board.units[number]),
        "ranked": row["ranked"],
        "average_rank": row["average_rank"],
        "average_rank_interval": found.average_rank[:, number],
        "place_interval": found.place[:, number],
        "values": values,
    }


def _tests(board: Board, found: MetricEvidence | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "order": [board.rows.index[row] for row in found.rows],
        "p_holm": found.pairs.p,
        "effect": found.pairs.effect,
        "friedman": vars(found.friedman),
    }


def _plain(value: Any) -> Any:
    """Return what json can write; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
