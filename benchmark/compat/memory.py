"""How much memory this process has held."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_resident_mib() -> float:
    """Return the largest resident size of this process so far, in MiB.

    On Linux it is what the kernel notes for the running program. ``getrusage`` counts the process that started it as
    well, up to the moment of ``exec``: a small program started by a large one would be said to be large.

    Raises:
        OSError: the system counts no memory (Windows).
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB", status.read_text("ascii", "replace"), re.M)):
        return int(found[1]) / 2**10
    try:
        import resource
    except ModuleNotFoundError as error:
        raise OSError("This system does not say how much memory a process has held.") from error
    # Bytes on macOS, KiB elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
