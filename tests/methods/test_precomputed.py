"""Folders of fused images: what is served, and what each kind of bad file is answered with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.images import write_png
from tgfbench.methods import METHODS, FusionBatch, create_method, load_method
from tgfbench.methods.precomputed import Precomputed

SIZE = (37, 53)
COLOUR = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, SIZE, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "fused"
    write_png(folder / "colour.png", COLOUR)
    Image.fromarray(GREY).save(folder / "grey.bmp")
    return folder


def batch(*keys: str) -> FusionBatch:
    count = len(keys)
    return FusionBatch(torch.rand(count, 3, *SIZE), torch.rand(count, 1, *SIZE), [""] * count, None, list(keys))


def test_serves_exact_pixels_by_key(folder: Path) -> None:
    fused = Precomputed(folder).fuse(batch("grey", "colour"))
    assert fused.shape == (2, 3, *SIZE)
    eight_bit = fused.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(eight_bit[0], np.repeat(GREY[..., None], 3, axis=2))
    np.testing.assert_array_equal(eight_bit[1], COLOUR)


def test_missing_image_is_named_with_a_close_one(folder: Path) -> None:
    with pytest.raises(DataError, match=rf"(?s)fused image of color from {folder}.*color\.png.*did you mean colour"):
        Precomputed(folder).fuse(batch("grey", "color"))


def test_wrong_size_names_the_file_and_both_sizes(folder: Path) -> None:
    write_png(folder / "small.png", COLOUR[:20, :30])
    with pytest.raises(DataError, match=r"(?s)small\.png.*found: 30x20 pixels.*expected: 53x37 pixels"):
        Precomputed(folder).fuse(batch("small"))


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_corrupt_file_is_named_and_the_others_are_served(folder: Path, damage: str) -> None:
    whole = (folder / "colour.png").read_bytes()
    (folder / "bad.png").write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no image", "empty": b""}[damage])
    method = Precomputed(folder)
    with pytest.raises(DataError, match=r"reading the image .*bad\.png"):
        method.fuse(batch("bad"))
    assert method.fuse(batch("colour")).shape == (1, 3, *SIZE)


def test_unmatched_files_are_listed(folder: Path) -> None:
    (folder / "notes.txt").write_text("not an image")
    method = Precomputed(folder)
    assert method.unmatched(["colour", "grey"]) == []
    assert method.unmatched(["colour", "another"]) == ["grey.bmp"]


def test_provenance_follows_names_and_contents_but_not_the_place(folder: Path) -> None:
    first = Precomputed(folder).provenance()
    assert first["images"] == 2
    moved = folder.rename(folder.parent / "elsewhere")
    (moved / "notes.txt").write_text("not an image")
    assert Precomputed(moved).provenance() == first
    (moved / "grey.bmp").rename(moved / "gray.bmp")
    renamed = Precomputed(moved).provenance()
    write_png(moved / "colour.png", 255 - COLOUR)
    changed = Precomputed(moved).provenance()
    assert len({entry["images_sha256"] for entry in (first, renamed, changed)}) == 3


def test_own_name_appears_on_the_card_of_that_instance_only(folder: Path) -> None:
    method = create_method(METHODS.load("precomputed"), {"folder": str(folder), "name": "MyNet-v1.2"}, device="cpu")
    assert (method.info.name, method.info.title) == ("MyNet-v1.2", "MyNet-v1.2")
    assert Precomputed.info.name == "precomputed"


@pytest.mark.parametrize("name", ["", "a/b", "../up", "two words", "a@b"])
def test_name_that_cannot_be_a_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="naming precomputed results"):
        Precomputed(folder, name=name)


def test_folder_without_images_or_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"looking for fused images in {tmp_path}"):
        load_method("precomputed", device="cpu", folder=str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        load_method("precomputed", device="cpu", folder=str(tmp_path / "absent"))


def test_two_images_of_one_stem_are_refused(folder: Path) -> None:
    write_png(folder / "grey.png", GREY)
    with pytest.raises(DataError, match=r"grey\.bmp and grey\.png"):
        Precomputed(folder)
