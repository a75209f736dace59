"""Brings an evaluation to completion: fuses what is missing, trains, tests, and keeps what is finished."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgfbench.benchmark.downstream.plan import GIVEN, Evaluation, PlannedMethod
from tgfbench.benchmark.downstream.sets import Images
from tgfbench.benchmark.downstream.store import Training, Work
from tgfbench.benchmark.engines import LocalEngine
from tgfbench.benchmark.errors import MetricError, TgfbenchError
from tgfbench.benchmark.images import write_text
from tgfbench.benchmark.registry import installed_version
from tgfbench.benchmark.runner import Progress, RunReport, execute, now, provenance
from tgfbench.metrics.downstream import load_task
from tgfbench.metrics.downstream.base import LabelledSet, Outcome, Recipe, Task

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


@dataclass(frozen=True)
class Job:
    """One work with all it needs, so that any process can do it.

    Attributes:
        task: registry name.
        recipe: of the training and the test.
        seed: None in the mode ``frozen``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of torch.
        work: folder of the work.
        training: folder of the training, None in the mode ``frozen``.
        model: the checkpoint of the mode ``frozen``.
        content: of ``work.json``.
        train_set: what to learn from, None in the mode ``frozen``.
        test_set: what to be tested on.
        title: for messages.
    """

    task: str
    recipe: Recipe
    seed: int | None
    device: str
    threads: int
    work: Path
    training: Path | None
    model: Path | None
    content: dict[str, Any]
    train_set: LabelledSet | None
    test_set: LabelledSet
    title: str


def prepare(
    evaluation: Evaluation, method: PlannedMethod, seed: int | None, device: str, threads: int = THREADS
) -> Job:
    """Return the work of a method and seed as a job.

    Args:
        evaluation: the plan.
        method: one of its methods, all of whose fused images are there.
        seed: one of its seeds.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of torch, where the recipe does not say.

    Raises:
        MetricError: fused images are missing.
    """
    identity = evaluation.identity(method, seed)
    if identity is None:
        raise MetricError(f"evaluating {method.title}", found="fused images are missing")
    return Job(
        task=evaluation.task.name,
        recipe=evaluation.recipe,
        seed=seed,
        device=device,
        threads=evaluation.recipe.cpu_threads or threads,
        work=Work.of(evaluation.root, identity).folder,
        training=None if seed is None else evaluation.training(method, seed).folder,
        model=evaluation.request.model,
        content={"identity": identity, **_facts(evaluation, method, seed)},
        train_set=None if seed is None else evaluation.train_set(method),
        test_set=evaluation.test_set(method),
        title=method.title if seed is None else f"{method.title}, {seed_name(seed)}",
    )


def perform(job: Job, progress: WorkProgress = lambda doing, share: None) -> None:
    """Train and test, or find that this was done already.

    Args:
        job: what to do.
        progress: told about every step.

    Raises:
        TgfbenchError: the task failed; says at what.
    """
    import torch

    work, task = Work(job.work), load_task(job.task)
    with work.locked():
        if work.finished():
            return
        progress("preparing", 0.0)
        torch.set_num_threads(job.threads)
        work.write_json({**job.content, "finished_at": None})
        try:
            outcome, seconds = _train_and_test(job, task, work, progress)
        except TgfbenchError:
            raise
        # Libraries raise what they like, and a task may be a plugin: one work fails, the others go on.
        except Exception as error:
            write_text(work.folder / "error.txt", traceback.format_exc())
            raise MetricError(
                f"evaluating {job.task} on {job.title}",
                found=f"{type(error).__name__}: {error}",
                hint=f"see {work.folder / 'error.txt'}",
            ) from error
        (work.folder / "error.txt").unlink(missing_ok=True)
        work.write_metrics(outcome)
        counts = job.content["counts"] | {name: int(count) for name, count in outcome.counts.items()}
        notes = [*job.content["notes"], *outcome.notes]
        work.write_json({**job.content, "counts": counts, "notes": notes, "seconds": seconds, "finished_at": now()})


def seed_name(seed: int | None) -> str:
    """Return the unit that a number stands for."""
    return GIVEN if seed is None else f"seed {seed}"


def _train_and_test(job: Job, task: Task, work: Work, progress: WorkProgress) -> tuple[Outcome, dict[str, float]]:
    task.check(job.test_set)
    seconds = {}
    weights, share = job.model, 0.0
    if job.training is not None:
        weights, seconds["train"] = _trained(job, task, Training(job.training), progress)
        share = TRAINING_SHARE
    assert weights is not None  # the plan refuses the mode frozen without a model
    shutil.rmtree(work.predictions, ignore_errors=True)
    started = time.perf_counter()
    outcome = task.test(
        weights,
        job.test_set,
        job.recipe,
        work.folder,
        job.device,
        lambda done, total: progress("testing", share + (1 - share) * done / max(total, 1)),
    )
    seconds["test"] = time.perf_counter() - started
    absent = [info.name for info in task.metrics if info.name not in outcome.values]
    if absent:
        raise MetricError(f"testing {job.task}", found=f"no {', '.join(absent)}", expected="every metric of its card")
    return outcome, seconds


def _trained(job: Job, task: Task, training: Training, progress: WorkProgress) -> tuple[Path, float]:
    """Return the checkpoint of a training, trained now where it is not there, and what it took in seconds."""
    assert job.seed is not None
    assert job.train_set is not None
    with training.locked():
        weights = training.weights()
        if weights is not None:
            return weights, float(training.read_json()["seconds"])
        task.check(job.train_set)
        training.library.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        weights = task.train(
            job.train_set,
            job.recipe,
            job.seed,
            training.library,
            job.device,
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
    made["packages"] |= {name: version for name in LIBRARIES if (version := installed_version(name))}
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
