"""MTG-Fusion for inference: the network of ``network.py``, rearranged without approximation.

- Text maps are constant away from the borders: zero padding and the cyclic shift of four blocks reach only a few rows
  and columns. They are computed on a small grid that has one row and column of each kind, and the search for the
  nearest text vector looks at the grid's vectors only (81 instead of one for every pixel).
- Cosine distances to text vectors come from products with those few, distances among text vectors from a table.
- Windows are independent, so a few at a time pass through all blocks.
- The pass of the image through cross-attention, and the reduction of its outputs, go through the pixels in parts.

The features that both images share are a step of their own, so that the audit computes them once for all prompts.

Pixels are kept as (N, d) or (H, W, d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods._fast import FastNetwork, Step, channel_norm, fold_affine
from tgfbench.methods.mtgfusion.guidance import (
    CROSS_HEADS,
    CYCLE_BLOCKS,
    FEEDBACK,
    TGCE,
    TGSF,
    CrossBlock,
    distance,
    nearest,
    unit,
)
from tgfbench.methods.mtgfusion.network import (
    RETENTION_HEADS,
    TEXTS,
    MTGFusionNetwork,
    Retention,
    RetentionBlock,
    from_windows,
    to_windows,
)

TOKENS = 4096
"""Tokens that pass through several layers at a time: their widest map, 256 channels, takes 4 MiB."""


class FastMTGFusion(FastNetwork[MTGFusionNetwork]):
    """MTG-Fusion, a few windows at a time."""

    def __init__(self, reference: MTGFusionNetwork) -> None:
        super().__init__(reference)
        self.share = Step(self._shared)

    def compute(self, *, visible: Tensor, infrared: Tensor, **texts: Tensor | None) -> Tensor:
        """Return the fused luma (B, 1, H, W).

        Args:
            visible, infrared: as for ``MTGFusionNetwork.forward``.
            **texts: ``tA``, ``tB``, ``tAB``, ``tAS`` and ``tBS``, likewise.
        """
        tokens = [self.reference.text_tokens(texts.get(name), len(visible)) for name in TEXTS]
        rows = (slice(row, row + 1) for row in range(len(visible)))
        return torch.cat([self._fuse(visible[r], infrared[r], [text[r] for text in tokens]) for r in rows])

    def by_reference(self, **inputs: Tensor | None) -> Tensor:
        return self.reference.fused(**inputs)  # type: ignore[arg-type]

    def _fuse(self, visible: Tensor, infrared: Tensor, texts: list[Tensor]) -> Tensor:
        """Return (1, 1, H, W)."""
        network, reconstructor = self.reference, self.reference.recon
        shared = self.share(visible, infrared)[0].permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
        cmsf = _extracted(network.tgce, shared, *texts[:3])
        del shared
        specific = _specific(network.tgsf, "A", network.visual.EA(infrared)[0], texts[3])
        specific += _specific(network.tgsf, "B", network.visual.EB(visible)[0], texts[4])
        x = torch.cat([cmsf, specific], dim=-1)[None].permute(0, 3, 1, 2)
        del cmsf, specific
        x = reconstructor.proj_in(x)
        return _in_windows(
            reconstructor, x, reconstructor.ret_blocks, lambda x: _pointwise(x, reconstructor.final_conv)
        )

    def _shared(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return (1, d, H, W)."""
        shared = self.reference.shared
        x = shared.proj_in(torch.cat([infrared, visible], dim=1))
        return _in_windows(shared, x, shared.blocks, lambda x: _pointwise(shared.norm_out(x), shared.proj_out))


def _pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Apply a 1x1 convolution to (..., C)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _in_windows(
    retention: Retention, x: Tensor, blocks: Iterable[nn.Module], finish: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return (1, C, H, W) of (1, d, H, W) after blocks and a last pixelwise step."""
    size, window = x.shape[-2:], retention.window_for(x.shape[-2:])
    folded = [_FoldedBlock(block) for block in blocks if isinstance(block, RetentionBlock)]
    tokens = to_windows(x, window)
    parts = tokens.split(max(1, TOKENS // tokens.shape[1]))
    outputs = [finish(reduce(lambda tokens, block: block(tokens), folded, part)) for part in parts]
    return from_windows(torch.cat(outputs), window, size)


class _FoldedBlock:
    """A retention block with its norms, and the identity beside its convolution, folded into the weights."""

    def __init__(self, block: RetentionBlock) -> None:
        msr = block.msr
        projections = (msr.query_proj, msr.key_proj, msr.value_proj)
        weight, bias = (torch.cat([getattr(p, name) for p in projections]) for name in ("weight", "bias"))
        self.qkv = fold_affine(weight, bias, block.norm1.weight, block.norm1.bias)
        self.taps = msr.multi_scale_conv.weight[:, :, None] + msr.multi_scale_conv.weight.new_tensor([0, 1, 0])
        self.taps_bias = msr.multi_scale_conv.bias
        self.out = msr.out_proj
        enter_weight, enter_bias = block.ffn[0].parameters()
        self.enter = fold_affine(enter_weight, enter_bias, block.norm2.weight, block.norm2.bias)
        self.leave = block.ffn[2]

    def __call__(self, x: Tensor) -> Tensor:
        """Return (k, T, d) of k windows."""
        qkv = F.linear(channel_norm(x), *self.qkv).unflatten(-1, (3, RETENTION_HEADS, -1))
        answer = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4)).transpose(1, 2).flatten(2)
        image = answer[:, None].permute(0, 3, 1, 2)
        convolved = F.conv2d(image, self.taps, self.taps_bias, padding=(0, 1), groups=len(self.taps))
        x = x + self.out(convolved.permute(0, 2, 3, 1)[:, 0])
        return x + self.leave(F.linear(channel_norm(x), *self.enter).relu_())


def grid(size: int, before: int, after: int, device: torch.device) -> tuple[int, Tensor]:
    """Return how many kinds of rows (columns) there are and the kind of each.

    Args:
        size: number of rows.
        before, after: how many of the first and last ones differ from all others.
        device: of the result.
    """
    kinds = min(size, before + 1 + after)
    index = torch.arange(size, device=device)
    if size > kinds:
        index = torch.where(index >= size - after, index - (size - kinds), index.clamp_max(before))
    return kinds, index


def _extracted(tgce: TGCE, v: Tensor, tA: Tensor, tB: Tensor, tAB: Tensor) -> Tensor:
    """Return the shared features (H, W, d) that ``TGCE`` extracts; ``v`` is overwritten."""
    vectors = text_vectors(tgce, v.shape[:2], tA, tB, tAB)
    chosen = torch.cat([nearest(unit(part), vectors) for part in v.flatten(0, 1).split(TOKENS)]).view(v.shape[:2])
    among = distance(vectors[:, None], vectors[None])
    for axis in (1, 0):
        current, before = chosen.narrow(axis, 1, v.shape[axis] - 1), chosen.narrow(axis, 0, v.shape[axis] - 1)
        if tgce.transform == "release":
            feedback = torch.exp(-_distances(v.narrow(axis, 1, v.shape[axis] - 1), before, vectors))
        else:
            feedback = FEEDBACK ** among[current, before]
        for i in range(1, v.shape[axis]):
            v.select(axis, i).lerp_(v.select(axis, i - 1), feedback.select(axis, i - 1)[..., None])

    chosen_flat = chosen.flatten()
    of_next = tgce.mlp_tt(among[..., None])[..., 0][chosen_flat[:-1], chosen_flat[1:]]
    of_next = torch.cat([of_next, tgce.mlp_tt(among.new_zeros(1, 1))[0]])
    for part, near, logit in zip(
        v.view(-1, v.shape[-1]).split(TOKENS), chosen_flat.split(TOKENS), of_next.split(TOKENS), strict=True
    ):
        to_text = _distances(part[None], near[None], vectors)[0]
        part.mul_(torch.sigmoid(tgce.mlp_tv(to_text[:, None])[:, 0] + logit)[:, None])
    return v


def text_vectors(tgce: TGCE, size: Sequence[int], tA: Tensor, tB: Tensor, tAB: Tensor) -> Tensor:
    """Return (M, d), the distinct normalised vectors of the text cube of an image (H, W), from texts (1, L, d)."""
    rows, _ = grid(size[0], CYCLE_BLOCKS, CYCLE_BLOCKS, tA.device)
    columns, _ = grid(size[1], 2 * CYCLE_BLOCKS - 1, 1, tA.device)
    return unit(tgce.text_cube(rows, columns, tA, tB, tAB).flatten(0, 2))


def _distances(v: Tensor, chosen: Tensor, vectors: Tensor) -> Tensor:
    """Return (H, W), the cosine distance of each pixel of (H, W, d) to the vector (M, d) of the given number (H, W)."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1).clamp_min(1e-8)
    result = torch.empty(v.shape[:2], dtype=v.dtype, device=v.device)
    for start in range(0, len(v), max(1, TOKENS // v.shape[1])):
        rows = slice(start, start + max(1, TOKENS // v.shape[1]))
        products = (v[rows] @ vectors.t()).gather(-1, chosen[rows, :, None])[..., 0]
        norms = torch.linalg.vector_norm(v[rows], dim=-1).clamp_min(1e-8)
        result[rows] = 1 - products / (norms * lengths[chosen[rows]])
    return result


def _specific(tgsf: TGSF, x: str, features: Tensor, text: Tensor) -> Tensor:
    """Return a side's weighted contribution (H, W, d) to the fused specific features, from (1, d, H, W)."""
    height, width = features.shape[-2:]
    visual = features[0].flatten(1).t().contiguous()
    del features
    reduced = tgsf.final_reducer.get_parameter("bias").repeat(len(visual), 1)
    reducers = tgsf.final_reducer.weight.flatten(1).chunk(len(tgsf.cross_blocks_A), dim=1)
    for block, reducer in zip(tgsf.get_submodule(f"cross_blocks_{x}").children(), reducers, strict=True):
        assert isinstance(block, CrossBlock)
        visual = _crossed(block, visual, text)
        reduced.addmm_(visual, reducer.t())
    return reduced.view(height, width, -1).mul_(text_weight(tgsf, x, text, (height, width))[..., None])


def text_weight(tgsf: TGSF, x: str, text: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the weight of a side, (H, W), from a text (1, L, d)."""
    # The 3x3 convolution behind the text map sees one pixel further in every direction.
    rows, row_kind = grid(size[0], CYCLE_BLOCKS + 1, CYCLE_BLOCKS + 1, text.device)
    columns, column_kind = grid(size[1], 2 * CYCLE_BLOCKS, 2, text.device)
    weight = tgsf.weight(x, tgsf.get_submodule(f"textDim{x}")(text, rows, columns))[0, 0]
    return weight[row_kind][:, column_kind]


def _crossed(block: CrossBlock, visual: Tensor, text: Tensor) -> Tensor:
    """Return what a cross block makes of visual tokens (N, d) with a text (1, L, d)."""
    text = block.answered("text", 1, text, visual[None])
    norm, q, k, v, out, norm_ff, ff = block.parts("vis", 2)
    to_query = fold_affine(q.weight, q.bias, norm.weight, norm.bias)  # type: ignore[arg-type]
    enter = fold_affine(ff[0].weight, ff[0].bias, norm_ff.weight, norm_ff.bias)  # type: ignore[arg-type, index]
    keys, values = (f(text[0]).unflatten(-1, (CROSS_HEADS, -1)).transpose(0, 1)[None] for f in (k, v))
    result = torch.empty_like(visual)
    for part, x in zip(visual.split(TOKENS), result.split(TOKENS), strict=True):
        queries = F.linear(channel_norm(part), *to_query).unflatten(-1, (CROSS_HEADS, -1)).transpose(0, 1)[None]
        answer = F.scaled_dot_product_attention(queries, keys, values)[0].transpose(0, 1).flatten(1)
        torch.add(part, out(answer), out=x)
        x.add_(ff[2](F.gelu(F.linear(channel_norm(x), *enter))))  # type: ignore[index]
    return result
