"""The LDFusion network: content and style encoders per source, and a decoder whose normalisation the styles set.

Wang et al., "Infrared and Visible Image Fusion with Language-Driven Loss in CLIP Embedding Space", ACM Multimedia 2025,
arXiv 2402.16267. Module names are those of the authors' checkpoints, one file for ``Enc`` and one for ``Dec``. This is
the reference; ``fast.py`` computes the same for inference.

Shapes: B images, h = H // 8 rows and w = W // 8 columns of content features (H // 2^n for n halvings).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
SMALLEST = 16
"""Pixels a side must have at least: content features of one row or column cannot be mirrored."""


def build_network(**config: Any) -> LDFusionNetwork:
    """Build the untrained network.

    Args:
        **config: arguments of ``LDFusionNetwork``; the defaults are the authors' configuration.
    """
    return LDFusionNetwork(**config)


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions, added to their input."""

    def __init__(self, dim: int, norm: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        norm = norm or (lambda: nn.InstanceNorm2d(dim, eps=EPSILON))
        first = nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3), norm()
        second = nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3), norm()
        self.block = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class ContentEncoder(nn.Module):
    """Features (B, 8 dim, h, w) of an image; instance norm takes its contrast away."""

    def __init__(self, channels: int, dim: int, residuals: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels, dim, 7),
            nn.InstanceNorm2d(dim, eps=EPSILON),
            nn.ReLU(),
        ]
        for _ in range(halvings):
            layers += [
                nn.Conv2d(dim, 2 * dim, 4, stride=2, padding=1),
                nn.InstanceNorm2d(2 * dim, eps=EPSILON),
                nn.ReLU(),
            ]
            dim *= 2
        layers += [ResidualBlock(dim) for _ in range(residuals)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class StyleEncoder(nn.Module):
    """A vector (B, style_dim, 1, 1) for the whole image."""

    def __init__(self, channels: int, dim: int, style_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, dim, 7), nn.ReLU()]
        for inputs, outputs in ((dim, 2 * dim), (2 * dim, 4 * dim), (4 * dim, 4 * dim)):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(4 * dim, style_dim, 1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Encoder(nn.Module):
    """Content and style of the visible (1) and the infrared image (2)."""

    def __init__(self, channels: int, dim: int, residuals: int, style_dim: int, halvings: int) -> None:
        super().__init__()
        self.content_encoder1 = ContentEncoder(channels, dim, residuals, halvings)
        self.content_encoder2 = ContentEncoder(channels, dim, residuals, halvings)
        self.style_encoder1 = StyleEncoder(channels, dim, style_dim)
        self.style_encoder2 = StyleEncoder(channels, dim, style_dim)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return content of visible and infrared, then style of visible and infrared."""
        contents = self.content_encoder1(visible), self.content_encoder2(infrared)
        return *contents, self.style_encoder1(visible), self.style_encoder2(infrared)


class AdaptiveInstanceNorm(nn.Module):
    """Instance norm whose bias and scale are inputs; the buffers are part of the checkpoints, without influence."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Normalise (B, C, h, w) with ``parameters`` (B, 2C): first the biases, then the scales."""
        bias, scale = parameters[..., None, None].chunk(2, dim=1)
        return F.instance_norm(x, eps=EPSILON) * scale + bias


class AdaptiveResidualBlock(ResidualBlock):
    """A residual block with adaptive instance norms."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, lambda: AdaptiveInstanceNorm(dim))

    def forward(self, x: Tensor, parameters: Tensor) -> Tensor:  # type: ignore[override]  # the norms need theirs
        """Return (B, C, h, w); ``parameters`` (B, 4C) are those of the first norm, then those of the second."""
        pad, convolve, norm, relu, pad_again, convolve_again, norm_again = self.block
        first, second = parameters.chunk(2, dim=1)
        y = relu(norm(convolve(pad(x)), first))
        return x + norm_again(convolve_again(pad_again(y)), second)


class SampleNorm(nn.Module):
    """Layer norm over channels and pixels of a sample: unbiased deviation, to which epsilon is added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.beta = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = x.mean(dim=(1, 2, 3), keepdim=True), x.std(dim=(1, 2, 3), keepdim=True)
        return (x - mean) / (deviation + EPSILON) * self.gamma[:, None, None] + self.beta[:, None, None]


class StyleMLP(nn.Module):
    """Parameters of all adaptive norms, (B, out), from the styles (B, style_dim)."""

    def __init__(self, style_dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(style_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
        )

    def forward(self, style: Tensor) -> Tensor:
        return self.model(style)


class Decoder(nn.Module):
    """The fused image, larger than the sources, from content and style."""

    def __init__(self, channels: int, dim: int, residuals: int, style_dim: int, doublings: int) -> None:
        super().__init__()
        self.model_local = nn.ModuleList(AdaptiveResidualBlock(dim) for _ in range(residuals))
        hidden, layers = dim, list[nn.Module]()
        for _ in range(doublings):
            layers += [nn.ConvTranspose2d(dim, dim // 2, 5, stride=2), SampleNorm(dim // 2), nn.ReLU()]
            dim //= 2
        self.model_up = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(dim, channels, 7), nn.Tanh())
        self.mlp = StyleMLP(style_dim, hidden, 4 * residuals * hidden)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """Return (B, channels, 8h + 21, 8w + 21) in (-1, 1) from (B, dim, h, w) and (B, style_dim)."""
        parameters = self.mlp(style).chunk(len(self.model_local), dim=1)
        for block, own in zip(self.model_local, parameters, strict=True):
            content = block(content, own)
        return self.model_up(content)


class LDFusionNetwork(nn.Module):
    """LDFusion: encoder ``Enc`` and decoder ``Dec``.

    Args:
        dim: channels of the encoders' first layer.
        n_residual: residual blocks of each content encoder and of the decoder.
        style_dim: width of the style of one source.
        n_downsample: halvings of the image by the content encoders, and doublings by the decoder.
    """

    def __init__(self, dim: int = 16, n_residual: int = 2, style_dim: int = 8, n_downsample: int = 3) -> None:
        super().__init__()
        self.config = {"dim": dim, "n_residual": n_residual, "style_dim": style_dim, "n_downsample": n_downsample}
        self.Enc = Encoder(1, dim, n_residual, style_dim, n_downsample)
        self.Dec = Decoder(1, 2 * dim * 2**n_downsample, n_residual, 2 * style_dim, n_downsample)

    def forward(self, *, visible: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        """Fuse.

        Args:
            visible: luma, float (B, 1, H, W) in [0, 1]; H and W at least 16.
            infrared: float (B, 1, H, W) in [0, 1].

        Returns:
            ``fused_y``: the fused luma, (B, 1, H, W) in [0, 1], the upper left part of ``tanh_full``, negative values
            set to zero; ``tanh_full``: (B, 1, 8h + 21, 8w + 21) in (-1, 1), what the decoder returns.
        """
        content_vi, content_ir, style_vi, style_ir = self.Enc(visible, infrared)
        style = torch.cat([style_vi, style_ir], dim=1).flatten(1)
        full = self.Dec(torch.cat([content_vi, content_ir], dim=1), style)
        height, width = visible.shape[-2:]
        return {"fused_y": full[..., :height, :width].clamp(0, 1), "tanh_full": full}
