"""The FILM network: text queries image features by cross-attention, three times, then a small Restormer decodes.

Zhao et al., "Image Fusion via Vision-Language Model", ICML 2024, arXiv 2402.02235. Modules are called as in the
authors' checkpoints. This is the reference; ``fast.py`` computes the same for inference.

Shapes: B images, C = 32 feature channels, L text tokens, D = 256 hidden channels of text and tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = (288, 384)
"""Rows and columns to which image features are sampled before they are cut into tokens, whatever the image's size."""
HEADS = 8
STAGES = 3


def build_network(**config: Any) -> FILMNetwork:
    """Build the untrained network.

    Args:
        **config: arguments of ``FILMNetwork``; the defaults are the authors' configuration.
    """
    return FILMNetwork(**config)


def nearest_indices(size: int, target: int, device: torch.device | None = None) -> Tensor:
    """Return the source index of each of ``target`` samples of an axis of length ``size``.

    The product of destination and scale is rounded to float32 before it is floored. Exact arithmetic picks another
    source at some sizes (300 rows to 288: rows 120, 216 and 240).
    """
    scale = torch.tensor(size, dtype=torch.float32) / target
    source = (torch.arange(target, dtype=torch.float32) * scale).long().clamp_max(size - 1)
    return source.to(device)


def resample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the nearest-neighbour enlargement or reduction of (…, H, W) to ``size``."""
    rows, columns = (nearest_indices(n, m, x.device) for n, m in zip(x.shape[-2:], size, strict=True))
    return x.index_select(-2, rows).index_select(-1, columns)


def cosines(q: Tensor, k: Tensor) -> Tensor:
    """Return the cosine similarity (…, d, e) of the rows of (…, d, N) and (…, e, N).

    The long sums over pixels are added up pairwise or by parts: a running float32 sum over a whole image is off by
    enough to show in the fused image.
    """
    # Limited before the root: no gradient of a channel that is zero everywhere is then infinite.
    q, k = (x / (x * x).sum(dim=-1, keepdim=True).clamp_min(1e-24).sqrt() for x in (q, k))
    parts = zip(q.split(256, dim=-1), k.split(256, dim=-1), strict=True)
    return torch.stack([a @ b.transpose(-2, -1) for a, b in parts]).sum(dim=0)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, with weight and bias."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAttention(nn.Module):
    """Self-attention among the channels of each head (Restormer's MDTA)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv_dwconv(self.qkv(x)).unflatten(1, (3, HEADS, -1)).flatten(-2).unbind(1)
        attention = (cosines(q, k) * self.temperature).softmax(dim=-1)
        return self.project_out((attention @ v).reshape(x.shape))


class GatedFeedForward(nn.Module):
    """Two depthwise-convolved projections, one of which gates the other."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        hidden = factor * dim
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class RestormerBlock(nn.Module):
    """Channel attention and gated feed-forward, each on normalised input and added to it."""

    def __init__(self, dim: int, factor: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.attn = ChannelAttention(dim)
        self.norm2 = ChannelNorm(dim)
        self.ffn = GatedFeedForward(dim, factor)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class TextProcess(nn.Module):
    """Reduces the width of text tokens: (B, L, text_width) to (B, L, D)."""

    def __init__(self, text_width: int, hidden_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(text_width, hidden_dim, 1)

    def forward(self, text: Tensor) -> Tensor:
        return self.conv(text.transpose(1, 2)).transpose(1, 2)


class CrossAttention(nn.Module):
    """Multi-head attention in which text tokens ask image tokens."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(hidden_dim, HEADS, batch_first=True)

    def forward(self, text: Tensor, tokens: Tensor) -> Tensor:
        return self.multihead_attn(text, tokens, tokens, need_weights=False)[0]


class ImageToText(nn.Module):
    """Samples features on the grid and cuts each channel into tokens of D consecutive pixels."""

    def __init__(self, dim: int, image2text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, image2text_dim, 1)
        self.hidden_dim = hidden_dim

    def forward(self, features: Tensor) -> Tensor:
        return resample(self.conv(features), GRID).reshape(len(features), -1, self.hidden_dim)


class Stage(nn.Module):
    """One round of text guidance of infrared features (A) and visible features (B)."""

    def __init__(self, inputs: int, dim: int, hidden_dim: int, image2text_dim: int, factor: int) -> None:
        super().__init__()
        for x in "AB":
            self.add_module(f"conv{x}1", nn.Conv2d(inputs, dim, 3, padding=1, bias=False))
            self.add_module(f"prelu{x}1", nn.PReLU())
            self.add_module(f"conv{x}2", nn.Conv2d(image2text_dim, dim, 1))
            self.add_module(f"prelu{x}2", nn.PReLU())
            self.add_module(f"conv{x}3", nn.Conv2d(2 * dim, dim, 1))
            self.add_module(f"prelu{x}3", nn.PReLU())
        for x in "AB":
            self.add_module(f"restormer{x}1", RestormerBlock(dim, factor))
        # The authors' name for the second branch's attention breaks the pattern.
        self.cross_attentionA1 = CrossAttention(hidden_dim)
        self.cross_attentionA2 = CrossAttention(hidden_dim)
        for x in "AB":
            self.add_module(f"imagef2textf{x}1", ImageToText(dim, image2text_dim, hidden_dim))

    def forward(self, infrared: Tensor, visible: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.branch("A", infrared, text), self.branch("B", visible, text)

    def part(self, name: str) -> Any:
        """Return a module by the name of its kind and branch, e.g. ``convA1``."""
        return self.get_submodule({"cross_attentionB1": "cross_attentionA2"}.get(name, name))

    def branch(self, x: str, image: Tensor, text: Tensor) -> Tensor:
        """Return (B, C, H, W) of branch ``x`` from (B, C', H, W) and (B, L, D)."""
        features = self.part(f"restormer{x}1")(self.part(f"prelu{x}1")(self.part(f"conv{x}1")(image)))
        tokens = self.part(f"imagef2textf{x}1")(features)
        answer = self.part(f"cross_attention{x}1")(text, tokens).mean(dim=1, keepdim=True)
        weighted = tokens * F.normalize(answer, p=1, dim=-1, eps=1e-12)
        height, width = image.shape[-2:]
        guided = resample(weighted.reshape(len(image), -1, *GRID), (height, width))
        guided = self.part(f"prelu{x}2")(self.part(f"conv{x}2")(guided)) + features
        return self.part(f"prelu{x}3")(self.part(f"conv{x}3")(torch.cat([features, guided], dim=1)))


class FILMNetwork(nn.Module):
    """FILM.

    Args:
        mid_channel: C, feature channels.
        hidden_dim: D, width of text and image tokens.
        image2text_dim: channels of the features that are cut into tokens.
        ffn_factor: hidden channels of a feed-forward part, in multiples of its input.
        text_width: of the text features (768: BLIP-2's Q-Former).
    """

    def __init__(
        self,
        mid_channel: int = 32,
        hidden_dim: int = 256,
        image2text_dim: int = 32,
        ffn_factor: int = 4,
        text_width: int = 768,
    ) -> None:
        super().__init__()
        self.config = {
            "mid_channel": mid_channel,
            "hidden_dim": hidden_dim,
            "image2text_dim": image2text_dim,
            "ffn_factor": ffn_factor,
            "text_width": text_width,
        }
        self.text_process = TextProcess(text_width, hidden_dim)
        for number in range(STAGES):
            stage = Stage(mid_channel if number else 1, mid_channel, hidden_dim, image2text_dim, ffn_factor)
            self.add_module(f"restormerca{number + 1}", stage)
        self.restormer1 = RestormerBlock(2 * mid_channel, ffn_factor)
        self.restormer2 = RestormerBlock(mid_channel, ffn_factor)
        self.restormer3 = RestormerBlock(mid_channel, ffn_factor)
        self.conv1 = nn.Conv2d(2 * mid_channel, mid_channel, 1)
        self.conv2 = nn.Conv2d(mid_channel, 1, 1)

    @property
    def stages(self) -> list[Stage]:
        """The three stages, in order."""
        return [self.get_submodule(f"restormerca{number + 1}") for number in range(STAGES)]  # type: ignore[misc]

    def forward(self, *, visible: Tensor, infrared: Tensor, text_feature: Tensor) -> Tensor:
        """Fuse.

        Args:
            visible: grey visible image, float (B, 1, H, W) in [0, 1].
            infrared: float (B, 1, H, W) in [0, 1].
            text_feature: (B, L, text_width), the token features of the texts; all tokens count.

        Returns:
            The fused grey image, float (B, 1, H, W) in (0, 1), not yet stretched.
        """
        text = self.text_process(text_feature)
        a, b = infrared, visible
        for stage in self.stages:
            a, b = stage(a, b, text)
        x = self.conv1(self.restormer1(torch.cat([a, b], dim=1)))
        return torch.sigmoid(self.conv2(self.restormer3(self.restormer2(x))))
