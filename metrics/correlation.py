"""Linear correlation with the sources: CC and SCD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tgfbench.metrics.base import Image, Metric, MetricInfo, MetricInputs, SourceMetric
from tgfbench.metrics.histograms import correlation, covariance, pearson


@dataclass(frozen=True)
class CC(SourceMetric):
    """Pearson correlation of the fused image with each source."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="CC",
        title="correlation coefficient",
        higher_is_better=True,
        range=(-1.0, 1.0),
        citation="Deshmukh, Bhosale, Int. J. Image Process. 4(5), 2010",
        on_constant="nan",
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        return pearson(inputs, source, "fused")


@dataclass(frozen=True)
class SCD(Metric):
    """Sum of the correlations of differences: r(F - V, I) + r(F - I, V)."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="SCD",
        title="sum of the correlations of differences",
        higher_is_better=True,
        range=(-2.0, 2.0),
        citation="Aslantas, Bendes, AEU Int. J. Electron. Commun. 69(12), 2015",
        on_constant="nan",
        notes="NaN where the fused image equals a source up to a constant: the difference then carries nothing.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        return self._residue(inputs, "visible", "infrared") + self._residue(inputs, "infrared", "visible")

    @staticmethod
    def _residue(inputs: MetricInputs, removed: Image, kept: Image) -> Tensor:
        """r(F - removed, kept), from the covariances of the three images."""
        fused, other = covariance(inputs, "fused", "fused"), covariance(inputs, removed, removed)
        difference = fused + other - 2 * covariance(inputs, removed, "fused")
        # Fractional grey levels leave rounding noise where the exact difference has no variance.
        difference = torch.where(difference > 1e-12 * (fused + other), difference, 0)
        covariance_kept = covariance(inputs, kept, "fused") - covariance(inputs, removed, kept)
        return correlation(covariance_kept, difference, covariance(inputs, kept, kept))
