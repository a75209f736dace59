"""The TeSG fusion network: mask-guided cross-attention, then text-driven attentional fusion, at three scales.

Zhu et al., "TeSG: Textual Semantic Guidance for Infrared and Visible Image Fusion", arXiv 2506.16730 (2025). The
authors published neither code nor weights. This is a reconstruction that obeys the paper's description of its three
components (SIG, MGCA, TDAF); channel counts, equations and losses are tgfbench's own choice.

Shapes: B images, d channels, h heads, L text tokens. Heads are contiguous groups of channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZES: dict[str, dict[str, tuple[int, int, int]]] = {
    "base": {"dims": (32, 64, 128), "heads": (2, 4, 8), "blocks": (1, 1, 2)},
    "tiny": {"dims": (16, 32, 64), "heads": (1, 2, 4), "blocks": (1, 1, 1)},
}
MULTIPLE = 4
"""Height and width inside the network are multiples of this: two halvings."""


def build_network(*, size: str = "base", **config: Any) -> TeSGNetwork:
    """Build the untrained network.

    Args:
        size: ``base`` (2.27 M parameters) or ``tiny`` (0.56 M).
        **config: arguments of ``TeSGNetwork`` that replace those of the size.

    Raises:
        ValueError: no such size.
    """
    if size not in SIZES:
        raise ValueError(f"TeSG comes in the sizes {', '.join(SIZES)}, not {size!r}")
    return TeSGNetwork(**{**SIZES[size], **config})


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def pointwise(inputs: int, outputs: int, bias: bool = False) -> nn.Conv2d:
    """1x1 convolution."""
    return nn.Conv2d(inputs, outputs, 1, bias=bias)


def depthwise(channels: int) -> nn.Conv2d:
    """Depthwise 3x3 convolution without bias."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def channel_attention(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Attention among the d/h channels of each head; linear in the number of pixels.

    Args:
        q, k, v: (B, d, H, W).
        temperature: (h, 1, 1).

    Returns:
        (B, d, H, W).
    """
    q_, k_, v_ = (x.reshape(x.shape[0], len(temperature), -1, x.shape[2] * x.shape[3]) for x in (q, k, v))
    # Dividing the small score matrix by the norms equals normalising q and k, without two passes over all pixels.
    q_norm = torch.linalg.vector_norm(q_, dim=-1, keepdim=True).clamp_min(1e-12)
    k_norm = torch.linalg.vector_norm(k_, dim=-1, keepdim=True).clamp_min(1e-12)
    scores = (q_ @ k_.transpose(-2, -1)) / (q_norm * k_norm.transpose(-2, -1)) * temperature
    return (scores.softmax(dim=-1) @ v_).reshape(q.shape)


class MDTA(nn.Module):
    """Channel self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = pointwise(dim, 3 * dim)
        self.qkv_dw = depthwise(3 * dim)
        self.proj = pointwise(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv_dw(self.qkv(x)).chunk(3, dim=1)
        return self.proj(channel_attention(q, k, v, self.temperature))


class GDFN(nn.Module):
    """Feed-forward block whose one half gates the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_in = pointwise(dim, 4 * dim)
        self.dw = depthwise(4 * dim)
        self.proj_out = pointwise(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        p, g = self.dw(self.proj_in(x)).chunk(2, dim=1)
        return self.proj_out(F.gelu(p) * g)


class TransformerBlock(nn.Module):
    """Channel self-attention and gated feed-forward, each behind a norm and around a skip."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.attn = MDTA(dim, heads)
        self.norm2 = ChannelNorm(dim)
        self.ffn = GDFN(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class MGCA(nn.Module):
    """Mask-guided cross-attention: each modality asks the other, and the mask shapes the questions and the gate."""

    def __init__(self, dim: int, heads: int, mask_channels: int) -> None:
        super().__init__()
        self.temperature_ir = nn.Parameter(torch.ones(heads, 1, 1))
        self.temperature_vi = nn.Parameter(torch.ones(heads, 1, 1))
        self.mask_embed = nn.Sequential(
            nn.Conv2d(mask_channels, dim, 3, padding=1), nn.GELU(), nn.Conv2d(dim, dim, 3, padding=1)
        )
        self.norm_ir, self.norm_vi = ChannelNorm(dim), ChannelNorm(dim)
        self.q_ir, self.q_dw_ir = pointwise(dim, dim), depthwise(dim)
        self.q_vi, self.q_dw_vi = pointwise(dim, dim), depthwise(dim)
        self.kv_ir, self.kv_dw_ir = pointwise(dim, 2 * dim), depthwise(2 * dim)
        self.kv_vi, self.kv_dw_vi = pointwise(dim, 2 * dim), depthwise(2 * dim)
        self.out_ir, self.out_vi = pointwise(dim, dim), pointwise(dim, dim)
        self.gate = pointwise(3 * dim, dim, bias=True)
        self.norm_ffn = ChannelNorm(dim)
        self.ffn = GDFN(dim)

    def forward(self, infrared: Tensor, visible: Tensor, mask: Tensor) -> Tensor:
        m = self.mask_embed(mask)
        n_ir, n_vi = self.norm_ir(infrared), self.norm_vi(visible)
        q_ir, q_vi = self.q_dw_ir(self.q_ir(n_ir + m)), self.q_dw_vi(self.q_vi(n_vi + m))
        k_ir, v_ir = self.kv_dw_ir(self.kv_ir(n_ir)).chunk(2, dim=1)
        k_vi, v_vi = self.kv_dw_vi(self.kv_vi(n_vi)).chunk(2, dim=1)
        h_ir = infrared + self.out_ir(channel_attention(q_ir, k_vi, v_vi, self.temperature_ir))
        h_vi = visible + self.out_vi(channel_attention(q_vi, k_ir, v_ir, self.temperature_vi))
        g = torch.sigmoid(self.gate(torch.cat([h_ir, h_vi, m], dim=1)))
        x = g * h_ir + (1 - g) * h_vi
        return x + self.ffn(self.norm_ffn(x))


class TDAF(nn.Module):
    """Text-driven attentional fusion: pixels attend to words, and a gate decides how much of the answer to take.

    Args:
        pool: the queries are averaged over pool x pool pixels, so that every level attends at quarter resolution.
    """

    def __init__(self, dim: int, heads: int, pool: int, text_width: int) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        self.norm = ChannelNorm(dim)
        self.text_proj = nn.Linear(text_width, dim)
        self.text_norm = nn.LayerNorm(dim)
        self.pool_proj = nn.Linear(text_width, dim)
        self.q = pointwise(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.out = pointwise(dim, dim, bias=True)
        self.gate = pointwise(3 * dim, dim, bias=True)
        self.refine = TransformerBlock(dim, heads)

    def forward(self, x: Tensor, tokens: Tensor, pooled: Tensor, valid: Tensor) -> Tensor:
        y = self.attend(self.norm(x), self.text_norm(self.text_proj(tokens)), valid)
        sentence = self.pool_proj(pooled)[:, :, None, None].expand_as(x)
        g = torch.sigmoid(self.gate(torch.cat([x, y, sentence], dim=1)))
        return self.refine(x + g * y)

    def attend(self, x: Tensor, words: Tensor, valid: Tensor) -> Tensor:
        """Attend from pixels (B, d, H, W) to words (B, L, d) and return (B, d, H, W)."""
        q = self.q(F.avg_pool2d(x, self.pool))
        k, v = self.kv(words).chunk(2, dim=-1)
        pixels = q.flatten(2).unflatten(1, (self.heads, -1)).transpose(-2, -1)
        k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (k, v))
        y = F.scaled_dot_product_attention(pixels, k, v, attn_mask=valid[:, None, None, :])
        # The 1x1 convolution comes before the enlargement, with which it commutes, because it is cheaper there.
        y = self.out(y.transpose(-2, -1).reshape(q.shape))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False) if self.pool > 1 else y


class TeSGNetwork(nn.Module):
    """Two encoders, MGCA and TDAF at three scales, and a decoder that returns the fused luma.

    Args:
        dims, heads, blocks: channels, attention heads and blocks per encoder stream of the three levels.
        text_width: width D of the text features (512: CLIP ViT-B/32, 384: MiniLM).
        mask_channels: K, channels of the mask.
    """

    def __init__(
        self,
        dims: Sequence[int],
        heads: Sequence[int],
        blocks: Sequence[int],
        text_width: int = 512,
        mask_channels: int = 1,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "dims": list(dims),
            "heads": list(heads),
            "blocks": list(blocks),
            "text_width": text_width,
            "mask_channels": mask_channels,
        }
        self.mask_channels = mask_channels
        levels = list(zip(dims, heads, blocks, strict=True))
        steps = list(pairwise(dims))
        self.null_text = nn.Parameter(torch.zeros(1, 1, text_width))
        self.stem_ir, self.stem_vi = (nn.Conv2d(1, dims[0], 3, padding=1) for _ in range(2))
        self.enc_ir, self.enc_vi = (
            nn.ModuleList(nn.Sequential(*(TransformerBlock(d, h) for _ in range(n))) for d, h, n in levels)
            for _ in range(2)
        )
        self.down_ir, self.down_vi = (
            nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1, bias=False) for fine, coarse in steps)
            for _ in range(2)
        )
        self.mgca = nn.ModuleList(MGCA(d, h, mask_channels) for d, h, _ in levels)
        self.tdaf = nn.ModuleList(
            TDAF(d, h, pool, text_width) for (d, h, _), pool in zip(levels, (4, 2, 1), strict=True)
        )
        self.up = nn.ModuleList(pointwise(coarse, fine) for fine, coarse in steps)
        self.reduce = nn.ModuleList(pointwise(2 * fine, fine) for fine, _ in steps)
        self.dec = nn.ModuleList(TransformerBlock(d, h) for d, h, _ in levels[:-1])
        self.head = nn.Sequential(nn.Conv2d(dims[0], 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 1, 3, padding=1))

    def forward(
        self,
        *,
        visible: Tensor,
        infrared: Tensor,
        mask: Tensor | None = None,
        tokens: Tensor | None = None,
        pooled: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Fuse.

        Args:
            visible: luma of the visible image, float (B, 1, H, W) in [0, 1].
            infrared: float (B, 1, H, W) in [0, 1].
            mask: the objects to favour, float (B, K, H, W) in [0, 1]; None means 0.5 everywhere.
            tokens: text features per token, float (B, L, D); None means no text.
            pooled: text features of the whole sentence, float (B, D); goes with ``tokens``.
            valid: bool (B, L), False for padding (None: no padding); an image whose row has no valid token has no text.

        Returns:
            The fused luma, float (B, 1, H, W) in (0, 1).
        """
        height, width = visible.shape[-2:]
        if mask is None:
            mask = visible.new_full((len(visible), self.mask_channels, height, width), 0.5)
        text = self.text_or_null(len(visible), tokens, pooled, valid)
        fringe = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        infrared, visible, mask = (F.pad(x, fringe, mode="replicate") for x in (infrared, visible, mask))

        a, b = self.stem_ir(infrared), self.stem_vi(visible)
        fused = []
        for i, (mgca, tdaf) in enumerate(zip(self.mgca, self.tdaf, strict=True)):
            if i > 0:
                a, b = self.down_ir[i - 1](a), self.down_vi[i - 1](b)
            a, b = self.enc_ir[i](a), self.enc_vi[i](b)
            fused.append(tdaf(mgca(a, b, F.avg_pool2d(mask, 2**i)), *text))

        x = fused.pop()
        for up, reduce, dec in zip(*(reversed(part) for part in (self.up, self.reduce, self.dec)), strict=True):
            # As in TDAF, the 1x1 convolution commutes with the enlargement.
            x = F.interpolate(up(x), scale_factor=2, mode="bilinear", align_corners=False)
            x = dec(reduce(torch.cat([x, fused.pop()], dim=1)))
        return torch.sigmoid(self.head(x))[..., :height, :width]

    def text_or_null(
        self, count: int, tokens: Tensor | None, pooled: Tensor | None, valid: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (B, L, D), sentence (B, D) and validity (B, L), the learned null text where there is none."""
        if tokens is None or pooled is None:
            null = self.null_text.expand(count, 1, -1)
            return null, null[:, 0], torch.ones(count, 1, dtype=torch.bool, device=null.device)
        if valid is None:
            valid = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        valid = valid.bool()
        silent = ~valid.any(dim=1)
        tokens = torch.where(silent[:, None, None], self.null_text, tokens)
        pooled = torch.where(silent[:, None], self.null_text[:, 0], pooled)
        return tokens, pooled, valid | silent[:, None]
