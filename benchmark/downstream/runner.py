"""Brings an evaluation to completion: fuses what is missing, trains, tests, and keeps what is finished."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from tgfbench.benchmark.downstream.plan import GIVEN, Evaluation, PlannedMethod
from tgfbench.benchmark.downstream.sets import Images
from tgfbench.benchmark.downstream.store import Training, Work
from tgfbench.benchmark.engines import LocalEngine
from tgfbench.benchmark.errors import MetricError, TgfbenchError
from tgfbench.benchmark.images import write_text
from tgfbench.benchmark.runner import Progress, RunReport, execute, now, provenance
from tgfbench.metrics.downstream.base import Outcome

LIBRARIES = ("ultralytics", "mmsegmentation", "mmengine", "mmcv-lite", "torchvision", "pycocotools")
THREADS = int(given) if (given := os.environ.get("OMP_NUM_THREADS", "")).isdigit() else os.cpu_count() or 1
"""Of torch; read before a library changes the variable for its own workers."""
TRAINING_SHARE = 0.95
"""Of a work's time, for the progress bar."""

WorkProgress = Callable[[str, float], None]
"""Called with (what is being done, share of the work that is done)."""


def fuse_missing(
    evaluation: Evaluation, method: PlannedMethod, workers: int, progress: Progress = lambda done, total: None
) -> list[RunReport]:
    """Make the fused images of a method that the evaluation needs; those in the store are checked and kept.

    Returns:
        A report per run; images that failed are named in it.
    """
    wanted: list[tuple[Images, Any]] = [(evaluation.sets.test, method.test)]
    if evaluation.sets.train and method.train:
        wanted.insert(0, (evaluation.sets.train, method.train))
    if method.train is method.test and evaluation.sets.train:
        return [
            execute(
                method.test,
                engine=LocalEngine(workers),
                progress=progress,
                only={*evaluation.sets.train.keys, *evaluation.sets.test.keys},
            )
        ]
    return [
        execute(run, engine=LocalEngine(workers), progress=progress, only=set(images.keys)) for images, run in wanted
    ]


def do_work(
    evaluation: Evaluation,
    method: PlannedMethod,
    seed: int | None,
    device: str,
    progress: WorkProgress = lambda doing, share: None,
) -> Work:
    """Train and test one method with one seed, or find that this was done already.

    Args:
        evaluation: the plan.
        method: one of its methods, all of whose fused images are there.
        seed: one of its seeds.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        progress: told about every step.

    Raises:
        TgfbenchError: the task failed; says at what.
    """
    identity = evaluation.identity(method, seed)
    if identity is None:
        raise MetricError(f"evaluating {method.title}", found="fused images are missing")
    work = Work.of(evaluation.root, identity)
    if work.finished():
        return work
    import torch

    torch.set_num_threads(THREADS)
    with work.locked():
        content = {"identity": identity, **_facts(evaluation, method, seed)}
        work.write_json({**content, "finished_at": None})
        try:
            outcome, seconds = _train_and_test(evaluation, method, seed, work, device, progress)
        except TgfbenchError:
            raise
        # Libraries raise what they like, and a task may be a plugin: one work fails, the others go on.
        except Exception as error:
            write_text(work.folder / "error.txt", traceback.format_exc())
            raise MetricError(
                f"evaluating {evaluation.task.name} on {method.title}, {seed_name(seed)}",
                found=f"{type(error).__name__}: {error}",
                hint=f"see {work.folder / 'error.txt'}",
            ) from error
        (work.folder / "error.txt").unlink(missing_ok=True)
        work.write_metrics(outcome)
        content["counts"] |= {name: int(count) for name, count in outcome.counts.items()}
        work.write_json({**content, "seconds": seconds, "finished_at": now()})
    return work


def seed_name(seed: int | None) -> str:
    """Return the unit that a number stands for."""
    return GIVEN if seed is None else f"seed {seed}"


def _train_and_test(
    evaluation: Evaluation, method: PlannedMethod, seed: int | None, work: Work, device: str, progress: WorkProgress
) -> tuple[Outcome, dict[str, float]]:
    task, recipe = evaluation.task, evaluation.recipe
    test_set = evaluation.test_set(method)
    task.check(test_set)
    seconds = {}
    weights, share = evaluation.request.model, 0.0
    if seed is not None:
        weights, seconds["train"] = _trained(evaluation, method, seed, device, progress)
        share = TRAINING_SHARE
    assert weights is not None  # the plan refuses the mode frozen without a model
    shutil.rmtree(work.predictions, ignore_errors=True)
    started = time.perf_counter()
    outcome = task.test(
        weights,
        test_set,
        recipe,
        work.folder,
        device,
        lambda done, total: progress("testing", share + (1 - share) * done / max(total, 1)),
    )
    seconds["test"] = time.perf_counter() - started
    absent = [info.name for info in task.metrics if info.name not in outcome.values]
    if absent:
        raise MetricError(f"testing {task.name}", found=f"no {', '.join(absent)}", expected="every metric of its card")
    return outcome, seconds


def _trained(
    evaluation: Evaluation, method: PlannedMethod, seed: int, device: str, progress: WorkProgress
) -> tuple[Path, float]:
    """Return the checkpoint of a training, trained now where it is not there, and what it took in seconds."""
    training: Training = evaluation.training(method, seed)
    with training.locked():
        weights = training.weights()
        if weights is not None:
            return weights, float(training.read_json()["seconds"])
        train_set = evaluation.train_set(method)
        evaluation.task.check(train_set)
        training.library.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        weights = evaluation.task.train(
            train_set,
            evaluation.recipe,
            seed,
            training.library,
            device,
            lambda done, total: progress("training", TRAINING_SHARE * done / max(total, 1)),
        )
        seconds = time.perf_counter() - started
        place = os.path.relpath(weights, training.folder)
        training.write_json({"weights": place, "seconds": seconds, "finished_at": now()})
        return weights, seconds


def _facts(evaluation: Evaluation, method: PlannedMethod, seed: int | None) -> dict[str, Any]:
    """Return what tables say about a work besides its identity and its numbers."""
    sets, run = evaluation.sets, method.test
    made = provenance(run)
    made["packages"] |= {name: version for name in LIBRARIES if (version := _version(name))}
    return {
        "board": evaluation.board(),
        "unit": seed_name(seed),
        "metrics": [info.model_dump(mode="json") for info in evaluation.task.metrics],
        "classes": _class_names(evaluation),
        "palette": sets.test.dataset.info.palette,
        "run_id": run.run.folder.name,
        "training_run_id": method.train.run.folder.name if method.train else "",
        "training": evaluation.training(method, seed).folder.name if seed is not None else "",
        "train_split": sets.train.dataset.split if sets.train else "",
        "counts": _counts(evaluation),
        "label_problems": sets.problems,
        "notes": list(sets.notes),
        "run_identity": {name: run.identity[name] for name in ("options", "text_policy", "masks", "fingerprint")},
        "data_options": {name: str(value) for name, value in evaluation.request.dataset.options.items()},
        "model": str(evaluation.request.model or ""),
        "provenance": made,
        **run.facts,
    }


def _class_names(evaluation: Evaluation) -> list[str]:
    info = evaluation.sets.test.dataset.info
    return list(info.classes if evaluation.task.labels == "boxes" else info.segmentation_classes)


def _counts(evaluation: Evaluation) -> dict[str, int]:
    sets = evaluation.sets
    counts = {"test images": len(sets.test.keys), "test boxes": sets.test.labels.boxes(sets.test.keys)}
    if sets.train:
        counts["training images"] = len(sets.train.keys)
        counts["training boxes"] = sets.train.labels.boxes(sets.train.keys)
    if evaluation.task.labels != "boxes":
        counts = {name: count for name, count in counts.items() if not name.endswith("boxes")}
    return counts


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
