"""Peak memory is that of the process which asks, not of the one which started it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tgfbench.benchmark.compat.memory import peak_resident_mib

PROGRAM = "from tgfbench.benchmark.compat.memory import peak_resident_mib; print(peak_resident_mib())"


def test_a_peak_remains_after_the_memory_is_freed() -> None:
    held = np.ones(2**28, np.uint8)
    peak = peak_resident_mib()
    del held
    assert peak > 256
    # The kernel counts pages per processor and adds them up now and then.
    assert peak_resident_mib() > peak - 16


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="getrusage is all there is elsewhere")
def test_a_small_program_started_by_a_large_one_is_small() -> None:
    held = np.ones(2**29, np.uint8)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert float(done.stdout) < held.nbytes / 2**20 / 2
