"""FILM for inference: the network of ``network.py``, rearranged without approximation.

- Attention. The key bias cancels in the softmax. Only the mean over the text tokens of the answer is needed, so the
  attention rows are averaged first and pool the unprojected image tokens; value and output projection see one vector.
- Sampling commutes with pixelwise maps: the grid's pixels are picked before they are projected, and what is done to
  the guided features before they meet the others is done on the grid.
- A channel of the grid has a whole number of tokens, so the weights of a token's positions repeat along the pixels of
  every channel. They scale pixels, and a pixelwise map may come before them.
- Restormer blocks and what follows a stage are computed in strips of rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods._fast import attend_channels, feed_forward_gated, fold_affine, strips
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


@torch.inference_mode()
def fuse(
    network: FILMNetwork, *, visible: Tensor, infrared: Tensor, text_feature: Tensor, rows: int | None = None
) -> Tensor:
    """Return what ``network`` returns for the same inputs, up to rounding.

    Args:
        network: the reference.
        visible, infrared, text_feature: as for ``FILMNetwork.forward``.
        rows: of a strip; None chooses by device.
    """
    if torch.is_autocast_enabled(visible.device.type):
        # Products that are written in place cannot change their precision; the reference's layers can.
        return network(visible=visible, infrared=infrared, text_feature=text_feature).float()
    height, width = visible.shape[-2:]
    rows = rows or (-(-CPU_PIXELS // width) if visible.device.type == "cpu" else height)
    texts = network.text_process(text_feature)
    parts = zip(visible[:, 0, :, :, None], infrared[:, 0, :, :, None], texts, strict=True)
    return torch.stack([_fuse_one(network, vis, ir, text, rows) for vis, ir, text in parts])[:, None]


def _fuse_one(network: FILMNetwork, visible: Tensor, infrared: Tensor, text: Tensor, rows: int) -> Tensor:
    a, b = infrared, visible
    for stage in network.stages:
        a, b = _branch(stage, "A", a, text, rows), _branch(stage, "B", b, text, rows)
    x = torch.cat([a, b], dim=-1)
    del a, b
    x = _pointwise(_block(network.restormer1, x, rows), network.conv1)
    x = _block(network.restormer3, _block(network.restormer2, x, rows), rows)
    return _pointwise(x, network.conv2)[..., 0].sigmoid_()


def _pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Apply a 1x1 convolution to (..., C)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _branch(stage: Stage, x: str, image: Tensor, text: Tensor, rows: int) -> Tensor:
    """Return (H, W, C) of branch ``x`` of a stage from (H, W, C') and (L, D)."""
    first, second, third = (float(stage.part(f"prelu{x}{number}").weight) for number in (1, 2, 3))
    features = F.conv2d(image[None].permute(0, 3, 1, 2), stage.part(f"conv{x}1").weight, padding=1)[0]
    features = F.leaky_relu_(features.permute(1, 2, 0).contiguous(), first)
    features = _block(stage.part(f"restormer{x}1"), features, rows)

    size = tuple(image.shape[:2])
    to_rows, to_columns = (nearest_indices(n, m, image.device) for n, m in zip(size, GRID, strict=True))
    grid = features.index_select(0, to_rows).index_select(1, to_columns).flatten(0, 1)
    grid = _pointwise(grid, stage.part(f"imagef2textf{x}1").conv)
    attention = stage.part(f"cross_attention{x}1").multihead_attn
    weights = mean_answer(attention, text, grid.t().reshape(-1, text.shape[-1]))
    weights = F.normalize(weights, p=1, dim=-1, eps=1e-12)

    guide, join = stage.part(f"conv{x}2"), stage.part(f"conv{x}3")
    own, guided = join.weight.flatten(1).chunk(2, dim=1)
    grid = F.linear(grid, guide.weight.flatten(1)).unflatten(0, (-1, len(weights))).mul_(weights[:, None])
    grid = F.leaky_relu_(grid.add_(guide.bias), second)
    grid = F.linear(grid, guided, join.bias).view(*GRID, -1)

    from_rows, from_columns = (nearest_indices(m, n, image.device) for n, m in zip(size, GRID, strict=True))
    for start, stop in strips(len(features), rows):
        strip = grid.index_select(0, from_rows[start:stop]).index_select(1, from_columns)
        strip += F.linear(features[start:stop], own + guided)
        features[start:stop] = F.leaky_relu_(strip, third)
    return features


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
