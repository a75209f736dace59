"""What `--help` says: every option is explained, and the defaults it states are those that hold."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from tgfbench.benchmark.cli import app
from tgfbench.datasets.hashing import THRESHOLD


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every command with its words."""
    found = getattr(command, "commands", {})
    for name, below in found.items():
        yield from commands(below, (*path, name))
    if not found:
        yield " ".join(path), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_everything_a_command_takes_is_explained(name: str) -> None:
    command = COMMANDS[name]
    assert inspect.cleandoc(command.help or "").endswith(".")
    for parameter in command.params:
        assert (getattr(parameter, "help", "") or "").strip(), f"{name}: {parameter.name} is not explained"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_taken_where_a_path_or_number_is_absent_is_told(name: str) -> None:
    for parameter in COMMANDS[name].params:
        said = getattr(parameter, "help", "") or ""
        places = ("out", "file", "folder", "data_root", "threshold", "workers", "jobs")
        if parameter.name in places and parameter.default is None and not parameter.required:
            assert re.search(r"default|without it|instead", said, re.IGNORECASE), f"{name}: {parameter.name}: {said}"


def test_the_threshold_of_leaks_is_told_as_it_is() -> None:
    (said,) = [p.help for p in COMMANDS["datasets leakage"].params if p.name == "threshold"]
    assert f"default: {THRESHOLD}" in said


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if any(p.name == "protocol" for p in command.params)]
)
def test_protocols_that_may_be_several_are_called_so(name: str) -> None:
    (said,) = [p.help for p in COMMANDS[name].params if p.name == "protocol"]
    assert ("comma-separated" in said) == (name in ("run", "evaluate"))
