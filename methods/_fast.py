"""Exact rewrites that several methods use for inference on the CPU.

Convolutional networks at full resolution are bound by memory traffic: maps of many channels are written to and read from
main memory between cheap operations. Working through an image in strips of rows keeps them in the cache. What needs the
whole image (means, Gram matrices) is accumulated strip by strip first.

Maps are kept as (H, W, C), so that a 1x1 convolution is a matrix product and layer norm reads consecutive numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def strips(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive strips of ``rows`` rows; the last one may have fewer."""
    for start in range(0, height, rows):
        yield start, min(start + rows, height)


def zero_haloed(x: Tensor, start: int, stop: int, halo: int) -> Tensor:
    """Return rows ``start - halo`` to ``stop + halo`` of (H, ...), rows outside being zero."""
    inner = x[max(start - halo, 0) : min(stop + halo, len(x))]
    above, below = max(halo - start, 0), max(stop + halo - len(x), 0)
    if not above and not below:
        return inner
    return torch.cat([x.new_zeros(above, *x.shape[1:]), inner, x.new_zeros(below, *x.shape[1:])])


def mirrored_rows(height: int, start: int, stop: int) -> list[int]:
    """Return the rows that stand for rows ``start`` to ``stop`` when the image is mirrored at its borders (``reflect``)."""
    period = 2 * max(height - 1, 1)
    folded = (row % period for row in range(start, stop))
    return [min(row, period - row) for row in folded]


def fold_affine(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the map that first scales and shifts its input.

    Args:
        weight: (out, in) or (out, in, 1, 1).
        bias: (out), or None.
        scale, shift: (in), e.g. those of a layer norm.

    Returns:
        (out, in) and (out): W diag(scale) and W shift + bias.
    """
    matrix = weight.flatten(1)
    folded = matrix @ shift
    return matrix * scale, folded if bias is None else folded + bias


def channel_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return layer norm of (..., C) over its channels, without weight and bias."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a depthwise convolution to (H, W, C), zero-padded at the sides only, not above and below.

    Rows above and below are the caller's: a strip with its halo of ``kernel // 2`` rows comes back without it.

    Args:
        x: a strip with its halo.
        weight: (C, 1, kernel, kernel).
        bias: (C), or None.
    """
    image = x.permute(2, 0, 1)[None]
    out = F.conv2d(image, weight, bias, padding=(0, weight.shape[-1] // 2), groups=len(weight))
    return out[0].permute(1, 2, 0)


class ChannelGram:
    """What channel attention (Restormer's MDTA) needs of queries and keys, accumulated strip by strip.

    Queries and keys are L2-normalised over all pixels before their product. Norms and products of the raw ones suffice
    for that: the attention among the channels of a head is softmax(temperature * (q k^T) / (|q| |k|)).

    Args:
        channels: C.
        heads: of the attention; each has C / heads consecutive channels.
        like: gives dtype and device.
    """

    def __init__(self, channels: int, heads: int, like: Tensor) -> None:
        width = channels // heads
        self.heads = heads
        self.products = like.new_zeros(heads, width, width)
        self.squares_q = like.new_zeros(heads, width)
        self.squares_k = like.new_zeros(heads, width)

    def add(self, q: Tensor, k: Tensor) -> None:
        """Add pixels (N, C)."""
        q, k = (x.unflatten(1, (self.heads, -1)).permute(1, 2, 0) for x in (q, k))
        self.products += q @ k.transpose(1, 2)
        self.squares_q += q.square().sum(dim=2)
        self.squares_k += k.square().sum(dim=2)

    def mixing(self, temperature: Tensor, projection: Tensor, eps: float = 1e-12) -> Tensor:
        """Return (C_out, C), attention followed by the output projection, as one map on the values of a pixel.

        Args:
            temperature: (heads, 1, 1).
            projection: (C_out, C) or (C_out, C, 1, 1).
            eps: least norm.
        """
        norm_q, norm_k = (squares.sqrt().clamp_min(eps) for squares in (self.squares_q, self.squares_k))
        logits = self.products / (norm_q[:, :, None] * norm_k[:, None]) * temperature
        return projection.flatten(1) @ torch.block_diag(*logits.softmax(dim=-1))
