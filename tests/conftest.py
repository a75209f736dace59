"""Fixtures shared by all tests."""

from __future__ import annotations

import os
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
