"""Exact rewrites that several methods use for inference on the CPU.

Convolutional networks at full resolution are bound by memory traffic: maps of many channels are written to main memory
and read again between cheap operations. Working through an image in strips of rows keeps them in the cache. What needs
the whole image (means, Gram matrices) is accumulated strip by strip first.

Maps are kept as (H, W, C), so that a 1x1 convolution is a matrix product and layer norm reads consecutive numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def haloed_strips(
    x: Tensor, rows: int, channels: Sequence[int], enter: Callable[[int, int, list[Tensor]], None]
) -> Iterator[tuple[int, int, tuple[Tensor, ...]]]:
    """Walk through an image for 3x3 convolutions of maps that are computed on the way; no row is computed twice.

    Args:
        x: (H, W, ...) gives size, dtype and device.
        rows: of a strip.
        channels: of each map.
        enter: called with (first, last, parts), writes rows ``first`` to ``last`` of the maps to (last - first, W, C).

    Yields:
        (start, stop, maps): for each map (stop - start + 2, W, C), one more row above and below, zero where the image
        ends. The maps are overwritten by the next strip.
    """
    height, width = x.shape[:2]
    rows = min(rows, height)
    buffers = [x.new_empty(rows + 2, width, count) for count in channels]
    for start, stop in strips(height, rows):
        first, last = start + 1 if start else 0, min(stop + 1, height)
        for buffer in buffers:
            if start:
                buffer[:2] = buffer[rows:].clone() if rows < 2 else buffer[rows:]
            else:
                buffer[0] = 0
        if first < last:
            enter(first, last, [buffer[first - start + 1 : last - start + 1] for buffer in buffers])
        for buffer in buffers:
            if stop == height:
                buffer[stop - start + 1] = 0
        yield start, stop, tuple(buffer[: stop - start + 2] for buffer in buffers)


def entered_strips(
    x: Tensor, rows: int, *projections: tuple[Tensor, Tensor]
) -> Iterator[tuple[int, int, tuple[Tensor, ...]]]:
    """Walk through an image for 3x3 convolutions of its normalised and projected pixels; see ``haloed_strips``.

    Args:
        x: (H, W, C), not to be changed meanwhile.
        rows: of a strip.
        *projections: weight (C', C) and bias (C'), applied after ``channel_norm``.

    Yields:
        (start, stop, maps): for each projection (stop - start + 2, W, C').
    """

    def enter(first: int, last: int, parts: list[Tensor]) -> None:
        normed = channel_norm(x[first:last]).flatten(0, 1)
        for part, (weight, bias) in zip(parts, projections, strict=True):
            torch.addmm(bias, normed, weight.t(), out=part.view(-1, len(bias)))

    return haloed_strips(x, rows, [len(bias) for _, bias in projections], enter)


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


def attend_channels(
    x: Tensor,
    values: Tensor,
    rows: int,
    entry: tuple[Tensor, Tensor],
    taps: Tensor,
    temperature: Tensor,
    projection: Tensor,
) -> None:
    """Add to an image what its channels attend to, as the first half of a Restormer block does.

    Args:
        x: (H, W, C), overwritten.
        values: a map of that shape to use.
        rows: of a strip.
        entry: weight (3C, C) and bias (3C) from normalised pixels to queries, keys and values; see ``fold_affine``.
        taps: (3C, 1, 3, 3), the depthwise convolution behind it.
        temperature: (heads, 1, 1).
        projection: (C, C) or (C, C, 1, 1), of the attended values.
    """
    gram = ChannelGram(x.shape[-1], len(temperature), x)
    for start, stop, (strip,) in entered_strips(x, rows, entry):
        q, k, values[start:stop] = depthwise(strip, taps).chunk(3, dim=-1)
        gram.add(q.flatten(0, 1), k.flatten(0, 1))
    mixing = gram.mixing(temperature, projection)
    x.view(-1, x.shape[-1]).addmm_(values.view(-1, x.shape[-1]), mixing.t())


def feed_forward_gated(
    x: Tensor, out: Tensor, rows: int, entry: tuple[Tensor, Tensor], taps: Tensor, projection: Tensor
) -> None:
    """Write an image and the answer of its gated feed-forward part, the second half of a Restormer block, to ``out``.

    Args:
        x: (H, W, C).
        out: a map of that shape.
        rows: of a strip.
        entry: weight (2M, C) and bias (2M) from normalised pixels to M channels for the gate and M that are gated.
        taps: (2M, 1, 3, 3), the depthwise convolution behind it.
        projection: (C, M) or (C, M, 1, 1).
    """
    channels, leave = x.shape[-1], projection.flatten(1)
    # Gate and value apart: each is consecutive in memory and smaller than the cache.
    to_gate, to_value = taps.chunk(2)
    enter = zip(*(part.chunk(2) for part in entry), strict=True)
    for start, stop, (gate, value) in entered_strips(x, rows, *enter):
        hidden = F.gelu(depthwise(gate, to_gate)).mul_(depthwise(value, to_value)).flatten(0, 1)
        unchanged, target = (image[start:stop].view(-1, channels) for image in (x, out))
        torch.addmm(unchanged, hidden, leave.t(), out=target)


Reference = TypeVar("Reference", bound=nn.Module)


class FastNetwork(nn.Module, Generic[Reference]):
    """A network rearranged for inference, without approximation; has no parameters but the reference's.

    A subclass defines ``compute``, which takes the reference's inputs and returns the fused images.

    Args:
        reference: the network as in its paper, in its final place and precision.
        rows: of a strip; None chooses by device.
    """

    reference: Reference
    compute: Callable[..., Tensor]

    def __init__(self, reference: Reference, rows: int | None = None) -> None:
        super().__init__()
        self.reference, self.rows = reference, rows

    @torch.inference_mode()
    def forward(self, **inputs: Tensor | None) -> Tensor:
        """Return the fused images that the reference returns for the same inputs, up to rounding."""
        images = inputs["visible"]
        if images is not None and torch.is_autocast_enabled(images.device.type):
            # Products that are written in place cannot change their precision; the reference's layers can.
            return self.by_reference(**inputs).float()
        return self.compute(**inputs)

    def by_reference(self, **inputs: Tensor | None) -> Tensor:
        """Return the fused images that the reference computes."""
        return self.reference(**inputs)


class Step(nn.Module):
    """A function as a module, so that the audit finds it and can answer its calls from memory.

    Args:
        function: what it calls; must not write into its arguments.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any) -> Any:
        return self.function(*arguments)
