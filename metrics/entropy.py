"""EN and MI live in ``tgfbench.metrics.information``."""

from tgfbench.metrics.information import EN, MI

__all__ = ["EN", "MI"]
