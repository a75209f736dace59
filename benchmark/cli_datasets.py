"""The commands ``tgfbench datasets …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tgfbench.benchmark.cli_options import (
    DataOptions,
    DataRoot,
    Device,
    InfraredDir,
    Limit,
    Split,
    VisibleDir,
    dataset_requests,
)

datasets_app = typer.Typer(no_args_is_help=True, help="Datasets: what there is and what a folder holds.")


@datasets_app.command("list")
def list_datasets() -> None:
    """List the datasets."""
    from tgfbench.benchmark.catalogue import print_names

    print_names("datasets", check=False)


@datasets_app.command("verify")
def verify_dataset(
    name: Annotated[str, typer.Argument(help="Registry name.")],
    data_root: DataRoot = None,
    split: Split = "test",
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
) -> None:
    """Decode every pair of a folder and name every problem; exit code 1 where there is one."""
    from tgfbench.benchmark.catalogue import print_dataset

    (request,) = dataset_requests(name, data_root, split, None, data_option, visible, infrared)
    if not print_dataset(request.open()):
        raise typer.Exit(1)


@datasets_app.command("caption")
def caption_dataset(
    name: Annotated[str, typer.Argument(help="Registry name.")],
    model: Annotated[
        str, typer.Option(help="labels (templates), a local transformers folder, or a hub name.")
    ] = "labels",
    data_root: DataRoot = None,
    split: Split = "test",
    limit: Limit = None,
    image: Annotated[str, typer.Option(help="What a model sees: visible or infrared.")] = "visible",
    prompt: Annotated[str, typer.Option(help="What to ask a model.")] = "",
    existing: Annotated[str, typer.Option(help="Pairs that have captions: keep, append or replace.")] = "keep",
    batch: Annotated[int, typer.Option(help="Pairs at once.")] = 1,
    device: Device = "auto",
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
    out: Annotated[Optional[Path], typer.Option("--out", help="The sidecar (.jsonl) to write.")] = None,  # noqa: UP045
) -> None:
    """Write captions of a dataset into a sidecar; Ctrl-C and the same command again goes on where it stopped."""
    from tgfbench.benchmark import session

    (request,) = dataset_requests(name, data_root, split, limit, data_option, visible, infrared)
    options = {"image": image, "prompt": prompt, "existing": existing, "batch": batch, "device": device}
    if not session.caption_dataset(request, model, out, options):
        raise typer.Exit(1)
