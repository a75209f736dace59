"""What every registered dataset keeps: on real samples where there are some, else on miniatures of its layout."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets import DATASETS, load_dataset
from tgfbench.datasets.base import Dataset, DatasetInfo, Labels

# Pairs in each split of the sample data; what a split holds in full is a fact of the dataset.
REAL: dict[str, dict[str, int]] = {
    "tno": {"test": 36},
    "roadscene": {"test": 50, "train": 10, "all": 60},
    "msrs": {"test": 66, "train": 9, "all": 75, "detection": 21},
    "fmb": {"test": 5, "all": 5},
    "llvip": {"test": 9, "train": 30, "all": 39},
    "m3fd": {"test": 3, "train": 5, "all": 8},
    "folder": {"test": 36},
}
BUILT_IN = [name for name in DATASETS.names() if DATASETS.entry(name).target.startswith("tgfbench.")]
MINIATURE_SPLITS = [(name, split) for name in BUILT_IN if name != "sample" for split in DATASETS.load(name).info.splits]
Miniature = Callable[[str], tuple[Path, dict[str, tuple[str, ...]]]]
SPLITS = [(name, split) for name, splits in REAL.items() for split in splits]


def open_real(name: str, shared: Path, split: str = "test", **options: Any) -> Dataset:
    return load_dataset(name, shared / "data" / ("tno" if name == "folder" else ""), split, **options)


def open_any(name: str, request: pytest.FixtureRequest) -> Dataset:
    if name == "sample":
        return load_dataset(name)
    if name in REAL:
        return open_real(name, request.getfixturevalue("shared"))
    root, _ = request.getfixturevalue("miniature")(name)
    return load_dataset(name, root, "all" if "all" in DATASETS.load(name).info.splits else "test")


def same_labels(a: Labels | None, b: Labels | None) -> bool:
    return (a is None) == (b is None) and (
        a is None
        or b is None
        or all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_card(name: str) -> None:
    info = DATASETS.load(name).info
    assert isinstance(info, DatasetInfo)
    assert info.name == name
    assert info.splits
    assert "test" in info.splits
    assert len(info.palette) in (0, len(info.segmentation_classes))
    assert all((info.title, info.source, info.licence, info.layout, info.known_problems))
    assert set(info.counts) <= set(info.splits)
    assert {use.split for use in info.used_in_training_by} <= {*info.splits, "all"}
    assert set(info.derived_from) <= set(DATASETS.names())
    assert info.ignored_segmentation_class is None or info.ignored_segmentation_class < len(info.segmentation_classes)
    assert len(set(info.classes)) == len(info.classes)


@pytest.mark.parametrize("name", BUILT_IN)
def test_samples_keep_the_contract(name: str, request: pytest.FixtureRequest) -> None:
    check_contract(open_any(name, request))


@pytest.mark.parametrize(("name", "split"), MINIATURE_SPLITS)
def test_miniatures_keep_the_contract_in_every_split(name: str, split: str, miniature: Miniature) -> None:
    root, splits = miniature(name)
    dataset = load_dataset(name, root) if name == "folder" else load_dataset(name, root, split)
    assert dataset.keys == splits[split]
    assert dataset.problems == ()
    check_contract(dataset)


def check_contract(dataset: Dataset) -> None:
    keys = dataset.keys[:8]
    assert list(dataset.keys) == sorted(set(dataset.keys))
    assert len(dataset) == len(dataset.keys) > 0
    for key in keys:
        sample = dataset[key]
        height, width = sample.infrared.shape
        assert sample.key == key
        assert not set(key) & set('/\\:*?"<>|')
        assert (sample.visible.dtype, sample.visible.shape) == (np.uint8, (height, width, 3))
        assert sample.infrared.dtype == np.uint8
        assert all(text and text == text.strip() for field in dataclasses.astuple(sample.texts) for text in field)
        if sample.reference is not None:
            assert (sample.reference.dtype, sample.reference.shape) == (np.uint8, (height, width, 3))
        if sample.clean is not None:
            assert (sample.clean.visible.dtype, sample.clean.visible.shape) == (np.uint8, (height, width, 3))
            assert (sample.clean.infrared.dtype, sample.clean.infrared.shape) == (np.uint8, (height, width))
        if sample.text_features is not None:
            assert (sample.text_features.dtype, sample.text_features.ndim) == (np.float32, 2)
        assert all(path.is_file() for path in dataset.files(key).values())
        if sample.labels is None:
            continue
        boxes, classes = sample.labels.boxes, sample.labels.classes
        assert (boxes.dtype, boxes.shape) == (np.float32, (len(classes), 4))
        assert classes.dtype == np.int64
        assert np.all((classes >= 0) & (classes < len(dataset.info.classes)))
        assert np.all((boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= (width, height)))
        if sample.labels.segmentation is not None:
            assert (sample.labels.segmentation.dtype, sample.labels.segmentation.shape) == (np.uint8, (height, width))
            assert sample.labels.segmentation.max() < len(dataset.info.segmentation_classes)


@pytest.mark.parametrize("name", BUILT_IN)
def test_two_openings_and_a_pickled_copy_are_equal(name: str, request: pytest.FixtureRequest) -> None:
    first, second = open_any(name, request), open_any(name, request)
    copy = pickle.loads(pickle.dumps(second))
    keys = first.keys[:2]
    assert first.keys == second.keys == copy.keys
    assert first.fingerprint(keys) == second.fingerprint(keys) == copy.fingerprint(keys)
    assert first.fingerprint(keys) != first.fingerprint(keys[:1])
    a, b = first.load(keys[0]), copy.load(keys[0])
    assert np.array_equal(a.visible, b.visible)
    assert np.array_equal(a.infrared, b.infrared)
    assert a.texts == b.texts
    assert same_labels(a.labels, b.labels)


@pytest.mark.parametrize("name", BUILT_IN)
def test_unknown_split_and_key_are_refused(name: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(UsageError, match="split 'nosuch'"):
        load_dataset(name, ".", "nosuch")
    dataset = open_any(name, request)
    for access in (dataset.load, dataset.__getitem__):
        with pytest.raises(UsageError, match="no such key"):
            access("no such key")


@pytest.mark.parametrize("name", BUILT_IN)
def test_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no_such_option"):
        load_dataset(name, ".", no_such_option=1)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_real_folders_are_served_whole(name: str, split: str, shared: Path) -> None:
    dataset = open_real(name, shared, split)
    assert len(dataset) == REAL[name][split]
    assert dataset.problems == ()
    if name != "folder" and split != "detection":
        assert all(len(dataset[key].texts.captions) == 5 for key in dataset.keys[::7])


@pytest.mark.parametrize("name", [name for name, splits in REAL.items() if {"all", "train"} <= set(splits)])
def test_splits_partition_all(name: str, shared: Path) -> None:
    test, train, both = (open_real(name, shared, split).keys for split in ("test", "train", "all"))
    assert not set(test) & set(train)
    assert sorted(test + train) == list(both)


@pytest.mark.parametrize("name", ["tno", "roadscene", "msrs", "llvip", "m3fd", "fmb"])
def test_every_level_of_root_finds_the_same_files_and_captions(
    name: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shared / "data" / name
    levels = [own] + [own / inner for inner in ("LLVIP", "M3FD_Detection") if (own / inner).is_dir()]
    expected = open_real(name, shared).fingerprint()
    for level in levels:
        assert load_dataset(name, level).fingerprint() == expected
    monkeypatch.setenv("TGFBENCH_DATA", str(shared / "data"))
    assert load_dataset(name.upper()).fingerprint() == expected


def box_counts(dataset: Dataset) -> tuple[Counter[str], int]:
    labels = [sample.labels for sample in dataset if sample.labels is not None]
    counts = Counter(dataset.info.classes[index] for found in labels for index in found.classes)
    return counts, sum(not len(found.classes) for found in labels)


def test_msrs_boxes_are_all_read(shared: Path) -> None:
    assert box_counts(open_real("msrs", shared, "all")) == ({"person": 191, "bicycle": 33, "car": 81}, 2)


def test_msrs_official_boxes_go_by_frame_number(shared: Path) -> None:
    dataset = open_real("msrs", shared, "train", detection="official")
    labels = dataset["00001D"].labels
    assert labels is not None
    # The first line of the official 1.txt: 2 0.221094 0.493750 0.117188 0.170833, on 640x480.
    np.testing.assert_allclose(labels.boxes[0], [104, 196, 179, 278], atol=0.01)
    assert labels.classes[0] == 2


@pytest.mark.parametrize("annotations", ["voc", "yolo"])
def test_m3fd_boxes_are_all_read(annotations: str, shared: Path) -> None:
    counts, _ = box_counts(open_real("m3fd", shared, "all", annotations=annotations))
    assert counts == {"People": 76, "Car": 28, "Lamp": 11, "Motorcycle": 1}


def test_m3fd_voc_and_yolo_boxes_agree(shared: Path) -> None:
    voc, yolo = (open_real("m3fd", shared, "all", annotations=kind)["00388"].labels for kind in ("voc", "yolo"))
    assert voc is not None
    assert yolo is not None
    order = [np.lexsort((*found.boxes.round(-1).T, found.classes)) for found in (voc, yolo)]
    np.testing.assert_allclose(voc.boxes[order[0]], yolo.boxes[order[1]], atol=1.0)


def test_llvip_sidecar_boxes_only_on_request(shared: Path) -> None:
    without, with_boxes = (open_real("llvip", shared, sidecar_boxes=on) for on in (False, True))
    assert without["190002"].labels is None
    found = with_boxes["190002"].labels
    assert found is not None
    assert set(found.classes) == {0}
    assert same_labels(without["190001"].labels, with_boxes["190001"].labels)


def test_pointing_at_the_high_resolution_folder_is_explained(shared: Path) -> None:
    home = shared / "data" / "roadscene"
    for folder in ("crop_HR_visible", "infrared"):
        with pytest.raises(Exception, match="about three times larger"):
            load_dataset("roadscene", home / folder)
    for visible, infrared in (("crop_HR_visible", "cropinfrared"), ("crop_LR_visible", "infrared")):
        with pytest.raises(Exception, match="about three times larger"):
            load_dataset("folder", visible=home / visible, infrared=home / infrared)
