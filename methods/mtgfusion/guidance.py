"""The text-guided parts of MTG-Fusion: text maps, extraction of shared features (TGCE), fusion of specific ones (TGSF).

Module names are the authors'. ``reduce3A`` and ``reduce3B`` are ours: the release draws these convolutions anew in
every call.

Shapes: B images, d = 64 channels, N = H W pixels in raster order, L text tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CYCLE_BLOCKS = 4
CROSS_BLOCKS = 4
CROSS_HEADS = 4
NEAREST_CHUNK = 4096
"""Pixels that are compared with all text vectors at a time."""

Transform = Literal["release", "paper"]
FEEDBACK = 0.5
"""Base of the paper's feedback coefficient, in (0, 1)."""


class CycleMLP(nn.Module):
    """Mixes channels, and pixels by a cyclic shift along the rows and a depthwise 3x3 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp1 = nn.Sequential(nn.Conv2d(dim, 4 * dim, 1), nn.ReLU())
        self.dw_conv = nn.Conv2d(4 * dim, 4 * dim, 3, padding=1, groups=4 * dim)
        self.mlp2 = nn.Conv2d(4 * dim, dim, 1)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.mlp1(self.norm(x)).roll(1, dims=-1)
        return x + self.mlp2(F.relu(self.dw_conv(hidden)))


class TextMap(nn.Module):
    """A map (B, d, H, W) of a text (B, L, d): its mean everywhere, then varied by CycleMLP blocks.

    Args:
        dim: d.
        blocks: attribute name of the blocks.
    """

    def __init__(self, dim: int, blocks: str) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, dim)
        self.add_module(blocks, nn.Sequential(*(CycleMLP(dim) for _ in range(CYCLE_BLOCKS))))
        self._blocks = blocks

    def forward(self, text: Tensor, height: int, width: int) -> Tensor:
        mean = F.relu(self.fc(text.mean(dim=1)))
        return self.get_submodule(self._blocks)(mean[:, :, None, None].expand(-1, -1, height, width))


def scalar_mlp() -> nn.Sequential:
    """1 to 256 to 1."""
    return nn.Sequential(nn.Linear(1, 256), nn.ReLU(), nn.Linear(256, 1))


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine distance 1 - cos of the last axes."""
    return 1 - F.cosine_similarity(a, b, dim=-1, eps=1e-8)


def unit(x: Tensor) -> Tensor:
    """Return vectors along the last axis divided by their norm + 1e-6."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6)


def nearest(queries: Tensor, candidates: Tensor) -> Tensor:
    """Return (N), the index of the candidate (M, d) at the least Euclidean distance from each query (N, d)."""
    half_squares = candidates.square().sum(dim=-1) / 2
    parts = queries.split(NEAREST_CHUNK)
    return torch.cat([(part @ candidates.t() - half_squares).argmax(dim=1) for part in parts])


class TGCE(nn.Module):
    """Extracts cross-modality shared features: a text cube steers a recursive smoothing and a weight.

    Args:
        dim: d.
        transform: coefficient of the smoothing, ``release`` (as the released code has it: exp(-d), d between the
            current features and the previous text vector) or ``paper`` (0.5^d, d between neighbouring text vectors).
    """

    def __init__(self, dim: int, transform: Transform = "release") -> None:
        super().__init__()
        self.text_A, self.text_B, self.text_AB = (TextMap(dim, "blocks") for _ in range(3))
        self.mlp_tv, self.mlp_tt = scalar_mlp(), scalar_mlp()
        self.transform = transform

    def forward(self, shared: Tensor, tA: Tensor, tB: Tensor, tAB: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (B, d, H, W) and the text cube (B, H, W, d) from (B, d, H, W) and texts (B, L, d)."""
        height, width = shared.shape[-2:]
        cube = self.text_cube(height, width, tA, tB, tAB)
        visual = shared.permute(0, 2, 3, 1)
        text = torch.stack([self.reordered(v, t) for v, t in zip(visual, cube, strict=True)])
        return self.extracted(visual, text).permute(0, 3, 1, 2), cube

    def extracted(self, visual: Tensor, text: Tensor) -> Tensor:
        """Return (B, H, W, d), smoothed and weighted, from features and the text vectors of the pixels."""
        smooth = self.smoothed(visual, text)
        flat = text.flatten(1, 2)
        to_next = F.pad(distance(flat[:, :-1], flat[:, 1:]), (0, 1)).view(smooth.shape[:3])
        to_text = distance(smooth, text)
        weight = torch.sigmoid(self.mlp_tv(to_text[..., None]) + self.mlp_tt(to_next[..., None]))
        return smooth * weight

    def text_cube(self, height: int, width: int, tA: Tensor, tB: Tensor, tAB: Tensor) -> Tensor:
        """Return (B, H, W, d), the product of the maps of three texts."""
        maps = (f(text, height, width) for f, text in ((self.text_A, tA), (self.text_B, tB), (self.text_AB, tAB)))
        a, b, ab = maps
        return (a * b * ab).permute(0, 2, 3, 1)

    def reordered(self, visual: Tensor, cube: Tensor) -> Tensor:
        """Return (H, W, d): for every pixel the normalised text vector that is nearest to its visual vector."""
        text = unit(cube.flatten(0, 1))
        return text[nearest(unit(visual.flatten(0, 1)), text)].view(visual.shape)

    def smoothed(self, visual: Tensor, text: Tensor) -> Tensor:
        """Return (B, H, W, d) after a recursive pass along the rows and one along the columns."""
        for axis in (2, 1):
            columns, guide = list(visual.unbind(axis)), text.unbind(axis)
            for i in range(1, len(columns)):
                if self.transform == "release":
                    feedback = torch.exp(-distance(columns[i], guide[i - 1]))
                else:
                    feedback = FEEDBACK ** distance(guide[i], guide[i - 1])
                columns[i] = torch.lerp(columns[i], columns[i - 1], feedback[..., None])
            visual = torch.stack(columns, dim=axis)
        return visual


class CrossBlock(nn.Module):
    """Two passes of cross-attention: the text asks the image, then the image asks the answered text."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        for side, number in (("text", 1), ("vis", 2)):
            self.add_module(f"norm_{side}_{number}", nn.LayerNorm(dim))
            for part in ("q_proj", "k_proj", "v_proj", "attn_out"):
                self.add_module(f"{part}_{side}_{number}", nn.Linear(dim, dim))
            self.add_module(f"norm_{side}_ff_{number}", nn.LayerNorm(dim))
            feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
            self.add_module(f"ff_{side}_{number}", feed_forward)

    def forward(self, visual: Tensor, text: Tensor) -> Tensor:
        """Return the new visual tokens (B, N, d)."""
        text = self.answered("text", 1, text, visual)
        return self.answered("vis", 2, visual, text)

    def answered(self, side: str, number: int, asking: Tensor, asked: Tensor) -> Tensor:
        """Return tokens (B, M, d) after asking others (B, K, d)."""
        norm, q, k, v, out, norm_ff, ff = self.parts(side, number)
        queries, keys, values = (
            x.unflatten(-1, (CROSS_HEADS, -1)).transpose(1, 2) for x in (q(norm(asking)), k(asked), v(asked))
        )
        answer = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        asking = asking + out(answer)
        return asking + ff(norm_ff(asking))

    def parts(self, side: str, number: int) -> list[nn.Module]:
        """Return norm, projections to queries, keys, values and out, norm and layers of the feed-forward part."""
        names = ("norm_{}", "q_proj_{}", "k_proj_{}", "v_proj_{}", "attn_out_{}", "norm_{}_ff", "ff_{}")
        return [self.get_submodule(f"{name.format(side)}_{number}") for name in names]


class TGSF(nn.Module):
    """Fuses single-modality specific features, weighted by maps of the texts about each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cross_blocks_A = nn.ModuleList(CrossBlock(dim) for _ in range(CROSS_BLOCKS))
        self.cross_blocks_B = nn.ModuleList(CrossBlock(dim) for _ in range(CROSS_BLOCKS))
        self.textDimA, self.textDimB = TextMap(dim, "cycle_blocks"), TextMap(dim, "cycle_blocks")
        self.cnnA, self.cnnB = (
            nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1), nn.Sigmoid())
            for _ in range(2)
        )
        self.final_reducer = nn.Conv2d(CROSS_BLOCKS * dim, dim, 1)
        self.reduce3A, self.reduce3B = nn.Conv2d(3 * dim, 3, 1), nn.Conv2d(3 * dim, 3, 1)

    def forward(self, featA: Tensor, featB: Tensor, tAS: Tensor, tBS: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the fused features (B, d, H, W), and of side A the first and last cross outputs and the text map."""
        height, width = featA.shape[-2:]
        fused, parts = torch.zeros_like(featA), {}
        for x, features, text in (("A", featA, tAS), ("B", featB, tBS)):
            crossed = self.crossed(x, features.flatten(2).transpose(1, 2), text)
            text_map = self.get_submodule(f"textDim{x}")(text, height, width)
            stacked = torch.cat(crossed, dim=-1).transpose(1, 2).unflatten(2, (height, width))
            fused = fused + self.final_reducer(stacked) * self.weight(x, text_map)
            if x == "A":
                parts = {"cross1": crossed[0], "cross4": crossed[-1], "text_mapA": text_map}
        return fused, parts

    def crossed(self, x: str, visual: Tensor, text: Tensor) -> list[Tensor]:
        """Return the outputs (B, N, d) of the chain of cross blocks, each of which gets the original text."""
        outputs = []
        for block in self.get_submodule(f"cross_blocks_{x}"):  # type: ignore[attr-defined]  # a module list
            visual = block(visual, text)
            outputs.append(visual)
        return outputs

    def weight(self, x: str, text_map: Tensor) -> Tensor:
        """Return the weight (B, 1, H, W) of a side; the release stacks one map as its three views of the text."""
        reduced = self.get_submodule(f"reduce3{x}")(text_map.repeat(1, 3, 1, 1))
        return self.get_submodule(f"cnn{x}")(reduced)
