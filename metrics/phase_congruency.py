"""Fusion metric Q_P: how phase congruency and its moments are carried from the sources to the fused image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Metric, MetricInfo, MetricInputs
from tgfbench.metrics.filters import gaussian, separable

SCALES, ORIENTATIONS = 4, 6
MINIMUM_WAVELENGTH, SCALING, BANDWIDTH = 3.0, 2.1, 0.55
ANGULAR_DEVIATION = math.pi / ORIENTATIONS / 1.2
NOISE_DEVIATIONS, SPREAD_CUTOFF, SPREAD_GAIN = 2.0, 0.5, 10.0
EPS = 1e-4
THRESHOLD = 0.1

# Filters of larger images are rebuilt at every call instead of being kept.
CACHED_PIXELS = 2**20
BAND_ROWS = 32


@dataclass(frozen=True, eq=False)
class PhaseCongruency:
    """Phase congruency of a batch with its largest and smallest moment, each (B, H, W)."""

    congruency: Tensor
    largest_moment: Tensor
    smallest_moment: Tensor

    def maps(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three feature maps of Q_P."""
        return self.congruency, self.largest_moment, self.smallest_moment


@dataclass(frozen=True)
class QP(Metric):
    """Q_P: local correlation of phase congruency and its moments in the fused image with those of the sources.

    Phase congruency, its largest and its smallest moment of the fused image are each correlated locally with those of
    infrared, visible and the pixelwise selection of both, where these exceed 0.1; the best of the three is averaged
    over the area of the selection, and the averages of the three maps are multiplied.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_P",
        title="phase-congruency correlation",
        higher_is_better=True,
        range=(-math.inf, math.inf),
        citation="Zhao, Laganiere, Liu, Int. J. Innov. Comput. Inf. Control 3(6A), 2007",
        minimum_size=16,
        on_constant="nan",
        notes="About 0..1. NaN also where no source has a feature.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        of_fused, first, second = (phase_congruency(inputs.image(name)) for name in ("fused", *SOURCES))
        first_wins = first.congruency > second.congruency
        masks = [first.congruency > THRESHOLD, second.congruency > THRESHOLD]
        masks.append(masks[0] | masks[1])
        result = torch.ones(inputs.batch, dtype=torch.float64, device=inputs.device)
        for target, of_first, of_second in zip(of_fused.maps(), first.maps(), second.maps(), strict=True):
            sources = (of_first, of_second, torch.where(first_wins, of_first, of_second))
            result = result * _best_correlation(target, sources, masks).sum((1, 2)) / masks[-1].sum((1, 2))
        return result


def _best_correlation(target: Tensor, sources: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Largest of the local correlations of a feature map with the masked maps of the sources, (B, H, W)."""
    mean, variance = _local_mean(target), _local_variance(target)
    best = torch.full_like(target, -math.inf)
    for source, mask in zip(sources, masks, strict=True):
        seen = source * mask
        covariance = _local_mean(seen * target).sub_(_local_mean(seen) * mean)
        scale = _local_variance(seen).mul_(variance).abs_().sqrt_().add_(EPS)
        best = torch.maximum(best, covariance.add_(EPS).div_(scale).mul_(mask))
    return best


def _local_mean(images: Tensor) -> Tensor:
    kernel = gaussian(11, 1.5)
    return separable(images, kernel, kernel, "zero")


def _local_variance(images: Tensor) -> Tensor:
    return _local_mean(images.square()).sub_(_local_mean(images).square_())


def phase_congruency(images: Tensor) -> PhaseCongruency:
    """Phase congruency by log-Gabor filters on 4 scales and 6 orientations, with noise compensation.

    The parameters are those of the ``liu`` evaluator, and so are its moments, whose mixed term is a quarter of
    Kovesi's. Constant images give NaN.

    Args:
        images: (B, H, W).

    Source: Kovesi, Videre 1(3), 1999.
    """
    if images.device.type == "cpu" and images.shape[0] > 1:
        singles = [_phase_congruency(image) for image in images.split(1)]
        return PhaseCongruency(*(torch.cat(maps) for maps in zip(*(s.maps() for s in singles), strict=True)))
    return _phase_congruency(images)


def _phase_congruency(images: Tensor) -> PhaseCongruency:
    height, width = images.shape[1:]
    spectrum = torch.fft.rfft2(images)
    quadrature = spectrum * -1j
    energy, amplitude, xx, yy, xy = (torch.zeros_like(images) for _ in range(5))
    responses = images.new_empty(2, SCALES, *images.shape)
    for orientation in range(ORIENTATIONS):
        filters = _filters(height, width, orientation, images.device)
        for part, source in ((0, spectrum), (1, quadrature)):
            for scale in range(SCALES):
                # The product of two complex tensors is many times faster than that of a complex and a real one.
                filtered = source * filters.bank[part, scale].to(source.dtype)
                responses[part, scale] = torch.fft.irfft2(filtered, s=(height, width))
        amplitudes = _amplitudes(responses)
        noise = _noise_energy(amplitudes[0], filters.noise_gain)
        cosine, sine = math.cos(orientation * math.pi / ORIENTATIONS), math.sin(orientation * math.pi / ORIENTATIONS)
        for rows in _bands(images):
            found, total = _local_energy(responses[..., rows, :], amplitudes[..., rows, :], noise)
            energy[:, rows] += found
            amplitude[:, rows] += total
            share = found.div_(total).square_()
            xx[:, rows].add_(share, alpha=cosine**2)
            yy[:, rows].add_(share, alpha=sine**2)
            xy[:, rows].add_(share, alpha=cosine * sine)

    half = ORIENTATIONS / 2
    xx, yy, xy = xx.div_(half), yy.div_(half), xy.div_(ORIENTATIONS)
    both = xx + yy
    apart = torch.sqrt((xx - yy).square_() + xy.square_()) + EPS
    return PhaseCongruency(energy / (amplitude + EPS), (both + apart) / 2, (both - apart) / 2)


def _bands(images: Tensor) -> Iterator[slice]:
    """Rows to work on together: few on a CPU, where they should stay in cache, all of them elsewhere."""
    height = images.shape[1]
    step = BAND_ROWS if images.device.type == "cpu" else height
    yield from (slice(top, top + step) for top in range(0, height, step))


def _amplitudes(responses: Tensor) -> Tensor:
    """Magnitude of even and odd responses (2, S, B, H, W)."""
    even, odd = responses
    if not responses.is_cpu:
        return torch.hypot(even, odd)
    # OpenCV's is four times faster than squares and a root; it wants matrices.
    width = even.shape[-1]
    amplitudes = cv2.magnitude(even.reshape(-1, width).numpy(), odd.reshape(-1, width).numpy())
    return torch.from_numpy(amplitudes).view_as(even)


def _local_energy(responses: Tensor, amplitudes: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted local energy beyond the noise, and the sum of amplitudes.

    Args:
        responses: even and odd ones (2, S, B, h, W).
        amplitudes: their magnitude (S, B, h, W).
        noise: energy of noise (B, 1, 1).
    """
    even, odd = responses
    total = amplitudes.sum(0)
    spread = total / (amplitudes.amax(0) + EPS) / SCALES
    even_sum, odd_sum = even.sum(0), odd.sum(0)
    square = even_sum.square().addcmul_(odd_sum, odd_sum)
    across = (even * odd_sum).sub_(odd * even_sum).abs_().sum(0)
    energy = (square - across).div_(square.sqrt() + EPS).sub_(noise).clamp_(min=0)
    return energy.mul_(torch.sigmoid(SPREAD_GAIN * (spread - SPREAD_CUTOFF))), total


def _noise_energy(finest: Tensor, gain: float) -> Tensor:
    """Energy that noise alone would reach, (B, 1, 1), from the median power of the finest scale (B, H, W)."""
    power = finest.square().flatten(1)
    if power.is_cpu:
        median = torch.from_numpy(np.median(power.numpy(), axis=1))
    else:
        # torch's own median is the lower of the two middle values, not their mean.
        middle = (power.shape[1] - 1) // 2, power.shape[1] // 2
        median = power.sort(1).values[:, middle].mean(1)
    factor = math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)
    return (gain * median.sqrt() * factor / 1.7)[:, None, None]


@dataclass(frozen=True, eq=False)
class _Filters:
    """Even and odd part of the filters of one orientation on the half spectrum, and their response to noise."""

    bank: Tensor
    noise_gain: float


def _filters(height: int, width: int, orientation: int, device: torch.device) -> _Filters:
    build = _build_filters if height * width <= CACHED_PIXELS else _build_filters.__wrapped__
    return build(height, width, orientation, device)


@lru_cache(maxsize=2 * ORIENTATIONS)
def _build_filters(height: int, width: int, orientation: int, device: torch.device) -> _Filters:
    radial, angle = _radial_filters(height, width)
    turn = np.abs(angle - orientation * math.pi / ORIENTATIONS)
    turn = np.minimum(turn, 2 * math.pi - turn)
    spread = np.exp(-(turn**2) / (2 * ANGULAR_DEVIATION**2))
    half = width // 2 + 1
    rows, columns = -np.arange(height) % height, -np.arange(width) % width
    bank = np.empty((2, SCALES, height, half))
    everything = np.zeros((height, width))
    for scale in range(SCALES):
        whole = radial[scale] * spread
        mirrored = whole[rows][:, columns[:half]]
        bank[0, scale] = (whole[:, :half] + mirrored) / 2
        bank[1, scale] = (whole[:, :half] - mirrored) / 2
        everything += whole
    # The noise response sums all scales in the spatial domain, where only the even part of a filter is real.
    even = (everything + everything[rows][:, columns]) / 2
    gain = math.sqrt((even**2).sum() / ((radial[0] * spread) ** 2).sum() / math.log(2))
    return _Filters(torch.from_numpy(bank).to(device), gain)


@lru_cache(maxsize=1)
def _radial_filters(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-Gabor filters (SCALES, H, W), zero frequency first, and the angle of every frequency (H, W)."""
    down, across = _band_frequencies(height)[:, None], _band_frequencies(width)
    radius = np.fft.ifftshift(np.hypot(down, across))
    angle = np.fft.ifftshift(np.arctan2(-down, across))
    # On odd sizes the evaluator shifts the low-pass the other way, which leaves it one sample off centre.
    down, across = ((np.arange(n) - n // 2) / n for n in (height, width))
    low_pass = 1 / (1 + (np.fft.fftshift(np.hypot(down[:, None], across)) / 0.45) ** 30)
    radius[0, 0] = 1
    centres = 1 / (MINIMUM_WAVELENGTH * SCALING ** np.arange(SCALES))
    octaves = np.log(radius / centres[:, None, None])
    filters = np.exp(-(octaves**2) / (2 * math.log(BANDWIDTH) ** 2)) * low_pass
    filters[:, 0, 0] = 0
    return filters, angle


def _band_frequencies(length: int) -> np.ndarray:
    """Frequencies in ascending order; an odd length is scaled to end at exactly 0.5."""
    if length % 2:
        return np.arange(-(length - 1) / 2, (length + 1) / 2) / (length - 1)
    return np.arange(-length / 2, length / 2) / length
