"""What the tests say about a board as a whole, in sentences."""

from __future__ import annotations

import numpy as np

from tgfbench.benchmark.errors import counted
from tgfbench.leaderboards.board import Board
from tgfbench.leaderboards.significance import ALPHA


def findings(board: Board) -> list[str]:
    """Return sentences about neighbours, the Friedman test and the first two places; none where nothing is ranked."""
    evidence = board.evidence
    overall = evidence.overall
    if overall is None:
        return []
    compared = counted(len(board.compared), board.unit)
    neighbours, wilcoxon, nemenyi = evidence.separated_neighbours
    differ = "differs" if wilcoxon == 1 else "differ"
    sentences = [
        f"Of {counted(neighbours, 'pair')} of neighbours over {counted(len(evidence.metrics), 'metric')}, {wilcoxon} "
        f"{differ} significantly (paired Wilcoxon, Holm) and {nemenyi} by Nemenyi's test."
    ]
    if np.isfinite(overall.friedman.statistic):
        verdict = "differ" if overall.friedman.p < ALPHA else "do not differ significantly"
        friedman = overall.friedman
        sentences.append(
            f"Rank per {board.unit}, averaged over metrics: the rows {verdict} (Friedman, p = {friedman.p:.2g}); two "
            f"mean ranks must be {friedman.critical_difference:.2f} apart (Nemenyi, {compared})."
        )
    first, second = (str(board.rows["label"].iloc[row]) for row in overall.rows[:2])
    if overall.pairs.differ[0, 1]:
        sentences.append(f"{first} and {second}, first and second by that rank, differ significantly.")
    else:
        needed = overall.images_to_separate_the_first_two
        enough = f"about {needed:,} would be" if needed else "at an effect of zero no number is"
        sentences.append(
            f"{compared} {'is' if len(board.compared) == 1 else 'are'} not enough to separate {first} and "
            f"{second}, first and second by that rank; {enough}."
        )
    return sentences
