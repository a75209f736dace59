"""The MTG-Fusion network: features that both images share and features of one image, each guided by its own texts.

Wang et al., "Multi-Text Guidance Is Important: Multi-Modality Image Fusion via Large Generative Vision-Language Model",
IJCV 133(7), 2025. The authors released the modules, under these names, but neither their assembly nor weights. A
reconstruction: the assembly follows the release's comments; the projection of the text (``text_in``), the registered
reductions of ``TGSF`` and attention in windows are tgfbench's own choice.

Shapes: B images, d = 64 channels, N = H W pixels in raster order, L text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods.mtgfusion.guidance import TGCE, TGSF, Transform

RETENTION_HEADS = 8
COUPLING_SCALE = 0.64
TEXTS = ("tA", "tB", "tAB", "tAS", "tBS")


def build_network(**config: Any) -> MTGFusionNetwork:
    """Build the untrained network.

    Args:
        **config: arguments of ``MTGFusionNetwork``.
    """
    return MTGFusionNetwork(**config)


class Coupling(nn.Module):
    """Affine coupling of two channels: one is scaled and shifted by what a network sees in the other.

    Args:
        dim: hidden channels.
        changed: index of the channel that changes.
    """

    def __init__(self, dim: int, changed: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, dim, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(dim, dim, 1),
            nn.ReLU(),
            nn.Conv2d(dim, 2, 3, padding=1),
        )
        self.changed = changed

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, 2, H, W) and the log-determinant (B)."""
        halves = list(x.chunk(2, dim=1))
        scale, shift = self.net(halves[1 - self.changed]).chunk(2, dim=1)
        scale = COUPLING_SCALE * torch.tanh(scale)
        halves[self.changed] = (halves[self.changed] + shift) * scale.exp()
        return torch.cat(halves, dim=1), scale.sum(dim=(1, 2, 3))


class SpecificEncoder(nn.Module):
    """Invertible features of one image: (B, 1, H, W) to (B, d, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pre_conv = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
        self.transforms = nn.ModuleList(Coupling(dim, changed) for changed in (1, 0, 1, 0))
        self.post_conv = nn.Conv2d(2, dim, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and log-determinant (B)."""
        x = self.pre_conv(image)
        total = x.new_zeros(len(x))
        for transform in self.transforms:
            x, log_det = transform(x)
            total = total + log_det
        return self.post_conv(x), total


class SpecificEncoders(nn.Module):
    """One encoder for each image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.EA, self.EB = SpecificEncoder(dim), SpecificEncoder(dim)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of both images and the sum of their log-determinants."""
        (features_a, log_det_a), (features_b, log_det_b) = self.EA(a), self.EB(b)
        return features_a, features_b, log_det_a + log_det_b


class MultiScaleRetention(nn.Module):
    """Self-attention, then a depthwise convolution along the order of the tokens: (B, T, d) to (B, T, d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_proj, self.key_proj, self.value_proj = (nn.Linear(dim, dim) for _ in range(3))
        self.out_proj = nn.Linear(dim, dim)
        self.multi_scale_conv = nn.Conv1d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (RETENTION_HEADS, -1)).transpose(1, 2)
            for projection in (self.query_proj, self.key_proj, self.value_proj)
        )
        answer = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out_proj(answer + self.multi_scale_conv(answer.transpose(1, 2)).transpose(1, 2))


class RetentionBlock(nn.Module):
    """Retention and feed-forward, each on normalised input and added to it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.msr = MultiScaleRetention(dim)
        self.norm1 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.msr(self.norm1(x))
        return x + self.ffn(self.norm2(x))


def to_windows(x: Tensor, window: tuple[int, int] | None) -> Tensor:
    """Cut (B, d, H, W) into windows of tokens (B k, T, d), the image mirrored at its right and lower border to fit.

    Args:
        x: features.
        window: rows and columns, at most those of the image; None takes the whole image as one window.
    """
    if window is None:
        return x.flatten(2).transpose(1, 2)
    rows, columns = window
    x = F.pad(x, (0, -x.shape[3] % columns, 0, -x.shape[2] % rows), mode="reflect")
    cells = x.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)


def from_windows(tokens: Tensor, window: tuple[int, int] | None, size: Sequence[int]) -> Tensor:
    """Undo ``to_windows`` for an image of that size (H, W)."""
    height, width = size
    rows, columns = window or (height, width)
    down, across = -(-height // rows), -(-width // columns)
    cells = tokens.unflatten(1, (rows, columns)).unflatten(0, (-1, down, across))
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)[..., :height, :width]


class Retention(nn.Module):
    """What shared extractor and reconstructor have in common: blocks on pixels as tokens, within windows.

    Args:
        window: rows and columns of the windows; None lets every pixel attend to every other.
    """

    def __init__(self, window: tuple[int, int] | None) -> None:
        super().__init__()
        self.window = window

    def window_for(self, size: Sequence[int]) -> tuple[int, int] | None:
        """Return the window for an image of size (H, W), no larger than the image."""
        if self.window is None:
            return None
        return min(self.window[0], size[0]), min(self.window[1], size[1])

    def mixed(self, x: Tensor, *layers: nn.Module) -> Tensor:
        """Return (B, d, H, W) after layers that act on tokens."""
        window = self.window_for(x.shape[-2:])
        tokens = to_windows(x, window)
        for layer in layers:
            tokens = layer(tokens)
        return from_windows(tokens, window, x.shape[-2:])


class SharedExtractor(Retention):
    """Cross-modality features of an image pair: (B, 2, H, W) to (B, d, H, W)."""

    def __init__(self, dim: int, window: tuple[int, int] | None) -> None:
        super().__init__(window)
        self.proj_in = nn.Conv2d(2, dim, 3, padding=1)
        self.blocks = nn.ModuleList(RetentionBlock(dim) for _ in range(4))
        self.norm_out = nn.LayerNorm(dim)
        self.proj_out = nn.Conv2d(dim, dim, 1)

    def forward(self, pair: Tensor) -> Tensor:
        return self.proj_out(self.mixed(self.proj_in(pair), *self.blocks, self.norm_out))


class Reconstructor(Retention):
    """The fused image of shared and specific features, (B, d, H, W) each."""

    def __init__(self, dim: int, window: tuple[int, int] | None) -> None:
        super().__init__(window)
        self.proj_in = nn.Conv2d(2 * dim, dim, 3, padding=1)
        self.ret_blocks = nn.ModuleList(RetentionBlock(dim) for _ in range(4))
        self.final_conv = nn.Conv2d(dim, 1, 1)

    def forward(self, shared: Tensor, specific: Tensor) -> Tensor:
        return self.final_conv(self.mixed(self.proj_in(torch.cat([shared, specific], dim=1)), *self.ret_blocks))


class MTGFusionNetwork(nn.Module):
    """MTG-Fusion.

    Args:
        dim: d, feature channels.
        text_width: of the text tokens (768: BLIP).
        window: rows and columns of the attention windows; None is full attention, which takes N^2 products.
        transform: of ``TGCE``.
    """

    def __init__(
        self,
        dim: int = 64,
        text_width: int = 768,
        window: Sequence[int] | None = None,
        transform: Transform = "release",
    ) -> None:
        super().__init__()
        if window is not None and (len(window) != 2 or min(window) < 1):
            raise ValueError(f"window is {window}; two positive numbers were expected")
        pair = (int(window[0]), int(window[1])) if window is not None else None
        self.config: dict[str, Any] = {
            "dim": dim,
            "text_width": text_width,
            "window": list(pair) if pair else None,
            "transform": transform,
        }
        self.text_in = nn.Linear(text_width, dim)
        self.visual = SpecificEncoders(dim)
        self.shared = SharedExtractor(dim, pair)
        self.tgce = TGCE(dim, transform)
        self.tgsf = TGSF(dim)
        self.recon = Reconstructor(dim, pair)

    def forward(
        self,
        *,
        visible: Tensor,
        infrared: Tensor,
        tA: Tensor | None = None,
        tB: Tensor | None = None,
        tAB: Tensor | None = None,
        tAS: Tensor | None = None,
        tBS: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Fuse, and return what the released modules compute on the way.

        Args:
            visible: grey visible image, float (B, 1, H, W) in [0, 1].
            infrared: float (B, 1, H, W) in [0, 1].
            tA: tokens of the text about the infrared image, (B, L, text_width), or (B, L, d) where ``text_in`` was
                applied already; None: zeros.
            tB, tAB, tAS, tBS: of the texts about the visible image, about what both show, about what only the infrared
                and what only the visible image shows.

        Returns:
            ``fused``, the fused grey image (B, 1, H, W), not clamped; ``featA``, ``featB``, ``shared``, ``cmsf`` and
            ``text_mapA`` (B, d, H, W); ``text_cube`` (B, H, W, d); ``cross1`` and ``cross4`` (B, N, d); ``logdet`` (B);
            and ``recon``, what the reconstructor makes of ``cmsf`` and ``featA``.
        """
        tA, tB, tAB, tAS, tBS = (self.text_tokens(text, len(visible)) for text in (tA, tB, tAB, tAS, tBS))
        feat_a, feat_b, log_det = self.visual(infrared, visible)
        shared = self.shared(torch.cat([infrared, visible], dim=1))
        cmsf, cube = self.tgce(shared, tA, tB, tAB)
        smsf, parts = self.tgsf(feat_a, feat_b, tAS, tBS)
        return {
            "fused": self.recon(cmsf, smsf),
            "featA": feat_a,
            "featB": feat_b,
            "logdet": log_det,
            "shared": shared,
            "text_cube": cube,
            "cmsf": cmsf,
            **parts,
            "recon": self.recon(cmsf, feat_a),
        }

    def fused(self, *, visible: Tensor, infrared: Tensor, **texts: Tensor | None) -> Tensor:
        """Return the entry ``fused`` of ``forward`` alone; ``texts`` by their names there."""
        tA, tB, tAB, tAS, tBS = (self.text_tokens(texts.get(name), len(visible)) for name in TEXTS)
        feat_a, feat_b, _ = self.visual(infrared, visible)
        cmsf, _ = self.tgce(self.shared(torch.cat([infrared, visible], dim=1)), tA, tB, tAB)
        smsf, _ = self.tgsf(feat_a, feat_b, tAS, tBS)
        return self.recon(cmsf, smsf)

    def set_window(self, window: tuple[int, int] | None) -> None:
        """Change the attention windows; they have no parameters."""
        self.shared.window = self.recon.window = window
        self.config["window"] = list(window) if window else None

    def text_tokens(self, text: Tensor | None, count: int) -> Tensor:
        """Return tokens (B, L, d) of a text."""
        if text is None:
            text = self.text_in.weight.new_zeros(count, 1, self.text_in.in_features)
        return text if text.shape[-1] == self.text_in.out_features else self.text_in(text)
