"""From stored scores to leaderboards: which runs may share a table, their means and ranks, and how it is printed.

Everything here sees pandas frames only. The path is ``frames`` (check what the store hands over) → ``grouping`` (which
runs may share a board) → ``board`` (means and ranks) → ``layout`` (what a reader sees) → ``render`` and ``console``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {"Board": "board", "build_boards": "board", "write_leaderboards": "render", "boards_to_console": "console"}

__all__ = ["Board", "boards_to_console", "build_boards", "write_leaderboards"]


def __getattr__(name: str) -> Any:
    """Import pandas and rich only when a board is really asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
