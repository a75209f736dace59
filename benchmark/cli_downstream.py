"""The command ``tgfbench downstream``: does fusion help a detector, a segmenter?"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from tgfbench.benchmark.cli_options import (
    DataOptions,
    DataRoot,
    Device,
    InfraredDir,
    Masks,
    MethodOptions,
    Methods,
    Out,
    Split,
    VisibleDir,
    Weights,
    Workers,
    dataset_requests,
    key_values,
    split_names,
)
from tgfbench.benchmark.errors import UsageError

downstream_app = typer.Typer()


class Mode(StrEnum):
    """Whose weights score the images."""

    retrain = "retrain"
    frozen = "frozen"


@downstream_app.command()
def downstream(
    task: Annotated[str, typer.Argument(help="detection, segmentation, or a plugin's; see `tgfbench list tasks`.")],
    method: Methods,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="One dataset with labels.")] = "sample",
    data_root: DataRoot = None,
    recipe: Annotated[str, typer.Option(help="quick, standard, or a .yaml file of your own.")] = "quick",
    recipe_field: Annotated[
        list[str], typer.Option("--recipe-field", "-R", help="Another value of a field of the recipe, as key=value.")
    ] = [],  # noqa: B006  (typer copies it)
    mode: Annotated[
        Mode, typer.Option(help="retrain: a model per method; frozen: one given model scores all methods.")
    ] = Mode.retrain,
    task_weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Checkpoint of the detector or segmenter, with --mode frozen; of a SegFormer also hf:NAME."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of --mode retrain, comma-separated: one training each.")] = "0",
    limit: Annotated[
        Optional[int], typer.Option(help="Test on the first so many images; -R train_images=N limits training.")  # noqa: UP045
    ] = None,
    split: Split = "test",
    train_split: Annotated[
        Optional[str], typer.Option(help="Split to learn from; `train` where the dataset has it.")  # noqa: UP045
    ] = None,
    text: Annotated[str, typer.Option(help='Prompts: dataset, default, none, or "the literal prompt".')] = "dataset",
    masks: Annotated[Masks, typer.Option(help="labels: hand the dataset's own labels to the method.")] = Masks.none,
    weights: Weights = None,
    device: Device = "auto",
    option: MethodOptions = [],  # noqa: B006
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
    workers: Workers = 2,
    jobs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Trainings at a time; by default one per core where the recipe gives them one."),
    ] = None,
    out: Out = Path("runs"),
) -> None:
    """Train and test a detector or segmenter on fused images; finished work is never redone, see docs/downstream.md."""
    from tgfbench.benchmark import plan
    from tgfbench.benchmark.downstream.plan import DownstreamRequest
    from tgfbench.benchmark.downstream.session import evaluate
    from tgfbench.metrics.downstream import load_task

    loaded = load_task(task)
    loaded.require()
    requests = dataset_requests(dataset, data_root, split, limit, data_option, visible, infrared)
    if len(requests) != 1:
        raise UsageError("reading --dataset", found=f"{len(requests)} datasets", expected="one at a time")
    if limit is not None and limit < 1:
        raise UsageError("reading --limit", found=str(limit), expected="a positive number")
    fields = key_values(recipe_field)
    loaded.recipe(recipe, fields)
    request = DownstreamRequest(
        loaded.name, requests[0], train_split, recipe, fields, mode.value, _numbers(seeds), task_weights
    )
    names, left_out = plan.expand_methods(split_names(method, "--method"))
    specs = plan.specs_for(
        names, requests, (), weights=weights, device=device, options=key_values(option), text=text, masks=masks.value
    )
    raise typer.Exit(0 if evaluate(request, specs, out, left_out, device=device, workers=workers, jobs=jobs) else 1)


def _numbers(text: str) -> tuple[int, ...]:
    found = split_names(text, "--seeds")
    if not all(name.isascii() and name.isdigit() for name in found):
        raise UsageError("reading --seeds", found=repr(text), expected="whole numbers from 0, comma-separated")
    return tuple(int(name) for name in found)
