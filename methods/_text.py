"""Choosing the text encoder that a network was made for."""

from __future__ import annotations

from collections.abc import Mapping

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.text import TextEncoder, load_text_encoder


def choose_encoder(method: str, name: str, weights: str | None, width: int, of_width: Mapping[int, str]) -> TextEncoder:
    """Return the text encoder for a network.

    Args:
        method: its title, for messages.
        name: of the encoder; ``auto`` takes that of the network's text width.
        weights: of the encoder, where it needs any.
        width: of the network's text features.
        of_width: encoder names by width.

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
    encoder = load_text_encoder(name, **({} if name == "minilm" and weights is None else {"weights": weights}))
    if encoder.width != width:
        found = f"{name} of width {encoder.width} for a network of text width {width}"
        raise UsageError(doing, found=found, expected="an encoder of the network's width")
    return encoder
