"""TeSG for inference: the network of ``network.py``, rearranged without approximation.

- Maps are channels-last, and what has a 3x3 convolution in it is computed in strips of rows. Layer norm's weight and
  bias fold into the projection behind it; channel attention and its output projection are one map on the values.
- Both directions of mask-guided cross-attention share one walk through the images.
- Padding tokens are left out before words become keys and values; a sentence's part of the gate is a bias.
- Pixelwise maps come before an enlargement, and two that meet there are one.

Everything before the text is a step of its own, so that the audit computes it once for all prompts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods._fast import (
    ChannelGram,
    FastNetwork,
    Step,
    as_image,
    attend_channels,
    channel_norm,
    depthwise,
    feed_forward_gated,
    fold_affine,
    haloed_strips,
    strips,
)
from tgfbench.methods.tesg.network import GDFN, MGCA, MULTIPLE, TDAF, ChannelNorm, TeSGNetwork, TransformerBlock

CPU_NUMBERS = 2**18
"""Numbers of a strip on the CPU, whose widest maps have four times as many; elsewhere the image is one strip."""


class FastTeSG(FastNetwork[TeSGNetwork]):
    """TeSG in strips of rows, at every level."""

    def __init__(self, reference: TeSGNetwork, rows: int | None = None) -> None:
        super().__init__(reference, rows)
        self.join = Step(self._join)

    def compute(
        self, *, visible: Tensor, infrared: Tensor, mask: Tensor | None = None, **text: Tensor | None
    ) -> Tensor:
        """Return the fused luma (B, 1, H, W).

        Args:
            visible, infrared, mask: as for ``TeSGNetwork.forward``.
            **text: ``tokens``, ``pooled`` and ``valid``, likewise.
        """
        count, _, height, width = visible.shape
        if mask is None:
            mask = visible.new_full((count, self.reference.mask_channels, height, width), 0.5)
        fringe = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        images = [F.pad(x, fringe, mode="replicate") for x in (infrared, visible, mask)]
        tokens, pooled, valid = self.reference.text_or_null(
            count, text.get("tokens"), text.get("pooled"), text.get("valid")
        )
        fused = [
            self._answer(self.join(*(x[row : row + 1] for x in images)), tokens[row, valid[row]], pooled[row])
            for row in range(count)
        ]
        return torch.stack(fused)[:, None, :height, :width]

    def _join(self, infrared: Tensor, visible: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each level's features (h, w, d), both images joined, and its questions to the words (h/p, w/p, d).

        Args:
            infrared, visible, mask: (1, K, H, W).
        """
        network, levels = self.reference, []
        a, b = _convolved(infrared, network.stem_ir), _convolved(visible, network.stem_vi)
        for i, (mgca, tdaf) in enumerate(zip(network.mgca, network.tdaf, strict=True)):
            if i > 0:
                a = _convolved(as_image(a), network.down_ir[i - 1])
                b = _convolved(as_image(b), network.down_vi[i - 1])
            a = self._blocks(a, *network.enc_ir[i].children())
            b = self._blocks(b, *network.enc_vi[i].children())
            joined = self._mgca(mgca, a, b, F.avg_pool2d(mask, 2**i)[0])
            levels.append((joined, self._questions(tdaf, joined)))
        return levels

    def _answer(self, levels: list[tuple[Tensor, Tensor]], tokens: Tensor, pooled: Tensor) -> Tensor:
        """Return the fused luma (H, W) from what ``_join`` returned and a text (L, D) and (D)."""
        network = self.reference
        answered = [self._tdaf(tdaf, *level, tokens, pooled) for tdaf, level in zip(network.tdaf, levels, strict=True)]
        x = answered.pop()
        for up, reduce, dec in zip(
            *(reversed(part) for part in (network.up, network.reduce, network.dec)), strict=True
        ):
            from_below, own = reduce.weight.flatten(1).chunk(2, dim=1)
            below = _enlarged(x @ (from_below @ up.weight.flatten(1)).t(), 2)
            below.flatten(0, 1).addmm_(answered.pop().flatten(0, 1), own.t())
            x = self._blocks(below, dec)
        first, last = _convolutions(network.head)
        return _convolved(as_image(F.gelu(_convolved(as_image(x), first))), last)[..., 0].sigmoid_()

    def _strip(self, x: Tensor) -> int:
        """Return the rows of a strip of (H, W, C)."""
        if self.rows or x.device.type != "cpu":
            return self.rows or len(x)
        return -(-CPU_NUMBERS // x[0].numel())

    def _blocks(self, x: Tensor, *blocks: nn.Module) -> Tensor:
        """Return the output of transformer blocks for (H, W, C), which is overwritten."""
        other, rows = torch.empty_like(x), self._strip(x)
        for block in blocks:
            assert isinstance(block, TransformerBlock)
            attention, entry = block.attn, _folded(block.norm1, block.attn.qkv)
            taps, projection = attention.qkv_dw.weight, attention.proj.weight
            attend_channels(x, other, rows, entry, taps, attention.temperature, projection)
            x, other = self._feed_forward(block.norm2, block.ffn, x, other), x
        return x

    def _feed_forward(self, norm: ChannelNorm, ffn: GDFN, x: Tensor, out: Tensor) -> Tensor:
        """Return (H, W, C) and its feed-forward answer in ``out``."""
        entry = _folded(norm, ffn.proj_in)
        feed_forward_gated(x, out, self._strip(x), entry, ffn.dw.weight, ffn.proj_out.weight)
        return out

    def _mgca(self, mgca: nn.Module, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        """Return (H, W, d) from infrared and visible features (H, W, d) and a mask (K, H, W)."""
        assert isinstance(mgca, MGCA)
        m = self._embedded(mgca.mask_embed, mask, a)
        channels, rows = a.shape[-1], self._strip(a)
        sides = (
            (a, mgca.norm_ir, mgca.q_ir.weight.flatten(1).t(), mgca.kv_ir.weight.flatten(1).t()),
            (b, mgca.norm_vi, mgca.q_vi.weight.flatten(1).t(), mgca.kv_vi.weight.flatten(1).t()),
        )

        def enter(first: int, last: int, parts: list[Tensor]) -> None:
            for part, (x, norm, q, kv) in zip(parts, sides, strict=True):
                normed = F.layer_norm(x[first:last], norm.normalized_shape, norm.weight, norm.bias, norm.eps)
                flat = part.view(-1, 3 * channels)
                torch.mm(normed.flatten(0, 1), kv, out=flat[:, channels:])
                torch.mm(normed.add_(m[first:last]).flatten(0, 1), q, out=flat[:, :channels])

        taps_a = torch.cat([mgca.q_dw_ir.weight, mgca.kv_dw_ir.weight])
        taps_b = torch.cat([mgca.q_dw_vi.weight, mgca.kv_dw_vi.weight])
        gram_a, gram_b = (ChannelGram(channels, len(mgca.temperature_ir), a) for _ in range(2))
        values_a, values_b = torch.empty_like(a), torch.empty_like(b)
        for start, stop, (strip_a, strip_b) in haloed_strips(a, rows, [3 * channels] * 2, enter):
            q_a, k_a, values_a[start:stop] = depthwise(strip_a, taps_a).chunk(3, dim=-1)
            q_b, k_b, values_b[start:stop] = depthwise(strip_b, taps_b).chunk(3, dim=-1)
            gram_a.add(q_a.flatten(0, 1), k_b.flatten(0, 1))
            gram_b.add(q_b.flatten(0, 1), k_a.flatten(0, 1))
        mixing_a = gram_a.mixing(mgca.temperature_ir, mgca.out_ir.weight)
        mixing_b = gram_b.mixing(mgca.temperature_vi, mgca.out_vi.weight)

        to_gate = mgca.gate.weight.flatten(1).chunk(3, dim=1)
        flat = (x.view(-1, channels).split(rows * a.shape[1]) for x in (a, b, m, values_a, values_b))
        for of_a, of_b, of_mask, v_a, v_b in zip(*flat, strict=True):
            h_a, h_b = torch.addmm(of_a, v_b, mixing_a.t()), torch.addmm(of_b, v_a, mixing_b.t())
            gate = F.linear(of_mask, to_gate[2], mgca.gate.bias)
            gate = gate.addmm_(h_a, to_gate[0].t()).addmm_(h_b, to_gate[1].t()).sigmoid_()
            torch.lerp(h_b, h_a, gate, out=v_a)
        return self._feed_forward(mgca.norm_ffn, mgca.ffn, values_a, values_b)

    def _embedded(self, embed: nn.Sequential, mask: Tensor, like: Tensor) -> Tensor:
        """Return the embedding (H, W, d) of a mask (K, H, W); ``like`` is a map of that shape."""
        first, second = _convolutions(embed)
        padded = F.pad(mask, (0, 0, 1, 1))[None]

        def enter(top: int, bottom: int, parts: list[Tensor]) -> None:
            hidden = F.conv2d(padded[:, :, top : bottom + 2], first.weight, first.bias, padding=(0, 1))
            parts[0][:] = F.gelu(hidden)[0].permute(1, 2, 0)

        out = torch.empty_like(like)
        for start, stop, (strip,) in haloed_strips(like, self._strip(like), [like.shape[-1]], enter):
            convolved = F.conv2d(as_image(strip), second.weight, second.bias, padding=(0, 1))
            out[start:stop] = convolved[0].permute(1, 2, 0)
        return out

    def _questions(self, tdaf: nn.Module, x: Tensor) -> Tensor:
        """Return (H/p, W/p, d), the queries of (H, W, d)."""
        assert isinstance(tdaf, TDAF)
        rows = tdaf.pool * -(-self._strip(x) // tdaf.pool)
        parts = [F.avg_pool2d(as_image(channel_norm(x[i:j])), tdaf.pool)[0] for i, j in strips(len(x), rows)]
        weight, bias = _folded(tdaf.norm, tdaf.q)
        return F.linear(torch.cat(parts, dim=1).permute(1, 2, 0), weight, bias)

    def _tdaf(self, tdaf: nn.Module, x: Tensor, questions: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        """Return (H, W, d) from what ``_join`` returned for a level and a text (L, D) and (D)."""
        assert isinstance(tdaf, TDAF)
        channels = x.shape[-1]
        words = tdaf.kv(tdaf.text_norm(tdaf.text_proj(tokens))).unflatten(-1, (2, tdaf.heads, -1))
        keys, values = words.permute(1, 2, 0, 3)[:, None]
        queries = questions.flatten(0, 1).unflatten(-1, (tdaf.heads, -1)).transpose(0, 1)[None]
        answer = F.scaled_dot_product_attention(queries, keys, values)[0].transpose(0, 1).reshape(questions.shape)
        answer = F.linear(answer, tdaf.out.weight.flatten(1), tdaf.out.bias)
        answer = _enlarged(answer, tdaf.pool) if tdaf.pool > 1 else answer
        own, of_answer, of_sentence = tdaf.gate.weight.flatten(1).chunk(3, dim=1)
        bias = F.linear(tdaf.pool_proj(pooled), of_sentence, tdaf.gate.bias)
        part = self._strip(x) * x.shape[1]
        for h, y in zip(x.view(-1, channels).split(part), answer.view(-1, channels).split(part), strict=True):
            gate = torch.addmm(bias, h, own.t()).addmm_(y, of_answer.t()).sigmoid_()
            torch.addcmul(h, gate, y, out=y)
        return self._blocks(answer, tdaf.refine)


def _convolutions(layers: nn.Sequential) -> list[nn.Conv2d]:
    return [layer for layer in layers if isinstance(layer, nn.Conv2d)]


def _convolved(image: Tensor, conv: nn.Module) -> Tensor:
    """Return (H', W', C') of (1, C, H, W)."""
    assert isinstance(conv, nn.Conv2d)
    out = F.conv2d(image, conv.weight, conv.bias, stride=conv.stride, padding=conv.padding)
    return out[0].permute(1, 2, 0).contiguous()


def _folded(norm: ChannelNorm, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a 1x1 convolution behind a layer norm whose own weight and bias are left out."""
    return fold_affine(conv.weight, conv.bias, norm.weight, norm.bias)


def _enlarged(x: Tensor, factor: int) -> Tensor:
    """Return (H f, W f, C) of (H, W, C)."""
    out = F.interpolate(as_image(x), scale_factor=factor, mode="bilinear", align_corners=False)
    return out[0].permute(1, 2, 0)
