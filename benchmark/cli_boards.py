"""The commands that read the store and make boards of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tgfbench.benchmark.cli_options import DataRoot, Out, split_names
from tgfbench.benchmark.errors import counted

boards_app = typer.Typer()

PRESETS = "ivif-core, text-guided or degradation."
FORMATS = "csv, md, tex, json; svg, png: critical-difference diagrams; comma-separated."


@boards_app.command()
def leaderboard(
    out: Out = Path("runs"),
    formats: Annotated[str, typer.Option("--format", help=FORMATS)] = "csv,md,tex,json",
    protocol: Annotated[str, typer.Option("--protocol", help="Only the boards of this protocol.")] = "",
    preset: Annotated[str, typer.Option("--preset", help="A board fixed in advance: " + PRESETS)] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write the files, print only their paths.")] = False,
) -> None:
    """Rebuild the leaderboards from the store, print them, and write leaderboard.* in every format asked for."""
    from tgfbench.benchmark import session

    session.write_boards(out, split_names(formats, "--format"), quiet, protocol=protocol, preset=preset)


@boards_app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A row of a leaderboard: its label, method name or run id.")],
    second: Annotated[str, typer.Argument(help="The row to compare it with.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Only on this dataset.")] = "",
    protocol: Annotated[str, typer.Option("--protocol", help="Only under this protocol.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Out = Path("runs"),
) -> None:
    """Compare two rows image by image: effect, interval, p-value, wins and the images that would separate them."""
    from tgfbench.benchmark import session

    session.compare_rows(out, first, second, dataset=dataset, protocol=protocol, as_json=as_json)


@boards_app.command()
def site(
    out: Out = Path("runs"),
    folder: Annotated[Optional[Path], typer.Option(help="Where to write; default: site/ in the store.")] = None,  # noqa: UP045
    images: Annotated[int, typer.Option(min=0, help="Images per gallery, most disputed first.")] = 24,
) -> None:
    """Write the static web page: boards, tests, plots, methods and a gallery; it needs no network."""
    from tgfbench.benchmark import session

    session.write_site(out, folder or out / "site", images)


@boards_app.command("meta-analysis")
def meta_analysis(
    protocol: Annotated[str, typer.Option("--protocol", help="Only the boards of this protocol.")] = "",
    out: Out = Path("runs"),
) -> None:
    """Show how the metrics agree and how far the ranking hangs on each of them; writes meta-analysis.md."""
    from tgfbench.benchmark import session

    session.write_meta_analysis(out, protocol)


@boards_app.command()
def submit(
    run: Annotated[str, typer.Argument(help="A run of the store: run id, method@weights, method or its folder.")],
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--file", "-o", help="The file to write; default: one named after the run, here."),
    ] = None,
    out: Out = Path("runs"),
) -> None:
    """Pack a run's numbers, card and hashes into one file that another store can import."""
    from tgfbench.benchmark.submission import find_run, pack, write_submission

    print(f"written: {write_submission(pack(find_run(out, _name_of(run))), file)}")


@boards_app.command()
def validate(
    what: Annotated[str, typer.Argument(help="A submission file, or a run of the store.")],
    fused: Annotated[Optional[Path], typer.Option(help="Folder of the fused images of a submission.")] = None,  # noqa: UP045
    data_root: DataRoot = None,
    out: Out = Path("runs"),
) -> None:
    """Check a submission or a run: form, hashes, and that its images give the same scores again."""
    from tgfbench.benchmark.submission import find_run, pack, read_submission
    from tgfbench.benchmark.submission import validate as check

    if Path(what).is_file():
        found = check(read_submission(Path(what)), fused, data_root)
    else:
        run = find_run(out, _name_of(what))
        found = check(pack(run), fused or run.image_path("x").parent, data_root)
    for note in found.notes:
        print(f"note: {note}")
    for problem in found.problems[:20]:
        print(f"problem: {problem}")
    if len(found.problems) > 20:
        print(f"… {len(found.problems)} problems in all")
    print(f"{'not valid' if found.problems else 'valid'}, {counted(found.recomputed, 'score')} recomputed")
    if found.problems:
        raise typer.Exit(1)


@boards_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="What `tgfbench submit` wrote.")],
    out: Out = Path("runs"),
) -> None:
    """Put a submission into this store; its rows are marked as imported."""
    from tgfbench.benchmark.submission import import_submission, read_submission

    run = import_submission(read_submission(file), out, file.name)
    print(f"imported {counted(len(run.scores), 'score')} → {run.folder}")


def _name_of(run: str) -> str:
    """Return the run id where a run is named by its folder, as `tgfbench run` prints it."""
    return Path(run).name if (Path(run) / "run.json").is_file() else run
