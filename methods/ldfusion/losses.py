"""LDFusion's training loss: in CLIP's space, the way from a source to the fused image runs parallel to the words' way.

Wang et al., ACM Multimedia 2025, as in the authors' released code. d(x) is the unit vector of an embedding. With texts
for the visible image, for the infrared image and for what is wanted,

    D = (1 - cos(d(F) - d(V), d(wanted) - d(visible))) / 2 + (1 - cos(d(F) - d(I), d(wanted) - d(infrared))) / 2

is taken for the whole image and for patches of it; two further terms keep F close to its sources.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GLOBAL_WEIGHT, PATCH_WEIGHT, SIMILARITY_WEIGHT, FEATURE_WEIGHT = 2.0, 10.0, 6.0, 10.0
PATCHES, PATCH_SIDES = 32, (112, 179)
PATCH_DEGREES, PATCH_SHEAR = 5.0, 5.0
LEAST_ENTROPY = 6.0
CLIP_SIDE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
FEATURE_ENDS = (6, 11, 22)
"""Layers of VGG-19 after conv2_1, conv3_1 and conv4_2."""


def direction_loss(fused: Tensor, visible: Tensor, infrared: Tensor, texts: dict[str, Tensor]) -> Tensor:
    """Return D (B), in [0, 2].

    Args:
        fused, visible, infrared: embeddings (B, D).
        texts: embeddings (1, D) of the texts ``visible``, ``infrared`` and ``objective``.
    """
    unit = {name: F.normalize(feature, dim=-1) for name, feature in texts.items()}
    way = F.normalize(fused, dim=-1)
    losses = [
        1 - F.cosine_similarity(way - F.normalize(source, dim=-1), unit["objective"] - unit[name], dim=-1)
        for name, source in (("visible", visible), ("infrared", infrared))
    ]
    return (losses[0] + losses[1]) / 2


def similarity_loss(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Return (B), in [0, 2], the mean of 1 - cos between the fused and each source's embedding (B, D)."""
    return 1 - (F.cosine_similarity(fused, visible, dim=-1) + F.cosine_similarity(fused, infrared, dim=-1)) / 2


def feature_loss(fused: Sequence[Tensor], visible: Sequence[Tensor], infrared: Sequence[Tensor]) -> Tensor:
    """Return the squared distance to the larger of both sources' features, summed over layers."""
    layers = zip(fused, visible, infrared, strict=True)
    return torch.stack([F.mse_loss(f, torch.maximum(v, i)) for f, v, i in layers]).sum()


def for_clip(image: Tensor) -> Tensor:
    """Return a grey image (B, 1, H, W) in [0, 1] as CLIP's image tower wants it: (B, 3, 224, 224), standardised."""
    sized = F.interpolate(image, (CLIP_SIDE, CLIP_SIDE), mode="bilinear", align_corners=False)
    mean, deviation = (image.new_tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_DEVIATION))
    return (sized - mean) / deviation


def patch_grids(size: tuple[int, int], count: int, random: np.random.Generator) -> Tensor:
    """Return sampling grids (count, 224, 224, 2) of randomly placed, slightly turned and sheared square patches.

    Args:
        size: height and width of the image; patches are scaled down with images smaller than 224 pixels.
        count: number of patches.
        random: chance.
    """
    height, width = size
    reduce = min(1.0, min(size) / CLIP_SIDE)
    sides = random.integers(PATCH_SIDES[0], PATCH_SIDES[1] + 1, count) * reduce
    turns = np.deg2rad(random.uniform(-PATCH_DEGREES, PATCH_DEGREES, count))
    shears = np.tan(np.deg2rad(random.uniform(-PATCH_SHEAR, PATCH_SHEAR, count)))
    matrices = np.zeros((count, 2, 3), np.float32)
    for k, (side, turn, shear) in enumerate(zip(sides, turns, shears, strict=True)):
        cos, sin = math.cos(turn), math.sin(turn)
        half = side / 2
        linear = half * np.array([[cos, cos * shear - sin], [sin, sin * shear + cos]])
        centre = [random.uniform(half, length - half) for length in (width, height)]
        matrices[k, :, :2] = linear / np.array([[width / 2], [height / 2]])
        matrices[k, :, 2] = np.array(centre) / np.array([width / 2, height / 2]) - 1
    shape = [count, 1, CLIP_SIDE, CLIP_SIDE]
    return F.affine_grid(torch.from_numpy(matrices), shape, align_corners=False)


def cut_patches(image: Tensor, grids: Tensor) -> Tensor:
    """Return the patches (N, 1, 224, 224) that grids (N, 224, 224, 2) cut from one image (1, 1, H, W)."""
    return F.grid_sample(
        image.expand(len(grids), -1, -1, -1), grids, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def entropy(patches: Tensor) -> Tensor:
    """Return the Shannon entropy (N) in bits of the 256-bin histogram over [0, 1] of each patch (N, ...)."""
    levels = (patches.detach().flatten(1) * 256).long().clamp_(0, 255)
    counts = torch.zeros(len(levels), 256, device=levels.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=counts.dtype))
    shares = counts / levels.shape[1]
    return -(shares * shares.clamp_min(1e-12).log2()).sum(dim=1)
