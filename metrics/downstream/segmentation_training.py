"""From a recipe to weights, and from weights to scores. Import after ``import_mmseg``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from tgfbench.benchmark.errors import UsageError, WeightsError, counted
from tgfbench.benchmark.weights import load_strict, read_checkpoint, write_checkpoint
from tgfbench.metrics.downstream.base import LabelledSet, Outcome, Progress
from tgfbench.metrics.downstream.class_names import match_classes
from tgfbench.metrics.downstream.segmentation_data import labelled, test_loader, training_loader
from tgfbench.metrics.downstream.segmentation_hub import (
    TransformersSegmenter,
    output_names,
    read_hub_segmenter,
)
from tgfbench.metrics.downstream.segmentation_labels import class_pixels, class_weights, counted_classes
from tgfbench.metrics.downstream.segmentation_networks import (
    DEEPLABS,
    HUB_PREFIX,
    NETWORKS,
    hub_folder,
    network_config,
    preprocessing,
)
from tgfbench.metrics.downstream.segmentation_recipe import SegmentationRecipe
from tgfbench.metrics.downstream.segmentation_runner import (
    STATE,
    Start,
    TestHook,
    TrainingHook,
    load_start,
    local_runner,
    optimisation,
)
from tgfbench.metrics.downstream.segmentation_scores import StoredIoU, outcome

WEIGHTS = "segmenter.pth"
MOST_WORKERS = 4
_KIND = "tgfbench segmenter"


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network with its weights.

    Attributes:
        path: where it was read from.
        config: the network for mmsegmentation, without preprocessing.
        state: its tensors.
        classes: names of its outputs.
    """

    path: Path
    config: dict[str, Any]
    state: Mapping[str, Tensor]
    classes: tuple[str, ...]


def train(
    images: LabelledSet, recipe: SegmentationRecipe, seed: int, folder: Path, device: str, progress: Progress
) -> Path:
    """Train; see ``Segmentation.train``."""
    finished = folder / WEIGHTS
    if finished.is_file():
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    count = len(labelled(images))
    if recipe.model in DEEPLABS and min(recipe.batch, count) < 2:
        found = f"batches of one image ({counted(count)}, batch={recipe.batch})"
        expected = "at least two: a branch of the network normalises one value an image over the batch"
        raise UsageError(f"training {recipe.model}", found=found, expected=expected)
    outputs = counted_classes(images)
    names = [images.segmentation_classes[i] for i in outputs]
    weights = class_weights(recipe.class_weights, class_pixels(images).tolist(), outputs)
    network, start, described = _network(recipe, names, weights)
    loader = training_loader(images, outputs, recipe, seed, _workers(device))
    steps, epochs = recipe.steps_over(count), recipe.epochs_over(count)
    state = folder / STATE
    with local_runner(
        device,
        folder / "training.log",
        start,
        model={**network, "data_preprocessor": preprocessing(recipe.crop)},
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        randomness={"seed": seed, "deterministic": torch.device(device).type == "cpu"},
        default_hooks={"checkpoint": None},
        custom_hooks=[TrainingHook(folder, seed, progress)],
        load_from=str(state) if state.is_file() else None,
        resume=state.is_file(),
        **optimisation(recipe, steps * epochs),
    ) as runner:
        trained = runner.train()
        content = {
            "kind": _KIND,
            "recipe": recipe.model_dump(mode="json"),
            "classes": names,
            "network": described,
            "seed": seed,
            "state_dict": {key: value.detach().cpu() for key, value in trained.state_dict().items()},
        }
    write_checkpoint(finished, content)
    state.unlink(missing_ok=True)
    return finished


def test(
    weights: Path, images: LabelledSet, recipe: SegmentationRecipe, folder: Path, device: str, progress: Progress
) -> Outcome:
    """Test; see ``Segmentation.test``."""
    segmenter = read_segmenter(weights)
    outputs = _outputs(segmenter, images)
    loader = test_loader(images, recipe, _workers(device))
    tested = len(loader)
    ignored = images.ignored_segmentation_class
    scores = StoredIoU(folder / "predictions" / "segmentation", outputs, ignored, images.palette)
    with local_runner(
        device,
        folder / "test.log",
        model={**segmenter.config, "data_preprocessor": preprocessing(None)},
        test_dataloader=loader,
        test_cfg={},
        test_evaluator=[scores],
        default_hooks={"checkpoint": None, "logger": None},
        custom_hooks=[TestHook(tested, progress)],
    ) as runner:
        load_strict(runner.model, segmenter.state, segmenter.path)
        runner.test()
    counts = {"images": tested}
    if left_out := len(images.images) - tested:
        counts["images without a label map"] = left_out
    return outcome(scores.areas, images.segmentation_classes, counts)


def read_segmenter(weights: Path) -> Segmenter:
    """Read ``segmenter.pth``, or a SegFormer of transformers from a folder or as ``hf:NAME``.

    Raises:
        WeightsError: absent, damaged, a pickle that would run code, or another kind of file; names it.
    """
    named = str(weights)
    if named.startswith(HUB_PREFIX) or weights.is_dir():
        folder = hub_folder(named.removeprefix(HUB_PREFIX))
        config, state = read_hub_segmenter(folder)
        return Segmenter(folder, _hub_network(config), state, tuple(output_names(config)))
    doing = f"reading the segmenter {weights}"
    if not weights.is_file():
        raise WeightsError(doing, found="no such file", expected=f"{WEIGHTS} of a training, or a SegFormer's folder")
    content, _ = read_checkpoint(weights)
    if not isinstance(content, Mapping) or content.get("kind") != _KIND:
        raise WeightsError(
            doing,
            found="a file without recipe and class names",
            expected=f"{WEIGHTS} as the mode retrain writes it, or a folder of a SegFormer of transformers",
        )
    network, names = content["network"], tuple(content["classes"])
    config = _named_network(network, len(names)) if network in NETWORKS else _hub_network(network)
    return Segmenter(weights, config, content["state_dict"], names)


def _network(
    recipe: SegmentationRecipe, names: Sequence[str], weights: Sequence[float] | None
) -> tuple[dict[str, Any], Start | None, Any]:
    """Return the network, what fills it, and what describes it in a checkpoint."""
    if recipe.hub is None:
        start = None if recipe.start is None else load_start(recipe.start)
        return _named_network(recipe.model, len(names), weights), start, recipe.model
    folder = hub_folder(recipe.hub)
    config, state = read_hub_segmenter(folder, names)

    def fill(network: nn.Module) -> None:
        load_strict(network, state, folder)

    return _hub_network(config, weights), fill, config


def _named_network(name: str, classes: int, weights: Sequence[float] | None = None) -> dict[str, Any]:
    return ConfigDict(network_config(name, classes, weights))


def _hub_network(config: Mapping[str, Any], weights: Sequence[float] | None = None) -> dict[str, Any]:
    return {"type": TransformersSegmenter, "config": dict(config), "class_weights": weights}


def _outputs(segmenter: Segmenter, images: LabelledSet) -> list[int]:
    """Return the class id of each output.

    Raises:
        WeightsError: other classes than the dataset's.
    """
    ids = counted_classes(images)
    names = [images.segmentation_classes[i] for i in ids]
    if sorted(names) == sorted(segmenter.classes):
        return [ids[names.index(name)] for name in segmenter.classes]
    matches = match_classes(segmenter.classes, names)
    found = {output: identity for identity, outputs in zip(ids, matches, strict=True) for output in outputs}
    missing = [name for name, outputs in zip(names, matches, strict=True) if not outputs]
    foreign = [name for output, name in enumerate(segmenter.classes) if output not in found]
    if missing or foreign:
        told = [counted(len(segmenter.classes), "class", "classes")]
        told += [f"without {', '.join(missing)}"] if missing else []
        told += [f"with {', '.join(foreign)}, which the dataset has not"] if foreign else []
        raise WeightsError(
            f"testing the segmenter {segmenter.path}",
            found=", ".join(told),
            expected=f"the {counted(len(names), 'class', 'classes')} {', '.join(names)}",
            hint="use a checkpoint trained on this dataset's classes, or --mode retrain",
        )
    return [found[output] for output in range(len(segmenter.classes))]


def _workers(device: str) -> int:
    """Processes that read ahead: a CPU has better things to do."""
    return 0 if torch.device(device).type == "cpu" else min(MOST_WORKERS, cpu_count() or 1)
