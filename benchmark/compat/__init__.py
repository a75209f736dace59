"""Cures for what the platform under torch lacks or does badly; each is used only where needed."""

from tgfbench.benchmark.compat.allocator import IMAGES, keep_freed_memory
from tgfbench.benchmark.compat.loading_bar import without_loading_bar
from tgfbench.benchmark.compat.mmcv_ops import ensure_mmcv_ops
from tgfbench.benchmark.compat.torchvision_ops import ensure_torchvision

__all__ = ["IMAGES", "ensure_mmcv_ops", "ensure_torchvision", "keep_freed_memory", "without_loading_bar"]
