"""``mmcv.ops`` where only mmcv-lite is installed (mmcv has no wheel for this torch).

mmsegmentation imports two names from ``mmcv.ops``: ``point_sample`` and ``sigmoid_focal_loss``. Both exist in plain
torch; any other name still fails with ``ModuleNotFoundError``, as it would without mmcv.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def ensure_mmcv_ops() -> None:
    """Register a stand-in for ``mmcv.ops`` unless the compiled one is installed. Call before importing mmseg."""
    if "mmcv.ops" in sys.modules or find_spec("mmcv") is None or find_spec("mmcv._ext") is not None:
        return
    module = _StandIn("mmcv.ops")
    module.__spec__ = ModuleSpec("mmcv.ops", loader=None)
    module.point_sample = point_sample
    module.sigmoid_focal_loss = sigmoid_focal_loss
    sys.modules["mmcv.ops"] = module


class _StandIn(ModuleType):
    point_sample: Any
    sigmoid_focal_loss: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ModuleNotFoundError(f"mmcv.ops.{name} needs the compiled mmcv, which is not installed", name="mmcv.ops")


def point_sample(features: Any, points: Any, align_corners: bool = False, **options: Any) -> Any:
    """Sample features bilinearly at normalised points.

    Args:
        features: float (N, C, H, W).
        points: float (N, P, 2) or (N, H', W', 2), xy in [0, 1].
        align_corners: as in ``torch.nn.functional.grid_sample``.
        **options: passed on to ``grid_sample``.

    Returns:
        float (N, C, P) or (N, C, H', W').
    """
    import torch.nn.functional as F

    flat = points.dim() == 3
    grid = (points.unsqueeze(2) if flat else points) * 2 - 1
    sampled = F.grid_sample(features, grid, align_corners=align_corners, **options)
    return sampled.squeeze(3) if flat else sampled


def sigmoid_focal_loss(
    logits: Any, target: Any, gamma: float = 2.0, alpha: float = 0.25, weight: Any = None, reduction: str = "mean"
) -> Any:
    """Focal loss (Lin et al., ICCV 2017) of sigmoid scores.

    Args:
        logits: float (N, C).
        target: int64 (N,), class ids; C stands for background.
        gamma, alpha: focusing and balance parameters.
        weight: float (C,) per-class weights or None.
        reduction: "none", "mean" or "sum".

    Returns:
        (N, C) or a scalar.
    """
    import torch.nn.functional as F

    classes = logits.shape[1]
    hot = F.one_hot(target, classes + 1)[:, :classes].to(logits.dtype)
    probability = logits.sigmoid()
    miss = (1 - probability) * hot + probability * (1 - hot)
    balance = alpha * hot + (1 - alpha) * (1 - hot)
    loss = F.binary_cross_entropy_with_logits(logits, hot, reduction="none") * balance * miss.pow(gamma)
    if weight is not None:
        loss = loss * weight
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]
