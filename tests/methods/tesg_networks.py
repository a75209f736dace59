"""TeSG networks with known weights, and inputs for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from golden import fill
from torch import Tensor

from tgfbench.methods.tesg.network import TeSGNetwork, build_network


def untrained(
    size: str = "tiny", dtype: torch.dtype = torch.float32, *, neutral: bool = True, **config: Any
) -> TeSGNetwork:
    """A network with the weights of the golden cases, where temperatures are neutral, or with every parameter drawn."""

    def temperature(name: str, drawn: np.ndarray) -> np.ndarray | None:
        return np.ones_like(drawn) if neutral and name.rsplit(".", maxsplit=1)[-1].startswith("temperature") else None

    network = fill(build_network(size=size, **config), special=temperature)
    assert isinstance(network, TeSGNetwork)
    return network.to(dtype)


def inputs_of(case: dict[str, np.ndarray], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The arguments of a golden case."""
    return {
        "visible": torch.from_numpy(case["y"]).to(dtype),
        "infrared": torch.from_numpy(case["ir"])[None, None].to(dtype) / 255,
        "mask": torch.from_numpy(case["mask"]).to(dtype),
        "tokens": torch.from_numpy(case["tokens"]).to(dtype),
        "pooled": torch.from_numpy(case["pooled"]).to(dtype),
        "valid": torch.from_numpy(case["valid"]),
    }


def random_inputs(
    count: int, height: int, width: int, seed: int = 0, text_width: int = 512, mask_channels: int = 1
) -> dict[str, Tensor]:
    """Images, masks and words; the last image has two words fewer than the others."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    valid = torch.ones(count, 5, dtype=torch.bool)
    valid[-1, 3:] = False
    return {
        "visible": draw(count, 1, height, width),
        "infrared": draw(count, 1, height, width),
        "mask": draw(count, mask_channels, height, width),
        "tokens": draw(count, 5, text_width) - 0.5,
        "pooled": draw(count, text_width) - 0.5,
        "valid": valid,
    }
