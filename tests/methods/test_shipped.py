"""Weights that lie beside a method: small, loaded by default, declared for what they are, and blind to test pairs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tgfbench.benchmark.weights import WeightsInfo, folder_of
from tgfbench.methods import METHODS, FusionMethod, MethodInfo, load_method

LARGEST = 8_000_000
"""Bytes of a file of weights."""


def shipped(info: MethodInfo) -> WeightsInfo | None:
    return next((entry for entry in info.weights if entry.file), None)


SHIPPING = [name for name in METHODS.names() if shipped(METHODS.load(name).info)]


@pytest.fixture(params=SHIPPING)
def method(request: pytest.FixtureRequest) -> FusionMethod:
    return load_method(request.param, device="cpu")


def test_methods_with_a_network_run_without_a_download() -> None:
    assert {"film", "ldfusion", "mtgfusion", "tesg", "text-if", "textfusion"} <= set(SHIPPING)


def test_the_default_is_a_declared_reconstruction(method: FusionMethod) -> None:
    assert method.checkpoint is not None
    entry = method.checkpoint.info
    assert entry is not None
    assert entry == shipped(method.info)
    assert entry.origin == method.checkpoint.origin == "project"
    assert "project-trained reconstruction, not the authors' weights" in entry.card
    assert method.checkpoint.path.stat().st_size <= LARGEST
    assert json.loads(json.dumps(method.provenance()))["network"]


def test_folder_tells_how_they_were_trained(method: FusionMethod) -> None:
    assert method.checkpoint is not None
    folder = folder_of(type(method)) / "weights"
    card = json.loads((folder / "card.json").read_text())
    assert card["method"] == method.info.name
    assert card["sha256"] == method.checkpoint.sha256
    readme = (folder / "README.md").read_text()
    assert f"# `{method.checkpoint.path.name}`: project-trained reconstruction" in readme
    assert f"{card['parameters']:,} parameters" in readme
    assert "not the paper" in readme or "number of the" in readme
    with (folder / "loss.csv").open() as file:
        curve = [float(row["total"]) for row in csv.DictReader(file)]
    assert curve[-1] == card["last_losses"]["total"]


def test_a_smaller_configuration_is_called_small(method: FusionMethod) -> None:
    assert method.checkpoint is not None
    card = json.loads((folder_of(type(method)) / "weights" / "card.json").read_text())
    small = "small" in card["weights_of"]
    assert small == ("small" in method.checkpoint.name)
    assert small == ("small" in method.checkpoint.path.name)
    assert method.checkpoint.info is not None
    assert small == ("small" in method.checkpoint.info.card)


def test_no_test_pair_was_seen(shared: Path, method: FusionMethod) -> None:
    assert method.checkpoint is not None
    assert method.checkpoint.info is not None
    seen = method.checkpoint.info.trained_keys
    assert all(key.startswith("train-") for key in seen["sample"])
    listed = (shared / "data/roadscene/splits/cddfuse_test50.txt").read_text().split()
    assert seen["roadscene"]
    assert not {Path(name).stem for name in listed} & set(seen["roadscene"])
    assert seen["msrs"]
    assert not {path.stem for path in (shared / "data/msrs/test/vi").iterdir()} & set(seen["msrs"])
    assert "tno" not in seen
