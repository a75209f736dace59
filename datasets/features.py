"""Texts that the authors of a dataset encoded themselves: NumPy files of token features."""

from __future__ import annotations

import struct
import tokenize
import zipfile
from pathlib import Path

import numpy as np

from tgfbench.benchmark.errors import DataError

FEATURE_SUFFIX = ".npy"
BROKEN = (
    *(OSError, ValueError, EOFError, SyntaxError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError),
    *(tokenize.TokenError, zipfile.BadZipFile, struct.error),
)
"""What NumPy raises on broken files: it takes the header for Python text and any archive for several arrays."""

MAX_FEATURE_VALUES = 16_000_000
"""More than 20,000 tokens of 768 values: no text comes near."""


def check_features(path: Path) -> str:
    """Return why a file does not hold the token features of one text, or "" where its header says it does."""
    try:
        _mapped(path)
    except DataError as error:
        return f"{error.found}, expected {error.expected}"
    return ""


def read_features(path: Path) -> np.ndarray:
    """Read the token features of one text, float32 (L, D): L tokens of D values.

    Raises:
        DataError: the file is missing, no NumPy file, or of another shape or type; names the file.
    """
    return as_features(np.array(_mapped(path)), path)


def as_features(values: np.ndarray, path: Path) -> np.ndarray:
    """Return (L, D) or (1, L, D) features as float32 (L, D).

    Raises:
        DataError: another shape, no real numbers, too many or non-finite values; names the file.
    """
    _check_form(values, path)
    if not np.isfinite(values).all():
        raise _error(path, "non-finite values")
    return values.reshape(values.shape[-2:]).astype(np.float32, copy=False)


def _check_form(values: np.ndarray, path: Path) -> None:
    leading = values.shape[:-2]
    if values.ndim < 2 or any(extent != 1 for extent in leading) or not 0 < values.size <= MAX_FEATURE_VALUES:
        raise _error(path, f"shape {values.shape}")
    if values.dtype.kind != "f":
        raise _error(path, f"type {values.dtype}")


def _mapped(path: Path) -> np.ndarray:
    """Open the file without reading the values: a forged header cannot make us allocate what is not there."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN as error:
        raise _error(path, f"{type(error).__name__}: {error}") from None
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise _error(path, "an archive of arrays")
    _check_form(mapped, path)
    return mapped


def _error(path: Path, found: str) -> DataError:
    expected = f"float features of shape (1, tokens, width) or (tokens, width), at most {MAX_FEATURE_VALUES} values"
    return DataError(f"reading the text features {path}", found=found, expected=expected, hint="fetch the file again")
