"""The commands ``tgfbench datasets …``, cards and lists, as a user types them."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tgfbench.benchmark.dataset_card import card_rows
from tgfbench.benchmark.images import write_png
from tgfbench.benchmark.weights import WeightsInfo
from tgfbench.datasets import DATASETS, load_dataset
from tgfbench.datasets.base import DatasetInfo, TrainingUse
from tgfbench.datasets.degradations.grammar import KINDS
from tgfbench.datasets.sources import SOURCES, Shared, Source
from tgfbench.methods.base import MethodInfo

Command = Callable[..., Any]
"""The fixture ``tgfbench``."""


def blocks(seed: int, *shape: int) -> np.ndarray:
    """Coarse random blocks: enough structure for hashes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, *shape[2:]), np.uint8)
    return coarse.repeat(12, axis=0).repeat(12, axis=1)[: shape[0], : shape[1]]


@pytest.fixture
def msrs(tmp_path: Path) -> Path:
    """A data root with four pairs of MSRS."""
    for number, (part, key) in enumerate(
        [("test", "00002N"), ("test", "00004N"), ("train", "00001D"), ("train", "00003N")]
    ):
        write_png(tmp_path / "data/msrs" / part / "vi" / f"{key}.png", blocks(number, 71, 95, 3))
        write_png(tmp_path / "data/msrs" / part / "ir" / f"{key}.png", blocks(number + 50, 71, 95))
    boxes = tmp_path / "data/msrs/detection_lele3/fusion/test/00002N.txt"
    boxes.parent.mkdir(parents=True)
    boxes.write_text("0 0.5 0.5 0.2 0.2\n2 0.2 0.2 0.1 0.1\n0 0.7 0.7 0.1 0.1\n")
    return tmp_path / "data"


def test_verify_reports_the_whole_folder(tgfbench: Command, msrs: Path, tmp_path: Path) -> None:
    done = tgfbench("datasets", "verify", "msrs", "--data-root", msrs)
    assert done.returncode == 0, done.stderr
    for said in ("4 of 1444", "test 2 of 361, train 2 of 1083, all 4 of 1444", "95x71 (4)", "2 person, 1 car"):
        assert said in done.stdout
    assert "problems         0" in done.stdout
    report = (tmp_path / "runs/verify/msrs-all.md").read_text()
    assert "4 of the 1444 pairs" in report
    with (tmp_path / "runs/verify/msrs-all.csv").open(newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["00001D", "00002N", "00003N", "00004N"]
    assert (rows["00002N"]["boxes"], rows["00002N"]["box_classes"]) == ("3", "car 1, person 2")


def test_verify_names_problems_and_fails(tgfbench: Command, msrs: Path, tmp_path: Path) -> None:
    cut = msrs / "msrs/train/ir/00003N.png"
    cut.write_bytes(cut.read_bytes()[:-40])
    (msrs / "msrs/test/vi/00004N.png").unlink()
    done = tgfbench("datasets", "verify", "msrs", "--data-root", msrs, "--out", tmp_path / "report")
    assert done.returncode == 1
    assert "unpaired" in done.stdout
    assert str(cut) in done.stdout
    assert str(cut) in (tmp_path / "report/msrs-all.md").read_text()
    assert tgfbench("datasets", "verify", "msrs", "--data-root", msrs, "--split", "test").returncode == 1


def test_absent_pairs_fail_on_request_only(tgfbench: Command, msrs: Path) -> None:
    arguments = ("datasets", "verify", "msrs", "--data-root", msrs, "--split", "train")
    assert tgfbench(*arguments).returncode == 0
    done = tgfbench(*arguments, "--complete")
    assert done.returncode == 1
    assert "2 of the 1083 pairs" in done.stdout


def test_verify_takes_folders_degradations_and_limits(tgfbench: Command, msrs: Path, tmp_path: Path) -> None:
    done = tgfbench("datasets", "verify", "msrs+haze:2", "--data-root", msrs, "--limit", 1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/verify/msrs+haze-2-all.csv").is_file()
    folders = ("--visible", msrs / "msrs/test/vi", "--infrared", msrs / "msrs/test/ir")
    assert "pairs            2" in tgfbench("datasets", "verify", "folder", *folders).stdout
    assert tgfbench("datasets", "verify", "sample", "--limit", 1).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("msrs",),
        ("msrs", "--data-root", "nowhere"),
        ("msrs", "--data-root", "."),
        ("sample", "--split", "nope"),
        ("sample", "--limit", "1", "--out", "/dev/null/report"),
        ("sample+nosuch",),
    ],
)
def test_verify_refuses_what_cannot_be(arguments: tuple[str, ...], tgfbench: Command) -> None:
    done = tgfbench("datasets", "verify", *arguments)
    assert done.returncode == 2
    assert "tgfbench: " in done.stderr


def test_leakage_compares_splits_and_datasets(tgfbench: Command, msrs: Path, tmp_path: Path) -> None:
    clean = tgfbench("datasets", "leakage", "msrs", "--data-root", msrs)
    assert clean.returncode == 0, clean.stderr
    assert "no pair shows the same" in clean.stdout
    write_png(msrs / "msrs/test/vi/00777N.png", blocks(2, 71, 95, 3) // 2)
    write_png(msrs / "msrs/test/ir/00777N.png", blocks(52, 71, 95))
    found = tgfbench("datasets", "leakage", "msrs", "--data-root", msrs, "--out", tmp_path / "out/leaks.csv")
    assert found.returncode == 1
    assert "00001D  00777N" in found.stdout
    with (tmp_path / "out/leaks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["first"], row["first_key"], row["second_key"]) for row in rows] == [
        ("msrs, split train", "00001D", "00777N")
    ]
    several = tgfbench("datasets", "leakage", "msrs:test", "msrs:train+noise:1", "msrs:all", "--data-root", msrs)
    assert several.returncode == 1
    assert several.stdout.count(" and msrs") == 3


@pytest.mark.parametrize("entries", [("msrs:test",), ("tno",), ("msrs", "nosuch"), ("msrs::",)])
def test_leakage_refuses_what_cannot_be(entries: tuple[str, ...], tgfbench: Command, msrs: Path) -> None:
    assert tgfbench("datasets", "leakage", *entries, "--data-root", msrs).returncode == 2


def test_download_prints_steps_or_unpacks(tgfbench: Command, msrs: Path, tmp_path: Path) -> None:
    steps = tgfbench("datasets", "download", "llvip", "--data-root", tmp_path / "new")
    assert steps.returncode == 0
    assert "1. Read the terms" in steps.stdout
    assert f"tgfbench datasets verify llvip --data-root {tmp_path / 'new'}" in steps.stdout
    assert not (tmp_path / "new").exists()
    archive = tmp_path / "msrs.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((msrs / "msrs").rglob("*.*")):
            file.write(path, path.relative_to(msrs / "msrs"))
    done = tgfbench("datasets", "download", "msrs", "--data-root", tmp_path / "new", "--archive", archive)
    assert done.returncode == 0, done.stderr
    assert "9 files" in done.stdout
    assert len(load_dataset("msrs", tmp_path / "new", "all")) == 4
    for wrong in (("msrs",), ("nosuch", "--data-root", "x"), ("msrs", "--data-root", "x", "--archive", "nosuch.zip")):
        assert tgfbench("datasets", "download", *wrong).returncode == 2


def test_accepted_terms_show_what_came(
    tgfbench: Command, msrs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(msrs / "msrs/test/vi/00002N.png", "LLVIP/visible/test/190001.png")
        file.write(msrs / "msrs/test/ir/00002N.png", "LLVIP/infrared/test/190001.png")

    def fetched(item: Shared, folder: Path) -> None:
        assert item.identifier == "x"
        folder.mkdir(parents=True)
        (folder / "llvip.zip").write_bytes(archive.read_bytes())

    monkeypatch.setattr("tgfbench.datasets.download.fetch_shared", fetched)
    monkeypatch.setitem(SOURCES, "llvip", Source(shared=(Shared(identifier="x", what="it"),)))
    done = tgfbench("datasets", "download", "llvip", "--data-root", tmp_path / "new", "--accept-terms")
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in done.stdout
    assert "non-commercial" in done.stdout
    assert "next: tgfbench datasets verify llvip" in done.stdout


@pytest.mark.parametrize(
    ("words", "interrupted"),
    [
        (("download", "tno", "--data-root", "new"), "tgfbench.datasets.download.fetch"),
        (("verify", "sample"), "tgfbench.datasets.verify.estimate_shift"),
        (("caption", "sample", "--out", "x.jsonl"), "tgfbench.datasets.captioning.texts_from_labels"),
    ],
)
def test_ctrl_c_says_that_one_can_go_on(
    words: tuple[str, ...], interrupted: str, tgfbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, stop)
    done = tgfbench("datasets", *words)
    assert done.returncode == 130
    assert "the same command goes on" in done.stderr


def test_degradations_are_listed(tgfbench: Command) -> None:
    done = tgfbench("list", "degradations")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.split("\n\n")[0].splitlines()] == list(KINDS)
    assert "severity 1 to 5" in done.stdout


BASE = DatasetInfo(
    name="base",
    title="Base",
    source="https://localhost",
    licence="none stated",
    splits=("test", "all"),
    counts={"all": 7},
    classes=("person", "car"),
    segmentation_classes=("nothing", "road"),
    palette=((0, 0, 0), (1, 2, 3)),
    ignored_segmentation_class=0,
    used_in_training_by=(TrainingUse(method="A"),),
    known_problems=("One.", "Two."),
)
COPY = DatasetInfo(
    name="copy",
    title="Copy",
    source="here",
    licence="none",
    derived_from=("base",),
    used_in_training_by=(TrainingUse(method="B", split="all"),),
)
SEEN = MethodInfo(
    name="net",
    title="Net",
    weights=(WeightsInfo(name="project", origin="project", trained_keys={"base": ("x", "y")}),),
)


def test_a_card_says_ids_colours_and_who_was_trained_on_it() -> None:
    rows = card_rows(BASE, {"base": BASE, "copy": COPY}, [SEEN])
    lines = [line for _, line in rows]
    for line in (
        "test (taken unless another is named)",
        "all: 7 pairs",
        "1 car",
        "0 nothing, RGB 0 0 0, left out of the mean IoU",
        "1 road, RGB 1 2 3",
        "A (train)",
        "B (all), through copy, which holds images of this one",
        "One.",
        "Two.",
    ):
        assert line in lines
    assert dict(rows)["shipped weights"].startswith("net:project has seen 2 pairs")
    assert "A (train), through base, which is a source" in [line for _, line in card_rows(COPY, {"base": BASE}, [])]


@pytest.mark.parametrize("name", [n for n in DATASETS.names() if DATASETS.entry(n).target.startswith("tgfbench.")])
def test_cards_are_complete(name: str) -> None:
    labels = {label for label, _ in card_rows(DATASETS.load(name).info, {}, [])}
    assert {"title", "source", "licence", "splits", "size", "known problems", "layout"} <= labels


def test_info_prints_the_card(tgfbench: Command) -> None:
    done = tgfbench("info", "MSRS")
    assert done.returncode == 0
    for said in ("2 person, RGB 64 64 0", "2 car", "test: 361 pairs", "tesg:project has seen", "download msrs"):
        assert said in done.stdout
