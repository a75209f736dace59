"""Fixtures shared by all tests."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

# Small tensors lose more by waiting for a second thread than they gain; workers of pytest fill the other cores. Set
# before torch is imported; subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden values and real data that ``TGFBENCH_SHARED`` names."""
    folder = os.environ.get("TGFBENCH_SHARED")
    if not folder:
        pytest.skip("TGFBENCH_SHARED is not set: golden values and real data are not available")
    path = Path(folder)
    if not (path / "methods").is_dir():
        pytest.fail(f"TGFBENCH_SHARED={folder} has no folder 'methods'")
    return path


@dataclass
class Done:
    """What a command left on the terminal."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tgfbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run a command in an empty folder, without the data of whoever runs the tests."""
    from tgfbench.benchmark.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("TGFBENCH_DATA", raising=False)

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["tgfbench", *map(str, words)])
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), stdout.getvalue(), stderr.getvalue())

    return run
