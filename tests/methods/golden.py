"""Golden cases of the methods: arrays computed by the authors' code, and weights that follow from their names.

The cases lie in ``methods/<name>/golden`` of the folder ``TGFBENCH_SHARED``. Most hold no weights: every tensor is
drawn from a generator seeded with the CRC-32 of its name, so that anyone can make the same ones.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tgfbench.methods import FusionBatch

Special = Callable[[str, np.ndarray], np.ndarray | None]


def folder_of(method: str) -> Path | None:
    """Return the method's folder of golden values, None where they are not available."""
    shared = os.environ.get("TGFBENCH_SHARED")
    return Path(shared) / "methods" / method.replace("-", "_") if shared else None


def case_names(method: str, prefix: str = "") -> list[Any]:
    """Return the names of a method's golden cases as parameters of a test, a skipped one where there are none."""
    folder = folder_of(method)
    if folder is None:
        return [pytest.param("golden", marks=pytest.mark.skip(reason="TGFBENCH_SHARED is not set"))]
    return sorted(path.stem for path in (folder / "golden").glob(f"{prefix}*.npz"))


def load_case(method: str, name: str) -> dict[str, Any]:
    """Return the arrays of a case; what is stored as a scalar comes as a Python value."""
    folder = folder_of(method)
    assert folder is not None
    with np.load(folder / "golden" / f"{name}.npz") as stored:
        return {key: stored[key] if stored[key].ndim else stored[key].item() for key in stored.files}


def official_shapes(method: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors in the authors' checkpoint."""
    folder = folder_of(method)
    if folder is None:
        pytest.skip("TGFBENCH_SHARED is not set")
    listed = json.loads((folder / "state_dict.json").read_text())["tensors"]
    return {name: tuple(entry["shape"]) for name, entry in listed.items()}


def golden_state(shapes: Mapping[str, Tensor], prefix: str = "", special: Special | None = None) -> dict[str, Tensor]:
    """Return the weights of the golden cases.

    Args:
        shapes: a state dict, of which names and shapes are read; integer tensors are kept.
        prefix: put before each name when the generator is seeded (``key_prefix`` of a case).
        special: returns the value of a tensor, given its name and its standard-normal draw, where the method has a rule
            of its own, else None.
    """
    return {
        name: _drawn(prefix + name, name, like, special) if like.is_floating_point() else like.clone()
        for name, like in shapes.items()
    }


def _drawn(seed: str, name: str, like: Tensor, special: Special | None) -> Tensor:
    shape = tuple(like.shape)
    drawn = np.random.default_rng(zlib.crc32(seed.encode())).standard_normal(shape).astype(np.float32)
    value = special(name, drawn) if special else None
    if value is None and drawn.ndim >= 2:
        value = drawn * np.float32(1 / np.sqrt(np.prod(shape[1:])))
    if value is None:
        value = 1 + np.float32(0.02) * drawn if name.endswith("weight") else np.float32(0.02) * drawn
    return torch.from_numpy(np.asarray(value, np.float32))


def fill(network: nn.Module, prefix: str = "", special: Special | None = None) -> nn.Module:
    """Load the weights of the golden cases into a network and return it, in eval mode."""
    network.load_state_dict(golden_state(network.state_dict(), prefix, special), strict=True)
    return network.eval()


def pair(case: Mapping[str, Any]) -> FusionBatch:
    """Return a case's images as a batch of one."""
    visible = torch.from_numpy(case["vis_u8"]).permute(2, 0, 1)[None].float() / 255
    infrared = torch.from_numpy(case["ir_u8"])[None, None].float() / 255
    return FusionBatch(visible, infrared, [""], None, ["golden"])


def image(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return an array (H, W) or (C, H, W) as a tensor with batch and channel axis."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
    return tensor[None, None] if tensor.ndim == 2 else tensor[None]


def to_uint8(fused: Tensor) -> np.ndarray:
    """Return (1, 3, H, W) in [0, 1] as an 8-bit image (H, W, 3)."""
    return (fused[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def greatest_deviation(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    """Return the largest absolute difference, computed in float64; shapes must agree."""
    a, b = (torch.as_tensor(np.asarray(x)).double() for x in (a, b))
    assert a.shape == b.shape
    return float((a - b).abs().max())
