"""Stores with gaps, ties, undefined values and uneven seeds: every output is made, and what it compares is whole."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from rich.console import Console

from tgfbench.benchmark.errors import TgfbenchError, UsageError
from tgfbench.leaderboards import boards_to_console, build_boards
from tgfbench.leaderboards.compare import compare
from tgfbench.leaderboards.meta import render_meta
from tgfbench.leaderboards.render import RENDERERS


def _fill(store, rng: np.random.Generator, unit: str) -> None:
    for name, up in (("M0", True), ("M1", False), ("M2", None)):
        store.metric(name, up)
    for dataset, method in itertools.product(range(rng.integers(1, 3)), range(rng.integers(1, 6))):
        chosen = sorted(rng.choice(6, rng.integers(1, 6), replace=False)) if unit == "seed" else range(4)
        keys = [f"{unit} {number}" for number in chosen]
        values: dict[str, list[float | None]] = {}
        for name in ("M0", "M1", "M2"):
            found = rng.integers(0, 3, len(keys)) if rng.random() < 0.5 else rng.random(len(keys))
            odd = rng.choice([0, 1, 2, 3], len(keys), p=[0.88, 0.05, 0.05, 0.02])
            values[name] = [(float(v), None, math.nan, math.inf)[kind] for v, kind in zip(found, odd, strict=True)]
        facts = {"dataset": f"d{dataset}", "fingerprint": f"f{dataset}", "device": "cpu"}
        tags, seconds = "source" if rng.random() < 0.15 else "", float(rng.choice([np.nan, 0.1, 0.5]))
        store.run(f"m{method}", values, keys=keys, tags=tags, seconds=seconds, **facts)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", ["image", "seed"])
@pytest.mark.parametrize("number", range(8))
def test_any_store_makes_every_output(store, unit, number):
    _fill(store, np.random.default_rng(number), unit)
    boards = build_boards(*store.frames)
    for render in RENDERERS.values():
        render(boards, ())
    Console(width=70, file=io.StringIO()).print(boards_to_console(boards))
    render_meta(boards)
    for board in boards:
        ranked, counts = board.rows["ranked"].to_numpy(), board.metrics["counts"].to_numpy(dtype=bool)
        assert np.isfinite(board.compared_means.to_numpy()[ranked][:, counts]).all()
        if unit == "image":
            assert board.owned.all()
            assert board.compared == board.keys
        for first, second in itertools.combinations(board.rows.index, 2):
            both = board.owned[[list(board.rows.index).index(run) for run in (first, second)]].all(axis=0)
            try:
                (found,) = compare([board], first, second)
            except TgfbenchError as error:
                assert isinstance(error, UsageError)
                assert not both.any() or "no metric with a value for both" in str(error)
                continue
            assert not found.table.empty
            assert (found.table["images"] <= both.sum()).all()
