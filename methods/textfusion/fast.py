"""TextFusion for inference: the network of ``network.py``, rearranged without approximation.

- A sentence acts linearly, so the D channels of the affine fusion unit and the 3x3 convolution behind it fold into nine
  maps per stream, which are shifted and added.
- The moments of the layer norm follow from mean and covariance of the 3x3 neighbourhoods of the grey image. With them
  known, patch embedding, norm and the projections to queries, keys and values are one linear map of a neighbourhood.
- ``rescale`` and ``rebias`` fold into the output projection; ``ass_QK`` has no influence.
- What is left is computed in strips of rows.

Folded weights are formed in float64. Everything before the text is in steps of its own, so that the audit computes it
once for all prompts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods._fast import FastNetwork, Step, as_image, fold_affine, mirrored_rows, strips
from tgfbench.methods.textfusion.network import (
    EPSILON,
    MULTIPLE,
    Block,
    RescaledLayerNorm,
    TextFusionNetwork,
    pad_to_multiple,
)

CPU_ROWS = 16
"""Rows of a strip on the CPU, a multiple of the window; elsewhere the image is one strip."""


class FastTextFusion(FastNetwork[TextFusionNetwork]):
    """TextFusion in strips of rows, whose number is a multiple of the window."""

    def __init__(self, reference: TextFusionNetwork, rows: int | None = None) -> None:
        super().__init__(reference, rows)
        self.prepare, self.hide = Step(self._prepare), Step(self._hidden)

    def compute(self, *, visible: Tensor, infrared: Tensor, text_feature: Tensor) -> Tensor:
        """Return the fused luma (B, 1, H, W); arguments are those of ``TextFusionNetwork.forward``."""
        texts = text_feature.expand(len(visible), -1)
        return torch.cat([self._fuse(*inputs) for inputs in zip(visible[:, 0], infrared[:, 0], texts, strict=True)])

    def _fuse(self, visible: Tensor, infrared: Tensor, text: Tensor) -> Tensor:
        """Return (1, 1, H, W)."""
        unit, last = self.reference.fuse_text_image, _conv(self.reference.patch_unembed1.proj, 0)
        per_channel = last.weight[0].flatten(1).double()
        to_taps = [
            _to_taps(side, last_of_side).to(visible.dtype)
            for side, last_of_side in ((unit.mlp_vis, per_channel), (unit.mlp_ir, per_channel * text.double()[:, None]))
        ]
        streams, bias = self.prepare(visible, infrared)
        height, width = (side - 2 for side in streams[0].image.shape)
        taps = visible.new_empty(9, height, width)
        for start, stop in strips(height, self.rows or (CPU_ROWS if visible.device.type == "cpu" else height)):
            of_visible, of_infrared = (
                (weight @ hidden.t()).view(9, -1, width)
                for weight, hidden in zip(to_taps, self.hide(streams, bias, start, stop), strict=True)
            )
            torch.add(of_visible, of_infrared, out=taps[:, start:stop])
        fused = _shift_and_add(taps) + _affine(last)[1].to(taps.dtype)
        return fused.tanh_().div_(2).add_(0.5)[None, None, : len(visible), : visible.shape[1]]

    def _prepare(self, visible: Tensor, infrared: Tensor) -> tuple[tuple[_Stream, _Stream], Tensor]:
        """Return both sources, (H, W), with their folded weights, and the bias (1, heads, N, N) of their windows."""
        network, unit = self.reference, self.reference.fuse_text_image
        (block,) = network.layer1.blocks
        assert isinstance(block, Block)
        attention = block.attn
        (qk_weight, qk_bias), (v_weight, v_bias) = _affine(attention.QK), _affine(attention.V)
        scale = torch.ones_like(torch.cat([qk_bias, v_bias]))
        scale[: len(v_bias)] = attention.attn.scale
        qkv = torch.cat([qk_weight, v_weight]) * scale[:, None], torch.cat([qk_bias, v_bias]) * scale
        streams = (
            _stream(
                visible,
                network.patch_embed.proj,
                block.norm1,
                qkv,
                attention.conv,
                attention.proj,
                block.mlp.mlp,
                unit.mlp_vis,
            ),
            _stream(
                infrared,
                network.patch_embed2.proj,
                block.ass_norm1,
                _affine(attention.ass_V),
                attention.conv_ass,
                attention.proj_ass,
                block.mlp_ass.mlp,
                unit.mlp_ir,
            ),
        )
        return streams, attention.attn.bias()[None]

    def _hidden(self, streams: tuple[_Stream, _Stream], bias: Tensor, start: int, stop: int) -> list[Tensor]:
        """Return for both sources the hidden channels (N, 2C) of the affine fusion unit, at the N pixels of a strip.

        Args:
            streams, bias: from ``_prepare``.
            start, stop: rows of the strip.
        """
        window = round(bias.shape[-1] ** 0.5)
        height, width = (side - 2 for side in streams[0].image.shape)
        attended_rows = mirrored_rows(height, start, start + -(-(stop - start) // window) * window)
        attended, answers = None, []
        for stream in streams:
            weight, conv_bias = stream.conv
            radius = weight.shape[-1] // 2
            value_rows = mirrored_rows(height, start - radius, stop + radius)
            first = min(value_rows + attended_rows)
            patches = _neighbourhoods(stream.image, first, max(value_rows + attended_rows) + 1)
            projected = torch.addmm(stream.projected[1], patches.flatten(0, 1), stream.projected[0])
            projected = projected.view(len(patches), width, -1)
            if attended is None:
                attended = _windows_attention(_rows(projected, attended_rows, first), bias, window)
                attended = attended[: stop - start, :width]
            channels = len(weight)
            values = as_image(_rows(projected[..., -channels:], value_rows, first))
            values = F.pad(values, (radius, radius, 0, 0), mode="reflect").contiguous(memory_format=torch.channels_last)
            mixed = F.conv2d(values, weight, conv_bias, groups=channels)[0].permute(1, 2, 0)
            mixed = (mixed + attended).reshape(-1, channels)
            x = torch.addmm(stream.output[1], mixed, stream.output[0])
            own = patches[start - first : stop - first].flatten(0, 1)
            x += torch.addmm(stream.features[1], own, stream.features[0])
            hidden = torch.addmm(stream.expand[1], x, stream.expand[0]).relu_()
            x += torch.addmm(stream.contract[1], hidden, stream.contract[0])
            answers.append((x @ stream.mix).relu_())
        return answers


class _Stream(NamedTuple):
    """One source with its folded weights; a pair is the weight, transposed for pixels as rows, and the bias.

    Attributes:
        image: (H + 2, W + 2), mirrored to a multiple and then by one pixel.
        features: 9 to C, the patch embedding.
        projected: 9 to 3C (queries, keys and values; visible) or to C (values; infrared), the norm in between included.
        conv: the depthwise convolution of the values, weight and bias.
        output: C to C, projection of the attention, rescaled.
        expand, contract: the feed-forward part.
        mix: C to 2C, first layer of the affine fusion unit.
    """

    image: Tensor
    features: tuple[Tensor, Tensor]
    projected: tuple[Tensor, Tensor]
    conv: tuple[Tensor, Tensor]
    output: tuple[Tensor, Tensor]
    expand: tuple[Tensor, Tensor]
    contract: tuple[Tensor, Tensor]
    mix: Tensor


def _stream(
    image: Tensor,
    embedding: nn.Conv2d,
    norm: RescaledLayerNorm,
    projection: tuple[Tensor, Tensor],
    conv: nn.Conv2d,
    output: nn.Conv2d,
    feed_forward: nn.Sequential,
    unit: nn.Sequential,
) -> _Stream:
    dtype = image.dtype
    padded = F.pad(pad_to_multiple(image[None, None], MULTIPLE), (1, 1, 1, 1), mode="reflect")[0, 0]
    weight, bias = _affine(embedding)
    mean, deviation = _moments(padded, weight, bias)
    scale = norm.weight.flatten().double() / deviation
    shift = norm.bias.flatten().double() - mean * scale
    (rescale_weight, rescale_bias), (rebias_weight, rebias_bias) = _affine(norm.meta1), _affine(norm.meta2)
    rescale = rescale_weight[:, 0] * deviation + rescale_bias
    rebias = rebias_weight[:, 0] * mean + rebias_bias
    normed_weight, normed_bias = fold_affine(projection[0], projection[1], scale, shift)
    out_weight, out_bias = _affine(output)
    assert conv.bias is not None

    def ready(matrix: Tensor, summand: Tensor) -> tuple[Tensor, Tensor]:
        return matrix.to(dtype).t().contiguous(), summand.to(dtype)

    return _Stream(
        image=padded,
        features=ready(weight, bias),
        projected=ready(normed_weight @ weight, normed_weight @ bias + normed_bias),
        conv=(conv.weight.detach(), conv.bias.detach()),
        output=ready(out_weight * rescale[:, None], out_bias * rescale + rebias),
        expand=ready(*_affine(_conv(feed_forward, 0))),
        contract=ready(*_affine(_conv(feed_forward, 2))),
        mix=_conv(unit, 0).weight.flatten(1).t().contiguous(),
    )


def _to_taps(unit: nn.Sequential, last: Tensor) -> Tensor:
    """Return (9, 2C), the second layer of an affine fusion unit and the last convolution (D, 9), in float64."""
    return last.t() @ _conv(unit, 2).weight.flatten(1).double()


def _conv(layers: nn.Sequential, number: int) -> nn.Conv2d:
    conv = layers[number]
    assert isinstance(conv, nn.Conv2d)
    return conv


def _affine(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight (out, in * kernel) and bias of a convolution, in float64."""
    assert conv.bias is not None
    return conv.weight.flatten(1).double(), conv.bias.double()


def _moments(padded: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation over channels and pixels of an image's patch embedding, in float64."""
    total = weight.new_zeros(9)
    gram = weight.new_zeros(9, 9)
    height, width = (side - 2 for side in padded.shape)
    for start, stop in strips(height, CPU_ROWS):
        patches = _neighbourhoods(padded, start, stop).flatten(0, 1).double()
        total += patches.sum(dim=0)
        gram += patches.t() @ patches
    mean = total / (height * width)
    covariance = gram / (height * width) - torch.outer(mean, mean)
    means = weight @ mean + bias
    variances = ((weight @ covariance) * weight).sum(dim=1)
    variance = (variances + (means - means.mean()).square()).mean()
    return means.mean(), (variance + EPSILON).sqrt()


def _neighbourhoods(padded: Tensor, start: int, stop: int) -> Tensor:
    """Return (stop - start, W, 9), the 3x3 neighbourhoods of rows of an image that is padded by one pixel."""
    rows, width = padded[start : stop + 2], padded.shape[1] - 2
    views = [rows[dy : dy + stop - start, dx : dx + width] for dy in range(3) for dx in range(3)]
    return torch.stack(views, dim=-1)


def _rows(x: Tensor, rows: list[int], first: int) -> Tensor:
    """Return the named rows of (H, W, C), whose first row is number ``first``."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return x[rows[0] - first : rows[-1] + 1 - first]
    return x[[row - first for row in rows]]


def _windows_attention(qkv: Tensor, bias: Tensor, window: int) -> Tensor:
    """Return (H, W, C) from queries, keys and values (H, W, 3C), mirrored to whole windows on the right."""
    missing = -qkv.shape[1] % window
    if missing:
        qkv = torch.cat([qkv, qkv[:, -1 - missing : -1].flip(1)], dim=1)
    height, width, _ = qkv.shape
    tokens = qkv.unflatten(1, (-1, window)).unflatten(0, (-1, window)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    q, k, v = tokens.unflatten(-1, (3, bias.shape[1], -1)).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).transpose(1, 2).flatten(2)
    cells = attended.view(height // window, width // window, window, window, -1)
    return cells.transpose(1, 2).reshape(height, width, -1)


def _shift_and_add(taps: Tensor) -> Tensor:
    """Return (H, W), the 3x3 convolution of which (9, H, W) holds the product of each tap; the border is mirrored."""
    height, width = taps.shape[1:]
    padded = F.pad(taps[None], (1, 1, 1, 1), mode="reflect")[0]
    total = torch.zeros_like(taps[0])
    for number, tap in enumerate(padded):
        dy, dx = divmod(number, 3)
        total += tap[dy : dy + height, dx : dx + width]
    return total
