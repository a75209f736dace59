"""Keeping freed memory for the next image instead of handing it back to the operating system."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameter numbers of glibc's ``mallopt``."""


@cache
def keep_freed_memory() -> None:
    """Tell glibc to reuse freed image-sized blocks; without effect elsewhere.

    By default every image-sized tensor is mapped afresh and its pages are zeroed by the kernel on first touch, which
    takes as long as the arithmetic on it. The process then keeps the memory of the largest image it has scored.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_TRIM_THRESHOLD, 2**30)
