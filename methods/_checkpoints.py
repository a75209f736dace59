"""Weights that lie beside a method, and networks from the layouts in which authors and ``tgfbench train`` save them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from tgfbench.benchmark.errors import WeightsError
from tgfbench.benchmark.weights import WeightsInfo, load_strict, read_checkpoint, state_dict_of, trained_keys

Network = TypeVar("Network", bound=nn.Module)


def shipped_weights(folder: Path, file: str, name: str = "project", note: str = "") -> WeightsInfo:
    """Return the catalogue entry of weights trained by the project, as their training card describes them.

    Args:
        folder: the method's folder; its subfolder ``weights`` holds the file and ``card.json``.
        file: safetensors with the network's arguments in the metadata.
        name: of the entry.
        note: what else the entry must say, e.g. that the configuration is not the paper's.
    """
    card = json.loads((folder / "weights" / "card.json").read_text(encoding="utf-8"))
    text = card.get("text_encoder") or card.get("text") or "none"
    return WeightsInfo(
        name=name,
        origin="project",
        file=f"weights/{file}",
        sha256=card["sha256"],
        licence="Apache-2.0 for tgfbench's own part; trained among others on data for research use, see card.json",
        layout="safetensors, network arguments in the metadata entry 'config'",
        trained_on=tuple(f"{dataset} ({count})" for dataset, count in card["samples"].items()),
        trained_keys=trained_keys(card),
        card=f"project-trained reconstruction, not the authors' weights: {card['steps']} steps, "
        f"{card['parameters']} parameters, text encoder {text}{note and '; '}{note}",
    )


def read_network(path: Path, build: Callable[..., Network]) -> tuple[Network, dict[str, Any]]:
    """Return the network of a checkpoint, in eval mode, and the checkpoint's metadata.

    Args:
        path: safetensors, or a torch file: a state dict, or one in a container; ``module.`` before all keys is dropped.
        build: the network's ``build_network``. It gets the configuration that lies beside the tensors, as
            ``tgfbench train`` writes it; without one its defaults are the authors' configuration.

    Raises:
        WeightsError: unreadable, an unusable configuration, or tensors that do not fit the network.
    """
    state, config, metadata = read_state(path)
    return fit_network(path, build, config, state), metadata


def read_state(path: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Any], dict[str, Any]]:
    """Return the state dict of a checkpoint, the configuration that lies beside it ({} without one), and its metadata.

    Raises:
        WeightsError: unreadable.
    """
    content, metadata = read_checkpoint(path)
    beside = metadata if metadata or not isinstance(content, Mapping) else content
    return state_dict_of(content), beside.get("config", {}), metadata


def fit_network(
    path: Path, build: Callable[..., Network], config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> Network:
    """Return the network of that configuration and state, in eval mode.

    Raises:
        WeightsError: an unusable configuration, or tensors that do not fit the network; names ``path``.
    """
    try:
        network = build(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"loading {path}", found=f"the configuration {config}: {error}", expected="arguments of build_network"
        ) from error
    load_strict(network, state, path)
    return network.eval()
