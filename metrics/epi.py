"""Edge preservation index EPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.metrics.base import Image, MetricInfo, MetricInputs, SourceMetric
from tgfbench.metrics.histograms import covariance, pearson


def laplacian(images: Tensor, alpha: float = 0.5) -> Tensor:
    """Laplacian of (B, H, W) with shape parameter ``alpha``, zeros outside the image."""
    side, corner, centre = (1 - alpha) / (1 + alpha), alpha / (1 + alpha), -4 / (1 + alpha)
    padded = F.pad(images, (1, 1, 1, 1))
    across = padded[:, :, :-2] + padded[:, :, 2:]
    middle = padded[:, :, 1:-1]
    return (
        side * (across[:, 1:-1] + middle[:, :-2] + middle[:, 2:])
        + corner * (across[:, :-2] + across[:, 2:])
        + centre * images
    )


@dataclass(frozen=True)
class EPI(SourceMetric):
    """Correlation of the Laplacians of the fused image and each source.

    Args:
        alpha: shape of the 3 x 3 Laplacian, 0 (four neighbours) to 1 (diagonal ones only).
        sources: ``"mean"`` of both, ``"sum"``, or one image.
    """

    alpha: float = 0.5

    info: ClassVar[MetricInfo] = MetricInfo(
        name="EPI",
        title="edge preservation index",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Sattar, Floreby, Salomonsson, Lovstrom, IEEE TIP 6(6), 1997",
        minimum_size=3,
        on_constant="nan",
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        edges = inputs.once(("laplacian", self.alpha), lambda: inputs.map(lambda x: laplacian(x, self.alpha)))
        flat = [covariance(inputs, name, name) == 0 for name in (source, "fused")]
        return pearson(edges, source, "fused").masked_fill(flat[0] | flat[1], torch.nan)
