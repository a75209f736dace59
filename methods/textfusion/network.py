"""The TextFusion network: one two-stream transformer block, then a sentence scales what infrared adds to visible.

Cheng et al., "TextFusion: Unveiling the Power of Textual Semantics for Controllable Image Fusion", Information Fusion
117, 2025, arXiv 2312.14209. Module names are those of the authors' checkpoint. This is the reference; ``fast.py``
computes the same for inference.

Shapes: B images, C = 24 feature channels, D = 512 channels of the text feature.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
MULTIPLE = 4
SMALLEST = 5
"""Pixels a side must have at least: one that is padded to 4 cannot be mirrored to 8."""


def build_network(**config: Any) -> TextFusionNetwork:
    """Build the untrained network.

    Args:
        **config: arguments of ``TextFusionNetwork``; the defaults are the authors' configuration.
    """
    return TextFusionNetwork(**config)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Mirror (B, C, H, W) beyond its right and lower border until both sides are multiples."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="reflect")


class PatchEmbedding(nn.Module):
    """Features of each pixel and its eight neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, dim, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class RescaledLayerNorm(nn.Module):
    """Layer norm over channels and pixels of a sample, which also tells how to undo it after the attention."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.meta1 = nn.Conv2d(1, dim, 1)
        self.meta2 = nn.Conv2d(1, dim, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised (B, C, H, W), and a factor and a summand (B, C, 1, 1) that follow from its moments."""
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        deviation = ((x - mean).square().mean(dim=(1, 2, 3), keepdim=True) + EPSILON).sqrt()
        return (x - mean) / deviation * self.weight + self.bias, self.meta1(deviation), self.meta2(mean)


class WindowAttention(nn.Module):
    """Self-attention within a window, with a bias that a small network derives from the relative position."""

    relative_positions: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.register_buffer("relative_positions", relative_positions(window))
        self.meta = nn.Sequential(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, heads))

    def bias(self) -> Tensor:
        """Return (heads, N, N), what is added to the logits of a window of N pixels."""
        return self.meta(self.relative_positions).permute(2, 0, 1)

    def forward(self, qkv: Tensor) -> Tensor:
        """Return (windows, N, C) from queries, keys and values (windows, N, 3C)."""
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (q * self.scale @ k.transpose(-2, -1) + self.bias()).softmax(dim=-1)
        return (attention @ v).transpose(1, 2).flatten(2)


def relative_positions(window: int) -> Tensor:
    """Return (N, N, 2), sign(d) ln(1 + |d|) of the offsets d between the N pixels of a window, rows first."""
    cells = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"), dim=-1).view(-1, 2)
    offsets = (cells[:, None] - cells[None]).float()
    return offsets.sign() * offsets.abs().log1p()


class TwoStreamAttention(nn.Module):
    """Depthwise convolution and window attention of the visible (plain names) and the infrared stream (``ass``).

    Both streams add the attention of the *visible* stream, as the authors' code does: ``ass_QK`` has parameters but no
    influence.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.conv = nn.Conv2d(dim, dim, 5, padding=2, groups=dim, padding_mode="reflect")
        self.conv_ass = nn.Conv2d(dim, dim, 5, padding=2, groups=dim, padding_mode="reflect")
        self.V = nn.Conv2d(dim, dim, 1)
        self.ass_V = nn.Conv2d(dim, dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)
        self.proj_ass = nn.Conv2d(dim, dim, 1)
        self.QK = nn.Conv2d(dim, 2 * dim, 1)
        self.ass_QK = nn.Conv2d(dim, 2 * dim, 1)
        self.attn = WindowAttention(dim, heads, window)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        value, value_ass = self.V(visible), self.ass_V(infrared)
        attended = self.windows_attention(torch.cat([self.QK(visible), value], dim=1))
        return self.proj(self.conv(value) + attended), self.proj_ass(self.conv_ass(value_ass) + attended)

    def windows_attention(self, qkv: Tensor) -> Tensor:
        """Return (B, C, H, W) from (B, 3C, H, W)."""
        height, width = qkv.shape[-2:]
        padded = pad_to_multiple(qkv, self.window)
        windows = padded.unflatten(3, (-1, self.window)).unflatten(2, (-1, self.window))
        batch, channels, rows, _, columns, _ = windows.shape
        tokens = windows.permute(0, 2, 4, 3, 5, 1).reshape(-1, self.window**2, channels)
        merged = self.attn(tokens).reshape(batch, rows, columns, self.window, self.window, -1)
        return merged.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, *padded.shape[-2:])[..., :height, :width]


class FeedForward(nn.Module):
    """Two 1x1 convolutions with ReLU between them."""

    def __init__(self, dim: int, hidden: int, out: int, bias: bool = True) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(dim, hidden, 1, bias=bias), nn.ReLU(), nn.Conv2d(hidden, out, 1, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class Block(nn.Module):
    """The two-stream transformer block; the feed-forward parts see un-normalised features."""

    def __init__(self, dim: int, heads: int, window: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = RescaledLayerNorm(dim)
        self.ass_norm1 = RescaledLayerNorm(dim)
        self.attn = TwoStreamAttention(dim, heads, window)
        self.mlp = FeedForward(dim, ratio * dim, dim)
        self.mlp_ass = FeedForward(dim, ratio * dim, dim)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        normed, rescale, rebias = self.norm1(visible)
        normed_ass, rescale_ass, rebias_ass = self.ass_norm1(infrared)
        attended, attended_ass = self.attn(normed, normed_ass)
        visible = visible + attended * rescale + rebias
        infrared = infrared + attended_ass * rescale_ass + rebias_ass
        return visible + self.mlp(visible), infrared + self.mlp_ass(infrared)


class Layer(nn.Module):
    """A stack of blocks, here of one."""

    def __init__(self, dim: int, heads: int, window: int, ratio: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(dim, heads, window, ratio)])

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            visible, infrared = block(visible, infrared)
        return visible, infrared


class PatchMerging(nn.Module):
    """Part of the authors' checkpoint, without influence."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, 2 * dim, 2, stride=2)


class AffineFusion(nn.Module):
    """Adds the infrared features, scaled by the text, to the visible ones (the affine fusion unit)."""

    def __init__(self, dim: int, hidden: int, text_width: int) -> None:
        super().__init__()
        self.mlp_vis = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, text_width, 1, bias=False)
        )
        self.mlp_ir = nn.Sequential(
            nn.Conv2d(dim, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, text_width, 1, bias=False)
        )

    def forward(self, visible: Tensor, infrared: Tensor, text: Tensor) -> Tensor:
        return self.mlp_vis(visible) + text[..., None, None] * self.mlp_ir(infrared)


class PatchUnembedding(nn.Module):
    """Features to one pixel each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(dim, 1, 3, padding=1, padding_mode="reflect"), nn.PixelShuffle(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class TextFusionNetwork(nn.Module):
    """TextFusion.

    Args:
        embed_dim: C, feature channels.
        heads: of the attention.
        window: side of an attention window in pixels.
        mlp_ratio: hidden channels of the feed-forward parts, in multiples of C.
        text_width: D, of the text feature (512: CLIP ViT-B/32).
    """

    def __init__(
        self, embed_dim: int = 24, heads: int = 2, window: int = 8, mlp_ratio: int = 2, text_width: int = 512
    ) -> None:
        super().__init__()
        self.config = {
            "embed_dim": embed_dim,
            "heads": heads,
            "window": window,
            "mlp_ratio": mlp_ratio,
            "text_width": text_width,
        }
        self.patch_embed = PatchEmbedding(embed_dim)
        self.patch_embed2 = PatchEmbedding(embed_dim)
        self.layer1 = Layer(embed_dim, heads, window, mlp_ratio)
        # Without influence on the result, but part of the authors' checkpoint, like patch_merge1.
        self.vt_features_fusion = FeedForward(embed_dim, max(embed_dim // 8, 4), 2 * embed_dim, bias=False)
        self.patch_merge1 = PatchMerging(embed_dim)
        self.fuse_text_image = AffineFusion(embed_dim, 2 * embed_dim, text_width)
        self.patch_unembed1 = PatchUnembedding(text_width)

    def forward(self, *, visible: Tensor, infrared: Tensor, text_feature: Tensor) -> Tensor:
        """Fuse.

        Args:
            visible: luma, float (B, 1, H, W) in [0, 1]; H and W at least 5.
            infrared: float (B, 1, H, W) in [0, 1].
            text_feature: CLIP feature of one sentence for all images (1, D) or of one for each (B, D), not normalised.

        Returns:
            The fused luma, float (B, 1, H, W) in (0, 1).
        """
        height, width = visible.shape[-2:]
        features = self.patch_embed(pad_to_multiple(visible, MULTIPLE))
        features_ass = self.patch_embed2(pad_to_multiple(infrared, MULTIPLE))
        features, features_ass = self.layer1(features, features_ass)
        fused = self.patch_unembed1(self.fuse_text_image(features, features_ass, text_feature))
        return (fused.tanh() / 2 + 0.5)[..., :height, :width]
