"""What the commands share: their options, and how option strings become requests."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from tgfbench.benchmark.errors import UsageError

if TYPE_CHECKING:
    from tgfbench.benchmark.plan import DatasetRequest, ProtocolRequest


class Overwriting(StrEnum):
    """Overwrite modes, see ``runner.execute``."""

    only_missing = "only-missing"
    always = "always"
    never = "never"


class Masks(StrEnum):
    """Where ``FusionBatch.masks`` come from."""

    none = "none"
    labels = "labels"


Out = Annotated[Path, typer.Option("--out", help="Folder of the store.")]
Methods = Annotated[
    str, typer.Option("--method", "-m", help="Methods, comma-separated; also the groups all, baselines, sources.")
]
Datasets = Annotated[str, typer.Option("--dataset", "-d", help="Datasets, comma-separated.")]
DataRoot = Annotated[
    Optional[Path], typer.Option(help="Folder that holds the datasets; default: what TGFBENCH_DATA names.")  # noqa: UP045
]
Split = Annotated[str, typer.Option(help="Split of the dataset (most have train, test and all).")]
Limit = Annotated[Optional[int], typer.Option(help="Take only the first so many pairs.")]  # noqa: UP045
Metrics = Annotated[str, typer.Option(help="core, all, or names; default: core under `correct`, all elsewhere.")]
ProtocolName = Annotated[
    str, typer.Option("--protocol", help="Metric conventions, comma-separated, of `tgfbench list protocols`.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
Overwrite = Annotated[
    Overwriting,
    typer.Option(help="only-missing: do what is not there; always: anew; never: leave runs that were begun alone."),
]
Weights = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Checkpoint: a path, or a name of the method's card; default: what comes along."),
]
MethodOptions = Annotated[list[str], typer.Option("--option", "-O", help="Option of the method, as key=value.")]
DataOptions = Annotated[list[str], typer.Option("--data-option", "-D", help="Option of the dataset, as key=value.")]
VisibleDir = Annotated[Optional[Path], typer.Option("--visible", help="Folder of visible images, with -d folder.")]  # noqa: UP045
InfraredDir = Annotated[Optional[Path], typer.Option("--infrared", help="Folder of infrared images, with -d folder.")]  # noqa: UP045
TextReferences = Annotated[Optional[Path], typer.Option(help="Folder of text-guided reference images.")]  # noqa: UP045
Confidences = Annotated[Optional[Path], typer.Option(help="Text confidences of the pairs: .mat or .csv.")]  # noqa: UP045
Workers = Annotated[int, typer.Option(help="Decoding threads (local) or actors (ray).")]
EngineName = Annotated[str, typer.Option("--engine", help="local, or ray for a cluster.")]


def protocol_requests(names: str, metrics: str) -> list[ProtocolRequest]:
    """Return the requested protocols with their metrics; an empty ``metrics`` takes the protocol's default."""
    from tgfbench.benchmark.plan import ProtocolRequest

    requests = []
    for name in split_names(names, "--protocol"):
        # Papers print a dozen metrics of the many that have a correct definition; an evaluator is its whole table.
        chosen = metrics or ("core" if name.strip().lower() == "correct" else "all")
        requests.append(ProtocolRequest(name, tuple(split_names(chosen, "--metrics"))))
    return requests


def text_reference_pair(folder: Path | None, confidences: Path | None) -> tuple[Path, Path] | None:
    """Return folder and confidences of the text references, or None; refuse one without the other."""
    if folder and confidences:
        return folder, confidences
    if folder or confidences:
        raise UsageError(
            "reading --text-references and --confidences", found="only one of the two", expected="both, or neither"
        )
    return None


def fused_folders(fused: Path, name: str | None) -> dict[str, Path]:
    """Return folders of fused images by the name of their results: one with a name, or every folder in ``fused``."""
    if name is not None:
        if not name.strip():
            raise UsageError("reading --name", found="an empty name", expected="the name for your results")
        return {name.strip(): fused}
    folders = {path.name: path for path in sorted(fused.iterdir()) if path.is_dir()} if fused.is_dir() else {}
    if not folders:
        raise UsageError(
            f"reading --fused {fused} without --name",
            found="no folder in it",
            expected="a folder of fused images per method, or one folder of images and --name",
        )
    return folders


def split_names(names: str, option: str) -> list[str]:
    """Split a comma-separated option; refuse an empty one by its name."""
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise UsageError(f"reading {option}", found=repr(names), expected="one or more names, comma-separated")
    return found


def key_values(pairs: list[str]) -> dict[str, Any]:
    """Return ``key=value`` options as a dict of strings."""
    options = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.isidentifier():
            raise UsageError("reading an option", found=repr(pair), expected="key=value")
        options[key] = value
    return options


def dataset_requests(
    names: str,
    root: Path | None,
    split: str,
    limit: int | None,
    pairs: list[str],
    visible: Path | None,
    infrared: Path | None,
) -> list[DatasetRequest]:
    """Return one request per dataset named."""
    from tgfbench.benchmark.plan import DatasetRequest

    options = key_values(pairs)
    if visible or infrared:
        if not (visible and infrared) or names.partition("+")[0].strip().lower() != "folder":
            raise UsageError(
                "reading --visible and --infrared",
                found=f"-d {names}" if visible and infrared else "only one of the two",
                expected="both, with -d folder",
            )
        options |= {"visible": visible, "infrared": infrared}
    return [DatasetRequest(name, root, split, limit, options) for name in split_names(names, "--dataset")]
