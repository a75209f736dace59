"""Grey-level histograms and second moments of a batch, each computed once and shared by all metrics that need it."""

from __future__ import annotations

import torch
from torch import Tensor

from tgfbench.metrics.base import Image, MetricInputs

LEVELS = 256


def histogram(inputs: MetricInputs, name: Image) -> Tensor:
    """Return the counts of the 256 grey levels of an image, float64 (B, 256)."""
    return inputs.once(("histogram", name), lambda: _count(inputs.levels(name), LEVELS))


def joint_histogram(inputs: MetricInputs, rows: Image, columns: Image) -> Tensor:
    """Return the counts of grey-level pairs of two images, float64 (B, 256, 256), first image along the rows."""

    def compute() -> Tensor:
        pairs = inputs.levels(rows) * LEVELS + inputs.levels(columns)
        return _count(pairs, LEVELS * LEVELS).view(-1, LEVELS, LEVELS)

    return inputs.once(("joint_histogram", rows, columns), compute)


def _count(codes: Tensor, bins: int) -> Tensor:
    """Count the codes 0..bins-1 of every image with one bincount over the whole batch."""
    batch = codes.shape[0]
    flat = codes.reshape(batch, -1)
    if batch > 1:
        flat = flat + torch.arange(batch, device=codes.device)[:, None] * bins
    return torch.bincount(flat.flatten(), minlength=batch * bins).view(batch, bins).double()


def entropy(counts: Tensor) -> Tensor:
    """Return the Shannon entropy in nats of histograms (B, ...), empty bins contributing nothing."""
    counts = counts.flatten(1)
    probability = counts / counts.sum(1, keepdim=True)
    return torch.special.entr(probability).sum(1)


def mutual_information(joint: Tensor) -> Tensor:
    """Return the mutual information in nats of joint histograms (B, N, M)."""
    return entropy(joint.sum(2)) + entropy(joint.sum(1)) - entropy(joint)


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
