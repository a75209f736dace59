"""FILM for inference: the network of ``network.py``, rearranged without approximation.

- Attention. The key bias cancels in the softmax. Only the mean over the text tokens of the answer is needed, so the
  attention rows are averaged first and pool the unprojected image tokens; value and output projection see one vector.
- Sampling commutes with pixelwise maps: the grid's pixels are picked before they are projected, and what is done to
  the guided features before they meet the others is done on the grid.
- A channel of the grid has a whole number of tokens, so the weights of a token's positions repeat along the pixels of
  every channel. They scale pixels, and a pixelwise map may come before them.
- Restormer blocks and what follows a stage are computed in strips of rows.

What the first stage does before the text is a step of its own, so that the audit computes it once for all prompts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods._fast import FastNetwork, Step, attend_channels, feed_forward_gated, fold_affine, strips
from tgfbench.methods.film.network import (
    GRID,
    HEADS,
    ChannelNorm,
    FILMNetwork,
    RestormerBlock,
    Stage,
    nearest_indices,
)

CPU_PIXELS = 2560
"""Pixels of a strip on the CPU, where its maps of 128 channels should stay in the cache; a GPU takes one strip."""


class FastFILM(FastNetwork[FILMNetwork]):
    """FILM in strips of rows."""

    def __init__(self, reference: FILMNetwork, rows: int | None = None) -> None:
        super().__init__(reference, rows)
        self.see = Step(self._seen)

    def compute(self, *, visible: Tensor, infrared: Tensor, text_feature: Tensor) -> Tensor:
        """Return the fused luma (B, 1, H, W); arguments are those of ``FILMNetwork.forward``."""
        texts = self.reference.text_process(text_feature)
        parts = zip(visible[:, 0, :, :, None], infrared[:, 0, :, :, None], texts, strict=True)
        return torch.stack([self._fuse(*inputs) for inputs in parts])[:, None]

    def _fuse(self, visible: Tensor, infrared: Tensor, text: Tensor) -> Tensor:
        """Return (H, W)."""
        network, rows = self.reference, self._strip(visible)
        first, *others = network.stages
        a, b = (
            _branch(first, x, self.see(x, image), text, rows, keep=True)
            for x, image in (("A", infrared), ("B", visible))
        )
        for stage in others:
            a, b = (_branch(stage, x, _seen(stage, x, image, rows), text, rows) for x, image in (("A", a), ("B", b)))
        x = torch.cat([a, b], dim=-1)
        del a, b
        x = _pointwise(_block(network.restormer1, x, rows), network.conv1)
        x = _block(network.restormer3, _block(network.restormer2, x, rows), rows)
        return _pointwise(x, network.conv2)[..., 0].sigmoid_()

    def _seen(self, x: str, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _seen(self.reference.stages[0], x, image, self._strip(image))

    def _strip(self, image: Tensor) -> int:
        """Return the rows of a strip of (H, W, C)."""
        height, width = image.shape[:2]
        return self.rows or (-(-CPU_PIXELS // width) if image.device.type == "cpu" else height)


def _pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Apply a 1x1 convolution to (..., C)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _seen(stage: Stage, x: str, image: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what branch ``x`` of a stage makes of its image (H, W, C') before the text.

    Returns:
        Features (H, W, C); image tokens (T, D) for the text to ask; the grid's pixels (N, C) for its answer to weigh.
    """
    features = F.conv2d(image[None].permute(0, 3, 1, 2), stage.part(f"conv{x}1").weight, padding=1)[0]
    features = F.leaky_relu_(features.permute(1, 2, 0).contiguous(), float(stage.part(f"prelu{x}1").weight))
    features = _block(stage.part(f"restormer{x}1"), features, rows)
    sides = zip(features.shape[:2], GRID, strict=True)
    to_rows, to_columns = (nearest_indices(side, cells, image.device) for side, cells in sides)
    grid = features.index_select(0, to_rows).index_select(1, to_columns).flatten(0, 1)
    grid = _pointwise(grid, stage.part(f"imagef2textf{x}1").conv)
    width = stage.part(f"cross_attention{x}1").multihead_attn.embed_dim
    return features, grid.t().reshape(-1, width), F.linear(grid, stage.part(f"conv{x}2").weight.flatten(1))


def _branch(
    stage: Stage, x: str, seen: tuple[Tensor, Tensor, Tensor], text: Tensor, rows: int, *, keep: bool = False
) -> Tensor:
    """Return (H, W, C) of branch ``x`` of a stage from a text (L, D) and what was seen, overwritten unless kept."""
    features, tokens, grid = seen
    out = torch.empty_like(features) if keep else features
    grid = grid.clone() if keep else grid
    second, third = (float(stage.part(f"prelu{x}{number}").weight) for number in (2, 3))
    weights = mean_answer(stage.part(f"cross_attention{x}1").multihead_attn, text, tokens)
    weights = F.normalize(weights, p=1, dim=-1, eps=1e-12)

    join = stage.part(f"conv{x}3")
    own, guided = join.weight.flatten(1).chunk(2, dim=1)
    grid = grid.unflatten(0, (-1, len(weights))).mul_(weights[:, None])
    grid = F.leaky_relu_(grid.add_(stage.part(f"conv{x}2").bias), second)
    grid = F.linear(grid, guided, join.bias).view(*GRID, -1)

    sides = zip(features.shape[:2], GRID, strict=True)
    from_rows, from_columns = (nearest_indices(cells, side, grid.device) for side, cells in sides)
    for start, stop in strips(len(features), rows):
        strip = grid.index_select(0, from_rows[start:stop]).index_select(1, from_columns)
        strip += F.linear(features[start:stop], own + guided)
        out[start:stop] = F.leaky_relu_(strip, third)
    return out


def mean_answer(attention: nn.MultiheadAttention, text: Tensor, tokens: Tensor) -> Tensor:
    """Return (D), the mean over text tokens (L, D) of what attention to image tokens (T, D) answers."""
    to_query, to_key, to_value = attention.in_proj_weight.chunk(3)
    query_bias, _, value_bias = attention.in_proj_bias.chunk(3)
    queries = F.linear(text, to_query, query_bias).unflatten(1, (HEADS, -1)).transpose(0, 1)
    queries = queries * queries.shape[-1] ** -0.5
    if HEADS * len(text) < len(to_key):  # fewer products with the tokens than their projection takes
        queries = queries @ to_key.unflatten(0, (HEADS, -1))
        attended = (queries.flatten(0, 1) @ tokens.t()).softmax(dim=-1).unflatten(0, (HEADS, -1)).mean(dim=1)
    else:
        keys = F.linear(tokens, to_key).unflatten(1, (HEADS, -1)).transpose(0, 1)
        attended = torch.stack([(q @ k.t()).softmax(dim=-1).mean(dim=0) for q, k in zip(queries, keys, strict=True)])
    pooled = attended @ tokens
    values = (to_value.unflatten(0, (HEADS, -1)) @ pooled[:, :, None]).flatten() + value_bias
    return F.linear(values, attention.out_proj.weight, attention.out_proj.bias)


def _block(block: RestormerBlock, x: Tensor, rows: int) -> Tensor:
    """Return a Restormer block's output for (H, W, C), which is overwritten."""
    attn, out = block.attn, torch.empty_like(x)
    entry = _folded(block.norm1, attn.qkv)
    attend_channels(x, out, rows, entry, attn.qkv_dwconv.weight, attn.temperature, attn.project_out.weight)
    entry = _folded(block.norm2, block.ffn.project_in)
    feed_forward_gated(x, out, rows, entry, block.ffn.dwconv.weight, block.ffn.project_out.weight)
    return out


def _folded(norm: ChannelNorm, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a 1x1 convolution behind a layer norm whose own weight and bias are left out."""
    return fold_affine(conv.weight, conv.bias, norm.body.weight, norm.body.bias)
