"""Training and testing through mmengine's ``Runner``. Import after ``import_mmseg``."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

from tgfbench.benchmark.weights import load_strict, read_checkpoint
from tgfbench.metrics.downstream.base import Progress
from tgfbench.metrics.downstream.segmentation_recipe import SegmentationRecipe

STATE = "state.pth"
"""What an interrupted training continues from."""

Start = Callable[[nn.Module], None]
"""Fills a freshly initialised network with the weights its training starts from."""


@contextmanager
def local_runner(device: str, log: Path, start: Start | None = None, **options: Any) -> Iterator[Runner]:
    """Yield mmengine's ``Runner`` and forget, in the end, what it registered in the process under its name.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        log: file that gets its messages; its folder is the work folder.
        start: called once the network is initialised.
        **options: of ``Runner``.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    try:
        yield LocalRunner(
            device,
            log,
            start,
            work_dir=str(log.parent),
            experiment_name=name,
            default_scope="mmseg",
            visualizer={"type": "Visualizer", "vis_backends": None},
            **options,
        )
    finally:
        for manager in (MMLogger, MessageHub, Visualizer, DefaultScope):
            for known in [known for known in manager._instance_dict if known.startswith(name)]:
                instance = manager._instance_dict.pop(known)
                for handler in getattr(instance, "handlers", ()):
                    handler.close()


class LocalRunner(Runner):
    """A ``Runner`` on a given device that logs to one file, reads files safely and writes no others of its own."""

    def __init__(self, device: str, log: Path, start: Start | None, **options: Any) -> None:
        self._device, self._log, self._start = torch.device(device), log, start
        if self._device.index is not None:
            torch.cuda.set_device(self._device)
        super().__init__(**options)
        Path(self._log_dir).rmdir()

    def wrap_model(self, model_wrapper_cfg: Any, model: Any) -> nn.Module:
        """Put the network on the device, in the memory layout that convolutions are fastest in."""
        del model_wrapper_cfg
        return model.to(self._device, memory_format=torch.channels_last)

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **options: Any) -> MMLogger:
        """Return a logger that is silent on the screen."""
        del log_file
        logger = super().build_logger(log_level, str(self._log), **options)
        logger.handlers = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        return logger

    def load_checkpoint(self, filename: str, *_: Any, **__: Any) -> dict[str, Any]:
        """Read a checkpoint of this network without running code it may hold."""
        content, _metadata = read_checkpoint(Path(filename))
        load_strict(self.model, content["state_dict"], Path(filename))
        self._has_loaded = True
        return content

    def dump_config(self) -> None:
        """Write nothing: the recipe is in every checkpoint."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Say nothing: the engine stores what is installed."""

    def _init_model_weights(self) -> None:
        super()._init_model_weights()
        if self._start is not None:
            self._start(self.model)


class TrainingHook(Hook):
    """Draws every step's random numbers from seed and step, tells of progress and keeps the state of the last epoch."""

    priority = "VERY_LOW"

    def __init__(self, folder: Path, seed: int, progress: Progress) -> None:
        self.folder, self.seed, self.progress = folder, seed, progress

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed dropout, so that a continued training goes the way of an uninterrupted one."""
        torch.manual_seed(int(np.random.SeedSequence([self.seed, runner.iter]).generate_state(1)[0]))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Tell of the step."""
        self.progress(runner.iter + 1, runner.max_iters)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leave out the history of the log: it is the only thing that is no plain data."""
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}

    def after_train_epoch(self, runner: Runner) -> None:
        """Keep the state, replacing the earlier one at once."""
        partial = f"{STATE}.partial"
        runner.save_checkpoint(str(self.folder), partial)
        (self.folder / partial).replace(self.folder / STATE)


class TestHook(Hook):
    """Tells of every tested image."""

    def __init__(self, images: int, progress: Progress) -> None:
        self.images, self.progress = images, progress

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Tell of the image."""
        self.progress(batch_idx + 1, self.images)


def optimisation(recipe: SegmentationRecipe, steps: int) -> dict[str, Any]:
    """Return optimizer and learning rates of a training of so many steps, as options of ``Runner``."""
    own: dict[str, Any] = {"momentum": recipe.momentum} if recipe.optimizer == "SGD" else {"betas": (0.9, 0.999)}
    optimizer = {"type": recipe.optimizer, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, **own}
    warmup = min(recipe.warmup, steps // 2)
    rising = {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False, "begin": 0, "end": warmup}
    falling = {
        "type": "PolyLR",
        "eta_min": 0.0,
        "power": recipe.power,
        "by_epoch": False,
        "begin": warmup,
        "end": steps,
    }
    return {
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": optimizer,
            "paramwise_cfg": {
                "norm_decay_mult": 0.0,
                "custom_keys": {"norm": {"decay_mult": 0.0}, "head": {"lr_mult": recipe.head_rate}},
            },
        },
        "param_scheduler": [rising, falling] if warmup else [falling],
    }


def load_start(path: Path) -> Start:
    """Return what fills a network from a checkpoint of the whole network or of its backbone alone.

    All tensors of the backbone must fit; those of the heads that do not, because there are other classes, stay as
    initialised.

    Raises:
        WeightsError: when called, the backbone does not fit.
    """

    def fill(network: nn.Module) -> None:
        content, _ = read_checkpoint(path)
        state = content.get("state_dict", content) if isinstance(content, Mapping) else content
        backbone: Any = network.backbone
        prefix = "backbone."
        if isinstance(state, Mapping):
            whole = any(str(key).startswith(prefix) for key in state)
            named = state if whole else {f"{prefix}{key}": value for key, value in state.items()}
            own = network.state_dict()
            heads = {
                key: value
                for key, value in named.items()
                if key in own and not key.startswith(prefix) and getattr(value, "shape", None) == own[key].shape
            }
            network.load_state_dict({**own, **heads})
            # Checkpoints of backbones carry a classifier that no segmenter has.
            known = backbone.state_dict()
            state = {
                key.removeprefix(prefix): value
                for key, value in named.items()
                if key.startswith(prefix) and key.removeprefix(prefix) in known
            }
        load_strict(backbone, state, path)

    return fill
