"""Information in grey levels: entropy EN and mutual information MI."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tgfbench.metrics.base import Image, Metric, MetricInfo, MetricInputs, SourceMetric
from tgfbench.metrics.histograms import entropy, histogram, joint_histogram, mutual_information


@dataclass(frozen=True)
class EN(Metric):
    """Shannon entropy of the grey levels of the fused image, in bits.

    Args:
        inside_log: constant added inside the logarithm; tang_py and IVIF_ZOO add 1e-7, which lowers the value by 2e-5.
    """

    inside_log: float = 0.0

    info: ClassVar[MetricInfo] = MetricInfo(
        name="EN",
        title="entropy",
        higher_is_better=True,
        range=(0.0, 8.0),
        needs=("fused",),
        citation="Roberts, van Aardt, Ahmed, J. Appl. Remote Sens. 2, 023522, 2008",
        unit="bit",
        notes="Rises with noise as readily as with detail. Equals scikit-image's shannon_entropy(base=2).",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        counts = histogram(inputs, "fused")
        if not self.inside_log:
            return entropy(counts) / math.log(2)
        probability = counts / counts.sum(1, keepdim=True)
        return -(probability * torch.log2(probability + self.inside_log)).sum(1)


@dataclass(frozen=True)
class MI(SourceMetric):
    """Mutual information of the fused image with each source, from 256 x 256 joint histograms.

    Args:
        unit: ``"bit"`` or ``"nat"``.
        top_level: ``"exact"``; ``"merged in joint"``: levels 254 and 255 share a bin of the joint histogram but not of
            the marginals (Tang's MATLAB evaluator, where uint8 + 1 saturates); ``"merged"``: in all three (thfylsty's);
            ``"twice entropy"``: 2 EN, what the evaluator of DenseFuse returns: its row-wise joint entropy cancels.
    """

    unit: Literal["bit", "nat"] = "bit"
    top_level: Literal["exact", "merged in joint", "merged", "twice entropy"] = "exact"
    sources: Literal["mean", "sum", "infrared", "visible", "reference"] = "sum"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="MI",
        title="mutual information",
        higher_is_better=True,
        range=(0.0, 8.0),
        citation="Qu, Zhang, Yan, Electron. Lett. 38(7), 2002",
        unit="bit",
        notes="In bits; the CDDFuse family prints nats, which is 0.693 times this.",
    )

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        nats = inputs.once(("mutual information", source, self.top_level), lambda: self._nats(inputs, source))
        return nats / math.log(2) if self.unit == "bit" else nats

    def _nats(self, inputs: MetricInputs, source: Image) -> Tensor:
        if self.top_level == "twice entropy":
            return entropy(histogram(inputs, "fused"))
        joint = joint_histogram(inputs, source, "fused")
        if self.top_level == "exact":
            return mutual_information(joint)
        merged = joint.clone()
        merged[:, :, 254] += merged[:, :, 255]
        merged[:, 254] += merged[:, 255]
        merged[:, :, 255] = merged[:, 255] = 0
        if self.top_level == "merged":
            return mutual_information(merged)
        return entropy(joint.sum(2)) + entropy(joint.sum(1)) - entropy(merged)
