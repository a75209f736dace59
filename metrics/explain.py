"""Why two protocols print different values for one metric, and which protocol a published number comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.benchmark.registry import normalise
from tgfbench.metrics import METRICS
from tgfbench.metrics.base import load_variant
from tgfbench.metrics.evaluation import Protocol
from tgfbench.metrics.protocols import PROTOCOLS, ProtocolCard, Use, protocol_card


@dataclass(frozen=True)
class Difference:
    """One convention in which two protocols differ.

    Attributes:
        convention: what differs, e.g. ``"peak"``, ``"luma"`` or ``"metric"``.
        first: its setting in the first protocol.
        second: its setting in the second protocol.
        value: what the first protocol would print with this one setting of the second.
    """

    convention: str
    first: str
    second: str
    value: float


@dataclass(frozen=True)
class Explanation:
    """One metric under two protocols on one image.

    Attributes:
        metric: the printed name.
        protocols: names of the two protocols.
        values: what each of them prints.
        differences: all differences of convention, the one that alone moves the value most first.
    """

    metric: str
    protocols: tuple[str, str]
    values: tuple[float, float]
    differences: tuple[Difference, ...]

    @property
    def cause(self) -> Difference | None:
        """The difference that alone brings the first value closest to the second; None where the values agree."""
        if not self.differences or self.values[0] == self.values[1]:
            return None
        return min(self.differences, key=lambda difference: abs(difference.value - self.values[1]))


def explain(
    metric: str,
    protocols: tuple[str, str],
    fused: np.ndarray,
    visible: np.ndarray,
    infrared: np.ndarray,
    **extra: Any,
) -> Explanation:
    """Compute a metric under two protocols and attribute the gap to single conventions.

    Args:
        metric: printed name, present in both protocols.
        protocols: names of two protocols.
        fused: as for ``Protocol.evaluate``.
        visible: likewise.
        infrared: likewise.
        **extra: likewise.

    Raises:
        UsageError: a protocol does not exist or does not have the metric.
        MetricError: see ``Protocol.evaluate``.
    """
    first, second = (Protocol(protocol_card(name)) for name in protocols)
    names = [protocol.resolve(metric) for protocol in (first, second)]

    def value(card: ProtocolCard, name: str) -> float:
        return Protocol(card, [name]).evaluate(fused, visible, infrared, **extra)[name]

    differences = [
        Difference(convention, *settings, value(card, names[0]))
        for convention, settings, card in _switches(first.card, second.card, *names)
    ]
    values = (value(first.card, names[0]), value(second.card, names[1]))
    differences.sort(key=lambda difference: -_gap(difference.value, values[0]))
    return Explanation(names[0], (first.name, second.name), values, tuple(differences))


def _switches(
    first: ProtocolCard, second: ProtocolCard, name: str, other: str
) -> list[tuple[str, tuple[str, str], ProtocolCard]]:
    """Every single change of the first protocol towards the second: what it is, both settings, the changed card."""
    found: list[tuple[str, tuple[str, str], ProtocolCard]] = []
    for field in ("luma", "colour", "side_by_side", "resize"):
        settings = tuple(getattr(card, field) for card in (first, second))
        if settings[0] != settings[1]:
            changed = first.model_copy(update={field: settings[1]})
            found.append((field, (_text(settings[0]), _text(settings[1])), changed))

    def with_use(use: Use) -> ProtocolCard:
        return first.model_copy(update={"metrics": {**first.metrics, name: use}})

    uses = first.metrics[name], second.metrics[other]
    if uses[0].metric != uses[1].metric:
        settings = (_text(uses[0].metric, uses[0].options), _text(uses[1].metric, uses[1].options))
        return [*found, ("metric", settings, with_use(uses[1]))]
    conventions = [load_variant(METRICS.load(use.metric), use.options).convention for use in uses]
    for option, setting in conventions[1].items():
        if conventions[0][option] != setting:
            changed = with_use(Use(uses[0].metric, {**uses[0].options, option: setting}))
            found.append((option, (_text(conventions[0][option]), _text(setting)), changed))
    return found


def _text(setting: object, options: dict[str, Any] | None = None) -> str:
    if isinstance(setting, tuple):
        return ", ".join(map(str, setting)) or "none"
    written = ", ".join(f"{name}={value}" for name, value in (options or {}).items())
    return f"{setting} ({written})" if written else str(setting)


def _gap(a: float, b: float) -> float:
    return 0.0 if a == b or math.isnan(a) or math.isnan(b) else abs(a - b)


@dataclass(frozen=True)
class Guess:
    """A convention that a published number may follow.

    Attributes:
        protocols: the protocols that print such numbers.
        convention: what they compute.
        typical: the smallest and the largest value of that convention on our calibration images.
        inside: whether the number lies there, or only comes nearest.
    """

    protocols: tuple[str, ...]
    convention: str
    typical: tuple[float, float]
    inside: bool


TYPICAL: dict[str, tuple[tuple[float, float, str, str], ...]] = {
    "PSNR": (
        (59.8, 67.9, "tang tang-py ivif-zoo", "error on 0..1 under a peak of 255"),
        (54.1, 57.3, "vifb", "L2 norm of the difference over the number of pixels"),
        (11.6, 19.8, "cddfuse film", "peak is the maximum of the fused image"),
        (11.6, 19.8, "correct", "peak 255, error averaged over the sources"),
    ),
    "MSE": (
        (690.0, 4430.0, "cddfuse film correct", "grey levels in 0..255"),
        (0.0106, 0.0681, "tang tang-py ivif-zoo", "grey levels in 0..1"),
    ),
    "RMSE": (
        (26.0, 67.0, "correct", "root of the mean squared error"),
        (0.12, 0.25, "vifb", "L2 norm of the difference over the number of pixels"),
    ),
    "SSIM": (
        (1.16, 1.69, "film vifb", "sum over the sources, dynamic range 255"),
        (0.60, 1.10, "cddfuse", "sum over the sources, dynamic range 2 on 0..255 data"),
        (0.60, 1.10, "tang-py ivif-zoo", "sum over the sources, dynamic range 1 on 0..255 data"),
        (0.40, 0.85, "correct hli thfylsty", "mean over the sources, dynamic range 255"),
        (0.29, 0.55, "tang", "mean over the sources, dynamic range 1 on 0..255 data"),
    ),
    "MS-SSIM": (
        (0.82, 1.58, "", "sum over the sources at the right scale"),
        (0.35, 1.26, "tang-py ivif-zoo", "sum over the sources, dynamic range 1 on 0..255 data"),
        (0.56, 0.91, "tang hli thfylsty", "MEF-MS-SSIM, the multi-exposure index"),
        (0.41, 0.79, "correct", "mean over the sources"),
    ),
    "MI": (
        (11.9, 14.1, "hli thfylsty", "twice the entropy of the fused image, by a bug"),
        (2.36, 7.65, "tang tang-py ivif-zoo correct", "sum over the sources in bits"),
        (1.64, 5.30, "cddfuse film vifb", "sum over the sources in nats"),
    ),
    "VIF": (
        (0.34, 0.98, "cddfuse film tang tang-py correct", "pixel domain, sum over the sources"),
        (0.51, 1.12, "ivif-zoo", "pixel domain, zeros outside the image, sum over the sources"),
        (0.19, 0.74, "thfylsty textfusion", "wavelet domain on 0..1 images, mean over the sources"),
    ),
    "Q_NCIE": (
        (0.805, 0.840, "liu thfylsty correct", "nonlinear correlation"),
        (0.849, 0.911, "ivif-zoo", "Pearson correlation"),
    ),
    "CE": (
        (-0.08, 1.88, "vifb thfylsty correct", "relative entropy of the histograms"),
        (0.0, 0.0011, "ivif-zoo", "binary cross-entropy of saturated sigmoids"),
    ),
    "EI": (
        (16.6, 49.9, "vifb thfylsty correct", "edge pixels repeated at the border"),
        (25.2, 62.7, "ivif-zoo", "zeros outside the image"),
    ),
    "Nabf": (
        (2e-7, 2e-3, "tang tang-py ivif-zoo correct", "weighted by gradient strength"),
        (3e-4, 1.4e-2, "hli thfylsty", "images in 0..1 below a threshold of 2: every pixel counts the same"),
    ),
    "Q_Y": (
        (0.50, 0.97, "liu thfylsty correct", "normalised window"),
        (0.92, 0.992, "ivif-zoo", "window of sum 7"),
    ),
}
"""Ranges (low, high, protocols, convention) measured on five pairs fused in three ways; guidance, not proof."""


def guess(metric: str, value: float) -> list[Guess]:
    """Guess which protocols a published number comes from.

    Args:
        metric: printed name.
        value: the number.

    Returns:
        The conventions whose typical range holds the number, the narrowest first; where none does, the nearest one.

    Raises:
        UsageError: the conventions of this metric do not differ enough to tell them apart, or there is no such metric.
    """
    known = {normalise(name): name for name in TYPICAL}
    if normalise(metric) not in known:
        printed = {name for card in PROTOCOLS.values() for name in card.metrics}
        exists = normalise(metric) in {normalise(name) for name in printed}
        raise UsageError(
            f"guessing the protocol behind a value of {metric}",
            found="its values do not tell the protocols apart" if exists else "no such metric",
            hint=f"can be told apart: {', '.join(TYPICAL)}" if exists else suggest(metric, printed),
        )
    rows = TYPICAL[known[normalise(metric)]]
    inside = [row for row in rows if row[0] <= value <= row[1]]
    if inside:
        return [_to_guess(row, inside=True) for row in sorted(inside, key=lambda row: row[1] - row[0])]
    nearest = min(rows, key=lambda row: max(row[0] - value, value - row[1]) / (row[1] - row[0]))
    return [_to_guess(nearest, inside=False)]


def _to_guess(row: Sequence[Any], *, inside: bool) -> Guess:
    low, high, protocols, convention = row
    return Guess(tuple(protocols.split()), convention, (low, high), inside)
