"""Freed arrays are used again instead of going back to the system page by page."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import numpy as np
from tgfbench.benchmark.compat.allocator import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
faults = []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(10_000_000)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[2:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other settings")
def test_large_arrays_cost_no_page_faults_after_the_first() -> None:
    def faults(kept: bool) -> int:
        code = COUNT_FAULTS.format(kept=kept)
        return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    assert faults(kept=True) < faults(kept=False) / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other settings")
def test_a_later_call_never_keeps_less() -> None:
    code = COUNT_FAULTS.format(kept=True).replace("faults = []", "keep_freed_memory(1 << 20)\nfaults = []")
    kept = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert kept < 1000
