"""The Text-IF network: two Restormer-like encoders, attention between them, and a decoder that a sentence modulates.

Yi et al., "Text-IF: Leveraging Semantic Text Guidance for Degradation-Aware and Interactive Image Fusion", CVPR 2024,
arXiv 2403.16387. Modules are called as in the authors' checkpoints, whose CLIP (``model_clip``) is a text encoder like
any other and no part of this network. This is the reference; ``fast.py`` computes the same for inference.

Shapes: B images of H x W pixels, c channels of a level, D the width of the text feature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods.film.network import cosines

MULTIPLE = 8
"""What height and width must be multiples of: there are three halvings."""
NORM_GROUPS = 16
LEVELS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Attributes:
        dim: channels at full resolution; each level below has twice as many.
        num_blocks: transformer blocks of levels 1 to 4, in either encoder and in the decoder.
        refinement_blocks: transformer blocks after the decoder.
        text_width: of the text feature.
        text_hidden: hidden neurons of the text's modulators.
    """

    dim: int
    num_blocks: tuple[int, int, int, int]
    refinement_blocks: int
    text_width: int
    text_hidden: int

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of levels 1 to 4."""
        return self.dim, 2 * self.dim, 4 * self.dim, 8 * self.dim


SIZES = {
    "authors": Size(dim=48, num_blocks=(2, 2, 2, 2), refinement_blocks=4, text_width=512, text_hidden=1024),
    "small": Size(dim=8, num_blocks=(1, 1, 1, 1), refinement_blocks=1, text_width=384, text_hidden=128),
}
"""``authors``: the published network. ``small``: tgfbench's own reduction, for weights that a package can carry."""
HEADS = (1, 2, 4, 8)
"""Attention heads of levels 1 to 4; the blocks after the decoder have those of level 1."""


def build_network(**config: Any) -> TextIFNetwork:
    """Build the untrained network.

    Args:
        **config: arguments of ``TextIFNetwork``; the defaults are the authors' configuration.
    """
    return TextIFNetwork(**config)


class Parts(nn.Module):
    """A module whose parts can be asked for by name, e.g. that of a level."""

    def part(self, name: str) -> Any:
        return self.get_submodule(name)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, with weight and bias."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Self-attention among the channels of each head (Restormer's MDTA)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = len(self.temperature)
        q, k, v = self.qkv_dwconv(self.qkv(x)).unflatten(1, (3, heads, -1)).flatten(-2).unbind(1)
        attention = (cosines(q, k) * self.temperature).softmax(dim=-1)
        return self.project_out((attention @ v).reshape(x.shape))


class FeedForward(nn.Module):
    """Two pointwise projections around a convolution, which is dense in spite of its name."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = 2 * dim
        self.project_in = nn.Conv2d(dim, hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.project_out(F.gelu(self.dwconv(self.project_in(x))))


class TransformerBlock(nn.Module):
    """Channel attention and feed-forward, each on normalised input and added to it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.attn = ChannelAttention(dim, heads)
        self.norm2 = ChannelNorm(dim)
        self.ffn = FeedForward(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


def blocks(count: int, dim: int, heads: int) -> nn.Sequential:
    """Return ``count`` transformer blocks in a row."""
    return nn.Sequential(*(TransformerBlock(dim, heads) for _ in range(count)))


class Downsample(nn.Module):
    """(B, c, H, W) to (B, 2c, H/2, W/2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Upsample(nn.Module):
    """(B, c, H, W) to (B, c/2, 2H, 2W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(dim, 2 * dim, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class PatchEmbed(nn.Module):
    """The first convolution of an encoder."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Encoder(Parts):
    """Features of one image at four levels."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(size.dim)
        for level, count, channels, heads in zip(LEVELS, size.num_blocks, size.channels, HEADS, strict=True):
            self.add_module(f"encoder_level{level}", blocks(count, channels, heads))
            if level < LEVELS[-1]:
                self.add_module(f"down{level}_{level + 1}", Downsample(channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of levels 1 to 4, (B, c, H/2^(level-1), W/2^(level-1)) each."""
        x, levels = self.patch_embed(image), []
        for level in LEVELS:
            x = self.part(f"encoder_level{level}")(x)
            levels.append(x)
            if level < LEVELS[-1]:
                x = self.part(f"down{level}_{level + 1}")(x)
        return levels


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention of every position to all positions, each (B, c, H, W), with scale 1/sqrt(c)."""
    queries, keys, values = (x.flatten(2).transpose(1, 2)[:, None] for x in (q, k, v))
    return F.scaled_dot_product_attention(queries, keys, values)[:, 0].transpose(1, 2).reshape(q.shape)


class CrossAttention(nn.Module):
    """Attention over positions in which the queries of either image ask the other image.

    What is added to the answers is the normalised input.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm_A = nn.GroupNorm(NORM_GROUPS, dim)
        self.norm_B = nn.GroupNorm(NORM_GROUPS, dim)
        self.qkv_A = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.out_A = nn.Conv2d(dim, dim, 1)
        self.qkv_B = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.out_B = nn.Conv2d(dim, dim, 1)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.norm_A(a), self.norm_B(b)
        query_a, key_a, value_a = self.qkv_A(a).chunk(3, dim=1)
        query_b, key_b, value_b = self.qkv_B(b).chunk(3, dim=1)
        return (
            self.out_A(attend(query_b, key_a, value_a)) + a,
            self.out_B(attend(query_a, key_b, value_b)) + b,
        )


class SpatialAttention(nn.Module):
    """Self-attention over positions, added to the raw input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, dim)
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(attend(*self.qkv(self.norm(x)).chunk(3, dim=1))) + x


class FeatureFusion(nn.Module):
    """One map from two."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fusion_proj = nn.Conv2d(2 * dim, dim, 1, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.fusion_proj(torch.cat([a, b], dim=1))


class PromptGuidance(nn.Module):
    """Semantic interaction guidance (SIGM): the text scales and shifts the channels."""

    def __init__(self, size: Size, dim: int) -> None:
        super().__init__()
        self.MLP = nn.Sequential(
            nn.Linear(size.text_width, size.text_hidden), nn.LeakyReLU(), nn.Linear(size.text_hidden, 2 * dim)
        )

    def affine(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return factor and summand of the channels, (B, c) each, from (B, D)."""
        gamma, beta = self.MLP(text).chunk(2, dim=1)
        return 1 + gamma, beta

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        scale, shift = (part[:, :, None, None] for part in self.affine(text))
        return scale * x + shift


class TextIFNetwork(Parts):
    """Text-IF.

    Args:
        size: a name in ``SIZES``.
        text_width: of the text feature; None takes that of the size.
    """

    def __init__(self, size: Literal["authors", "small"] = "authors", text_width: int | None = None) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"no size is called {size!r}, there are {', '.join(SIZES)}")
        self.size = replace(SIZES[size], text_width=text_width or SIZES[size].text_width)
        self.config: dict[str, Any] = {"size": size, "text_width": self.size.text_width}
        channels = self.size.channels
        self.encoder_A = Encoder(self.size)
        self.encoder_B = Encoder(self.size)
        self.cross_attention = CrossAttention(channels[3])
        self.attention_spatial = SpatialAttention(channels[3])
        for level in reversed(LEVELS):
            own, heads, count = channels[level - 1], HEADS[level - 1], self.size.num_blocks[level - 1]
            self.add_module(f"feature_fusion_{level}", FeatureFusion(own))
            self.add_module(f"prompt_guidance_{level}", PromptGuidance(self.size, own))
            if level < LEVELS[-1]:
                self.add_module(f"up{level + 1}_{level}", Upsample(2 * own))
            if level in (2, 3):
                self.add_module(f"reduce_chan_level{level}", nn.Conv2d(2 * own, own, 1, bias=False))
            # At full resolution, decoder and encoder features stay side by side.
            self.add_module(f"decoder_level{level}", blocks(count, own if level > 1 else 2 * own, heads))
        self.refinement = blocks(self.size.refinement_blocks, 2 * channels[0], HEADS[0])
        self.output = nn.Conv2d(2 * channels[0], 3, 3, padding=1, bias=False)

    def forward(self, *, visible: Tensor, infrared: Tensor, text_feature: Tensor) -> Tensor:
        """Fuse.

        Args:
            visible: float (B, 3, H, W), RGB in [0, 1]; H and W are multiples of 8.
            infrared: float (B, 3, H, W) or (B, 1, H, W) in [0, 1]; grey images have equal channels.
            text_feature: (B, D) or (1, D), one vector per text, not normalised.

        Returns:
            The fused image, float (B, 3, H, W) RGB; values can leave [0, 1].
        """
        a = self.encoder_A(visible)
        b = self.encoder_B(infrared.expand(-1, 3, -1, -1))
        x = self.attention_spatial(self.part("feature_fusion_4")(*self.cross_attention(a[3], b[3])))
        x = self.part("decoder_level4")(self.part("prompt_guidance_4")(x, text_feature))
        for level in (3, 2, 1):
            x = self.part(f"prompt_guidance_{level}")(self.part(f"up{level + 1}_{level}")(x), text_feature)
            x = torch.cat([x, self.part(f"feature_fusion_{level}")(a[level - 1], b[level - 1])], dim=1)
            if level > 1:
                x = self.part(f"reduce_chan_level{level}")(x)
            x = self.part(f"decoder_level{level}")(x)
        return self.output(self.refinement(x))
