"""Classical fusion baselines: no training, no text.

Each fuses the infrared image with the visible luma and keeps the visible chroma. Everything is made of shifted adds, so
the images of a batch never influence each other, any size works (odd, or a single pixel), and results are
bit-identical for any batch size.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.weights import Checkpoint
from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo
from tgfbench.methods.colour import fuse_luma, luma


class Baseline(FusionMethod):
    """Fuses luma with infrared and joins the result with the visible image's chroma."""

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        """Fuse a batch; text and masks are ignored."""
        return fuse_luma(batch.visible, self.fuse_grey(luma(batch.visible), batch.infrared))

    @abstractmethod
    def fuse_grey(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Fuse two grey images, each float32 (B, 1, H, W) in [0, 1]; the result may leave [0, 1]."""


class Average(Baseline):
    """The mean of both sources."""

    info = MethodInfo(name="average", title="Average", tags=("baseline",))

    def fuse_grey(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the mean of each pixel pair."""
        return (visible + infrared) / 2


class Maximum(Baseline):
    """The brighter of both sources at each pixel."""

    info = MethodInfo(name="maximum", title="Maximum", tags=("baseline",))

    def fuse_grey(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Return the larger of each pixel pair."""
        return torch.maximum(visible, infrared)


class Multiscale(Baseline):
    """A baseline on several scales.

    Args:
        levels: number of detail scales; an image too small for them gets as many as it has (its shorter side halves
            to no less than one pixel).
    """

    def __init__(
        self, checkpoint: Checkpoint | None = None, device: torch.device | str = "cpu", levels: int = 4
    ) -> None:
        super().__init__(checkpoint, device)
        if levels < 1:
            raise UsageError(
                f"setting the options of {self.info.name}", found=f"levels={levels}", expected="at least 1"
            )
        self.levels = levels

    def provenance(self) -> dict[str, Any]:
        """Return the number of levels."""
        return {"levels": self.levels}

    def _levels_for(self, image: Tensor) -> int:
        return min(self.levels, int(math.log2(min(image.shape[-2:]))))


class LaplacianPyramid(Multiscale):
    """Laplacian pyramids, fused by the larger magnitude in the detail bands and by the mean in the base.

    The pyramid is that of Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", IEEE Trans.
    Communications 31(4), 1983, with its binomial kernel (1, 4, 6, 4, 1)/16 and replicated borders.
    """

    info = MethodInfo(
        name="laplacian-pyramid",
        title="Laplacian pyramid",
        paper="The Laplacian Pyramid as a Compact Image Code",
        venue="IEEE Transactions on Communications",
        year=1983,
        tags=("baseline",),
    )

    def fuse_grey(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Decompose, fuse each band and reconstruct."""
        details = []
        for _ in range(self._levels_for(visible)):
            pair = []
            for image in (visible, infrared):
                coarse = _reduce(image)
                pair.append((coarse, image - _expand(coarse, image.shape[-2:])))
            (visible, detail_visible), (infrared, detail_infrared) = pair
            details.append(_larger(detail_visible, detail_infrared))
        fused = (visible + infrared) / 2
        for detail in reversed(details):
            fused = _expand(fused, detail.shape[-2:]).add_(detail)
        return fused


class DWT(Multiscale):
    """Discrete wavelet transform, fused by the larger magnitude in the details and by the mean in the approximation.

    The idea is that of Li, Manjunath and Mitra, "Multisensor Image Fusion Using the Wavelet Transform", Graphical
    Models and Image Processing 57(3), 1995, with each coefficient chosen by its own magnitude. The wavelet is the
    biorthogonal spline wavelet (2,2), also written bior2.2 or CDF 5/3, computed by lifting with mirrored borders, so
    that the reconstruction is exact for every size.
    """

    info = MethodInfo(
        name="dwt",
        title="DWT",
        paper="Multisensor Image Fusion Using the Wavelet Transform",
        venue="Graphical Models and Image Processing",
        year=1995,
        tags=("baseline",),
    )

    def provenance(self) -> dict[str, Any]:
        """Return the number of levels and the wavelet."""
        return {**super().provenance(), "wavelet": "bior2.2"}

    def fuse_grey(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Decompose, fuse each band and reconstruct."""
        details = []
        for _ in range(self._levels_for(visible)):
            visible, *bands_visible = _analyse_2d(visible)
            infrared, *bands_infrared = _analyse_2d(infrared)
            details.append([_larger(a, b) for a, b in zip(bands_visible, bands_infrared, strict=True)])
        fused = (visible + infrared) / 2
        for bands in reversed(details):
            fused = _synthesise_2d(fused, *bands)
        return fused


class GuidedFilter(Baseline):
    """GFF: base and detail layers, weighted by saliency maps that a guided filter aligns with the image's edges.

    Li, Kang and Hu, "Image Fusion With Guided Filtering", IEEE Trans. Image Processing 22(7), 2013, with its
    parameters. What the paper leaves open and is chosen here: the four-neighbour Laplacian, replicated borders for
    smoothing, windows cut at the border inside the guided filter, equal saliency counts for both sources, and
    filtered weights are clamped to [0, 1] so that their sum, by which they are normalised, cannot vanish.
    """

    info = MethodInfo(
        name="guided-filter",
        title="GFF",
        paper="Image Fusion With Guided Filtering",
        venue="IEEE Transactions on Image Processing",
        year=2013,
        tags=("baseline",),
    )
    BASE_RADIUS = 15
    SALIENCY_RADIUS, SALIENCY_SIGMA = 5, 5.0
    BASE_WEIGHTS = (45, 0.3)
    DETAIL_WEIGHTS = (7, 1e-6)

    def fuse_grey(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Fuse both layers with their own weights."""
        images = torch.stack([visible, infrared])
        size, extent = images.shape, images.shape[-2:]
        flat = images.flatten(0, 1)
        base = _box_sum(F.pad(flat, [self.BASE_RADIUS] * 4, mode="replicate"), self.BASE_RADIUS, extent)
        base = (base / (2 * self.BASE_RADIUS + 1) ** 2).view(size)
        saliency = _smooth(_laplacian(flat).abs_(), self.SALIENCY_RADIUS, self.SALIENCY_SIGMA).view(size)
        chosen = (saliency == saliency.amax(dim=0)).flatten(0, 1)
        fused = torch.zeros_like(visible)
        # Where the window is nearly flat its variance is a difference of nearly equal numbers, compared with 1e-6.
        layers = ((base, self.BASE_WEIGHTS, torch.float32), (images - base, self.DETAIL_WEIGHTS, torch.float64))
        for layer, (radius, epsilon), dtype in layers:
            weights = _guided_filter(flat.to(dtype), chosen.to(dtype), radius, epsilon).clamp_(0, 1)
            weights = weights.view(size).float() + 1e-6
            fused += (weights * layer).sum(dim=0) / weights.sum(dim=0)
        return fused


def _larger(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a.abs() >= b.abs(), a, b)


def _reduce(image: Tensor) -> Tensor:
    """Smooth with the binomial kernel and keep every second pixel: a side of n pixels becomes ceil(n / 2)."""
    for dim in (-1, -2):
        n = image.shape[dim]
        padded = _replicate(image, dim, 2, 2)
        taps = [padded.narrow(dim, offset, n) for offset in range(5)]
        taps = [_every_second(tap, dim, 0) for tap in taps]
        image = (taps[0] + taps[4]).add_(taps[1] + taps[3], alpha=4).add_(taps[2], alpha=6).div_(16)
    return image


def _expand(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """Double the size by the binomial kernel, then crop to ``size``; a constant stays that constant."""
    for dim, n in ((-2, size[-2]), (-1, size[-1])):
        m = image.shape[dim]
        padded = _replicate(image, dim, 1, 1)
        before, here, after = (padded.narrow(dim, offset, m) for offset in range(3))
        even = (before + after).add_(here, alpha=6).div_(8)
        odd = (here + after).div_(2)
        image = _interleave(even, odd.narrow(dim, 0, n // 2), dim)
    return image


def _analyse_2d(image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    low, high = _analyse(image, -1)
    return *_analyse(low, -2), *_analyse(high, -2)


def _synthesise_2d(low_low: Tensor, low_high: Tensor, high_low: Tensor, high_high: Tensor) -> Tensor:
    return _synthesise(_synthesise(low_low, low_high, -2), _synthesise(high_low, high_high, -2), -1)


def _analyse(signal: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Lift once: the detail is an odd sample less the mean of its neighbours; it then updates the even samples."""
    even, odd = _every_second(signal, dim, 0), _every_second(signal, dim, 1)
    detail = odd - _neighbours_of_odd(even, odd.shape[dim], dim) / 2
    return even + _neighbours_of_even(detail, even.shape[dim], dim) / 4, detail


def _synthesise(approximation: Tensor, detail: Tensor, dim: int) -> Tensor:
    even = approximation - _neighbours_of_even(detail, approximation.shape[dim], dim) / 4
    odd = detail + _neighbours_of_odd(even, detail.shape[dim], dim) / 2
    return _interleave(even, odd, dim)


def _neighbours_of_odd(even: Tensor, count: int, dim: int) -> Tensor:
    padded = _replicate(even, dim, 0, count + 1 - even.shape[dim])
    return padded.narrow(dim, 0, count) + padded.narrow(dim, 1, count)


def _neighbours_of_even(detail: Tensor, count: int, dim: int) -> Tensor:
    padded = _replicate(detail, dim, 1, count - detail.shape[dim])
    return padded.narrow(dim, 0, count) + padded.narrow(dim, 1, count)


def _replicate(image: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = image.shape[dim]
    first, last = image.narrow(dim, 0, 1), image.narrow(dim, n - 1, 1)
    return torch.cat([first] * before + [image] + [last] * after, dim=dim)


def _every_second(image: Tensor, dim: int, first: int) -> Tensor:
    return image[..., first::2] if dim == -1 else image[..., first::2, :]


def _interleave(even: Tensor, odd: Tensor, dim: int) -> Tensor:
    shape = list(even.shape)
    shape[dim] += odd.shape[dim]
    image = even.new_empty(shape)
    _every_second(image, dim, 0).copy_(even)
    _every_second(image, dim, 1).copy_(odd)
    return image


def _laplacian(image: Tensor) -> Tensor:
    rows, columns = _replicate(image, -2, 1, 1), _replicate(image, -1, 1, 1)
    across = rows[..., :-2, :] + rows[..., 2:, :]
    return across.add_(columns[..., :-2]).add_(columns[..., 2:]).sub_(image, alpha=4)


def _smooth(image: Tensor, radius: int, sigma: float) -> Tensor:
    """Convolve with a Gaussian of 2 radius + 1 taps; borders are replicated."""
    taps = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(radius + 1)]
    total = taps[0] + 2 * sum(taps[1:])
    for dim in (-1, -2):
        n = image.shape[dim]
        padded = _replicate(image, dim, radius, radius)
        image = image * (taps[0] / total)
        for offset in range(1, radius + 1):
            pair = padded.narrow(dim, radius - offset, n) + padded.narrow(dim, radius + offset, n)
            image.add_(pair, alpha=taps[offset] / total)
    return image


def _box_sum(padded: Tensor, radius: int, size: torch.Size) -> Tensor:
    """Sum over windows of (2 radius + 1)² pixels of an image padded by ``radius`` on every side.

    Window sums of 1, 2, 4, … samples are built by doubling and put together to the width: about log2 additions per
    axis, each over the whole image, with the rounding of pairwise summation.
    """
    for dim, n in ((-1, size[-1]), (-2, size[-2])):
        width, run, power = 2 * radius + 1, padded, 1
        total, start = run.narrow(dim, 0, n).clone(), 1
        # Two scratch images in turn: allocating anew for each addition would take most of the time.
        scratch = (torch.empty_like(padded), torch.empty_like(padded))
        while 2 * power <= width:
            length = run.shape[dim] - power
            target = scratch[power.bit_length() % 2].narrow(dim, 0, length)
            run = torch.add(run.narrow(dim, 0, length), run.narrow(dim, power, length), out=target)
            power *= 2
            if width & power:
                total.add_(run.narrow(dim, start, n))
                start += power
        padded = total
    return padded


def _guided_filter(guide: Tensor, image: Tensor, radius: int, epsilon: float) -> Tensor:
    """Filter ``image`` along the edges of a grey ``guide`` (He, Sun and Tang, "Guided Image Filtering", TPAMI 2013).

    Args:
        guide, image: float (B, 1, H, W).
        radius: of the square window, which is cut at the image's border.
        epsilon: regularisation, in squared units of the guide.
    """
    size = guide.shape[-2:]
    # Constant over a batch: how many pixels of each window lie inside the image.
    inside = F.pad(guide.new_ones(1, 1, *size), [radius] * 4)
    share = _box_sum(inside, radius, size).reciprocal_()

    def mean(values: Tensor) -> Tensor:
        return _box_sum(F.pad(values, [radius] * 4), radius, size).mul_(share)

    mean_guide, mean_image = mean(guide), mean(image)
    variance = mean(guide * guide) - mean_guide**2
    covariance = mean(guide * image) - mean_guide * mean_image
    slope = covariance / (variance + epsilon)
    offset = mean_image - slope * mean_guide
    return mean(slope) * guide + mean(offset)
