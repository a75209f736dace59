"""Protocols as a user reaches them: published scores, boards, text attention and references, from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tgfbench.benchmark.images import read_infrared, write_png
from tgfbench.metrics import load_protocol
from tgfbench.metrics.protocols import PROTOCOLS
from tgfbench.metrics.text_attention import read_text_references

PUBLISHED = {
    "Avg_gradient": "AG", "Cross_entropy": "CE", "Edge_intensity": "EI", "Entropy": "EN", "Mutinf": "MI",
    "Psnr": "PSNR", "Qabf": "Qabf", "Qcb": "Qcb", "Qcv": "Qcv", "Rmse": "RMSE", "Spatial_frequency": "SF",
    "Ssim": "SSIM", "Variance": "SD",
}  # fmt: skip
"""VIFB's names of its metrics."""


Command = Callable[..., Any]
"""The fixture ``tgfbench``."""


def stored(folder: Path) -> dict[tuple[str, str, str], float]:
    """Every value of a store, by the name of the results, key and metric."""
    values = {}
    for path in folder.rglob("per_image.csv"):
        name = json.loads((path.parent / "run.json").read_text())["identity"]["method"]
        with path.open(newline="") as file:
            values.update({(name, row["key"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)})
    return values


def last_digit(printed: str) -> float:
    """One unit of the last digit of a printed number."""
    return 10.0 ** -len(printed.partition(".")[2])


def test_vifb_reproduces_published_scores(shared: Path, tgfbench: Command, tmp_path: Path) -> None:
    folder = shared / "vifb"
    done = tgfbench(
        "evaluate", "--fused", folder / "fused", "-d", "folder", "--protocol", "vifb", "--limit", 3,
        "--visible", folder / "input" / "VI", "--infrared", folder / "input" / "IR",
    )  # fmt: skip
    # The folders hold more images than the limit asks for; nothing else may be wrong.
    assert done.stdout.count("failed in") == 1 and "match no pair" in done.stdout
    found = stored(tmp_path / "runs")
    with (folder / "published_scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["method"], row["key"], "EN") in found]
    assert len(rows) == 12 * 3 * 13
    for row in rows:
        value = found[row["method"], row["key"], PUBLISHED[row["metric"]]]
        # Half a unit of the last digit, with room for the last bit of a float64.
        assert abs(value - float(row["value"])) <= 0.5000001 * last_digit(row["value"]), row


def test_boards_name_their_protocol_and_never_mix_two(tgfbench: Command, tmp_path: Path) -> None:
    for seed, stem in enumerate("ab"):
        random = np.random.default_rng(seed)
        write_png(tmp_path / "vi" / f"{stem}.png", random.integers(0, 256, (48, 64, 3), np.uint8))
        write_png(tmp_path / "ir" / f"{stem}.png", random.integers(0, 256, (48, 64), np.uint8))
    methods = ("-m", "average,maximum,laplacian-pyramid", "-d", "folder", "--visible", "vi", "--infrared", "ir")
    for protocol in ("film", "vifb"):
        done = tgfbench("run", *methods, "--protocol", protocol)
        assert done.returncode == 0, done.stderr
        assert f"protocol {protocol}" in done.stdout
    boards = (tmp_path / "runs" / "leaderboard.md").read_text()
    assert [line for line in boards.splitlines() if line.startswith("## ")] == [
        "## folder (test, 2 images), protocol film",
        "## folder (test, 2 images), protocol vifb",
    ]
    one = tgfbench("leaderboard", "--protocol", "VIFB")
    assert one.returncode == 0 and "protocol vifb" in one.stdout and "protocol film" not in one.stdout
    both = tgfbench("leaderboard", "--protocol", "film,vifb")
    assert both.returncode == 2
    assert "film and vifb" in both.stderr and "different conventions" in both.stderr
    unknown = tgfbench("leaderboard", "--protocol", "FLIM")
    assert unknown.returncode == 2 and "did you mean film" in unknown.stderr


@pytest.mark.parametrize("confidences", ["mat", "csv"])
def test_textfusion_from_the_command_line(shared: Path, tgfbench: Command, tmp_path: Path, confidences: str) -> None:
    folder = shared / "data" / "captions" / "textfusion"
    references = folder / "reference_text_guided_images" / "TNO_test30"
    given = read_text_references(references, folder / "IVT_TNO_test30_textConfidence.mat", ["1", "2"])
    pairs = {
        key: [read_infrared(folder / "IVT_test_TNO" / kind / f"{key}.png") for kind in ("vis", "ir")] for key in "12"
    }
    for key, images in pairs.items():
        write_png(tmp_path / "fused" / f"{key}.png", np.maximum(*images))
    file = folder / "IVT_TNO_test30_textConfidence.mat"
    if confidences == "csv":
        file = tmp_path / "confidences.csv"
        file.write_text("key,confidence\n" + "".join(f"{key},{found.confidence!r}\n" for key, found in given.items()))
    done = tgfbench(
        "evaluate", "--fused", "fused", "--name", "maximum", "-d", "folder", "--protocol", "textfusion",
        "--visible", folder / "IVT_test_TNO" / "vis", "--infrared", folder / "IVT_test_TNO" / "ir",
        "--text-references", references, "--confidences", file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = {
        ("maximum", key, metric): value
        for key, (visible, infrared) in pairs.items()
        for metric, value in load_protocol("textfusion")
        .evaluate(
            np.maximum(visible, infrared), visible, infrared,
            reference=given[key].reference, confidence=given[key].confidence,
        )
        .items()
    }  # fmt: skip
    assert stored(tmp_path / "runs") == pytest.approx(expected, rel=1e-12)


def test_textfusion_without_references_says_how_to_give_them(tgfbench: Command, tmp_path: Path) -> None:
    write_png(tmp_path / "vi" / "a.png", np.random.default_rng(0).integers(0, 256, (80, 70), np.uint8))
    write_png(tmp_path / "ir" / "a.png", np.random.default_rng(1).integers(0, 256, (80, 70), np.uint8))
    done = tgfbench("evaluate", "--fused", "vi", "--name", "a", "-d", "folder", "--visible", "vi", "--infrared", "ir",
                    "--protocol", "textfusion")  # fmt: skip
    assert done.returncode == 2 and "--text-references DIR" in done.stderr and "datasets references" in done.stderr
    assert not list(tmp_path.rglob("run.json"))


def test_a_folder_without_folders_needs_a_name(tgfbench: Command, tmp_path: Path) -> None:
    (tmp_path / "fused").mkdir()
    done = tgfbench("evaluate", "--fused", "fused")
    assert done.returncode == 2 and "--name" in done.stderr
    assert tgfbench("evaluate", "--fused", "fused", "--name", " ").returncode == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_info_prints_what_a_protocol_fixes(tgfbench: Command, protocol: str) -> None:
    done = tgfbench("info", protocol.upper())
    assert done.returncode == 0
    card = PROTOCOLS[protocol]
    for part in (card.title, card.luma, card.resize, *card.metrics):
        assert part in done.stdout, part
    for use in card.metrics.values():
        assert all(f"{option}={value}" in done.stdout for option, value in use.options.items())


def test_references_made_for_a_dataset_serve_text_attention(tgfbench: Command, tmp_path: Path) -> None:
    made = tgfbench("datasets", "references", "sample", "--limit", 2, "--out", "references")
    assert made.returncode == 0, made.stderr
    assert "tgfbench's own way" in made.stdout and "2 references" in made.stdout
    given = ("--text-references", "references", "--confidences", "references/confidences.csv")
    done = tgfbench("run", "-m", "average", "-d", "sample", "--limit", 2, "--protocol", "textfusion", *given)
    assert done.returncode == 0, done.stderr
    assert len(stored(tmp_path / "runs")) == 2 * 3
    refused = tgfbench("datasets", "references", "sample", "--limit", 2, "--out", "other", "--model", "nowhere")
    assert refused.returncode == 2 and "config.json" in refused.stderr


def test_references_replace_references_and_nothing_else(tgfbench: Command, tmp_path: Path) -> None:
    own = tmp_path / "vi" / "test-0000.png"
    own.parent.mkdir()
    own.write_bytes(b"an image of the dataset")
    make = ("datasets", "references", "sample", "--limit", 1, "--out")
    refused = tgfbench(*make, "vi")
    assert refused.returncode == 2
    assert "test-0000.png" in refused.stderr and "confidences.csv" in refused.stderr
    assert own.read_bytes() == b"an image of the dataset"
    assert [tgfbench(*make, "references").returncode for _ in range(2)] == [0, 0]
