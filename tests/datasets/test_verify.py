"""Checking a dataset: what is found, what is written, and how far the estimates are right."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tgfbench.datasets import load_dataset
from tgfbench.datasets.registration import estimate_shift
from tgfbench.datasets.verify import Report, verify

Miniature = Callable[[str], tuple[Path, dict[str, tuple[str, ...]]]]

# Sizes, counts and shifts of the sample data, as measured when it was collected.
REAL: dict[tuple[str, str], tuple[int, str, tuple[float, float]]] = {
    ("tno", "test"): (36, "(15 sizes)", (2, 4)),
    ("roadscene", "all"): (60, "(58 sizes)", (0.5, 1.5)),
    ("msrs", "all"): (75, "640x480 (75)", (2, 4.5)),
    ("llvip", "all"): (39, "1280x1024 (39)", (2, 4.5)),
    ("m3fd", "all"): (8, "1024x768 (8)", (1.5, 4)),
    ("fmb", "test"): (5, "800x600 (5)", (3, 5)),
}


def scene(height: int = 200, width: int = 240, seed: int = 0) -> np.ndarray:
    """Return smooth blobs with edges, uint8 (H, W): something a correlation can hold on to."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    return np.where(smooth > 0, 170, 60).astype(np.uint8) + (smooth * 200).clip(-40, 40).astype(np.int8).astype(
        np.uint8
    )


def colour(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def make_folder(root: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    for modality, index in (("vi", 0), ("ir", 1)):
        (root / modality).mkdir(parents=True, exist_ok=True)
        for name, images in pairs.items():
            Image.fromarray(images[index]).save(root / modality / f"{name}.png")
    return root


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(problem.kind, problem.item) for problem in report.problems]


@pytest.mark.parametrize(("name", "split"), REAL)
def test_real_folders_agree_with_what_was_measured(name: str, split: str, shared: Path) -> None:
    count, sizes, (least, most) = REAL[name, split]
    report = verify(load_dataset(name, shared / "data", split))
    assert report.ok
    assert len(report.pairs) == count
    assert sizes in dict(report.summary())["sizes"]
    assert len(report.shifts) > count / 2
    assert least < np.median(report.shifts) < most
    assert (report.expected is None) == (name == "tno")
    assert name == "tno" or str(report.expected) in report.notes[0]


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (5, -3), (-9, 2), (1, 12)])
def test_a_known_shift_is_found_with_its_sign(dx: int, dy: int) -> None:
    big = scene(260, 300)
    visible = big[20:220, 20:260]
    infrared = 255 - big[20 - dy : 220 - dy, 20 - dx : 260 - dx]  # what is bright in one is dark in the other
    shift = estimate_shift(colour(visible), infrared)
    assert shift.confident
    assert abs(shift.x - dx) < 0.3
    assert abs(shift.y - dy) < 0.3


def test_a_large_pair_is_measured_in_its_own_pixels() -> None:
    big = cv2.resize(scene(260, 300), None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    shift = estimate_shift(colour(big[80:980, 80:1100]), big[72:972, 92:1112])
    assert shift.confident
    assert abs(shift.x + 12) < 1
    assert abs(shift.y - 8) < 1


@pytest.mark.parametrize("what", ["noise", "flat", "small"])
def test_no_confidence_where_there_is_nothing_to_hold_on_to(what: str) -> None:
    rng = np.random.default_rng(1)
    visible, infrared = rng.integers(0, 256, (2, 120, 150), np.uint8)
    if what == "flat":
        visible, infrared = np.zeros_like(visible), np.zeros_like(infrared)
    elif what == "small":
        visible = infrared = scene()[:40, :40]
    assert not estimate_shift(colour(visible), infrared).confident


def test_a_sound_folder_has_no_problem_and_the_report_is_written(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", {n: (colour(scene(seed=i)), scene(seed=i)) for i, n in enumerate("ab")})
    report = verify(load_dataset("folder", root))
    assert report.ok
    table, text = report.write(tmp_path / "out")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["a", "b"]
    assert [(row["width"], row["height"]) for row in rows] == [("240", "200")] * 2
    assert all(row["shift_confident"] == "True" and abs(float(row["shift"])) < 0.1 for row in rows)
    assert "| problems | 0 |" in text.read_text()
    assert table.name in text.read_text()


def test_each_kind_of_problem_is_named(tmp_path: Path) -> None:
    good = (colour(scene()), scene())
    coloured = cv2.applyColorMap(scene(seed=3), cv2.COLORMAP_JET)
    pairs = {"a": good, "b": good, "c": (colour(scene(seed=3)), coloured), "d": (colour(scene(seed=4)), scene(seed=4))}
    root = make_folder(tmp_path, pairs)
    cut = root / "ir/d.png"
    cut.write_bytes(cut.read_bytes()[:-200])
    (root / "vi/e.png").write_bytes(b"no image")
    report = verify(load_dataset("folder", root))
    assert not report.ok
    assert kinds(report) == [
        ("unpaired", str(root / "vi/e.png")), ("unreadable", "d"), ("channels", "c"), ("duplicate", "b"),
    ]  # fmt: skip
    text = report.write(tmp_path / "out")[1].read_text()
    assert all(problem.kind in text and problem.item in text for problem in report.problems)
    assert len(report.pairs) == 3


def test_label_ids_out_of_range_are_a_label_problem(miniature: Miniature) -> None:
    root, _ = miniature("msrs")
    path = root / "MSRS/train/Segmentation_labels/00003N.png"
    Image.fromarray(np.full((13, 17), 40, np.uint8)).save(path)
    report = verify(load_dataset("msrs", root, "train"))
    assert kinds(report) == [("label", "00003N")]
    assert "class id 40" in report.problems[0].detail
    assert report.pairs[0].segmentation_classes == "0 1 2 3 4 5 6 7 8"


def test_absent_pairs_are_a_note_or_on_request_a_problem(miniature: Miniature) -> None:
    root, _ = miniature("msrs")
    dataset = load_dataset("msrs", root)
    assert "361" in verify(dataset).notes[0]
    strict = verify(dataset, complete=True)
    assert kinds(strict) == [("count", "msrs")]
    assert "361" in strict.problems[0].detail


def test_near_duplicates_are_noted(tmp_path: Path) -> None:
    nearly = scene().copy()
    nearly[:5] //= 2
    pairs = {
        "a": (colour(scene()), scene()),
        "b": (colour(nearly), nearly),
        "c": (colour(scene(seed=7)), scene(seed=7)),
    }
    report = verify(load_dataset("folder", make_folder(tmp_path, pairs)))
    assert report.ok
    assert [row.near_duplicate_of for row in report.pairs] == ["b", "a", ""]
    assert "2 pairs resemble" in report.notes[0]


def test_a_dataset_without_files_can_be_verified() -> None:
    report = verify(load_dataset("sample", count=2, width=160, height=120))
    assert report.ok
    assert [row.channel_difference for row in report.pairs] == [None, None]
    assert report.shifts == [] or max(report.shifts) < 2
