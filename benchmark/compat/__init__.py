"""Cures for binary packages that are installed but cannot load beside this torch; each is used only where needed."""

from tgfbench.benchmark.compat.mmcv_ops import ensure_mmcv_ops
from tgfbench.benchmark.compat.torchvision_ops import ensure_torchvision

__all__ = ["ensure_mmcv_ops", "ensure_torchvision"]
