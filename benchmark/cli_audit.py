"""The command ``tgfbench audit``: does the text do anything?"""

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
    Masks,
    MethodOptions,
    Out,
    Overwrite,
    Overwriting,
    Split,
    VisibleDir,
    Weights,
    dataset_requests,
    key_values,
    split_names,
)
from tgfbench.benchmark.errors import UsageError

audit_app = typer.Typer()


@audit_app.command()
def audit(
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="Methods, comma-separated, also the groups all, baselines, sources; may be absent with --controls.",
        ),
    ] = "",
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="One dataset; labels name objects.")] = "sample",
    data_root: DataRoot = None,
    split: Split = "test",
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Chooses texts, prompts and jitter.")] = 0,
    prompts: Annotated[
        Optional[Path], typer.Option(help="Prompt file to use instead of generated prompts.")  # noqa: UP045
    ] = None,
    write_prompts: Annotated[
        Optional[Path], typer.Option(help="Write the generated prompts here, for editing, and stop.")  # noqa: UP045
    ] = None,
    masks: Annotated[Masks, typer.Option(help="labels: hand the dataset's own labels to the method.")] = Masks.none,
    controls: Annotated[
        bool, typer.Option("--controls", help="Also audit four methods of known behaviour and check their verdicts.")
    ] = False,
    pictures: Annotated[int, typer.Option(help="Keep and picture the outputs of so many samples.")] = 3,
    clip: Annotated[
        Optional[Path], typer.Option(help="open_clip checkpoint: also measure language-image agreement.")  # noqa: UP045
    ] = None,
    clip_architecture: Annotated[str, typer.Option(help="open_clip's name of its architecture.")] = "ViT-B-32",
    weights: Weights = None,
    device: Device = "auto",
    option: MethodOptions = [],  # noqa: B006  (typer copies it)
    data_option: DataOptions = [],  # noqa: B006
    visible: VisibleDir = None,
    infrared: InfraredDir = None,
    overwrite: Overwrite = Overwriting.only_missing,
    out: Out = Path("runs"),
) -> None:
    """Measure what the prompt does to the output, against noise, and give a verdict per method; see docs/audit.md."""
    from tgfbench.benchmark import plan
    from tgfbench.benchmark.audit import session
    from tgfbench.benchmark.audit.plan import AuditRequest
    from tgfbench.metrics.audit.agreement import OpenCLIP

    requests = dataset_requests(dataset, data_root, split, limit, data_option, visible, infrared)
    if len(requests) != 1:
        raise UsageError("reading --dataset", found=f"{len(requests)} datasets", expected="one per audit")
    model = OpenCLIP(clip, clip_architecture) if clip else None
    request = AuditRequest(requests[0], seed, prompts, masks.value, pictures, model)
    names, left_out = plan.expand_methods(split_names(method, "--method")) if method or not controls else ([], {})
    if write_prompts is not None:
        if len(names) != 1:
            raise UsageError("writing prompts", found=f"{len(names)} methods", expected="one, whose role decides them")
        session.write_prompt_file(names[0], request, write_prompts)
        return
    specs = plan.specs_for(
        names, requests, (), weights=weights, device=device, options=key_values(option), seed=seed, masks=masks.value
    )
    ok = session.audit_all(
        [spec.method for spec in specs], request, out, left_out, controls=controls, overwrite=overwrite.value
    )
    raise typer.Exit(0 if ok else 1)
