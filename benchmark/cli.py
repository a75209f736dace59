"""The command line; what is heavy is imported inside the commands, so that ``list`` and ``--help`` answer at once."""

from __future__ import annotations

import errno
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer

from tgfbench.benchmark.cli_audit import audit_app
from tgfbench.benchmark.cli_boards import boards_app
from tgfbench.benchmark.cli_datasets import datasets_app
from tgfbench.benchmark.cli_downstream import downstream_app
from tgfbench.benchmark.cli_options import (
    Confidences,
    DataOptions,
    DataRoot,
    Datasets,
    Device,
    EngineName,
    InfraredDir,
    Limit,
    Masks,
    MethodOptions,
    Methods,
    Metrics,
    Out,
    Overwrite,
    Overwriting,
    ProtocolName,
    Split,
    TextReferences,
    VisibleDir,
    Weights,
    Workers,
    dataset_requests,
    fused_folders,
    key_values,
    protocol_requests,
    split_names,
    text_reference_pair,
)
from tgfbench.benchmark.errors import TgfbenchError, UsageError

app = typer.Typer(
    name="tgfbench",
    help="Benchmark for text-guided infrared-visible image fusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(no_args_is_help=True, help="Checkpoints: what there is, who trained it, how to get it.")
app.add_typer(weights_app, name="weights")
app.add_typer(datasets_app, name="datasets")
app.add_typer(boards_app)
app.add_typer(audit_app)
app.add_typer(downstream_app)


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

NO_FAULT_OF_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE)
"""What the system refuses without naming a file: no room, quotas, a read-only or failing disk, too many open files."""


class Kind(StrEnum):
    """What ``list`` can list."""

    methods = "methods"
    metrics = "metrics"
    datasets = "datasets"
    tasks = "tasks"
    protocols = "protocols"
    degradations = "degradations"


def main() -> None:
    """Entry point of the console script: expected errors become one message and the right exit code."""
    try:
        app()
    except TgfbenchError as error:
        fail(error)
    except (KeyboardInterrupt, SystemExit) as end:
        # typer makes an exit code of Ctrl-C and says nothing.
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print("stopped; what is finished is stored, the same command goes on from there", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is None and error.errno not in NO_FAULT_OF_OURS:
            raise
        fail(
            UsageError(
                f"reading or writing {error.filename or 'a file'}",
                found=error.strerror or str(error),
                expected="a place that can be read and written, with room left",
                hint="another --out, or mend path, permissions or disk; what is finished is stored",
            )
        )


def fail(error: TgfbenchError) -> NoReturn:
    """Print an expected error and leave with its exit code."""
    print(f"tgfbench: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code)


@app.command("list")
def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    check: Annotated[bool, typer.Option("--check", help="Import each one and report those that cannot be.")] = False,
) -> None:
    """List registered names and who provides them; imports none of them unless --check is given."""
    from tgfbench.benchmark.catalogue import print_names

    if not print_names(kind.value, check):
        raise typer.Exit(1)


@app.command()
def info(name: Annotated[str, typer.Argument(help="A method, dataset, metric, task or protocol.")]) -> None:
    """Show the card of a method, dataset, metric, task or protocol."""
    from tgfbench.benchmark.catalogue import print_card

    print_card(name)


@app.command()
def doctor() -> None:
    """Show what is installed, the device, plugins that cannot be imported and weights that are missing."""
    from tgfbench.benchmark.catalogue import print_health

    if not print_health():
        raise typer.Exit(1)


@app.command()
def run(
    method: Methods,
    dataset: Datasets = "sample",
    data_root: DataRoot = None,
    split: Split = "test",
    metrics: Metrics = "",
    protocol: ProtocolName = "correct",
    weights: Weights = None,
    text: Annotated[str, typer.Option(help='Prompts: dataset, default, none, or "the literal prompt".')] = "dataset",
    seed: Annotated[int, typer.Option(help="Chooses among several texts of one pair.")] = 0,
    masks: Annotated[Masks, typer.Option(help="labels: hand the dataset's own labels to the method.")] = Masks.none,
    device: Device = "auto",
    engine: EngineName = "local",
    workers: Workers = 2,
    limit: Limit = None,
    overwrite: Overwrite = Overwriting.only_missing,
    option: MethodOptions = [],  # noqa: B006  (typer copies it)
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
    text_references: TextReferences = None,
    confidences: Confidences = None,
    out: Out = Path("runs"),
) -> None:
    """Fuse and measure: what the store already holds is not computed again."""
    from tgfbench.benchmark import plan, session

    requests = dataset_requests(dataset, data_root, split, limit, data_option, visible, infrared)
    names, left_out = plan.expand_methods(split_names(method, "--method"))
    protocols = protocol_requests(protocol, metrics)
    specs = plan.specs_for(
        names, requests, protocols,
        weights=weights, device=device, options=key_values(option), text=text, seed=seed, masks=masks.value,
        text_references=text_reference_pair(text_references, confidences),
    )  # fmt: skip
    ok = session.run_all(specs, out, left_out, overwrite=overwrite.value, engine_name=engine, workers=workers)
    raise typer.Exit(0 if ok else 1)


@app.command()
def evaluate(
    fused: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of fused images, named as the dataset's pairs."),
    ] = None,
    scores: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Instead of images: a CSV of scores computed elsewhere, key,method,metric,value."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The name under which the results are stored; without it every folder in --fused is one."),
    ] = None,
    dataset: Datasets = "sample",
    data_root: DataRoot = None,
    split: Split = "test",
    metrics: Metrics = "",
    protocol: ProtocolName = "correct",
    limit: Limit = None,
    workers: Workers = 2,
    overwrite: Overwrite = Overwriting.only_missing,
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
    text_references: TextReferences = None,
    confidences: Confidences = None,
    out: Out = Path("runs"),
) -> None:
    """Score a folder of already fused images, or a folder of such folders; no code needed."""
    from tgfbench.benchmark import plan, session

    if scores is not None and fused is None:
        session.take_scores(scores, out, dataset=dataset, split=split, protocol=protocol, name=name or "")
        return
    if fused is None or scores is not None:
        raise UsageError(
            "reading --fused and --scores",
            found="both" if fused else "neither of the two",
            expected="a folder of fused images, or a table of scores",
        )
    requests = dataset_requests(dataset, data_root, split, limit, data_option, visible, infrared)
    methods = [
        plan.MethodRequest("precomputed", device="cpu", options={"folder": folder}, label=label)
        for label, folder in fused_folders(fused, name).items()
    ]
    protocols = protocol_requests(protocol, metrics)
    references = text_reference_pair(text_references, confidences)
    specs = [
        plan.RunSpec(request, method, tuple(protocols), text="none", text_references=references)
        for request in requests
        for method in methods
    ]
    ok = session.run_all(specs, out, {}, overwrite=overwrite.value, engine_name="local", workers=workers)
    raise typer.Exit(0 if ok else 1)


@app.command()
def fuse(
    method: Annotated[str, typer.Option("--method", "-m", help="One method.")],
    visible: Annotated[Path, typer.Option(help="Visible image, or folder of them.")],
    infrared: Annotated[Path, typer.Option(help="Infrared image, or folder of them (same stems).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output image, or folder.")],
    text: Annotated[str, typer.Option(help="The prompt; without it the method's own default is used.")] = "",
    weights: Weights = None,
    device: Device = "auto",
    option: MethodOptions = [],  # noqa: B006
) -> None:
    """Fuse one pair, or two folders of pairs, without measuring."""
    from tgfbench.benchmark import plan, session

    request = plan.MethodRequest(method, weights, device, key_values(option))
    ok = session.fuse_files(request, visible, infrared, text, out)
    raise typer.Exit(0 if ok else 1)


@app.command()
def train(
    method: Annotated[str, typer.Argument(help="The method to train.")],
    data: Annotated[
        str, typer.Option(help="name[:split][*share], comma-separated; a name may be degraded: msrs+haze:3.")
    ] = "sample",
    data_root: DataRoot = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 5000,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 4,
    crop: Annotated[int, typer.Option(help="Side of the square crops, pixels.")] = 128,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Decides crops, flips, prompts and initial weights.")] = 0,
    option: Annotated[
        list[str], typer.Option("--option", "-O", help="Option of the training, as key=value; a wrong one lists them.")
    ] = [],  # noqa: B006
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Folder of checkpoint, weights and loss curve; default: runs/train/METHOD."),
    ] = None,
) -> None:
    """Train a method with its training objective; Ctrl-C loses at most 250 steps, --resume goes on."""
    from tgfbench.benchmark import train as training
    from tgfbench.datasets.roots import make_folder

    request = training.TrainRequest(
        method=method, options=key_values(option), data=tuple(split_names(data, "--data")), data_root=data_root,
        steps=steps, batch=batch, crop=crop, lr=lr, seed=seed, device=device, resume=resume,
        out=out or Path("runs") / "train" / method,
    )  # fmt: skip
    doing = f"training {method} in {request.out}"
    training.METHODS.entry(method)
    # Now, and not at the first checkpoint: no step shall be lost to a folder that takes no files.
    make_folder(request.out, doing)
    try:
        result = training.train(request)
    except KeyboardInterrupt:
        kept = request.out / "checkpoint.pt"
        stopped = UsageError(
            doing,
            found=f"stopped; the last checkpoint is {kept}" if kept.is_file() else
                  f"stopped before the first checkpoint (one in {request.checkpoint_every} steps); nothing is stored",
            hint="the same command with --resume goes on from it" if kept.is_file() else "the same command starts anew",
        )  # fmt: skip
        stopped.exit_code = INTERRUPTED
        raise stopped from None
    for name in ("weights", "card", "curve_csv", "curve_png", "checkpoint"):
        print(f"{name}: {getattr(result, name)}")


@app.command()
def profile(
    method: Methods,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the pair.")] = "640x480",
    repeats: Annotated[int, typer.Option(min=1, help="Timed pairs, after one that warms up.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 2,
    weights: Weights = None,
    authors_size: Annotated[
        bool, typer.Option("--authors-size", help="The published network with random weights, for its cost alone.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Measure seconds, memory, parameters and FLOPs of methods on one pair."""
    from tgfbench.benchmark import plan, session
    from tgfbench.benchmark.profile import parse_size

    names, left_out = plan.expand_methods(split_names(method, "--method"))
    options = {
        "device": device,
        "size": parse_size(size),
        "repeats": repeats,
        "threads": threads,
        "authors_size": authors_size,
    }
    if not session.profile_methods(names, left_out, weights, options):
        raise typer.Exit(1)


@app.command()
def explain(
    metric: Annotated[Optional[str], typer.Argument(help="The metric, as the protocols print it.")] = None,  # noqa: UP045
    metric_option: Annotated[Optional[str], typer.Option("--metric", help="The same, as an option.")] = None,  # noqa: UP045
    protocols: Annotated[str, typer.Option(help="Two protocols, comma-separated.")] = "",
    fused: Annotated[Optional[Path], typer.Option(help="Fused image.")] = None,  # noqa: UP045
    visible: Annotated[Optional[Path], typer.Option(help="Visible image.")] = None,  # noqa: UP045
    infrared: Annotated[Optional[Path], typer.Option(help="Infrared image.")] = None,  # noqa: UP045
    value: Annotated[Optional[float], typer.Option(help="A published number: guess whose convention it is.")] = None,  # noqa: UP045
) -> None:
    """Say which convention makes two protocols differ on an image, or guess where a published number comes from."""
    from tgfbench.benchmark.catalogue import print_explanation, print_guesses

    name = metric or metric_option
    if name and value is not None:
        print_guesses(name, value)
    elif name and protocols and fused and visible and infrared:
        print_explanation(name, split_names(protocols, "--protocols"), fused, visible, infrared)
    else:
        raise UsageError(
            "reading the arguments of explain",
            found="too few of them",
            expected="METRIC --protocols A,B --fused F --visible V --infrared I, or METRIC --value NUMBER",
        )


@app.command("new-method")
def new_method(
    name: Annotated[str, typer.Argument(help="Registry name, lower case with hyphens, e.g. my-net.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where to make the project.")],
) -> None:
    """Write a working plugin project for your own method, with its test."""
    from tgfbench.benchmark.scaffold import write_plugin

    for path in write_plugin(name, folder):
        print(path)


@weights_app.command("list")
def list_weights() -> None:
    """List the checkpoints of all methods, where they come from and whether they are here."""
    from tgfbench.benchmark.catalogue import print_weights

    print_weights()


@weights_app.command("download")
def download_weights(method: Annotated[str, typer.Argument(help="The method.")]) -> None:
    """Say for each checkpoint of a method where it lies or how to get it.

    No authors' file of this field has both a direct link and a published hash, so none is fetched unseen; exit code 1
    where a file has to be fetched by hand.
    """
    from tgfbench.benchmark.catalogue import print_ways

    if not print_ways(method):
        raise typer.Exit(1)


@weights_app.command("verify")
def verify_weights() -> None:
    """Check the hash of every checkpoint shipped with tgfbench."""
    from tgfbench.benchmark.catalogue import print_verification

    if not print_verification():
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
