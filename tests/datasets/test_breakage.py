"""Broken and unusual files, on miniatures of the official layouts: the rest is served and each problem is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.datasets import load_dataset
from tgfbench.datasets.base import Dataset, Labels

SIZE = (13, 17)  # odd on purpose


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def make_pairs(visible: Path, infrared: Path, names: list[str], suffix: str = ".png") -> None:
    for seed, name in enumerate(names):
        save(visible / f"{name}{suffix}", pixels(seed, *SIZE, 3))
        save(infrared / f"{name}{suffix}", pixels(seed + 100, *SIZE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pairs(tmp_path / "vi", tmp_path / "ir", ["a", "b", "c"])
    return tmp_path


def reported(dataset: Dataset) -> list[tuple[str, str]]:
    return [(problem.kind, Path(problem.item).name) for problem in dataset.problems]


def test_pixels_are_served_as_stored(folder: Path) -> None:
    for seed, sample in enumerate(load_dataset("folder", folder)):
        assert np.array_equal(sample.visible, pixels(seed, *SIZE, 3))
        assert np.array_equal(sample.infrared, pixels(seed + 100, *SIZE))


def test_unpaired_images_are_named_and_left_out(folder: Path) -> None:
    (folder / "vi" / "b.png").unlink()
    save(folder / "vi" / "d.png", pixels(0, *SIZE, 3))
    dataset = load_dataset("folder", folder)
    assert dataset.keys == ("a", "c")
    assert reported(dataset) == [("unpaired", "b.png"), ("unpaired", "d.png")]
    assert str(folder / "vi") in dataset.problems[0].detail


def test_a_size_mismatch_is_named_with_both_sizes(folder: Path) -> None:
    save(folder / "ir" / "b.png", pixels(0, 5, 7))
    dataset = load_dataset("folder", folder)
    assert dataset.keys == ("a", "c")
    assert reported(dataset) == [("size-mismatch", "b")]
    assert "17x13" in dataset.problems[0].detail
    assert "7x5" in dataset.problems[0].detail


def test_an_unreadable_header_is_a_problem(folder: Path) -> None:
    (folder / "ir" / "b.png").write_bytes(b"not an image")
    dataset = load_dataset("folder", folder)
    assert dataset.keys == ("a", "c")
    assert reported(dataset) == [("unreadable", "b.png")]


def test_a_truncated_image_fails_alone_when_decoded(folder: Path) -> None:
    path = folder / "ir" / "b.png"
    path.write_bytes(path.read_bytes()[:-60])
    dataset = load_dataset("folder", folder)
    assert dataset.keys == ("a", "b", "c")
    with pytest.raises(DataError, match=r"ir/b\.png"):
        dataset.load("b")
    assert dataset.load("c").key == "c"


def test_an_image_changed_after_opening_is_refused(folder: Path) -> None:
    dataset = load_dataset("folder", folder)
    save(folder / "vi" / "b.png", pixels(0, 5, 7, 3))
    with pytest.raises(DataError, match=r"vi/b\.png of 7x5"):
        dataset.load("b")


def test_a_vanished_image_is_named(folder: Path) -> None:
    dataset = load_dataset("folder", folder)
    (folder / "vi" / "b.png").unlink()
    for access in (lambda: dataset.load("b"), dataset.fingerprint):
        with pytest.raises(DataError, match=r"vi/b\.png"):
            access()


def test_stray_files_are_skipped(folder: Path) -> None:
    for name in ("Thumbs.db", ".hidden.png", "notes.txt"):
        (folder / "vi" / name).write_bytes(b"x")
    (folder / "vi" / "z.png").mkdir()
    dataset = load_dataset("folder", folder)
    assert dataset.keys == ("a", "b", "c")
    assert dataset.problems == ()


def test_two_files_with_one_stem_are_reported(folder: Path) -> None:
    save(folder / "vi" / "b.bmp", pixels(1, *SIZE, 3))
    dataset = load_dataset("folder", folder)
    assert dataset.keys == ("a", "b", "c")
    assert reported(dataset) == [("duplicate", "b.png")]


def test_suffixes_may_differ_within_a_pair(folder: Path) -> None:
    save(folder / "vi" / "d.TIF", pixels(5, *SIZE, 3))
    save(folder / "ir" / "d.bmp", pixels(6, *SIZE))
    assert "d" in load_dataset("folder", folder).keys


def test_names_that_cannot_name_a_result_are_reported(folder: Path) -> None:
    for modality in ("vi", "ir"):
        (folder / modality / "a.png").rename(folder / modality / "a:b.png")
    dataset = load_dataset("folder", folder)
    assert dataset.keys == ("b", "c")
    assert reported(dataset) == [("unreadable", "a:b.png")] * 2
    assert "holds ':'" in dataset.problems[0].detail


INFRARED_STORED_AS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "L": lambda grey: grey,
    "RGB": lambda grey: np.repeat(grey[..., None], 3, axis=2),
    "16-bit": lambda grey: grey.astype(np.uint16) * 256 + 200,
}


@pytest.mark.parametrize("mode", INFRARED_STORED_AS)
def test_infrared_loads_the_same_however_it_is_stored(mode: str, folder: Path) -> None:
    grey = pixels(9, *SIZE)
    save(folder / "ir" / "b.png", INFRARED_STORED_AS[mode](grey))
    assert np.array_equal(load_dataset("folder", folder).load("b").infrared, grey)


@pytest.mark.parametrize("what", ["missing", "file", "empty", "no image"])
@pytest.mark.parametrize("name", ["folder", "tno", "roadscene", "msrs", "llvip", "m3fd"])
def test_a_wrong_root_is_refused_with_its_path(name: str, what: str, tmp_path: Path) -> None:
    root = tmp_path / "place"
    if what == "file":
        root.write_text("x")
    elif what == "empty":
        root.mkdir()
    elif what == "no image":
        for sub in (
            "ir",
            "vi",
            "crop_LR_visible",
            "cropinfrared",
            "test/ir",
            "test/vi",
            "visible/test",
            "infrared/test",
        ):
            (root / sub).mkdir(parents=True)
        (root / "splits").mkdir()
        (root / "splits" / "zxSplit_test.txt").touch()
    with pytest.raises(DataError) as caught:
        load_dataset(name, root)
    assert str(root) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["tno", "roadscene", "msrs", "llvip", "m3fd"])
def test_no_root_says_what_is_expected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TGFBENCH_DATA", raising=False)
    with pytest.raises(UsageError, match="TGFBENCH_DATA") as caught:
        load_dataset(name)
    assert f"{name}/" in caught.value.expected
    assert f"get it with `tgfbench datasets download {name}` (source: " in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [{}, {"visible": "vi"}, {"infrared": "ir"}, {"visible": "vi", "infrared": "vi"},
     {"root": ".", "visible": "vi", "infrared": "ir"}],
)  # fmt: skip
def test_folder_refuses_half_a_request(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TGFBENCH_DATA", "/somewhere")
    with pytest.raises(UsageError, match="opening a pair of folders"):
        load_dataset("folder", **options)


@pytest.mark.parametrize("names", [("visible", "infrared"), ("Vis", "Ir"), ("VI", "IR"), ("vis", "thermal")])
def test_folder_finds_the_usual_names(names: tuple[str, str], tmp_path: Path) -> None:
    make_pairs(tmp_path / names[0], tmp_path / names[1], ["x"])
    assert load_dataset("folder", tmp_path).keys == ("x",)


def test_folders_without_an_image_say_so(tmp_path: Path) -> None:
    (tmp_path / "vi").mkdir()
    (tmp_path / "ir").mkdir()
    (tmp_path / "ir" / "notes.txt").touch()
    with pytest.raises(DataError) as caught:
        load_dataset("folder", tmp_path)
    assert f"no image in {tmp_path / 'vi'}, no image in {tmp_path / 'ir'}" in caught.value.found


def test_folder_takes_two_folders_and_captions(folder: Path) -> None:
    (folder / "words.jsonl").write_text('{"key": "b", "captions": "One sentence."}\n')
    dataset = load_dataset("folder", visible=folder / "vi", infrared=folder / "ir", captions=folder / "words.jsonl")
    assert dataset["b"].texts.captions == ("One sentence.",)
    assert dataset["a"].texts.captions == ()


def test_missing_captions_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no\.jsonl"):
        load_dataset("folder", folder, captions=folder / "no.jsonl")


@pytest.mark.parametrize("change", ["pixel", "caption", "box file", "key"])
def test_the_fingerprint_follows_the_content(change: str, tmp_path: Path) -> None:
    make_pairs(tmp_path / "msrs/test/vi", tmp_path / "msrs/test/ir", ["00001D", "00002N"])
    boxes = tmp_path / "msrs/detection_lele3/fusion/test/00001D.txt"
    boxes.parent.mkdir(parents=True)
    boxes.write_text("0 0.5 0.5 0.2 0.2")
    captions = tmp_path / "captions/msrs.jsonl"
    captions.parent.mkdir()
    captions.write_text('{"key": "00001D", "captions": ["A road."]}\n')
    before = load_dataset("msrs", tmp_path)
    digests = before.fingerprint(), before.fingerprint(("00002N",))
    assert load_dataset("msrs", tmp_path).fingerprint() == digests[0] == before.fingerprint(("00002N", "00001D"))
    if change == "pixel":
        image = np.array(before["00001D"].infrared)
        image[3, 4] ^= 1
        save(tmp_path / "msrs/test/ir/00001D.png", image)
    elif change == "caption":
        captions.write_text('{"key": "00001D", "captions": ["A lane."]}\n')
    elif change == "box file":
        boxes.write_text("1 0.5 0.5 0.2 0.2")
    else:
        for modality in ("vi", "ir"):
            path = tmp_path / "msrs/test" / modality / "00001D.png"
            path.rename(path.with_stem("00003D"))
    after = load_dataset("msrs", tmp_path)
    assert after.fingerprint() != digests[0]
    assert after.fingerprint(("00002N",)) == digests[1]


def test_a_split_that_the_user_does_not_hold_is_named(tmp_path: Path) -> None:
    make_pairs(tmp_path / "roadscene/crop_LR_visible", tmp_path / "roadscene/cropinfrared", ["FLIR_99999"], ".jpg")
    with pytest.raises(DataError, match="1 pair, none of them in the split test"):
        load_dataset("roadscene", tmp_path)
    make_pairs(tmp_path / "msrs/train/vi", tmp_path / "msrs/train/ir", ["00001D"])
    assert load_dataset("msrs", tmp_path, "all").keys == ("00001D",)
    with pytest.raises(DataError, match=r"no folder .*test"):
        load_dataset("msrs", tmp_path)


def test_msrs_segmentation_is_checked_and_served(tmp_path: Path) -> None:
    make_pairs(tmp_path / "msrs/train/vi", tmp_path / "msrs/train/ir", ["00001D", "00003N"])
    maps = tmp_path / "msrs/train/Segmentation_labels"
    ids = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % 9
    save(maps / "00001D.png", ids)
    save(maps / "00003N.png", ids[:5])
    dataset = load_dataset("msrs", tmp_path, "train")
    assert reported(dataset) == [("label", "00003N.png")]
    assert dataset["00003N"].labels is None
    labels = dataset["00001D"].labels
    assert isinstance(labels, Labels)
    assert np.array_equal(labels.segmentation, ids)
    save(maps / "00001D.png", ids + 1)
    with pytest.raises(DataError, match=r"class id 9"):
        dataset.load("00001D")


def test_sidecar_boxes_become_labels(folder: Path) -> None:
    boxes = [
        {"label": "Pedestrians", "xyxy": [2, 3, 9, 99]},
        {"label": "kite", "xyxy": [1, 1, 2, 2]},
        {"label": "van", "xyxy": [40, 1, 50, 2]},
    ]
    (folder / "captions.jsonl").write_text(json.dumps({"key": "a", "boxes": boxes}))
    dataset = load_dataset("folder", folder)
    labels = dataset["a"].labels
    assert labels is not None
    assert labels.boxes.tolist() == [[2, 3, 9, 13]]
    assert [dataset.info.classes[index] for index in labels.classes] == ["person"]
    assert reported(dataset) == [("label", "captions of a")]
    assert "outside" in dataset.problems[0].detail
    assert load_dataset("folder", folder, sidecar_boxes=False)["a"].labels is None


def test_importing_the_package_is_light() -> None:
    heavy = "{'numpy', 'torch', 'pydantic', 'PIL'}"
    code = f"import sys, tgfbench.datasets as d; d.DATASETS.names(); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
