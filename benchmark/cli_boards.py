"""The commands that read the store and make boards of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tgfbench.benchmark.cli_options import Out, split_names

boards_app = typer.Typer()


@boards_app.command()
def leaderboard(
    out: Out = Path("runs"),
    formats: Annotated[str, typer.Option("--format", help="csv, md; comma-separated.")] = "csv,md",
    protocol: Annotated[str, typer.Option("--protocol", help="Only the boards of this protocol.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write the files, print only their paths.")] = False,
) -> None:
    """Rebuild the leaderboards from the store, print them, and write leaderboard.csv and leaderboard.md."""
    from tgfbench.benchmark import session

    session.write_boards(out, split_names(formats, "--format"), quiet, protocol=protocol)
