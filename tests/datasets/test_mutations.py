"""Two thousand broken files: never a traceback, a hang or much memory, and the good pairs are served."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("mutations.py")
FILES = 2000
MAX_MIB = 2048
HANGS_AFTER = 600


def test_two_thousand_broken_files_do_no_harm() -> None:
    command = [sys.executable, "-W", "ignore", str(PROGRAM), str(FILES), "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_AFTER, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["mutated"] >= FILES
    assert found["served"] > found["good"] > FILES / 10
    assert found["problems"] > FILES / 2
    assert found["peak_mib"] < MAX_MIB
