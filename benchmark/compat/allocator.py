"""Keeping freed memory in the process: glibc hands large arrays back to the system, which then clears every page anew.

A network at full resolution frees and asks for arrays of tens of megabytes hundreds of times per image. By default each
of them is a mapping of its own, and on virtual machines a third of a run's time goes into page faults.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""Names of the settings in glibc's ``malloc.h``."""
_KEPT = 1 << 30
_GROWTH = 64 << 20


def keep_freed_memory() -> bool:
    """Have this process reuse the memory of freed arrays instead of giving it back; computes nothing differently.

    The process stays as large as it once was, and as the arrays of all threads are cut from one heap, it may be a
    little larger than at its peak.

    Returns:
        Whether the C library can be told so (glibc can); elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {_TRIM_THRESHOLD: _KEPT, _TOP_PAD: _GROWTH, _MMAP_THRESHOLD: _KEPT, _ARENA_MAX: 1}
    return all([mallopt(name, value) for name, value in settings.items()])
