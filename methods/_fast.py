"""Exact rewrites that several methods use for inference on the CPU.

Convolutional networks at full resolution are bound by memory traffic: maps of many channels are written to main memory
and read again between cheap operations. Working through an image in strips of rows keeps them in the cache. What needs
the whole image (means, Gram matrices) is accumulated strip by strip first.

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


def as_image(x: Tensor) -> Tensor:
    """Return (H, W, C) as (1, C, H, W), a view that convolutions recognise as channels-last.

    They go by strides, those of axes of length one included: ``x.permute(2, 0, 1)[None]`` has others and is copied.
    """
    return x[None].permute(0, 3, 1, 2)


def mirrored_rows(height: int, start: int, stop: int) -> list[int]:
    """Return the rows that stand for rows ``start`` to ``stop`` of an image mirrored at its borders (``reflect``)."""
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
    # The batch axis comes first: added last, it would hide from torch that the image is channels-last already.
    image = x[None].permute(0, 3, 1, 2)
    out = F.conv2d(image, weight, bias, padding=(0, weight.shape[-1] // 2), groups=len(weight))
    return out[0].permute(1, 2, 0)


def channel_moments(x: Tensor, numbers: int = 2**18) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel of (N, C), in float64.

    Each strip, of about ``numbers`` numbers, is centred at its own mean, and strips are combined in float64: the result
    is as precise as two passes over the data, at the memory traffic of one.
    """
    counts, means, deviations = [], [], []
    for start, stop in strips(len(x), max(numbers // x.shape[1], 1)):
        strip = x[start:stop]
        mean = strip.mean(dim=0)
        counts.append(stop - start)
        means.append(mean)
        deviations.append((strip - mean).square_().sum(dim=0))
    weights = torch.tensor(counts, dtype=torch.float64, device=x.device)[:, None] / len(x)
    each, squares = torch.stack(means).double(), torch.stack(deviations).double().sum(dim=0)
    mean = (weights * each).sum(dim=0)
    return mean, squares / len(x) + (weights * (each - mean).square()).sum(dim=0)


def entered_strips(
    x: Tensor, rows: int, *projections: tuple[Tensor, Tensor]
) -> Iterator[tuple[int, int, tuple[Tensor, ...]]]:
    """Walk through an image for 3x3 convolutions of its normalised and projected pixels; no row is projected twice.

    Args:
        x: (H, W, C), not to be changed meanwhile.
        rows: of a strip.
        *projections: weight (C', C) and bias (C'), applied after ``channel_norm``.

    Yields:
        (start, stop, maps): for each projection (stop - start + 2, W, C'), one more row above and below, zero where the
        image ends. The maps are overwritten by the next strip.
    """
    height, width, _ = x.shape
    rows = min(rows, height)
    buffers = [x.new_empty(rows + 2, width, len(bias)) for _, bias in projections]
    for start, stop in strips(height, rows):
        first, last = start + 1 if start else 0, min(stop + 1, height)
        normed = channel_norm(x[first:last]).flatten(0, 1)
        for buffer, (weight, bias) in zip(buffers, projections, strict=True):
            if start:
                buffer[:2] = buffer[rows:].clone() if rows < 2 else buffer[rows:]
            else:
                buffer[0] = 0
            offset = first - start + 1
            torch.addmm(bias, normed, weight.t(), out=buffer[offset : offset + last - first].view(-1, len(bias)))
            if stop == height:
                buffer[stop - start + 1] = 0
        yield start, stop, tuple(buffer[: stop - start + 2] for buffer in buffers)


def normed_strips(x: Tensor, rows: int) -> Iterator[tuple[int, int, Tensor]]:
    """Walk through an image for 3x3 convolutions of its normalised pixels; no row is normalised twice.

    A 1x1 convolution before a 3x3 convolution, and nothing in between, are one 3x3 convolution but for the first one's
    bias, which zero padding stops at the border. The bias is the weight of a channel that is 1 inside the image.

    Args:
        x: (H, W, C), not to be changed meanwhile.
        rows: of a strip.

    Yields:
        (start, stop, strip): (stop - start + 2, W + 2, C + 1), pixels after ``channel_norm`` and ones, zero where the
        image ends. It is overwritten by the next strip.
    """
    height, width, channels = x.shape
    rows = min(rows, height)
    buffer = x.new_zeros(rows + 2, width + 2, channels + 1)
    for start, stop in strips(height, rows):
        first, last = start + 1 if start else 0, min(stop + 1, height)
        if start:
            buffer[:2] = buffer[rows:].clone() if rows < 2 else buffer[rows:]
        inside = buffer[first - start + 1 : last - start + 1, 1:-1]
        inside[..., :channels] = channel_norm(x[first:last])
        inside[..., channels] = 1
        if stop == height:
            buffer[stop - start + 1] = 0
        yield start, stop, buffer[: stop - start + 2]


class ChannelGram:
    """What channel attention (Restormer's MDTA) needs of queries and keys, accumulated strip by strip.

    Queries and keys are L2-normalised over all pixels before their product. Norms and products of the raw ones suffice
    for that: the attention among the channels of a head is softmax(temperature * (q k^T) / (|q| |k|)).

    Args:
        channels: C.
        heads: of the attention; each has C / heads consecutive channels.
        like: gives dtype and device.
    """

    PIXELS = 512
    """Pixels multiplied at a time: a running float32 sum over a whole image loses two decimals."""

    def __init__(self, channels: int, heads: int, like: Tensor) -> None:
        self.heads = heads
        self.products = like.new_zeros(channels, channels)
        self.squares_q = like.new_zeros(channels)
        self.squares_k = like.new_zeros(channels)

    def add(self, q: Tensor, k: Tensor) -> None:
        """Add pixels (N, C)."""
        # All pairs of channels in one product are faster than each head's few.
        for part_q, part_k in zip(q.split(self.PIXELS), k.split(self.PIXELS), strict=True):
            self.products += part_q.t() @ part_k
        self.squares_q += q.square().sum(dim=0)
        self.squares_k += k.square().sum(dim=0)

    def mixing(self, temperature: Tensor, projection: Tensor, eps: float = 1e-12) -> Tensor:
        """Return (C_out, C), attention followed by the output projection, as one map on the values of a pixel.

        Args:
            temperature: (heads, 1, 1).
            projection: (C_out, C) or (C_out, C, 1, 1).
            eps: least norm.
        """
        norm_q, norm_k = (squares.sqrt().clamp_min(eps) for squares in (self.squares_q, self.squares_k))
        cosines = self.products / torch.outer(norm_q, norm_k)
        width = len(cosines) // self.heads
        heads = [cosines[h : h + width, h : h + width] for h in range(0, len(cosines), width)]
        attention = (torch.stack(heads) * temperature).softmax(dim=-1)
        return projection.flatten(1) @ torch.block_diag(*attention)
