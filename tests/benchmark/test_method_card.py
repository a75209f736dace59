"""The card of a method as `tgfbench info` prints it: for a reader, in lines that fit a terminal."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tgfbench.benchmark.cli import main
from tgfbench.benchmark.method_card import card_rows
from tgfbench.benchmark.options import option_parameters
from tgfbench.methods import METHODS

LONGEST = 420


def told(name: str) -> dict[str, list[str]]:
    """Return the lines of a card by label."""
    found: dict[str, list[str]] = {}
    label = ""
    for shown, line in card_rows(METHODS.load(name)):
        label = shown or label
        found.setdefault(label, []).append(line)
    return found


@pytest.mark.parametrize("name", METHODS.names())
def test_a_card_holds_sentences_and_no_lists_of_keys(name: str) -> None:
    card = told(name)
    info = METHODS.load(name).info
    lines = [line for lines in card.values() for line in lines]
    assert max(map(len, lines)) < LONGEST
    assert not any("=(" in line or "={" in line or "train-0007" in line for line in lines)
    assert card["title"] == [info.title]
    for weights in info.weights:
        assert any(line.startswith(f"{weights.name} (") for line in card["weights"])
        assert all(any(dataset in line for line in card["weights"]) for dataset in weights.trained_on)
    for number in info.reported:
        assert any(number.dataset in line and f"{number.value:g}" in line for line in card["published numbers"])


@pytest.mark.parametrize("name", METHODS.names())
def test_a_card_names_every_option(name: str) -> None:
    options = option_parameters(METHODS.load(name), ("checkpoint", "device"))
    lines = told(name).get("options", [])
    assert [line.partition("=")[0] for line in lines if line.startswith("-O")] == [f"-O {name}" for name in options]
    assert len(lines) == 2 * len(options), "an option without its explanation"


def test_the_choices_the_default_and_the_meaning_of_an_option_are_told() -> None:
    lines = told("textfusion")["options"]
    place = lines.index("-O postprocess=authors|authors-jpeg|plain (default: authors)")
    assert lines[place + 1].startswith("  authors rounds to 8 bits, as the authors do before they save; authors-jpeg")
    assert lines[place + 1].endswith("plain does neither.")


@pytest.mark.parametrize("name", METHODS.names())
def test_a_card_says_whether_the_method_can_be_trained_here(name: str) -> None:
    trainable = hasattr(METHODS.load(name), "objective")
    assert told(name).get("training", []) == [f"tgfbench train {name}"] * trainable


def test_info_prints_the_card(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[Any]) -> None:
    monkeypatch.setattr(sys, "argv", ["tgfbench", "info", "TeSG"])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr().out
    assert not end.value.code
    assert "tesg (method, tgfbench" in shown and "trained on sample:train (200)" in shown and "train-0001" not in shown


def test_weights_are_listed_in_lines_that_fit_and_say_how_to_get_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[Any]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tgfbench", "weights", "list"])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any("film:authors" in line and "tgfbench weights download film" in line for line in lines)
    assert any("tesg:project" in line and "shipped" in line for line in lines)
