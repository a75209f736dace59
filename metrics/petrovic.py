"""Gradient preservation besides Xydeas's Qabf: Q_G of Liu, and Petrovic's Qabf, Labf and Nabf."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Image, Metric, MetricInfo, MetricInputs
from tgfbench.metrics.elementwise import atan, exp, magnitude, sqrt
from tgfbench.metrics.filters import sobel
from tgfbench.metrics.pixels import pixel_mean, pixel_sums

LIU_ZERO = 1e-5
"""What Liu's evaluator puts in the place of a zero denominator."""

THRESHOLD = 2.0
"""Gradient strength from which a pixel counts with the power 1.5 of its strength in Petrovic's metrics."""


@dataclass(frozen=True)
class QG(Metric):
    """Gradient-based Q_G: Xydeas and Petrovic's index with the constants and the averaging of Liu.

    At every pixel the preservation of strength and orientation is averaged over the sources with their gradient
    strength as weight; Q_G is the mean over the pixels. Zero strengths count as 1e-5, so flat areas kept flat score 1.
    """

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_G",
        title="gradient-based fusion quality",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Xydeas, Petrovic, Electron. Lett. 36(4), 2000, as in Liu et al., IEEE TPAMI 34(1), 2012",
        minimum_size=3,
        notes="Up to 0.13 away from Qabf.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        gradients = [_liu_gradient(inputs, name) for name in (*SOURCES, "fused")]
        return pixel_mean(_liu_quality, *(values for pair in gradients for values in pair))


def _liu_quality(
    strength_a: Tensor, angle_a: Tensor, strength_b: Tensor, angle_b: Tensor, strength_f: Tensor, angle_f: Tensor
) -> Tensor:
    def preserved(ratio: Tensor, angle: Tensor) -> Tensor:
        return 1 / ((1 + exp(-10 * (ratio - 0.5))) * (1 + exp(-20 * (_alignment(angle, angle_f) - 0.75))))

    ratio_a = _ratio(strength_a, strength_f)
    # The evaluator replaces zeros of the fused strength only after it has compared it with the infrared one.
    ratio_a = ratio_a.masked_fill((strength_f == LIU_ZERO) & (strength_a > LIU_ZERO), 0.0)
    quality_a, quality_b = preserved(ratio_a, angle_a), preserved(_ratio(strength_b, strength_f), angle_b)
    return (quality_a * strength_a + quality_b * strength_b) / (strength_a + strength_b)


def _liu_gradient(inputs: MetricInputs, name: Image) -> tuple[Tensor, Tensor]:
    across, down = sobel(inputs, name, "zero")
    strength = magnitude(across, down)
    angle = atan(down / across.masked_fill(across == 0, LIU_ZERO))
    return strength.masked_fill_(strength == 0, LIU_ZERO), angle


class PetrovicSums(NamedTuple):
    """What Petrovic's metrics divide by one another, each (B,), summed over the pixels.

    Attributes:
        weight: weights of both sources.
        kept: preservation times weight.
        lost_either: loss where the fused gradient is no stronger than that of either source.
        lost_both: the same, no stronger than that of both.
        added: loss where the fused gradient is stronger than both.
        added_original: Petrovic's own artefact term there, (2 - Q_AF - Q_BF) (w_A + w_B).
    """

    weight: Tensor
    kept: Tensor
    lost_either: Tensor
    lost_both: Tensor
    added: Tensor
    added_original: Tensor


Weighting = Literal["floor below threshold", "zero below threshold", "floor everywhere"]


@dataclass(frozen=True)
class PetrovicMetric(Metric):
    """One ratio of Petrovic's sums.

    Gradients are Sobel / 8 with the image mirrored at its border; the preservation is the geometric mean of the
    sigmoids of relative strength and relative orientation; a pixel of a source has the weight strength^1.5.

    Args:
        weighting: below a strength of 2 the weight is 0.001 (``"floor below threshold"``) or 0 (``"zero below
            threshold"``: tang_py, IVIF_ZOO); evaluators that feed images in 0..1 never reach the threshold, so that
            every pixel has the floor (``"floor everywhere"``: the one of DenseFuse).
    """

    weighting: Weighting = "floor below threshold"

    def sums(self, inputs: MetricInputs) -> PetrovicSums:
        """Return the sums over the batch; all metrics of one weighting share them."""

        def compute() -> PetrovicSums:
            gradients = [_petrovic_gradient(inputs, name) for name in (*SOURCES, "fused")]
            maps = (values for pair in gradients for values in pair)
            return PetrovicSums(*pixel_sums(partial(_petrovic_terms, self.weighting), *maps))

        return inputs.once(("petrovic sums", self.weighting), compute)


def _petrovic_gradient(inputs: MetricInputs, name: Image) -> tuple[Tensor, Tensor]:
    """Squared gradient strength (exact for whole grey levels, so equal ones compare equal) and orientation."""
    across, down = sobel(inputs, name, "mirror")
    angle = atan(across / down)
    return (across.square() + down.square()) / 64, angle.nan_to_num_(0.0)  # 0/0: no gradient, angle 0


def _petrovic_terms(
    weighting: Weighting,
    square_a: Tensor,
    angle_a: Tensor,
    square_b: Tensor,
    angle_b: Tensor,
    square_f: Tensor,
    angle_f: Tensor,
) -> PetrovicSums:
    strength_f = sqrt(square_f)

    def quality_and_weight(square: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        strength = sqrt(square)
        of_strength = 1 + exp(-19 * (_ratio(strength, strength_f) - 0.5))
        of_angle = 1 + exp(-22 * (_alignment(angle, angle_f) - 0.5))
        quality = sqrt(0.9999 * 0.9995 / (of_strength * of_angle))
        if weighting == "floor everywhere":
            return quality, torch.full_like(quality, 0.001)
        floor = 0.001 if weighting == "floor below threshold" else 0.0
        return quality, torch.where(strength >= THRESHOLD, strength * sqrt(strength), floor)

    (quality_a, weight_a), (quality_b, weight_b) = (
        quality_and_weight(square_a, angle_a),
        quality_and_weight(square_b, angle_b),
    )
    over_a, over_b = square_f > square_a, square_f > square_b
    weight = weight_a + weight_b
    kept = quality_a * weight_a + quality_b * weight_b
    loss = weight - kept
    added = over_a & over_b
    return PetrovicSums(
        weight,
        kept,
        loss * ~added,
        loss * ~(over_a | over_b),
        loss * added,
        (2 - quality_a - quality_b) * weight * added,
    )


@dataclass(frozen=True)
class PetrovicQabf(PetrovicMetric):
    """Petrovic's total fusion performance Q^AB/F, in its later form."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Qabf (Petrovic)",
        title="total fusion performance",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Petrovic, Xydeas, ICCV 2005; Shreyamsha Kumar, SIViP 7, 2013",
        minimum_size=3,
        notes="Q + L + N = 1 with Labf and the modified Nabf.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        sums = self.sums(inputs)
        return sums.kept / sums.weight


@dataclass(frozen=True)
class Labf(PetrovicMetric):
    """Petrovic's fusion loss L^AB/F: what the sources have and the fused image has not.

    Args:
        where: count pixels where the fused gradient is no stronger than that of ``"either"`` source (the definition) or
            of ``"both"`` (tang_py, IVIF_ZOO).
    """

    where: Literal["either", "both"] = "either"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Labf",
        title="fusion loss",
        higher_is_better=False,
        range=(0.0, 1.0),
        citation="Petrovic, Xydeas, ICCV 2005",
        minimum_size=3,
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        sums = self.sums(inputs)
        return (sums.lost_either if self.where == "either" else sums.lost_both) / sums.weight


@dataclass(frozen=True)
class Nabf(PetrovicMetric):
    """Fusion artefacts N^AB/F: gradients stronger in the fused image than in both sources.

    Args:
        form: ``"modified"``: the loss there, so that Q + L + N = 1; ``"original"``: (2 - Q_AF - Q_BF) (w_A + w_B).
    """

    form: Literal["modified", "original"] = "modified"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Nabf",
        title="fusion artefacts",
        higher_is_better=False,
        range=(0.0, 2.0),
        citation="Shreyamsha Kumar, SIViP 7, 2013; Petrovic, Xydeas, ICCV 2005",
        minimum_size=3,
    )

    @property
    def on_constant(self) -> Literal["nan", "defined"]:
        return "nan" if self.weighting == "zero below threshold" else "defined"

    def compute(self, inputs: MetricInputs) -> Tensor:
        sums = self.sums(inputs)
        return (sums.added if self.form == "modified" else sums.added_original) / sums.weight


def _ratio(source: Tensor, fused: Tensor) -> Tensor:
    """Smaller over larger strength; 0 where either is 0."""
    return (torch.minimum(source, fused) / torch.maximum(source, fused)).nan_to_num_(0.0)


def _alignment(source_angle: Tensor, fused_angle: Tensor) -> Tensor:
    """Relative orientation: 1 for parallel, 0 for perpendicular gradients."""
    return ((source_angle - fused_angle).abs_() - math.pi / 2).abs_() * (2 / math.pi)
