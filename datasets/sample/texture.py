"""One seamless tile of noise, stretched over walls and leaves and laid in perspective on the ground."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from tgfbench.datasets.sample.camera import Camera
from tgfbench.datasets.sample.scene import FOCAL, Scene

_TILE = 512
_TEXELS_PER_METRE = 44.0
_FARTHEST = 40.0
"""Distance in metres beyond which the texture of the ground is finer than a pixel."""


@functools.cache
def tile() -> np.ndarray:
    """The tile, uint8 (512, 512) around 128, with detail at several scales."""
    rng = np.random.Generator(np.random.PCG64(20240229))
    total = np.zeros((_TILE, _TILE))
    for cells, weight in ((8, 0.25), (32, 0.4), (128, 0.8), (256, 1.2), (512, 1.1)):
        copies = _TILE // cells
        field = np.kron(rng.integers(-128, 128, (cells, cells)), np.ones((copies, copies)))
        for axis in (0, 1):
            shifted = (np.roll(field, shift, axis) for shift in range(copies))
            field = sum(shifted, start=np.zeros_like(field)) / copies
        total += weight * field / field.std()
    return np.clip(np.rint(128 + 40 * total / total.std()), 0, 255).astype(np.uint8)


def texture(scene: Scene, camera: Camera) -> np.ndarray:
    """Texture of a frame: uint8 (H, W) around 128."""
    width, height = camera.width, camera.height
    top, left = (int(offset * 128) for offset in scene.texture)
    upright = tile()[top : top + 288, left : left + 384]
    shrink = width < 384 or height < 288
    frame = cv2.resize(upright, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR_EXACT)
    depth = camera.row_depth()
    first = int(np.argmax(depth < _FARTHEST))
    frame[first:] = _ground(scene, width, depth[first:])
    return frame


def _ground(scene: Scene, width: int, depth: np.ndarray) -> np.ndarray:
    """The tile as seen on the ground in rows of the given depth, uint8 (rows, width).

    Fixed-point maps (1/32 texel) instead of a homography handed to OpenCV, whose rounding depends on the processor.
    """
    sideways = (np.arange(width) + 0.5) / width - scene.vanishing
    texels = 32 * _TEXELS_PER_METRE
    x = np.outer(depth * (texels / (0.75 * FOCAL)), sideways).astype(np.int32)
    y = np.broadcast_to((depth * texels).astype(np.int32)[:, None], x.shape)
    whole = np.stack([(x >> 5) & (_TILE - 1), (y >> 5) & (_TILE - 1)], axis=-1).astype(np.int16)
    fraction = ((x & 31) | ((y & 31) << 5)).astype(np.uint16)
    return cv2.remap(tile(), whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def sky_noise(scene: Scene, width: int, rows: int) -> np.ndarray:
    """Cloud cover of the sky, float32 (rows, width) in [0, 0.85]."""
    top, left = (int(offset * 200) for offset in scene.texture)
    coarse = cv2.resize(tile()[top : top + 288, left : left + 288], (18, 48), interpolation=cv2.INTER_AREA)
    low, high = int(coarse.min()), int(coarse.max())
    coarse = cv2.blur(((coarse.astype(np.int32) - low) * 255 // (high - low)).astype(np.uint8), (3, 3))
    cover = cv2.resize(coarse, (width, rows), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.float32)
    cover -= np.float32(60 + 90 * scene.texture[1])
    cover *= np.float32(1 / 110)
    return np.clip(cover, 0, 0.85, out=cover)
