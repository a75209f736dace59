"""Fusion methods: native networks, classical baselines and precomputed results, behind one interface.

Importing this package imports no torch; ``FusionMethod``, ``FusionBatch``, ``MethodInfo`` and ``Reported`` are fetched
from ``tgfbench.methods.base`` on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.options import check_options
from tgfbench.benchmark.registry import Registry, subclass_of

if TYPE_CHECKING:
    import torch

    from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo, Reported

__all__ = [
    "METHODS",
    "FusionBatch",
    "FusionMethod",
    "MethodInfo",
    "Reported",
    "create_method",
    "load_method",
    "resolve_device",
]


def _check(loaded: object) -> str | None:
    from tgfbench.methods.base import FusionMethod, MethodInfo

    problem = subclass_of(FusionMethod)(loaded)
    if problem is None and not isinstance(getattr(loaded, "info", None), MethodInfo):
        problem = f"{getattr(loaded, '__qualname__', loaded)} has no card: its `info` must be a MethodInfo"
    return problem


METHODS: Registry[type[FusionMethod]] = Registry("methods", _check)


def load_method(
    name: str, weights: str | Path | None = None, device: str | torch.device = "auto", **options: Any
) -> FusionMethod:
    """Return a fusion method, ready to run.

    Args:
        name: registry name; case, ``-`` and ``_`` do not matter.
        weights: a name of the method's catalogue, a path, or None for the default.
        device: ``"auto"`` (a GPU where there is one), or what ``torch.device`` accepts.
        options: keyword arguments of the method's constructor. An option that is called like an argument of this
            function (``name`` of ``precomputed``) goes through ``create_method``.

    Raises:
        UsageError: unknown method, device or option, an option value of the wrong type, or a required option missing.
        PluginError: the method cannot be imported.
        WeightsError: no such weights.
    """
    return create_method(METHODS.load(name), options, weights=weights, device=device)


def create_method(
    cls: type[FusionMethod],
    options: Mapping[str, Any],
    *,
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
) -> FusionMethod:
    """Return an instance of a method's class with its checkpoint found and its options checked.

    Args:
        cls: the class, as ``METHODS.load`` returns it.
        options: keyword arguments of its constructor; a string is converted to the annotated type, so that values may
            come from a command line.
        weights, device: as for ``load_method``.

    Raises:
        UsageError, WeightsError: as for ``load_method``.
    """
    from tgfbench.benchmark.weights import folder_of, resolve_checkpoint

    checked = check_options(f"setting the options of {cls.info.name}", cls, options, ("checkpoint", "device"))
    place = resolve_device(device)
    checkpoint = resolve_checkpoint(cls.info.name, cls.info.weights, folder_of(cls), weights)
    return cls(checkpoint=checkpoint, device=place, **checked)


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device of that name, ``"auto"`` being a GPU where there is one.

    Raises:
        UsageError: no such device on this machine.
    """
    import torch

    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    here = ["auto", *(kind for kind, count in known.items() if count)]
    problem = UsageError(
        "choosing the device", found=repr(str(device)), expected=f"one that this machine has: {', '.join(here)}"
    )
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise problem from error
    if (found.index or 0) >= known.get(found.type, 0):
        raise problem
    return found


def __getattr__(name: str) -> Any:
    if name in ("FusionBatch", "FusionMethod", "MethodInfo", "Reported"):
        from tgfbench.methods import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
