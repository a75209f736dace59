"""Visual information fidelity in the wavelet domain: the vector model on a steerable pyramid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tgfbench.benchmark.errors import PluginError
from tgfbench.metrics.base import Image, MetricInfo, MetricInputs, SourceMetric, Sources
from tgfbench.metrics.correlate import correlate
from tgfbench.metrics.filters import Window

LEVELS = 4
ORIENTATIONS = (0, 3)
"""The horizontal and the vertical one of the pyramid's six orientations."""

BLOCK = 3
"""Coefficients are modelled in vectors of 3 x 3."""

NOISE_VARIANCE = 0.4
FLOOR = 1e-15


@dataclass(frozen=True)
class VIFWavelet(SourceMetric):
    """Visual information fidelity of 3 x 3 vectors of steerable pyramid coefficients, the source as reference.

    Equal to pyiqa's ``vif`` on 0..255 images (1e-6). The filters are those of the package pyrtools.

    Args:
        peak: scale of the grey levels. The noise variance is made for 255; textfusion and thfylsty use 1.
        sources: ``"mean"`` of both (the evaluators' convention), ``"sum"``, or one image.
    """

    peak: Literal[255, 1] = 255
    sources: Sources = "mean"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="VIF-wavelet",
        title="visual information fidelity, wavelet domain",
        higher_is_better=True,
        range=(0.0, math.inf),
        citation="Sheikh, Bovik, IEEE TIP 15(2), 2006",
        minimum_size=65,
        on_constant="nan",
        notes="1 per source for an identical image. Not comparable with the pixel domain form.",
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        kept = torch.zeros(inputs.batch, dtype=torch.float64, device=inputs.device)
        available = torch.zeros_like(kept)
        bands = zip(_subbands(inputs, source, self.peak), _subbands(inputs, "fused", self.peak), strict=True)
        for index, (reference, distorted) in enumerate(bands):
            size = 2 ** (LEVELS - index // len(ORIENTATIONS)) + 1
            gain, noise = _channel(reference, distorted, Window.uniform(size, "mirror"))
            energy, eigenvalues = _vector_model(reference)
            # Blocks whose window reaches over the border are left out.
            margin = math.ceil(size // 2 / BLOCK)
            inside = (slice(None), slice(margin, -margin), slice(margin, -margin))
            gain, noise, energy = gain[inside], noise[inside], energy[inside]
            signal = energy[:, None] * eigenvalues[:, :, None, None]
            passed = gain.square() / (noise + NOISE_VARIANCE)
            kept += torch.log1p(signal * passed[:, None]).sum((1, 2, 3))
            available += torch.log1p(signal / NOISE_VARIANCE).sum((1, 2, 3))
        return kept / available


def _subbands(inputs: MetricInputs, name: Image, peak: float) -> list[Tensor]:
    """Two orientations on four levels of the pyramid, finest level first, cut to whole blocks."""

    def compute() -> list[Tensor]:
        filters = _pyramid_filters()
        low = correlate(inputs.image(name) * (peak / 255), filters.first_low_pass, "mirror")
        bands = []
        for level in range(LEVELS):
            bands += [correlate(low, band, "mirror") for band in filters.bands]
            if level < LEVELS - 1:
                low = correlate(low, filters.low_pass, "mirror")[:, ::2, ::2].contiguous()
        return [band[:, : band.shape[1] // BLOCK * BLOCK, : band.shape[2] // BLOCK * BLOCK] for band in bands]

    return inputs.once(("steerable pyramid", name, peak), compute)


def _channel(reference: Tensor, distorted: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """Gain and noise variance of the local model D = g C + V around the centre of every block."""

    def mean(images: Tensor) -> Tensor:
        return window(images)[:, BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK]

    pixels = len(window.kernel) ** 2
    mean_c, mean_d = mean(reference), mean(distorted)
    energy_c = (pixels * (mean(reference.square()) - mean_c.square())).clamp(min=0)
    energy_d = (pixels * (mean(distorted.square()) - mean_d.square())).clamp(min=0)
    shared = pixels * (mean(reference * distorted) - mean_c * mean_d)
    gain = shared / (energy_c + FLOOR)
    noise = (energy_d - gain * shared) / pixels
    # Without signal nothing passes, and the noise variance does not matter.
    gain = gain.masked_fill((energy_c < FLOOR) | (energy_d < FLOOR), 0).clamp(min=0)
    return gain, noise.clamp(min=FLOOR)


def _vector_model(band: Tensor) -> tuple[Tensor, Tensor]:
    """Gaussian scale mixture of the 3 x 3 vectors of a subband (B, h, w).

    Returns:
        The local energy of every block (B, h / 3, w / 3), and the eigenvalues of the covariance (B, 9), at least 0.
    """
    height, width = band.shape[1] - BLOCK + 1, band.shape[2] - BLOCK + 1
    offsets = [(row, column) for row in range(BLOCK) for column in range(BLOCK)]
    vectors = torch.stack([band[:, r : r + height, c : c + width].flatten(1) for r, c in offsets], 1)
    vectors -= vectors.mean(2, keepdim=True)
    covariance = vectors @ vectors.transpose(1, 2) / vectors.shape[2]
    eigenvalues, basis = torch.linalg.eigh(covariance)
    blocks = torch.stack([band[:, r::BLOCK, c::BLOCK] for r, c in offsets], 1)
    rotated = (basis.transpose(1, 2) @ blocks.flatten(2)).unflatten(2, blocks.shape[2:])
    energy = (rotated.square() / eigenvalues[:, :, None, None]).mean(1)
    return energy, eigenvalues.clamp(min=0)


class _PyramidFilters(NamedTuple):
    first_low_pass: np.ndarray
    low_pass: np.ndarray
    bands: tuple[np.ndarray, ...]


@cache
def _pyramid_filters() -> _PyramidFilters:
    """Fifth-order filters of Simoncelli and Freeman's steerable pyramid (ICIP 1995)."""
    try:
        from pyrtools.pyramids.filters import parse_filter
    except ImportError as error:
        raise PluginError(
            "computing VIF-wavelet",
            found=f"the package pyrtools cannot be imported ({error})",
            hint="pip install pyrtools, or leave VIF-wavelet out",
        ) from error
    filters = parse_filter("sp5_filters", normalize=False)
    side = math.isqrt(filters["bfilts"].shape[0])
    bands = tuple(np.ascontiguousarray(filters["bfilts"][:, o].reshape(side, side).T) for o in ORIENTATIONS)
    return _PyramidFilters(filters["lo0filt"], filters["lofilt"], bands)
