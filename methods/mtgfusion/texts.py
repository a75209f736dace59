"""The five texts of a pair: ready-made features, text files of the release's layout, or one prompt for all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.text import FeatureFiles, TextEncoder
from tgfbench.benchmark.weights import sha256_of

FOLDERS = {
    "tA": "text_ir",
    "tB": "text_vi",
    "tAB": "text_ir_vi_common",
    "tAS": "text_irunique",
    "tBS": "text_viunique",
}
"""Network input and the release's folder: texts about the infrared and the visible image, about what both show and
about what only the infrared and only the visible image shows."""


class Features:
    """Token features from a folder whose subfolders are named as in ``FOLDERS`` and hold ``<sample key>.npy``.

    Raises:
        DataError: a subfolder is missing or empty.
    """

    def __init__(self, folder: str | Path, width: int) -> None:
        self.files = {name: FeatureFiles(Path(folder).expanduser() / sub, width) for name, sub in FOLDERS.items()}

    def tokens(self, key: str, prompt: str) -> dict[str, Tensor]:
        """Return the network's text inputs, (1, L, width) each, for a sample; the prompt is ignored."""
        return {name: files.read(key)[None] for name, files in self.files.items()}

    @property
    def identity(self) -> str:
        """Hashes of the contents."""
        return " ".join(f"{name}={files.identity}" for name, files in self.files.items())


class TextFiles:
    """Texts from a folder whose subfolders are named as in ``FOLDERS`` and hold ``<sample key>.txt``.

    Raises:
        DataError: a subfolder is missing or holds no text.
    """

    def __init__(self, folder: str | Path, encoder: TextEncoder) -> None:
        self.folder, self.encoder = Path(folder).expanduser(), encoder
        for sub in FOLDERS.values():
            if not any((self.folder / sub).glob("*.txt")):
                raise DataError(
                    f"looking for the texts of MTG-Fusion in {self.folder}",
                    found=f"no .txt file in {sub}",
                    expected=f"the folders {', '.join(FOLDERS.values())}, each with <sample key>.txt",
                )

    def tokens(self, key: str, prompt: str) -> dict[str, Tensor]:
        """Return the network's text inputs, (1, L, width) each, for a sample; the prompt is ignored.

        Raises:
            DataError: a text of the sample is missing or not UTF-8.
        """
        return {name: self.encoder.encode([self._read(sub, key)]).tokens for name, sub in FOLDERS.items()}

    def _read(self, sub: str, key: str) -> str:
        path = self.folder / sub / f"{key}.txt"
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"reading the text {path}", found=str(error), expected="a text in UTF-8") from error

    @property
    def identity(self) -> str:
        """Hash of the texts, and the encoder."""
        files = sorted(path for sub in FOLDERS.values() for path in (self.folder / sub).glob("*.txt"))
        listed = "".join(f"{path.relative_to(self.folder).as_posix()}\0{sha256_of(path)}\n" for path in files)
        return f"texts:{hashlib.sha256(listed.encode()).hexdigest()[:16]} {self.encoder.identity}"


class OnePrompt:
    """The prompt stands for all five texts; the empty one, and every prompt without an encoder, gives zeros."""

    def __init__(self, encoder: TextEncoder | None, width: int) -> None:
        self.encoder, self.width = encoder, width

    def tokens(self, key: str, prompt: str) -> dict[str, Tensor]:
        """Return the network's text inputs, (1, L, width) each."""
        if not prompt or self.encoder is None:
            return dict.fromkeys(FOLDERS, torch.zeros(1, 1, self.width))
        return dict.fromkeys(FOLDERS, self.encoder.encode([prompt]).tokens)

    @property
    def identity(self) -> str:
        """The encoder."""
        return self.encoder.identity if self.encoder else "zeros"
