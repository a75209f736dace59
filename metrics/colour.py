"""Colour difference between the fused and the visible image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tgfbench.metrics.base import Metric, MetricInfo, MetricInputs


@dataclass(frozen=True)
class DeltaE(Metric):
    """Mean colour difference to the visible image in Lab (sRGB, D65), computed by scikit-image.

    Args:
        formula: ``"2000"`` (CIEDE2000), ``"94"`` (CIE94) or ``"76"`` (Euclidean distance).
    """

    formula: Literal["2000", "94", "76"] = "2000"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="DeltaE",
        title="colour difference to the visible image",
        higher_is_better=False,
        range=(0.0, math.inf),
        needs=("fused_rgb", "visible_rgb"),
        citation="Sharma, Wu, Dalal, Color Res. Appl. 30, 2005",
        minimum_size=1,
        symmetric=False,
        notes="A grey fused image pays for every colour it lost.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        from skimage import color

        functions: dict[str, Any] = {
            "2000": color.deltaE_ciede2000,
            "94": color.deltaE_ciede94,
            "76": color.deltaE_cie76,
        }
        lab = [
            color.rgb2lab(inputs.image(name).div(255).movedim(1, -1).cpu().numpy())
            for name in ("visible_rgb", "fused_rgb")
        ]
        values = [functions[self.formula](*pair).mean() for pair in zip(*lab, strict=True)]
        return torch.tensor(values, dtype=torch.float64, device=inputs.device)
