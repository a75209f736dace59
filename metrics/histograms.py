"""Grey-level histograms and second moments of a batch, each computed once and shared by all metrics that need it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tgfbench.metrics.base import Image, MetricInputs
from tgfbench.metrics.luma import stretch

LEVELS = 256


def histogram(inputs: MetricInputs, name: Image) -> Tensor:
    """Return the distribution of the 256 grey levels of an image, float64 (B, 256) with sum 1."""
    return inputs.once(("histogram", name), lambda: _distribution(inputs.levels(name), LEVELS))


def joint_histogram(inputs: MetricInputs, rows: Image, columns: Image, *, stretched: bool = False) -> Tensor:
    """Return the joint distribution of the grey levels of two images, float64 (B, 256, 256) with sum 1.

    Args:
        inputs: the batch.
        rows: the image whose level is the first index.
        columns: the image whose level is the second index.
        stretched: count after each image was stretched to 0..255 (which changes labels, not the information).
    """

    def compute() -> Tensor:
        first, second = (_stretched_levels(inputs, name) if stretched else inputs.levels(name) for name in names)
        return _distribution(first * LEVELS + second, LEVELS * LEVELS).view(-1, LEVELS, LEVELS)

    names = (rows, columns)
    return inputs.once(("joint histogram", *names, stretched), compute)


def _stretched_levels(inputs: MetricInputs, name: Image) -> Tensor:
    return inputs.once(("stretched levels", name), lambda: stretch(inputs.image(name)).long())


def _distribution(codes: Tensor, bins: int) -> Tensor:
    """Count the codes 0..bins-1 of every image, with one bincount over the whole batch."""
    batch = codes.shape[0]
    flat = codes.reshape(batch, -1)
    pixels = flat.shape[1]
    if batch > 1:
        flat = flat + torch.arange(batch, device=codes.device)[:, None] * bins
    return torch.bincount(flat.flatten(), minlength=batch * bins).view(batch, bins).double() / pixels


def entropy(distribution: Tensor, base: float = 2.0) -> Tensor:
    """Return the Shannon entropy (B,) of distributions (B, ...), in bits unless another base is given."""
    return torch.special.entr(distribution.flatten(1)).sum(1) / math.log(base)


def mutual_information(joint: Tensor, base: float = 2.0) -> Tensor:
    """Return H(X) + H(Y) - H(X, Y) of joint distributions (B, N, M), in bits unless another base is given."""
    return entropy(joint.sum(2), base) + entropy(joint.sum(1), base) - entropy(joint, base)


def covariance(inputs: MetricInputs, first: Image, second: Image) -> Tensor:
    """Return the population covariance of two images over all pixels, (B,); the variance if they are the same."""
    names = tuple(sorted((first, second)))

    def compute() -> Tensor:
        a, b = (_shifted(inputs, name) for name in names)
        pixels = a.shape[1]
        product = torch.linalg.vecdot(a, b)
        # Integer grey levels make every sum exact, so the variance of a constant image is exactly 0.
        return (product * pixels - a.sum(1) * b.sum(1)) / pixels**2

    return inputs.once(("global covariance", *names), compute)


def pearson(inputs: MetricInputs, first: Image, second: Image) -> Tensor:
    """Return Pearson's r of two images over all pixels, (B,); NaN where one of them is constant."""
    return correlation(
        covariance(inputs, first, second), covariance(inputs, first, first), covariance(inputs, second, second)
    )


def correlation(covariance_xy: Tensor, variance_x: Tensor, variance_y: Tensor) -> Tensor:
    """Return Pearson's r from second moments, NaN where a variance is zero: r with a constant is not defined."""
    scale = torch.sqrt(variance_x.clamp(min=0)) * torch.sqrt(variance_y.clamp(min=0))
    return torch.where(scale > 0, covariance_xy / scale, torch.nan).clamp(-1, 1)


def mean_square_difference(inputs: MetricInputs, first: Image, second: Image) -> Tensor:
    """Return the mean squared difference of two images in squared grey levels, (B,)."""

    def compute() -> Tensor:
        return (inputs.image(first) - inputs.image(second)).square().mean((1, 2))

    return inputs.once(("mean square", *sorted((first, second))), compute)


def _shifted(inputs: MetricInputs, name: Image) -> Tensor:
    """The pixels (B, H * W) minus the first one: keeps sums small, and exactly zero for a constant image."""

    def compute() -> Tensor:
        flat = inputs.image(name).flatten(1)
        return flat - flat[:, :1]

    return inputs.once(("shifted", name), compute)
