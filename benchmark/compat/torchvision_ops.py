"""``import torchvision`` where its compiled operators do not match torch (a CPU torch beside a CUDA torchvision).

Without this, the import dies with "operator torchvision::nms does not exist", and open_clip, timm, piq, ultralytics and
mmsegmentation die with it. Declaring the two operators whose fake kernels torchvision registers at import is enough;
``nms`` gets a plain torch kernel, because detectors need it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_library: Any = None
"""Keeps the operator definitions alive: torch drops them with the library object."""


def ensure_torchvision() -> None:
    """Make ``import torchvision`` work; does nothing where it already does. Call before importing what needs it."""
    global _library
    if "torchvision" in sys.modules or _library is not None:
        return
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    if _binary_loads(Path(spec.origin).parent):
        return
    _library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.impl("nms", greedy_nms, "CPU")
    import torchvision.extension

    # torchvision asks this before every call of an operator; its answer only knows about the compiled library.
    torchvision.extension._has_ops = lambda: True


def _binary_loads(folder: Path) -> bool:
    import torch

    binaries = sorted(folder.glob("_C*.so")) + sorted(folder.glob("_C*.pyd"))
    if not binaries:
        return False
    try:
        torch.ops.load_library(str(binaries[0]))
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")


def greedy_nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy non-maximum suppression.

    Args:
        boxes: float (N, 4), xyxy.
        scores: float (N,).
        iou_threshold: boxes that overlap a better one by more than this are dropped.

    Returns:
        int64 indices of the kept boxes, best score first.
    """
    import torch

    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.int64)
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order].to(torch.float32)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    alive = torch.ones(len(boxes), dtype=torch.bool)
    kept = []
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        kept.append(i)
        rest = boxes[i + 1 :]
        corner = torch.minimum(boxes[i, 2:], rest[:, 2:]) - torch.maximum(boxes[i, :2], rest[:, :2])
        overlap = corner.clamp(min=0).prod(dim=1)
        union = (area[i] + area[i + 1 :] - overlap).clamp(min=1e-12)
        alive[i + 1 :] &= overlap / union <= iou_threshold
    return order[torch.tensor(kept, dtype=torch.int64)]
