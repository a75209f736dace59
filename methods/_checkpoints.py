"""Reading networks from the layouts in which authors and ``tgfbench train`` save them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from tgfbench.benchmark.errors import WeightsError
from tgfbench.benchmark.weights import load_strict, read_checkpoint

Network = TypeVar("Network", bound=nn.Module)
CONTAINERS = ("model", "state_dict")
"""Entries under which training scripts store a state dict beside the optimiser's state and the like."""


def read_network(path: Path, build: Callable[..., Network]) -> tuple[Network, dict[str, Any]]:
    """Return the network of a checkpoint, in eval mode, and the checkpoint's metadata.

    Args:
        path: safetensors, or a torch file: a state dict, or one in a container; ``module.`` before all keys is dropped.
        build: the network's ``build_network``. It gets the configuration that lies beside the tensors, as
            ``tgfbench train`` writes it; without one its defaults are the authors' configuration.

    Raises:
        WeightsError: unreadable, an unusable configuration, or tensors that do not fit the network.
    """
    content, metadata = read_checkpoint(path)
    state, config = content, metadata.get("config", {})
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            state, config = content[container], content.get("config", {})
            break
    try:
        network = build(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"loading {path}", found=f"the configuration {config}: {error}", expected="arguments of build_network"
        ) from error
    load_strict(network, without_prefix(state), path)
    return network.eval(), metadata


def without_prefix(state: Mapping[str, Tensor], prefix: str = "module.") -> Mapping[str, Tensor]:
    """Drop the prefix that a parallel wrapper puts before every key; other content is returned unchanged."""
    if isinstance(state, Mapping) and state and all(str(key).startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return state
