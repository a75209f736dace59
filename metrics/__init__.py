"""Per-image metrics and the protocols that fix their conventions.

Importing this package imports neither torch nor any metric; names can be listed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tgfbench.benchmark.registry import Registry

if TYPE_CHECKING:
    from tgfbench.metrics.base import Metric
    from tgfbench.metrics.evaluation import Protocol


def _is_metric(loaded: object) -> str | None:
    from tgfbench.benchmark.registry import subclass_of
    from tgfbench.metrics.base import Metric

    return subclass_of(Metric)(loaded)


METRICS: Registry[type[Metric]] = Registry("metrics", _is_metric)
"""Metric classes by registry name (``en``, ``ms-ssim``, ``qabf``); built-ins and plugins through entry points."""


def load_metric(name: str, **variant: Any) -> Metric:
    """Return a metric, ready to be called with ``MetricInputs``.

    Args:
        name: registry name; case, ``-`` and ``_`` do not matter.
        **variant: its convention, e.g. ``load_metric("psnr", peak="fused maximum")``; the definition by default.

    Raises:
        UsageError: no such metric, no such option, or a value the option does not have.
        PluginError: the metric cannot be imported.
    """
    from tgfbench.metrics.base import load_variant

    return load_variant(METRICS.load(name), variant)


def protocol_names() -> list[str]:
    """Return the names of the protocols, the default one first."""
    from tgfbench.metrics.protocols import PROTOCOLS

    return list(PROTOCOLS)


def load_protocol(name: str = "correct") -> Protocol:
    """Return a protocol: a named set of metrics with one input convention.

    Raises:
        UsageError: no such protocol; the message suggests close names.
    """
    from tgfbench.metrics.evaluation import Protocol
    from tgfbench.metrics.protocols import protocol_card

    return Protocol(protocol_card(name))


__all__ = ["METRICS", "load_metric", "load_protocol", "protocol_names"]
