"""Checkpoints: what a method can load, where it lies, who trained it, and reading it safely."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pickle
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from tgfbench.benchmark.errors import MAX_LISTED, WeightsError, suggest

if TYPE_CHECKING:
    from torch import Tensor, nn


CONTAINERS = ("model", "state_dict")
"""Entries under which training scripts store a state dict beside the optimiser's state and the like."""


class WeightsInfo(BaseModel):
    """One named checkpoint of a method's catalogue.

    Attributes:
        name: what ``--weights`` calls it.
        origin: "authors" (the paper's own file) or "project" (trained by tgfbench; see ``card``).
        file: path inside the method's folder for weights shipped with tgfbench, "" otherwise.
        url: where the authors publish it, as documentation.
        sha256: of the file, "" where unknown.
        licence: licence of the weights.
        layout: how the file is organised (containers, prefixes, several files).
        get: the steps to obtain the file, printed when it is missing.
        trained_on: datasets, with split and the number of pairs, whose images the weights have seen.
        trained_keys: sample keys seen in training, by dataset name; boards mark pairs found here.
        card: who trained it on what, in a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    origin: Literal["authors", "project"]
    file: str = ""
    url: str = ""
    sha256: str = ""
    licence: str = ""
    layout: str = ""
    get: str = ""
    trained_on: tuple[str, ...] = ()
    trained_keys: Mapping[str, tuple[str, ...]] = {}
    card: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A file that exists and whose hash is known.

    Attributes:
        name: catalogue name, or stem and hash of a user's own file.
        path: the file.
        sha256: of its content.
        origin: "authors", "project" or "user" (a path that is in no catalogue).
        info: the catalogue entry, None for a user's own file.
    """

    name: str
    path: Path
    sha256: str
    origin: Literal["authors", "project", "user"]
    info: WeightsInfo | None = field(default=None, compare=False)

    @property
    def trained_keys(self) -> Mapping[str, tuple[str, ...]]:
        """Sample keys seen in training, by dataset name; {} where they are not known."""
        return self._training[0] if self.info is None else self.info.trained_keys

    @property
    def card(self) -> str:
        """Who trained it on what, in a sentence; "" where that is not known."""
        return self._training[1] if self.info is None else self.info.card

    @property
    def _training(self) -> tuple[Mapping[str, tuple[str, ...]], str]:
        """Keys and sentence of the card that ``tgfbench train`` wrote beside a user's own file."""
        try:
            card = json.loads((self.path.parent / "card.json").read_text(encoding="utf-8"))
            if card["sha256"] != self.sha256:
                return {}, ""
            data = ", ".join(f"{name} ({len(keys)})" for name, keys in card["keys"].items())
            return trained_keys(card), f"trained by the user with tgfbench: {card['steps']} steps on {data}"
        # No card, or a file of that name that is something else: nobody promised one.
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return {}, ""


def trained_keys(card: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the training pairs of a training card (``keys`` by ``dataset:split``) by dataset."""
    found: dict[str, tuple[str, ...]] = {}
    for name, keys in card["keys"].items():
        dataset = name.partition(":")[0]
        found[dataset] = (*found.get(dataset, ()), *keys)
    return found


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_checkpoint(
    method: str, catalogue: tuple[WeightsInfo, ...], folder: Path, request: str | Path | None
) -> Checkpoint | None:
    """Find the file behind ``--weights``.

    Args:
        method: the method's name, for messages.
        catalogue: its weights, the default one first; empty for a method without parameters.
        folder: the method's folder, which shipped files are relative to.
        request: a catalogue name, a path, or None for the default.

    Returns:
        The checkpoint, or None for a method without parameters.

    Raises:
        WeightsError: no such file or name, nothing usable offline, or a wrong hash.
    """
    doing = f"finding weights for {method}"
    if not catalogue:
        if request:
            raise WeightsError(doing, found=f"--weights {request}", expected="none: this method has no parameters")
        return None
    known = {info.name: info for info in catalogue}
    if request is None:
        request = next((info.name for info in catalogue if info.file), None)
        if request is None:
            raise WeightsError(doing, found="no weights shipped with tgfbench", hint=how_to_get(catalogue))
    if str(request) in known:
        info = known[str(request)]
        if not info.file:
            raise WeightsError(f"{doing}: {info.name!r}", found="not shipped with tgfbench", hint=how_to_get((info,)))
        path = folder / info.file
        if not path.is_file():
            raise WeightsError(
                f"{doing}: {info.name!r}",
                found=f"{path} is missing",
                hint="reinstall tgfbench; this file is part of it",
            )
        return Checkpoint(info.name, path, verified(path, info), info.origin, info)
    path = Path(request).expanduser()
    if not path.is_file():
        found = f"{path} is neither a file nor a name of the catalogue"
        raise WeightsError(doing, found=found, hint=f"{suggest(str(request), known)}; or the path of a checkpoint")
    digest = sha256_of(path)
    for info in catalogue:
        if info.sha256 == digest:
            return Checkpoint(info.name, path, digest, info.origin, info)
    return Checkpoint(f"{path.stem}-{digest[:8]}", path, digest, "user")


def how_to_get(catalogue: tuple[WeightsInfo, ...]) -> str:
    """Return the printed steps that lead to the files of these entries."""
    steps = []
    for info in catalogue:
        where = info.get or (f"download {info.url}" if info.url else "ask the authors for the file")
        steps.append(f"{info.name} ({info.origin}): {where}, then pass --weights PATH")
    return "; ".join(steps) or "train the method first (tgfbench train)"


def verified(path: Path, info: WeightsInfo) -> str:
    """Return the hash of a catalogue file, refusing one that differs from its card."""
    digest = sha256_of(path)
    if info.sha256 and digest != info.sha256:
        raise WeightsError(
            f"checking {path}", found=f"sha256 {digest}", expected=f"sha256 {info.sha256}", hint="fetch the file again"
        )
    return digest


def write_checkpoint(path: Path, content: object) -> None:
    """Write a file that ``read_checkpoint`` reads, atomically.

    Args:
        path: its folder is made.
        content: tensors in dicts and lists, strings and numbers.

    Raises:
        OSError: no room; a write by torch itself would not say so.
    """
    import torch

    from tgfbench.benchmark.images import write_atomically

    stored = io.BytesIO()
    torch.save(content, stored)
    write_atomically(path, lambda file: file.write(stored.getbuffer()))


def read_checkpoint(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint without running any code it may hold.

    Args:
        path: ``.safetensors`` (metadata entry ``config`` holds JSON), a file written by ``torch.save``, or a
            TorchScript archive, of which the tensors are read.

    Returns:
        The content as stored (for safetensors and TorchScript a dict of tensors) and the metadata ({} where the format
        has none).

    Raises:
        WeightsError: truncated or foreign file, or a pickle that would run code; names the file.
    """
    doing = f"reading the checkpoint {path}"
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a mapping)
                metadata = file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise WeightsError(doing, found=str(error), expected="a complete safetensors file") from error
        return tensors, {key: _json(value) for key, value in metadata.items()}

    import torch

    from tgfbench.benchmark.compat.torchscript import is_torchscript, read_torchscript

    try:
        if is_torchscript(path):
            return read_torchscript(path), {}
        # Training scripts store their command line: a class of Python's own, which only holds values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except pickle.UnpicklingError as error:
        # torch's own advice is to load the file unsafely.
        code = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it would call {code[1]}" if code else "no checkpoint, or a damaged one"
        raise WeightsError(
            doing,
            found=f"content that loading plain tensors refuses ({what})",
            expected="tensors in dicts and lists, as torch.save writes a state dict",
            hint="if you trust the file's author, save its state dict again as safetensors",
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        UnicodeDecodeError,
    ) as error:
        # The words of these two are Python's inner ones.
        damaged = isinstance(error, KeyError | EOFError) or not str(error).strip()
        reason = "no checkpoint, or a damaged one" if damaged else str(error).strip().splitlines()[0]
        raise WeightsError(
            doing, found=reason, expected="a complete file written by torch.save", hint="fetch the file again"
        ) from error


def state_dict_of(content: Any) -> Any:
    """Return the state dict that a checkpoint's content is, or holds in one of ``CONTAINERS``.

    The prefix that a parallel wrapper puts before every key is dropped. Other content is returned unchanged.
    """
    if isinstance(content, Mapping):
        held = (content[name] for name in CONTAINERS if isinstance(content.get(name), Mapping))
        content = next(held, content)
        if content and all(str(key).startswith("module.") for key in content):
            return {key.removeprefix("module."): value for key, value in content.items()}
    return content


def load_strict(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        WeightsError: lists the keys that are missing, unexpected or of another shape; nothing is loaded then.
    """
    own = network.state_dict()
    if not isinstance(state, Mapping) or not all(hasattr(value, "shape") for value in state.values()):
        entries = state if isinstance(state, Mapping) else ()
        others = [str(name) for name in entries if not hasattr(state[name], "shape")]
        listed = f" (no tensors: {', '.join(others[:MAX_LISTED])})" if others else ""
        found = f"{type(state).__name__} instead of named tensors{listed}"
        raise WeightsError(f"loading {path} into {type(network).__name__}", found=found, expected="a state dict")
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    misshaped = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        f"{len(keys)} {title}: {', '.join(keys[:MAX_LISTED])}{', …' if len(keys) > MAX_LISTED else ''}"
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
        if keys
    ]
    if problems:
        raise WeightsError(
            f"loading {path} into {type(network).__name__}",
            found="; ".join(problems),
            expected=f"exactly the {len(own)} tensors of this network",
            hint="this file belongs to another method or configuration",
        )
    network.load_state_dict(dict(state), strict=True)


def folder_of(cls: type) -> Path:
    """Return the folder of the module that defines a class: shipped weights lie below it."""
    module = sys.modules[cls.__module__]
    return Path(str(module.__file__)).parent


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
