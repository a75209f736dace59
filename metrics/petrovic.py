"""Gradient-preservation metrics besides Xydeas's Qabf: Q_G of Liu and Petrovic's Qabf, Labf and Nabf.

Images are float64 (B, H, W) grey values in 0..255; results are float64 (B,). Qabf, Labf and Nabf are three sums over
the same maps: compute those once with ``petrovic_maps`` and hand them on as ``maps``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tgfbench.metrics.filters import DERIVATIVE, SMOOTH, separable

# What the ``liu`` evaluator puts in the place of a zero denominator.
LIU_ZERO = 1e-5


def sobel_differences(images: Tensor, border: str) -> tuple[Tensor, Tensor]:
    """Unnormalised Sobel differences of (B, H, W): right minus left and lower minus upper."""
    return separable(images, DERIVATIVE, SMOOTH, border), separable(images, SMOOTH, DERIVATIVE, border)


def q_g(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Gradient-based fusion metric Q_G: Xydeas and Petrovic's index with the constants and the averaging of Liu.

    At every pixel the preservation of strength and orientation (sigmoids of slope 10 and 20, centres 0.5 and 0.75) is
    averaged over the sources with their gradient strength as weight; Q_G is the mean over pixels. Zero strengths count
    as 1e-5, so that flat areas kept flat score 1. Range 0..1, higher is better.

    Source: Xydeas, Petrovic, Electron. Lett. 36(4), 2000, doi 10.1049/el:20000267, as used in Liu, Blasch, Xue, Zhao,
    Laganiere, Wu, IEEE TPAMI 34(1), 2012, doi 10.1109/TPAMI.2011.109.
    """
    infrared_strength, infrared_angle = _liu_gradient(infrared)
    visible_strength, visible_angle = _liu_gradient(visible)
    strength, angle = _liu_gradient(fused)

    def preserved(ratio: Tensor, source_angle: Tensor) -> Tensor:
        return _sigmoid(ratio, 10, 0.5) * _sigmoid(_alignment(source_angle, angle), 20, 0.75)

    ratio = _ratio(infrared_strength, strength)
    # The evaluator replaces zeros of the fused strength only after it has compared it with the infrared one.
    ratio = ratio.masked_fill((strength == LIU_ZERO) & (infrared_strength > LIU_ZERO), 0.0)
    quality = preserved(ratio, infrared_angle) * infrared_strength
    quality += preserved(_ratio(visible_strength, strength), visible_angle) * visible_strength
    return (quality / (infrared_strength + visible_strength)).mean((1, 2))


def _liu_gradient(images: Tensor) -> tuple[Tensor, Tensor]:
    across, down = sobel_differences(images, "zero")
    strength = torch.hypot(across, down)
    angle = torch.atan(down / across.masked_fill_(across == 0, LIU_ZERO))
    return strength.masked_fill_(strength == 0, LIU_ZERO), angle


@dataclass(frozen=True, eq=False)
class PetrovicMaps:
    """What Petrovic's metrics sum: per source the preservation Q and the weight w, each (B, H, W).

    ``stronger_infrared`` and ``stronger_visible`` say where the fused gradient exceeds that of the source.
    """

    infrared_quality: Tensor
    visible_quality: Tensor
    infrared_weight: Tensor
    visible_weight: Tensor
    stronger_infrared: Tensor
    stronger_visible: Tensor

    @property
    def total_weight(self) -> Tensor:
        """Sum of all weights, (B,); every metric is divided by it."""
        return (self.infrared_weight + self.visible_weight).sum((1, 2))

    @property
    def loss(self) -> Tensor:
        """Weighted information not preserved, (B, H, W)."""
        return (1 - self.infrared_quality) * self.infrared_weight + (1 - self.visible_quality) * self.visible_weight


def petrovic_maps(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    threshold: float = 2.0,
    weight_below: float = 0.001,
) -> PetrovicMaps:
    """Compute the maps that Petrovic's metrics share.

    Gradients are Sobel / 8 with the image mirrored at its border. The preservation is the geometric mean of the
    sigmoids of relative strength (gain 0.9999, slope 19, centre 0.5) and relative orientation (0.9995, 22, 0.5).

    Args:
        fused, infrared, visible: (B, H, W).
        threshold: gradient strength from which a pixel has the weight ``strength ** 1.5``. An evaluator that feeds
            images in 0..1 never reaches its threshold of 2: pass ``math.inf``.
        weight_below: weight of all other pixels; 0.001 in the definition, 0 in ``tang-py`` and ``ivif-zoo``.
    """
    (fused_square, fused_angle), (infrared_square, infrared_angle), (visible_square, visible_angle) = (
        _petrovic_gradient(images) for images in (fused, infrared, visible)
    )
    strength, infrared_strength, visible_strength = (
        square.sqrt() for square in (fused_square, infrared_square, visible_square)
    )

    def quality(source: Tensor, source_angle: Tensor) -> Tensor:
        of_strength = 0.9999 * _sigmoid(_ratio(source, strength), 19, 0.5)
        return torch.sqrt(of_strength * 0.9995 * _sigmoid(_alignment(source_angle, fused_angle), 22, 0.5))

    def weight(source: Tensor) -> Tensor:
        return torch.where(source >= threshold, source * source.sqrt(), weight_below)

    return PetrovicMaps(
        quality(infrared_strength, infrared_angle),
        quality(visible_strength, visible_angle),
        weight(infrared_strength),
        weight(visible_strength),
        # Squares of whole grey levels are exact, so equal gradients compare equal.
        fused_square > infrared_square,
        fused_square > visible_square,
    )


def _petrovic_gradient(images: Tensor) -> tuple[Tensor, Tensor]:
    across, down = sobel_differences(images, "mirror")
    angle = torch.atan(across / down).nan_to_num_(0.0)  # 0/0: no gradient, angle 0
    return (across.square() + down.square()) / 64, angle


def qabf_petrovic(fused: Tensor, infrared: Tensor, visible: Tensor, *, maps: PetrovicMaps | None = None) -> Tensor:
    """Petrovic's total fusion performance Q^AB/F, in its later form. Range 0..1, higher is better.

    Images at least 2 x 2. With ``labf`` (AND excluded) and the modified ``nabf`` it sums to 1.

    Source: Petrovic, Xydeas, ICCV 2005; constants of Shreyamsha Kumar, SIViP 7, 2013,
    doi 10.1007/s11760-012-0361-x.
    """
    found = maps or petrovic_maps(fused, infrared, visible)
    kept = found.infrared_quality * found.infrared_weight + found.visible_quality * found.visible_weight
    return kept.sum((1, 2)) / found.total_weight


def labf(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    where: str = "either",
    maps: PetrovicMaps | None = None,
) -> Tensor:
    """Petrovic's fusion loss L^AB/F. Range 0..1, lower is better.

    Args:
        fused, infrared, visible: (B, H, W).
        where: count pixels where the fused gradient is no stronger than that of ``"either"`` source (the definition) or
            of ``"both"`` (the slip of ``tang-py`` and ``ivif-zoo``).
        maps: precomputed ``petrovic_maps``.

    Source: Petrovic, Xydeas, ICCV 2005.
    """
    found = maps or petrovic_maps(fused, infrared, visible)
    if where == "either":
        lost = ~(found.stronger_infrared & found.stronger_visible)
    elif where == "both":
        lost = ~(found.stronger_infrared | found.stronger_visible)
    else:
        raise ValueError(f"where is {where!r}, expected 'either' or 'both'")
    return (found.loss * lost).sum((1, 2)) / found.total_weight


def nabf(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    form: str = "modified",
    maps: PetrovicMaps | None = None,
) -> Tensor:
    """Fusion artefacts N^AB/F: information in the fused image that no source has. Range 0..1, lower is better.

    Counted where the fused gradient is stronger than both sources'.

    Args:
        fused, infrared, visible: (B, H, W).
        form: ``"modified"``: the loss there, so that Q + L + N = 1 (Shreyamsha Kumar); ``"original"``: Petrovic's term
            ``(2 - Q_AF - Q_BF) (w_A + w_B)``.
        maps: precomputed ``petrovic_maps``.

    Source: Petrovic, Xydeas, ICCV 2005; Shreyamsha Kumar, SIViP 7, 2013, doi 10.1007/s11760-012-0361-x.
    """
    found = maps or petrovic_maps(fused, infrared, visible)
    if form == "modified":
        artefacts = found.loss
    elif form == "original":
        lost = 2 - found.infrared_quality - found.visible_quality
        artefacts = lost * (found.infrared_weight + found.visible_weight)
    else:
        raise ValueError(f"form is {form!r}, expected 'modified' or 'original'")
    added = found.stronger_infrared & found.stronger_visible
    return (artefacts * added).sum((1, 2)) / found.total_weight


def _ratio(source: Tensor, fused: Tensor) -> Tensor:
    """Smaller over larger strength; 0 where either is 0."""
    return (torch.minimum(source, fused) / torch.maximum(source, fused)).nan_to_num_(0.0)


def _alignment(source_angle: Tensor, fused_angle: Tensor) -> Tensor:
    """Relative orientation: 1 for parallel, 0 for perpendicular gradients."""
    return ((source_angle - fused_angle).abs_() - math.pi / 2).abs_() * (2 / math.pi)


def _sigmoid(value: Tensor, slope: float, centre: float) -> Tensor:
    return torch.sigmoid((value - centre) * slope)
