"""The commands that read the store and make boards of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tgfbench.benchmark.cli_options import Out, split_names

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
