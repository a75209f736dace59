"""Reading and writing images, and the colour conventions that more than one room needs."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from tgfbench.benchmark.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 64_000_000
"""Larger headers are refused before decoding: no dataset comes near, and a forged header would fill the memory."""


def read_visible(path: Path) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) RGB.

    Raises:
        DataError: the file is missing, unreadable or absurdly large; names the file.
    """
    return _decode(path, lambda image: _eight_bit(image).convert("RGB"))


def read_infrared(path: Path) -> np.ndarray:
    """Read an image as uint8 (H, W); three equal channels are collapsed, 16-bit data keeps its eight high bits.

    Colour-mapped (pseudo-colour) infrared becomes its BT.601 luma.

    Raises:
        DataError: the file is missing, unreadable or absurdly large; names the file.
    """
    return _decode(path, lambda image: _eight_bit(image).convert("L"))


def read_label_map(path: Path) -> np.ndarray:
    """Read a map of class ids as uint8 (H, W): palettes keep their indices, three equal channels are collapsed."""

    def ids(image: Image.Image) -> Image.Image:
        return image if image.mode in ("L", "P") else image.getchannel(0)

    return _decode(path, ids).astype(np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from the file's header without decoding it.

    Raises:
        DataError: the file is missing or its header unreadable.
    """
    with _opened(path) as image:
        return image.height, image.width


def write_png(path: Path, pixels: np.ndarray, notes: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write uint8 (H, W, 3) RGB or (H, W) losslessly; the file appears whole or not at all.

    Args:
        path: where to.
        pixels: the image.
        notes: texts to keep inside the file, by keyword.
    """
    chunks = PngInfo()
    for keyword, text in notes.items():
        chunks.add_itxt(keyword, text)
    buffer = io.BytesIO()
    # Level 1 costs a few per cent of size and saves most of the encoding time.
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1, pnginfo=chunks)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def read_png_notes(path: Path) -> dict[str, str]:
    """Return the texts kept inside a PNG; {} where there are none or the file is no PNG."""
    try:
        with Image.open(path) as image:
            return {keyword: str(text) for keyword, text in getattr(image, "text", {}).items()}
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return {}


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name beside it and rename it: a kill leaves no half file under the real name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the image files directly in a folder by stem, sorted; hidden files and other suffixes are skipped.

    Raises:
        DataError: the folder does not exist, or two images share a stem.
    """
    if not folder.is_dir():
        raise DataError(f"looking for images in {folder}", found="no such folder", hint="check the path")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise DataError(
                f"looking for images in {folder}",
                found=f"{found[path.stem].name} and {path.name}, which share a stem",
                expected="one image per stem",
                hint="remove or rename one of them",
            )
        found[path.stem] = path
    return found


def _opened(path: Path) -> Image.Image:
    doing = f"reading the image {path}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except FileNotFoundError:
        raise DataError(doing, found="no such file") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(doing, found=f"{type(error).__name__}: {error}", expected="a readable image") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}x{image.height} pixels"
        image.close()
        raise DataError(doing, found=size, expected=f"at most {MAX_PIXELS} pixels", hint="crop or shrink the image")
    return image


def _decode(path: Path, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    with _opened(path) as image:
        try:
            return np.array(convert(image))
        # Decoders report broken data through any of these; MemoryError comes from forged chunk lengths.
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError, IndexError, TypeError) as error:
            raise DataError(
                f"reading the image {path}",
                found=f"{type(error).__name__}: {error}",
                expected="a complete, readable image",
                hint="fetch the file again",
            ) from error


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        # Pillow opens 16-bit grey as I or I;16; the high byte is what an 8-bit export of the camera holds.
        scale = 256 if values.max(initial=0) > 255 else 1
        return Image.fromarray(np.clip(np.floor(values / scale), 0, 255).astype(np.uint8))
    return image
