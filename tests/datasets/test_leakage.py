"""Near-duplicates by perceptual hash, and what the cards say about training."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tgfbench.datasets import load_dataset
from tgfbench.datasets.base import DatasetInfo, TrainingUse
from tgfbench.datasets.hashing import THRESHOLD, PairHashes, near_duplicates, pair_hash
from tgfbench.datasets.leakage import hash_dataset, overlap, seen_in_training, training_overlap


def info(name: str, **more: object) -> DatasetInfo:
    return DatasetInfo(name=name, title=name, source="here", licence="none", splits=("test", "train", "all"), **more)


BASE = info("base", used_in_training_by=(TrainingUse(method="My-Net"), TrainingUse(method="vague", split="all")))
MIXED = info("mixed", derived_from=("base",), used_in_training_by=(TrainingUse(method="mixer"),))
REPACKED = info("re-packed", derived_from=("base",), keeps_splits=True, used_in_training_by=(TrainingUse(method="r"),))
PART = TrainingUse(method="choosy", images_of=("base",))
TWOFOLD = info("two-fold", derived_from=("base", "re-packed"), used_in_training_by=(PART,))
KNOWN = {card.name: card for card in (BASE, MIXED, REPACKED, TWOFOLD)}


@pytest.mark.parametrize(
    ("method", "dataset", "split", "levels"),
    [
        ("my_net", "base", "train", ["seen"]),
        ("MyNet", "Base", "all", ["seen"]),
        ("my-net", "base+haze:3", "train", ["seen"]),
        ("my-net", "base", "test", []),
        ("other", "base", "train", []),
        ("my-net", "unknown", "train", []),
        ("vague", "base", "test", ["possible"]),
        ("my-net", "mixed", "test", ["possible"]),
        ("mixer", "base", "test", ["possible"]),
        ("my-net", "repacked", "test", []),
        ("my-net", "repacked", "train", ["possible"]),
        ("r", "base", "test", []),
        ("vague", "repacked", "test", ["possible"]),
        ("choosy", "base", "test", ["possible"]),
        ("choosy", "repacked", "test", []),
        ("choosy", "twofold", "train", ["seen"]),
    ],
)
def test_cards_tell_what_was_seen(method: str, dataset: str, split: str, levels: list[str]) -> None:
    found = seen_in_training(method, dataset, split, KNOWN)
    assert [one.level for one in found] == levels
    assert all("trained on" in one.reason for one in found)


def test_registered_cards_are_the_default() -> None:
    assert seen_in_training("film", "msrs", "train")[0].level == "seen"
    assert seen_in_training("film", "msrs", "test") == ()
    assert seen_in_training("textfusion", "tno", "test") == ()
    assert seen_in_training("textfusion", "llvip", "test")[0].level == "possible"


def changed(image: np.ndarray, how: str) -> np.ndarray:
    if how == "scaled":
        return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    if how == "dark":
        return (image * 0.4).astype(np.uint8)
    if how == "noisy":
        return (image + np.random.default_rng(0).normal(0, 12, image.shape)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    return np.array(Image.open(buffer))


@pytest.mark.parametrize("how", ["scaled", "dark", "noisy", "compressed"])
def test_copies_are_recognised_and_other_scenes_are_not(how: str) -> None:
    samples = list(load_dataset("sample", count=12, width=320, height=240))
    keys = [sample.key for sample in samples]
    originals = PairHashes.of("a", keys, [pair_hash(sample.visible, sample.infrared) for sample in samples])
    copies = PairHashes.of(
        "b", keys, [pair_hash(changed(sample.visible, how), changed(sample.infrared, how)) for sample in samples]
    )
    matches = near_duplicates(originals, copies)
    assert {match.first for match in matches if match.first == match.second} == set(keys)
    assert all(match.distance <= THRESHOLD for match in matches)


def test_one_modality_alone_is_enough() -> None:
    rng = np.random.default_rng(5)
    visible, infrared, other = (cv2.GaussianBlur(rng.integers(0, 256, (64, 80), np.uint8), (0, 0), 4) for _ in range(3))
    images = [
        np.clip((image.astype(float) - 127) * 8 + 127, 0, 255).astype(np.uint8) for image in (visible, infrared, other)
    ]
    rgb = np.repeat(images[0][..., None], 3, axis=2)
    first, second = (PairHashes.of("", ["x"], [pair_hash(rgb, side)]) for side in images[1:])
    assert [match.distance for match in near_duplicates(first, second)] == [0]


def test_flat_images_resemble_nothing() -> None:
    black = pair_hash(np.zeros((50, 60, 3), np.uint8), np.full((50, 60), 9, np.uint8))
    assert black == (None, None)
    assert near_duplicates(PairHashes.of("", ["a", "b"], [black, black])) == []


def test_rows_are_compared_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgfbench.datasets.hashing.ROWS_AT_A_TIME", 2)
    values = [(value, value) for value in (1, 2**40 - 1, 1, 2**62, 2**40 - 1)]
    matches = near_duplicates(PairHashes.of("", list("abcde"), values), threshold=0)
    assert [(match.first, match.second) for match in matches] == [("a", "c"), ("b", "e")]


def test_the_detection_subset_of_msrs_overlaps_its_training_pairs(shared: Path) -> None:
    train, detection = (load_dataset("msrs", shared / "data", split) for split in ("train", "detection"))
    leaked = {match.second for match in overlap(train, detection)}
    frames = {key.rstrip("DN").lstrip("0") for key in train.keys}
    assert leaked == frames & set(detection.keys)
    assert leaked


def test_test_lists_of_real_data_do_not_leak(shared: Path) -> None:
    for name in ("roadscene", "m3fd"):
        train, test = (load_dataset(name, shared / "data", split) for split in ("train", "test"))
        assert overlap(train, test) == []


def test_degraded_and_renamed_copies_are_recognised(shared: Path) -> None:
    data = shared / "data"
    tno, ivt = load_dataset("tno", data), load_dataset("ivt", data / "captions/textfusion", "test_tno")
    assert {match.second for match in overlap(tno, ivt)} == set(ivt.keys)
    degraded = hash_dataset(load_dataset("ems-lite", data / "textif_degraded"))
    msrs = hash_dataset(load_dataset("msrs", data))
    assert {(m.first, m.second) for m in near_duplicates(msrs, degraded)} == {
        ("00016N", "00016N"),
        ("00036N", "00036N"),
    }


class Opened:
    """As much of a dataset as is asked for here."""

    def __init__(self, name: str, split: str, keys: tuple[str, ...] = ("x", "y", "z")) -> None:
        self.info, self.split, self.keys = KNOWN[name.partition("+")[0]].model_copy(update={"name": name}), split, keys

    def __len__(self) -> int:
        return len(self.keys)


@pytest.mark.parametrize(
    ("origin", "trained", "tested", "seen", "note"),
    [
        ("project", {"base": ("x", "w")}, Opened("base", "test"), 1, ""),
        ("project", {"base": ("x",)}, Opened("base+haze-3", "test"), 1, ""),
        ("project", {"base": ("w",)}, Opened("mixed", "test"), 0, "1 pair of base, which shares images with mixed"),
        ("project", {"mixed": ("w",)}, Opened("re-packed", "test"), 0, "1 pair of mixed"),
        ("project", {"other": ("x",)}, Opened("base", "test"), 0, ""),
        ("authors", {}, Opened("base", "train"), 3, ""),
        ("authors", {}, Opened("base", "test"), 0, ""),
        ("authors", {}, Opened("mixed", "test"), 0, "trained on base, split train, which shares images with mixed"),
        ("user", {}, Opened("base", "train"), 0, "the authors' weights were trained on base, split train"),
    ],
)
def test_what_weights_have_seen(
    origin: str, trained: dict[str, tuple[str, ...]], tested: Opened, seen: int, note: str
) -> None:
    found = training_overlap("my-net", origin, trained, tested, KNOWN)  # type: ignore[arg-type]
    assert found[0] == seen
    assert note in found[1]
    assert bool(note) == bool(found[1])
