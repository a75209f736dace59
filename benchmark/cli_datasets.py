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
    key_values,
)

datasets_app = typer.Typer(no_args_is_help=True, help="Datasets: list, get, check and describe them.")


@datasets_app.command("list")
def list_datasets() -> None:
    """List the datasets."""
    from tgfbench.benchmark.catalogue import print_names

    print_names("datasets", check=False)


@datasets_app.command("download")
def download_dataset(
    name: Annotated[str, typer.Argument(help="Registry name.")],
    data_root: DataRoot = None,
    archive: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="An archive you have fetched yourself: it is unpacked where the loader looks."),
    ] = None,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="You have read the terms and accept them: fetch from a shared drive.")
    ] = False,
) -> None:
    """Fetch a dataset where its source allows, else print the exact steps; the same command goes on after Ctrl-C."""
    from tgfbench.benchmark import session_datasets

    session_datasets.download_dataset(name, data_root, archive, accept_terms)


@datasets_app.command("verify")
def verify_dataset(
    name: Annotated[str, typer.Argument(help="Registry name.")],
    data_root: DataRoot = None,
    split: Annotated[Optional[str], typer.Option(help="One split; default: all of the dataset.")] = None,  # noqa: UP045
    limit: Limit = None,
    complete: Annotated[bool, typer.Option("--complete", help="Absent pairs are a problem, not a note.")] = False,
    workers: Annotated[Optional[int], typer.Option(min=1, help="Threads; default: one a core.")] = None,  # noqa: UP045
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the report (CSV and Markdown).")] = Path("runs/verify"),
) -> None:
    """Decode every pair, check counts, sizes, labels, duplicates, shifts; write a report; exit code 1 on problems."""
    from tgfbench.benchmark import session_datasets

    (request,) = dataset_requests(name, data_root, split or "test", limit, data_option, visible, infrared)
    if not session_datasets.verify_dataset(request, split, out, complete=complete, workers=workers):
        raise typer.Exit(1)


@datasets_app.command("leakage")
def find_leaks(
    entries: Annotated[
        list[str], typer.Argument(help="NAME[:SPLIT] …, or one NAME, whose train and test splits are compared.")
    ],
    data_root: DataRoot = None,
    threshold: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=0, max=126, help="Differing bits of two hashes up to which pairs count as the same; default: 16."
        ),
    ] = None,
    data_option: DataOptions = [],  # noqa: B006
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="CSV file of all matches; without it none is written."),
    ] = None,
) -> None:
    """Find pairs that datasets or splits share, by perceptual hash; exit code 1 where there are any."""
    from tgfbench.benchmark import session_datasets
    from tgfbench.datasets.hashing import THRESHOLD

    limit = THRESHOLD if threshold is None else threshold
    if not session_datasets.find_leaks(entries, data_root, key_values(data_option), limit, out):
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
    prompt: Annotated[
        str, typer.Option(help="What to ask a model, or how the caption begins, as the model expects it.")
    ] = "",
    existing: Annotated[str, typer.Option(help="Pairs that have captions: keep, append or replace.")] = "keep",
    batch: Annotated[int, typer.Option(help="Pairs at once.")] = 1,
    device: Device = "auto",
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="The sidecar (.jsonl) to write; default: captions/NAME.jsonl in the data root."),
    ] = None,
) -> None:
    """Write captions of a dataset into a sidecar; Ctrl-C and the same command again goes on where it stopped."""
    from tgfbench.benchmark import session_datasets

    (request,) = dataset_requests(name, data_root, split, limit, data_option, visible, infrared)
    options = {"image": image, "prompt": prompt, "existing": existing, "batch": batch, "device": device}
    if not session_datasets.caption_dataset(request, model, out, options):
        raise typer.Exit(1)


@datasets_app.command("references")
def make_references(
    name: Annotated[str, typer.Argument(help="Registry name.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the reference images and confidences.csv.")],
    model: Annotated[
        str, typer.Option(help="labels (offline), or a local transformers folder of CLIPSeg, CLIP or BLIP.")
    ] = "labels",
    text: Annotated[str, typer.Option(help="What to look for in every pair, instead of its own texts.")] = "",
    data_root: DataRoot = None,
    split: Split = "test",
    limit: Limit = None,
    device: Annotated[str, typer.Option(help="Where a model runs: cpu, cuda, cuda:1, …")] = "cpu",
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
) -> None:
    """Make text-guided reference images and confidences for the protocol textfusion, in a way of our own."""
    from tgfbench.benchmark import session_datasets

    (request,) = dataset_requests(name, data_root, split, limit, data_option, visible, infrared)
    if not session_datasets.make_references(request, model, text.strip(), device, out):
        raise typer.Exit(1)
