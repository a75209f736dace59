"""Downstream tasks: what a detector or a segmenter makes of fused images.

Importing this package imports neither torch nor the libraries that train.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tgfbench.benchmark.registry import Registry

if TYPE_CHECKING:
    from tgfbench.metrics.downstream.base import Task


def _is_task(loaded: object) -> str | None:
    from tgfbench.benchmark.registry import subclass_of
    from tgfbench.metrics.downstream.base import Task

    return subclass_of(Task)(loaded)


TASKS: Registry[type[Task]] = Registry("tasks", _is_task)
"""Task classes by registry name (``detection``, ``segmentation``); built-ins and plugins through entry points."""


def load_task(name: str) -> Task:
    """Return a downstream task; its libraries are imported when it is used, see ``Task.require``.

    Raises:
        UsageError: no such task.
        PluginError: the task cannot be imported.
    """
    return TASKS.load(name)()


__all__ = ["TASKS", "load_task"]
