"""Where a network's text features come from: files, or the text encoder that it was made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.benchmark.text import FeatureFiles, TextEncoder, load_text_encoder


def text_source(
    method: str,
    features: str | Path | None,
    encoder: str,
    weights: str | None,
    width: int,
    of_width: Mapping[int, str],
    absent: Mapping[str, str],
) -> FeatureFiles | TextEncoder:
    """Return ready-made text features where there are any, else the encoder.

    Args:
        method: its title, for messages.
        features: folder or file of text features, or None.
        encoder, weights, width, of_width, absent: as for ``choose_encoder``.

    Raises:
        DataError: no text features where they should be.
        UsageError, WeightsError: as for ``choose_encoder``.
    """
    if features is not None:
        return FeatureFiles(features, width)
    return choose_encoder(method, encoder, weights, width, of_width, absent)


def choose_encoder(
    method: str,
    name: str,
    weights: str | None,
    width: int,
    of_width: Mapping[int, str],
    absent: Mapping[str, str] | None = None,
) -> TextEncoder:
    """Return the text encoder for a network.

    Args:
        method: its title, for messages.
        name: of the encoder; ``auto`` takes that of the network's text width.
        weights: of the encoder, where it needs any.
        width: of the network's text features.
        of_width: encoder names by width.
        absent: what to say where the encoder lacks its weights (found, expected, hint); None: what the encoder says.

    Raises:
        UsageError: no such encoder, or one of another width.
        WeightsError: the encoder lacks its weights; says how to get them.
    """
    doing = f"choosing {method}'s text encoder"
    if name == "auto":
        if width not in of_width:
            known = ", ".join(f"{known} ({encoder})" for known, encoder in of_width.items())
            found = f"a network of text width {width}"
            raise UsageError(doing, found=found, expected=known, hint="name the option text_encoder")
        name = of_width[width]
    if absent and weights is None and name in of_width.values() and name != "minilm":
        raise WeightsError(f"loading {method}", **absent)
    options = {} if name == "minilm" and weights is None else {"weights": weights}
    encoder = load_text_encoder(name, **options)
    # An encoder whose width is known here need not be loaded before the first text arrives.
    own = next((known for known, encoder_name in of_width.items() if encoder_name == name), None) or encoder.width
    if own != width:
        found = f"{name} of width {own} for a network of text width {width}"
        raise UsageError(doing, found=found, expected="an encoder of the network's width")
    return encoder


def sentence_vectors(
    source: FeatureFiles | TextEncoder, keys: Sequence[str], texts: Sequence[str], width: int
) -> Tensor:
    """Return (B, width), one vector per sample: from its file, or of its prompt.

    Raises:
        DataError: a sample's file is missing, has another width or holds more than one vector.
        UsageError: the encoder's vectors have another width.
    """
    if not isinstance(source, FeatureFiles):
        pooled = source.encode(list(texts)).pooled
        if pooled.shape[1] != width:
            found = f"{source.identity} with features of width {pooled.shape[1]}"
            raise UsageError(f"encoding texts of {', '.join(keys)}", found=found, expected=f"width {width}")
        return pooled
    features = [source.read(key) for key in keys]
    for key, feature in zip(keys, features, strict=True):
        if len(feature) != 1:
            doing, found = f"reading the text feature of {key} from {source.path}", f"{len(feature)} vectors"
            raise DataError(doing, found=found, expected=f"one sentence's feature, float (1, {width})")
    return torch.cat(features)
