"""The card of a metric: what the number is, apart from how it is computed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Need = Literal["fused", "visible", "infrared", "reference", "fused_rgb", "visible_rgb", "confidence"]


class MetricInfo(BaseModel):
    """The card of a metric.

    Attributes:
        name: the name as papers print it, e.g. ``"MS-SSIM"``.
        title: the name in words.
        higher_is_better: the direction.
        range: smallest and largest possible value of the default convention.
        needs: the images and numbers the metric is computed from.
        citation: where it is defined.
        minimum_size: smallest height and width it accepts, in pixels.
        on_constant: what constant images give: ``"nan"`` where the definition is 0/0, ``"defined"`` otherwise.
        unit: unit of the value, "" for a pure number.
        ideal: the best value where it lies inside the range instead of at its end.
        symmetric: True where exchanging the two sources does not change the value.
        notes: what a reader of the number should know.
        version: raised whenever a value could move; stored with every score.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    higher_is_better: bool
    range: tuple[float, float]
    needs: tuple[Need, ...] = ("fused", "visible", "infrared")
    citation: str
    minimum_size: int = 2
    on_constant: Literal["nan", "defined"] = "defined"
    unit: str = ""
    ideal: float | None = None
    symmetric: bool = True
    notes: str = ""
    version: int = 1
