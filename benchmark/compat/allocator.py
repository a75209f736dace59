"""Keeping freed memory in the process: glibc hands large arrays back to the system, which then clears every page anew.

A network at full resolution frees and asks for arrays of tens of megabytes hundreds of times per image. By default each
of them is a mapping of its own, and on virtual machines a third of a run's time goes into page faults.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""Names of the settings in glibc's ``malloc.h``."""
_GROWTH = 64 << 20
_largest = 0

IMAGES, NETWORKS = 32 << 20, 1 << 30
"""Bytes of the largest arrays worth keeping: single planes of an image, or the features of a network."""


def keep_freed_memory(largest: int = NETWORKS) -> bool:
    """Have this process reuse the memory of freed arrays instead of giving it back; computes nothing differently.

    The process stays as large as it once was, and as the arrays of all threads are cut from one heap, it may be a
    little larger than at its peak.

    Args:
        largest: bytes; larger arrays still go back to the system. A second call never lowers it.

    Returns:
        Whether the C library can be told so (glibc can); elsewhere nothing happens.
    """
    global _largest
    if largest <= _largest:
        return True
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = {_TRIM_THRESHOLD: NETWORKS, _MMAP_THRESHOLD: largest}
    if largest > IMAGES:
        settings |= {_TOP_PAD: _GROWTH, _ARENA_MAX: 1}
    if not all([mallopt(name, value) for name, value in settings.items()]):
        return False
    _largest = largest
    return True
