"""How far two outputs of one method lie apart, and how far they must at least, for the difference to mean anything."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import torch

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.metrics.audit.locality import change_map
from tgfbench.metrics.base import MetricInputs
from tgfbench.metrics.learned import LPIPS
from tgfbench.metrics.luma import to_luma
from tgfbench.metrics.ssim import SSIM

_SSIM = SSIM(sources="reference")


def luma_of(image: np.ndarray) -> np.ndarray:
    """Return the BT.601 luma, uint8 (H, W), of uint8 (H, W, 3) RGB or (H, W)."""
    if image.ndim == 2:
        return image
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return to_luma(planes, "bt601")[0].numpy()


def rms(first: np.ndarray, second: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the root mean square difference of two uint8 (H, W, 3) images, in grey levels.

    Args:
        first, second: the images.
        mask: boolean (H, W), the pixels that count; all by default.
    """
    squares = cv2.absdiff(first, second).astype(np.float32) ** 2
    return float(np.sqrt((squares if mask is None else squares[mask]).mean(dtype=np.float64)))


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return the SSIM of two images' luma (Gaussian window of 11 pixels); NaN below 11 pixels."""
    if min(first.shape[:2]) < _SSIM.info.minimum_size:
        return np.nan
    planes = [torch.from_numpy(luma_of(image))[None] for image in (first, second)]
    return float(_SSIM(MetricInputs(fused=planes[0], reference=planes[1]))[0])


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the PSNR over all channels in decibels, at most 100."""
    error = rms(image, reference)
    return min(100.0, float(20 * np.log10(255 / error))) if error else 100.0


def lpips(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return LPIPS (VGG16, through piq) of two images, None where its weights are not installed."""
    if not lpips_installed() or min(first.shape[:2]) < LPIPS.info.minimum_size:
        return None
    planes = [torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].float() / 255 for x in (first, second)]
    with torch.inference_mode():
        return float(_lpips_model()(*planes).squeeze())


def lpips_installed() -> bool:
    """Tell whether the weights of LPIPS are where piq looks for them."""
    return all((LPIPS.folder() / url.rsplit("/", 1)[1]).is_file() for url in LPIPS.urls)


@cache
def _lpips_model() -> Any:
    ensure_torchvision()
    import piq

    return piq.LPIPS(reduction="none")


def movement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Return how far two uint8 (H, W, 3) images lie apart: ``mae`` and ``rms`` in grey levels, ``1-ssim``, ``lpips``.

    ``lpips`` is absent where its weights are not installed.
    """
    found = {"mae": float(change_map(first, second).mean(dtype=np.float64)), "rms": rms(first, second)}
    if not found["rms"]:
        found["1-ssim"] = 0.0
        return found | ({"lpips": 0.0} if lpips_installed() else {})
    found["1-ssim"] = 1 - ssim(first, second)
    learned = lpips(first, second)
    return found if learned is None else {**found, "lpips": learned}


def jittered(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return an image whose every value is one grey level higher or lower, at random, and within 0..255."""
    steps = generator.choice(np.array([-1, 1], np.int16), image.shape)
    return np.clip(image.astype(np.int16) + steps, 0, 255).astype(np.uint8)
