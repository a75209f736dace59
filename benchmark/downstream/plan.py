"""From what the user asked for to works: which images of which methods, under which recipe, with which seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tgfbench.benchmark.downstream.labels import Progress
from tgfbench.benchmark.downstream.sets import Images, Sets, choose_sets
from tgfbench.benchmark.downstream.store import FOLDER, Training, Work
from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.options import check_options, option_parameters
from tgfbench.benchmark.plan import DatasetRequest, PlannedRun, RunSpec
from tgfbench.benchmark.records import run_id
from tgfbench.benchmark.weights import sha256_of
from tgfbench.datasets import DATASETS
from tgfbench.methods.base import FusionMethod
from tgfbench.metrics.downstream import load_task
from tgfbench.metrics.downstream.base import LabelledSet, Mode, Recipe, Task
from tgfbench.metrics.downstream.offline import offline

GIVEN = "given weights"
"""What stands for the seed in the mode ``frozen``, where nothing is drawn."""


@dataclass(frozen=True)
class DownstreamRequest:
    """What is asked for.

    Attributes:
        task: registry name.
        dataset: the test images; its limit takes the first so many.
        train_split: the split to learn from; None takes ``train`` where the dataset has it.
        recipe: name, or path of a YAML file.
        overrides: values by recipe field.
        mode: ``retrain`` or ``frozen``.
        seeds: one training each; left at their default in the mode ``frozen``, like ``train_split``.
        model: checkpoint of the mode ``frozen``.
    """

    task: str
    dataset: DatasetRequest
    train_split: str | None = None
    recipe: str = "quick"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = "retrain"
    seeds: tuple[int, ...] = (0,)
    model: Path | None = None

    def limit_counts(self, images: int) -> bool:
        """Tell whether the limit leaves out some of so many images."""
        return self.dataset.limit is not None and self.dataset.limit < images


@dataclass
class PlannedMethod:
    """A method whose fused images are wanted.

    Attributes:
        method: loaded.
        test: the run of the test images.
        train: the run of the training images; None in the mode ``frozen``, the same as ``test`` where one split serves
            for both.
    """

    method: FusionMethod
    test: PlannedRun
    train: PlannedRun | None

    @property
    def title(self) -> str:
        """Method and weights as tables show them."""
        return self.test.title


@dataclass
class Evaluation:
    """An evaluation that can start: everything opened and checked, nothing fused.

    Attributes:
        request: as it was asked for.
        task: loaded.
        recipe: read.
        sets: the images.
        methods: in the order asked for.
        root: folder of the store.
    """

    request: DownstreamRequest
    task: Task
    recipe: Recipe
    sets: Sets
    methods: list[PlannedMethod]
    root: Path

    @cached_property
    def protocol(self) -> str:
        """Name of the table: task, recipe and mode, the model of the mode ``frozen``, what is unusual in the images."""
        words = [self.task.name, self.recipe.name, self.request.mode]
        if self.request.model:
            words.append(self.request.model.name)
        options = _unusual(self.request.dataset)
        if self.request.limit_counts(len(self.sets.test.dataset)):
            options.append(f"limit={self.request.dataset.limit}")
        if self.request.train_split and self.request.train_split != "train":
            options.append(f"train_split={self.request.train_split}")
        return " ".join(words) + (f" ({', '.join(options)})" if options else "")

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """Everything that has to be equal for two rows to be compared."""
        recipe = self.recipe.model_dump(mode="json", exclude={"name", "purpose"})
        recipe["start"] = content_hash(self.recipe.start) if self.recipe.start else None
        if (path := self.recipe.model_path()) is not None:
            recipe["model_sha256"] = content_hash(path)
        return {
            "task": self.task.name,
            "task_version": self.task.version,
            "mode": self.request.mode,
            "recipe_fields": recipe,
            "model_sha256": content_hash(self.task.given(self.request.model)) if self.request.model else "",
            "train_labels": self.sets.train.labels_hash if self.sets.train else "",
            "test_labels": self.sets.test.labels_hash,
        }

    @property
    def seeds(self) -> tuple[int, ...] | tuple[None]:
        """The seeds, or None where nothing is drawn."""
        return self.request.seeds if self.request.mode == "retrain" else (None,)

    def work(self, method: PlannedMethod, seed: int | None) -> Work | None:
        """Return the work of a method and seed, None as long as fused images are missing."""
        identity = self.identity(method, seed)
        return Work.of(self.root, identity) if identity else None

    def training(self, method: PlannedMethod, seed: int) -> Training:
        """Return the training of a method and seed whose fused images are there."""
        identity = dict(self.identity(method, seed) or {})
        for name in ("test_images", "test_labels", "split", "mode", "model_sha256", "protocol", "recipe"):
            identity.pop(name, None)
        return Training.of(self.root, identity)

    def identity(self, method: PlannedMethod, seed: int | None) -> dict[str, Any] | None:
        """Return everything that decides the numbers of a work, None as long as fused images are missing."""
        test = images_hash(self.sets.test, method.test)
        train = images_hash(self.sets.train, method.train) if self.sets.train and method.train else ""
        if test is None or train is None:
            return None
        run = method.test.identity
        return {
            **self.conditions,
            "protocol": self.protocol,
            "recipe": self.recipe.name,
            **{name: run[name] for name in ("dataset", "split", "method", "weights")},
            "train_images": train,
            "test_images": test,
            "seed": seed,
        }

    def board(self) -> str:
        """Return the hash of the conditions: rows under another one are not comparable."""
        return run_id(self.conditions)

    def test_set(self, method: PlannedMethod) -> LabelledSet:
        """Return the fused test images of a method, with labels."""
        return self.sets.test.labels.labelled_set(self.sets.test.keys, method.test.run.image_path)

    def train_set(self, method: PlannedMethod) -> LabelledSet:
        """Return the fused training images of a method, with labels."""
        train, run = self.sets.train, method.train
        if train is None or run is None:
            raise UsageError("collecting training images", found=f"the mode {self.request.mode}", expected="retrain")
        return train.labels.labelled_set(train.keys, run.run.image_path)


def plan_evaluation(
    request: DownstreamRequest, specs: Sequence[RunSpec], root: Path, progress: Progress = lambda done, total: None
) -> Evaluation:
    """Check the request, choose the images, write their labels and load the methods.

    Args:
        request: what is asked for.
        specs: one per method; their dataset is the request's.
        root: folder of the store.
        progress: told about every image whose labels are read.

    Raises:
        UsageError, DataError, WeightsError, PluginError: with the name, file and remedy.
    """
    offline(root / FOLDER / ".libraries")
    task = load_task(request.task)
    task.require()
    request = _checked(request, task)
    recipe = task.recipe(request.recipe, request.overrides)
    train_split = None
    if request.mode == "retrain":
        splits = DATASETS.load(request.dataset.name.partition("+")[0]).info.splits
        train_split = request.train_split or ("train" if "train" in splits else request.dataset.split)
    sets = choose_sets(request.dataset, train_split, recipe.train_images, task.labels, root, progress)
    methods = [_planned(spec, sets, root) for spec in specs]
    return Evaluation(request, task, recipe, sets, methods, root)


def images_hash(images: Images, run: PlannedRun) -> str | None:
    """Return a hash of the fused images of some keys, as the store noted them; None where one is missing."""
    noted = run.run.images or run.run.load().images
    if any(key not in noted for key in images.keys):
        return None
    told = [(key, noted[key].sha256) for key in images.keys]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        return sha256_of(path)
    told = [(str(file.relative_to(path)), sha256_of(file)) for file in sorted(path.rglob("*")) if file.is_file()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _checked(request: DownstreamRequest, task: Task) -> DownstreamRequest:
    doing = f"planning {request.task} in the mode {request.mode}"
    if request.mode == "retrain":
        if request.model is not None:
            hint = "-R start=PATH for a training that starts from a checkpoint, or --mode frozen"
            raise UsageError(doing, found=f"--task-weights {request.model}", expected="none", hint=hint)
        if not request.seeds or len(set(request.seeds)) != len(request.seeds):
            raise UsageError(doing, found=f"the seeds {request.seeds}", expected="different seeds, at least one")
        return request
    if request.model is None:
        raise UsageError(
            doing,
            found="no --task-weights",
            expected="the checkpoint of the one model that scores every method's images",
            hint="--mode retrain trains one on each method's images",
        )
    found = task.given(request.model)
    idle = [f"--seeds {','.join(map(str, request.seeds))}"] if request.seeds != DownstreamRequest.seeds else []
    idle += [f"--train-split {request.train_split}"] if request.train_split else []
    if idle:
        expected = "neither seeds nor a training split: nothing is trained, and the given model always finds the same"
        raise UsageError(doing, found=" ".join(idle), expected=expected, hint="leave it out, or --mode retrain")
    return replace(request, model=found.resolve() if found == request.model else request.model)


def _planned(spec: RunSpec, sets: Sets, root: Path) -> PlannedMethod:
    method = spec.method.load()
    test = _planned_run(spec, sets.test, method, root)
    if sets.train is None:
        return PlannedMethod(method, test, None)
    same = sets.train.dataset is sets.test.dataset
    return PlannedMethod(method, test, test if same else _planned_run(spec, sets.train, method, root))


def _planned_run(spec: RunSpec, images: Images, method: FusionMethod, root: Path) -> PlannedRun:
    """Return the run of the whole split, so that other choices of its images find what is fused already."""
    dataset = replace(spec.dataset, split=images.dataset.split, limit=None)
    return PlannedRun(replace(spec, dataset=dataset, protocols=()), images.dataset, method, (), root)


def _unusual(request: DatasetRequest) -> list[str]:
    """Return the options of a dataset that differ from what it does without them."""
    cls = DATASETS.load(request.name.partition("+")[0])
    defaults = {name: found.default for name, found in option_parameters(cls, ("root", "split")).items()}
    options = check_options(f"opening the dataset {cls.info.name}", cls, request.options, ("root", "split"))
    return [
        f"{name}={value.name if isinstance(value, Path) else value}"
        for name, value in sorted(options.items())
        if value != defaults[name]
    ]
