"""The protocols, as data: which metrics, in which convention, on which grey levels.

A protocol reproduces one published evaluator. Everything in which evaluators differ is written here and nowhere else;
a convention that is not mentioned is the definition. This module imports no torch, so that names can be listed at once.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.benchmark.registry import normalise


class Use(NamedTuple):
    """One metric in one convention.

    Attributes:
        metric: registry name.
        options: its convention, where that is not the default.
    """

    metric: str
    options: dict[str, Any]


def use(metric: str, **options: Any) -> Use:
    """Write down a metric with its convention."""
    return Use(metric, options)


class ProtocolCard(BaseModel):
    """What a protocol fixes.

    Attributes:
        name: the protocol's name.
        title: which evaluator it reproduces.
        source: where that evaluator is found.
        used_by: who printed tables with it.
        luma: from RGB to grey levels, see ``tgfbench.metrics.luma``.
        colour: ``"grey"`` scores the luma; ``"channels"`` scores each colour channel and averages the three values.
        side_by_side: metrics that under ``"channels"`` see the three channels as one image of three times the width.
        resize: which images are resized, bicubic, where sizes differ; by default different sizes are refused.
        metrics: printed name -> metric and convention, in the order of the evaluator's table.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    source: str = ""
    used_by: str = ""
    luma: Literal["bt601", "opencv", "pil", "matlab"]
    colour: Literal["grey", "channels"] = "grey"
    side_by_side: tuple[str, ...] = ()
    resize: Literal["none", "sources", "fused"] = "none"
    metrics: dict[str, Use]


CORE = ("EN", "SD", "SF", "AG", "MI", "SCD", "CC", "PSNR", "MSE", "SSIM", "MS-SSIM", "VIF", "Qabf")
"""The named set ``core``: what most papers of the field print."""

_CDDFUSE = {
    "EN": use("en"),
    "SD": use("sd"),
    "SF": use("sf"),
    "AG": use("ag"),
    "MI": use("mi", unit="nat"),
    "MSE": use("mse"),
    "CC": use("cc"),
    "PSNR": use("psnr", peak="fused maximum"),
    "SCD": use("scd"),
    "VIF": use("vif"),
    "Qabf": use("qabf"),
    "SSIM": use("ssim", window="uniform", peak=2, sources="sum"),
}

_CARDS = (
    ProtocolCard(
        name="correct",
        title="the cited definitions",
        luma="bt601",
        metrics={
            "EN": use("en"),
            "SD": use("sd"),
            "SF": use("sf"),
            "AG": use("ag"),
            "MI": use("mi"),
            "MI-nats": use("mi", unit="nat"),
            "SCD": use("scd"),
            "CC": use("cc"),
            "PSNR": use("psnr"),
            "MSE": use("mse"),
            "SSIM": use("ssim"),
            "SSIM-sum": use("ssim", sources="sum"),
            "MS-SSIM": use("ms-ssim"),
            "VIF": use("vif"),
            "Qabf": use("qabf"),
        },
    ),
    ProtocolCard(
        name="cddfuse",
        title="CDDFuse's evaluator under scikit-image before 0.20",
        source="Zhaozixiang1228/MMIF-CDDFuse, utils/Evaluator.py",
        used_by="CDDFuse, DDFM, EMMA",
        luma="opencv",
        metrics=_CDDFUSE,
    ),
    ProtocolCard(
        name="film",
        title="FILM's evaluator",
        source="Zhaozixiang1228/IF-FILM, utils/Evaluator.py",
        used_by="FILM",
        luma="opencv",
        metrics=_CDDFUSE | {"SSIM": use("ssim", window="uniform", sources="sum")},
    ),
)

PROTOCOLS: dict[str, ProtocolCard] = {card.name: card for card in _CARDS}


def protocol_card(name: str) -> ProtocolCard:
    """Return the card of a protocol; case, ``-`` and ``_`` do not matter."""
    for card in _CARDS:
        if normalise(card.name) == normalise(name):
            return card
    raise UsageError(f"looking up the protocol {name!r}", found="no such protocol", hint=suggest(name, PROTOCOLS))
