"""The decode timing runs, with and without data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tgfbench.datasets import perf

Miniature = Callable[[str], tuple[Path, dict[str, tuple[str, ...]]]]


@pytest.mark.parametrize("held", [True, False])
def test_both_sides_are_timed_on_the_same_pairs(
    held: bool, miniature: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("PAIRS", 5), ("RENDERED", 1), ("REPEATS", 1)):
        monkeypatch.setattr(perf, name, value)
    monkeypatch.delenv("TGFBENCH_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["perf", str(miniature("msrs")[0]) if held else ""])
    perf.main()
    lines = capsys.readouterr().out.splitlines()
    assert ("decoding 5 pairs (3 of MSRS)" if held else "decoding 5 pairs (1 rendered") in lines[0]
    assert [len(line.split()) for line in lines[2:]] == [6] * len(lines[2:])
    assert lines[2].split()[0] == "1"
