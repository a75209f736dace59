"""The training loop that all trainable methods share: ``tgfbench train NAME``.

Crops of samples decoded once, Adam with warm-up and cosine decay, clipped gradients. All chance comes from the seed and
the step's number, so a run that was stopped and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from tgfbench.benchmark.crops import CropPool, Source
from tgfbench.benchmark.errors import MethodError, UsageError
from tgfbench.benchmark.images import write_atomically, write_text
from tgfbench.benchmark.weights import load_strict, read_checkpoint, sha256_of, write_checkpoint
from tgfbench.methods import METHODS, resolve_device
from tgfbench.methods.objective import Objective, TrainingBatch

SMALLEST_CROP = 32
FINAL_LR = 1e-6
LOG_EVERY = 25


@dataclass(frozen=True)
class TrainRequest:
    """One training run.

    Attributes:
        method: registry name of a method that has an objective.
        options: arguments of the method's objective (network size, text encoder, recipe).
        data: ``name``, ``name:split`` or ``name:split*share``; crops are drawn from the datasets in proportion to their
            shares (1 each by default), the split is ``train`` by default.
        data_root: folder of the datasets that need one.
        steps: optimiser steps.
        batch: crops per step.
        crop: height and width of a crop in pixels; smaller images are mirrored outwards.
        lr: peak learning rate.
        warmup: steps over which it rises linearly.
        clip: largest norm of the gradient.
        longest_side: larger images are reduced by a whole factor until they fit.
        seed: of everything.
        device: ``auto`` or what ``torch.device`` accepts.
        out: folder of the run.
        resume: go on from the folder's checkpoint.
        checkpoint_every: steps between checkpoints.
        memory_mib: samples beyond this are decoded each time they are drawn.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ("sample",)
    data_root: Path | None = None
    steps: int = 5000
    batch: int = 4
    crop: int = 128
    lr: float = 1e-3
    warmup: int = 100
    clip: float = 1.0
    longest_side: int = 800
    seed: int = 0
    device: str = "auto"
    out: Path = Path("runs/train")
    resume: bool = False
    checkpoint_every: int = 250
    memory_mib: int = 4096

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the result, as JSON: a resumed run must agree in all of it."""
        ignored = ("data_root", "device", "out", "resume", "checkpoint_every", "memory_mib")
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ignored}
        return json.loads(json.dumps(values, default=dict))


@dataclass(frozen=True)
class TrainResult:
    """What a training run left.

    Attributes:
        weights: the network as safetensors, its configuration in the metadata.
        checkpoint: everything needed to go on (``model``, ``config``, ``method``, ``step``, optimiser, history).
        curve_csv, curve_png: loss by step.
        card: what was trained on what, as JSON.
        history: mean loss terms per 25 steps, the last entry last.
        seconds: wall time of this call.
    """

    weights: Path
    checkpoint: Path
    curve_csv: Path
    curve_png: Path
    card: Path
    history: tuple[dict[str, float], ...]
    seconds: float


def train(request: TrainRequest, *, progress: bool = True) -> TrainResult:
    """Train a method.

    Args:
        request: what to train on what.
        progress: show a progress bar.

    Raises:
        UsageError: the method cannot be trained, an option is wrong, or the folder holds another run.
        DataError: a dataset is missing or serves nothing.
        MethodError: the loss is not finite.
    """
    _check(request)
    started = time.perf_counter()
    device = resolve_device(request.device)
    objective = load_objective(request.method, request.options)
    torch.manual_seed(request.seed)
    network = objective.build().to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=request.lr)
    run = _Run(request, objective)
    step, history = run.restore(network, optimiser)
    pool = CropPool(
        [Source.parse(text) for text in request.data],
        request.data_root,
        batch=request.batch,
        crop=request.crop,
        longest_side=request.longest_side,
        memory_mib=request.memory_mib,
    )
    with _progress(progress) as bar:
        task = bar.add_task(f"training {request.method}", total=request.steps, completed=step, loss="")
        window: list[dict[str, float]] = []
        while step < request.steps:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(request, step)
            random = np.random.default_rng([request.seed, step])
            window.append(_step(request, objective, network, optimiser, pool.draw(random, device), random))
            step += 1
            saving = step % request.checkpoint_every == 0 or step == request.steps
            if step % LOG_EVERY == 0 or saving:
                means = {name: sum(entry[name] for entry in window) / len(window) for name in window[0]}
                history.append({"step": float(step), "lr": optimiser.param_groups[0]["lr"], **means})
                window = []
                bar.update(task, loss=f"loss {means['total']:.4f}")
            if saving:
                run.save(network, optimiser, step, history)
            bar.update(task, completed=step)
    return run.finish(network, history, pool.keys(), device, time.perf_counter() - started)


def load_objective(method: str, options: Mapping[str, Any]) -> Objective:
    """Return the objective of a method.

    Raises:
        UsageError: the method has none, or an option is unknown or wrong.
    """
    cls = METHODS.load(method)
    build = getattr(cls, "objective", None)
    if build is None:
        trainable = "a method whose class has a classmethod 'objective'"
        raise UsageError(f"training {cls.info.name}", found="a method without training objective", expected=trainable)
    try:
        return build(**options)  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise UsageError(f"setting the training options of {cls.info.name}", found=str(error)) from error


def learning_rate(request: TrainRequest, step: int) -> float:
    """Return the rate of a step (counted from 0): linear warm-up to ``lr``, then cosine decay to 1e-6."""
    if step < request.warmup:
        return request.lr * (step + 1) / request.warmup
    done = (step - request.warmup) / max(1, request.steps - request.warmup)
    return FINAL_LR + (request.lr - FINAL_LR) * (1 + math.cos(math.pi * done)) / 2


class _Run:
    """The folder of a training run: checkpoint, weights, loss curve and card."""

    def __init__(self, request: TrainRequest, objective: Objective) -> None:
        self.request, self.objective = request, objective
        self.checkpoint = request.out / "checkpoint.pt"

    def restore(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, list[dict[str, float]]]:
        """Load the checkpoint where there is one and return its step and history."""
        doing = f"training {self.request.method} in {self.request.out}"
        if not self.checkpoint.is_file():
            if self.request.resume:
                raise UsageError(doing, found="nothing to resume", expected=f"{self.checkpoint}")
            return 0, []
        stored, _ = read_checkpoint(self.checkpoint)
        if not self.request.resume:
            found = f"a checkpoint at step {stored['step']}"
            raise UsageError(doing, found=found, hint="resume it (--resume) or choose another folder (--out)")
        wanted = {**self.request.decisive, **self.objective.card()}
        different = sorted(name for name, value in wanted.items() if stored["request"].get(name) != value)
        if different:
            found = ", ".join(f"{name} was {stored['request'].get(name)!r}, now {wanted[name]!r}" for name in different)
            raise UsageError(doing, found=found, expected="the same request", hint="choose another folder (--out)")
        for cut_off in self.request.out.glob(".*.part"):  # files that a kill kept from being written whole
            cut_off.unlink()
        load_strict(network, stored["model"], self.checkpoint)
        optimiser.load_state_dict(stored["optimiser"])
        return stored["step"], stored["history"]

    def save(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, step: int, history: list[dict[str, float]]
    ) -> None:
        """Write checkpoint and loss curve, each whole or not at all."""
        content = {
            "model": network.state_dict(),
            "config": self.objective.config,
            "method": self.objective.checkpoint_name,
            "step": step,
            "optimiser": optimiser.state_dict(),
            "history": history,
            "request": {**self.request.decisive, **self.objective.card()},
        }
        write_checkpoint(self.checkpoint, content)
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=list(history[-1]) if history else ["step"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.request.out / "loss.csv", table.getvalue())
        write_atomically(self.request.out / "loss.png", lambda file: file.write(_curve(self.request.method, history)))

    def finish(
        self,
        network: nn.Module,
        history: list[dict[str, float]],
        keys: Mapping[str, tuple[str, ...]],
        device: torch.device,
        seconds: float,
    ) -> TrainResult:
        """Write weights and card."""
        from safetensors.torch import save

        out = self.request.out
        weights, card = out / f"{self.request.method}.safetensors", out / "card.json"
        described = {**self.request.decisive, **self.objective.card(), "weights_of": self.objective.checkpoint_name}
        # One entry only: safetensors writes several in an arbitrary order, and equal runs shall give equal files.
        metadata = {"config": json.dumps(self.objective.config)}
        tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        write_atomically(weights, lambda file: file.write(save(tensors, metadata)))
        described |= {
            "sha256": sha256_of(weights),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "samples": {name: len(found) for name, found in keys.items()},
            "keys": {name: list(found) for name, found in keys.items()},
            "last_losses": history[-1],
            "seconds_of_last_call": round(seconds, 1),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}",
        }
        write_text(card, json.dumps(described, indent=2) + "\n")
        curve = (out / "loss.csv", out / "loss.png")
        return TrainResult(weights, self.checkpoint, *curve, card, tuple(history), seconds)


def _curve(method: str, history: list[dict[str, float]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in [key for key in (history[-1] if history else {}) if key not in ("step", "lr")]:
        axes.plot([entry["step"] for entry in history], [entry[name] for entry in history], label=name)
    axes.set(xlabel="step", ylabel="weighted loss", yscale="log", title=f"Training of {method}")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _step(
    request: TrainRequest,
    objective: Objective,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: TrainingBatch,
    random: np.random.Generator,
) -> dict[str, float]:
    terms = objective.loss(network, batch, random)
    total = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(total):
        named = ", ".join(f"{name} {float(value.detach()):g}" for name, value in terms.items())
        raise MethodError(
            f"training {request.method} on {', '.join(batch.keys)}",
            found=f"a loss that is not finite ({named})",
            hint="lower the learning rate; the last checkpoint is intact",
        )
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), request.clip)
    optimiser.step()
    return {**{name: float(value.detach()) for name, value in terms.items()}, "total": float(total.detach())}


def _check(request: TrainRequest) -> None:
    smallest = {"steps": 1, "batch": 1, "crop": SMALLEST_CROP, "warmup": 0, "checkpoint_every": 1, "longest_side": 64}
    for name, least in smallest.items():
        if getattr(request, name) < least:
            found, expected = f"{name} = {getattr(request, name)}", f"at least {least}"
            raise UsageError(f"training {request.method}", found=found, expected=expected)
    if not 0 < request.lr < math.inf or not request.clip > 0:
        raise UsageError(
            f"training {request.method}", found=f"lr = {request.lr}, clip = {request.clip}", expected="> 0"
        )


def _progress(shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    return Progress(*columns, TimeRemainingColumn(), disable=not shown)
