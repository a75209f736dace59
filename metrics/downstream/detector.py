"""A detector on disk and in memory: building it from its architecture, reading and writing its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.benchmark.images import write_atomically
from tgfbench.benchmark.weights import load_strict, read_checkpoint
from tgfbench.metrics.downstream.recipes import network_file

HEADS = ("Detect", "v10Detect")
"""Heads that find boxes and nothing else."""

Architecture = dict[str, Any]
"""Content of an ultralytics model YAML, with the entry ``scale``."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A network that finds boxes.

    Attributes:
        network: an ultralytics ``DetectionModel``: float (B, 3, H, W) RGB in [0, 1], sides multiples of its stride.
        architecture: what it was built from.
        classes: names in the order of its class scores.
    """

    network: Any
    architecture: Architecture
    classes: tuple[str, ...]


def read_architecture(model: str) -> Architecture:
    """Read the architecture that a recipe's ``model`` names.

    Args:
        model: a YAML file, or the name of one that comes with ultralytics (``yolov8n.yaml``, ``yolo11s.yaml``) or lies
            beside the recipes (``yolov8-narrow.yaml``).

    Raises:
        UsageError: no such architecture.
    """
    from ultralytics.nn.tasks import yaml_model_load

    doing = f"building the detector {model}"
    expected = "a YAML file, or the name of one that comes with ultralytics, such as yolov8n.yaml or yolo11s.yaml"
    hint = "to start from a checkpoint, give the path of your .pt file; nothing is downloaded"
    if Path(model).suffix not in (".yaml", ".yml") or "://" in model:
        raise UsageError(doing, found=repr(model), expected=expected, hint=hint)
    try:
        content = dict(yaml_model_load(network_file(model) or model))
    except FileNotFoundError as error:
        raise UsageError(doing, found="no such architecture", expected=expected, hint=hint) from error
    return {key: value for key, value in content.items() if key != "yaml_file"}


def build_detector(architecture: Architecture, classes: tuple[str, ...], doing: str) -> Detector:
    """Build a detector with random weights, drawn from torch's global generator.

    Raises:
        UsageError: the architecture is not one of a detector.
    """
    from ultralytics.nn.tasks import DetectionModel

    try:
        content = json.loads(json.dumps({**architecture, "nc": len(classes)}))
        network: Any = DetectionModel(content, nc=len(classes), verbose=False)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, SyntaxError, RuntimeError) as error:
        found = f"an architecture that ultralytics cannot build ({type(error).__name__}: {error})"
        raise UsageError(doing, found=found, expected="the backbone and head of a detector") from error
    head = type(network.model[-1]).__name__
    if head not in HEADS:
        raise UsageError(doing, found=f"{head} as the last layer", expected=f"a detection head: {' or '.join(HEADS)}")
    network.names = dict(enumerate(classes))
    return Detector(network, architecture, classes)


def save_detector(detector: Detector, path: Path) -> None:
    """Write a detector as safetensors; its architecture and classes are in the metadata."""
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().contiguous() for key, value in detector.network.state_dict().items()}
    config = {"architecture": detector.architecture, "classes": list(detector.classes)}
    data = save(tensors, {"config": json.dumps(config)})
    write_atomically(path, lambda file: file.write(data))


def load_detector(path: Path) -> Detector:
    """Read a detector, without running any code its file may hold.

    Args:
        path: ``.safetensors`` as ``save_detector`` writes it, or ``.pt`` as ultralytics does.

    Raises:
        WeightsError: absent, damaged, not a detector, or a pickle that would run code.
    """
    doing = f"loading the detector {path}"
    if not path.is_file():
        raise WeightsError(doing, found="no such file", expected="a local checkpoint; nothing is downloaded")
    architecture, classes, state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pt(path)
    try:
        detector = build_detector(architecture, classes, doing)
    except UsageError as error:
        raise WeightsError(doing, found=error.found, expected=error.expected) from error
    load_strict(detector.network, state, path)
    return detector


def _read_safetensors(path: Path) -> tuple[Architecture, tuple[str, ...], dict[str, Any]]:
    state, metadata = read_checkpoint(path)
    config = metadata.get("config")
    if not isinstance(config, dict) or not {"architecture", "classes"} <= set(config):
        raise WeightsError(
            f"loading the detector {path}",
            found="no architecture and classes in its metadata",
            expected="a file that `tgfbench downstream detection` wrote, or a .pt of ultralytics",
        )
    return config["architecture"], tuple(map(str, config["classes"])), state


def _read_pt(path: Path) -> tuple[Architecture, tuple[str, ...], dict[str, Any]]:
    from ultralytics.nn.tasks import DetectionModel, torch_safe_load
    from ultralytics.utils import downloads

    doing = f"loading the detector {path}"
    expected = "a .pt that ultralytics wrote for a detector"
    # It takes some names, yolov5n.pt among them, for others, which it looks for on the network.
    search, downloads.attempt_download_asset = downloads.attempt_download_asset, lambda file, *_, **__: str(file)
    try:
        content, _ = torch_safe_load(path.resolve(), safe_only=True)
    except Exception as error:  # a foreign pickle can fail in any way
        reason = error.__cause__ or error
        found = f"content that is refused, because loading it could run code, or damaged ({_first_line(reason)})"
        raise WeightsError(doing, found=found, expected=expected, hint="get the file from its author again") from error
    finally:
        downloads.attempt_download_asset = search
    network: Any = (content.get("ema") or content.get("model")) if isinstance(content, dict) else None
    kind = type(network)
    if kind is not DetectionModel:
        raise WeightsError(doing, found=f"{kind.__name__} as the model", expected=expected)
    names = network.names
    classes = tuple(str(names[index]) for index in sorted(names)) if isinstance(names, dict) else tuple(map(str, names))
    architecture = {key: value for key, value in network.yaml.items() if key not in ("ch", "channels")}
    return architecture, classes, network.float().state_dict()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
