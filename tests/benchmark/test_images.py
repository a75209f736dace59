"""Images come in many modes and states; they come out the same way, or are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import (
    image_size,
    images_by_stem,
    read_infrared,
    read_label_map,
    read_png_notes,
    read_visible,
    write_atomically,
    write_png,
)

GREY = np.arange(35 * 51, dtype=np.uint16).reshape(35, 51) % 256


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "LA"])
def test_infrared_reads_alike_from_every_mode(tmp_path: Path, mode: str) -> None:
    grey = GREY.astype(np.uint8)
    if mode == "I;16":
        Image.fromarray(GREY.astype(np.uint16) * 256 + 17).save(tmp_path / "ir.png")
    else:
        Image.fromarray(grey).convert(mode).save(tmp_path / "ir.png")
    read = read_infrared(tmp_path / "ir.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, grey)


def test_sixteen_bit_files_that_hold_eight_bit_values_keep_them(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16)).save(tmp_path / "ir.png")
    np.testing.assert_array_equal(read_infrared(tmp_path / "ir.png"), GREY)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_visible_is_always_rgb(tmp_path: Path, mode: str) -> None:
    Image.fromarray(GREY.astype(np.uint8)).convert(mode).save(tmp_path / "vi.png")
    read = read_visible(tmp_path / "vi.png")
    assert (read.shape, read.dtype) == ((35, 51, 3), np.uint8)


def test_label_maps_keep_palette_indices(tmp_path: Path) -> None:
    ids = (GREY % 9).astype(np.uint8)
    image = Image.fromarray(ids).convert("P")
    image.putpalette([255 - value for value in range(256) for _ in range(3)])
    image.save(tmp_path / "label.png")
    stored = np.asarray(Image.open(tmp_path / "label.png"))
    np.testing.assert_array_equal(read_label_map(tmp_path / "label.png"), stored)
    Image.fromarray(np.stack([ids] * 3, axis=-1)).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "rgb.png"), ids)


def test_png_is_lossless_and_carries_its_notes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    write_png(tmp_path / "a.png", pixels, {"prompt": "über <b> 行人"})
    np.testing.assert_array_equal(read_visible(tmp_path / "a.png"), pixels)
    assert read_png_notes(tmp_path / "a.png") == {"prompt": "über <b> 行人"}
    assert image_size(tmp_path / "a.png") == (37, 53)


def test_a_failing_writer_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")

    def fails(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, fails)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_skip_what_is_no_image_and_refuse_double_stems(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png", "Thumbs.db", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert list(images_by_stem(tmp_path)) == ["a", "b"]
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.JPG and a\.png"):
        images_by_stem(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        images_by_stem(tmp_path / "absent")


@pytest.mark.parametrize("read", [read_visible, read_infrared, read_label_map, image_size])
def test_what_cannot_be_read_is_named(tmp_path: Path, read: object) -> None:
    with pytest.raises(DataError, match=r"absent\.png"):
        read(tmp_path / "absent.png")  # type: ignore[operator]
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png"):
        read(tmp_path / "text.png")  # type: ignore[operator]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_files_raise_data_errors_only(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Truncation and flipped bytes give an image or a DataError, never anything else."""
    path = tmp_path_factory.mktemp("damaged") / "x.png"
    write_png(path, np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        assert read_visible(path).ndim == 3
    except DataError as error:
        assert str(path) in str(error)
