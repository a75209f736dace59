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

_CORRECT = {
    "EN": use("en"),
    "SD": use("sd"),
    "SF": use("sf"),
    "AG": use("ag"),
    "EI": use("ei"),
    "DF": use("df"),
    "MI": use("mi"),
    "MI-nats": use("mi", unit="nat"),
    "NMI": use("nmi"),
    "Q_TE": use("q-te"),
    "Q_NCIE": use("q-ncie"),
    "CE": use("ce"),
    "CC": use("cc"),
    "SCD": use("scd"),
    "MSE": use("mse"),
    "RMSE": use("rmse"),
    "PSNR": use("psnr"),
    "SSIM": use("ssim"),
    "SSIM-sum": use("ssim", sources="sum"),
    "MS-SSIM": use("ms-ssim"),
    "MEF-SSIM": use("mef-ssim"),
    "MEF-MS-SSIM": use("mef-ms-ssim"),
    "VIF": use("vif"),
    "VIF-wavelet": use("vif-wavelet"),
    "VIFF": use("viff"),
    "Qabf": use("qabf"),
    "Qabf-Petrovic": use("qabf-petrovic"),
    "Labf": use("labf"),
    "Nabf": use("nabf"),
    "Q_G": use("q-g"),
    "FMI-pixel": use("fmi", feature="none"),
    "FMI-edge": use("fmi", feature="edge"),
    "FMI-gradient": use("fmi", feature="gradient"),
    "FMI-dct": use("fmi", feature="dct"),
    "FMI-wavelet": use("fmi", feature="wavelet"),
    "Q_M": use("q-m"),
    "Q_SF": use("q-sf"),
    "Q_P": use("q-p"),
    "Q_S": use("q-s"),
    "Q_W": use("q-w"),
    "Q_E": use("q-e"),
    "Q_C": use("q-c"),
    "Q_Y": use("q-y"),
    "Qcb": use("qcb"),
    "Qcv": use("qcv"),
    "EPI": use("epi"),
    "FSIM": use("fsim"),
    "GMSD": use("gmsd"),
    "VSI": use("vsi"),
    "HaarPSI": use("haarpsi"),
    "MDSI": use("mdsi"),
    "PIQE": use("piqe"),
    "DeltaE-76": use("delta-e", formula="76"),
    "DeltaE-94": use("delta-e", formula="94"),
    "DeltaE-2000": use("delta-e"),
}

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

_FMI = {
    "FMI-pixel": use("fmi", feature="edge"),
    "FMI-dct": use("fmi", feature="dct"),
    "FMI-w": use("fmi", feature="wavelet"),
}
"""What the MATLAB evaluators print as FMI_pixel is the edge feature, the default of the function they call."""

_TANG = {
    "EN": use("en"),
    "MI": use("mi", top_level="merged in joint"),
    "SD": use("sd"),
    "SF": use("sf"),
    "MSE": use("mse", scale=1),
    "PSNR": use("psnr", peak="mixed scales"),
    "VIF": use("vif"),
    "AG": use("ag", average="inner"),
    "CC": use("cc"),
    "SCD": use("scd"),
    "Qabf": use("qabf"),
    "Nabf": use("nabf"),
    "SSIM": use("ssim", border="replicate", peak=1),
    "MS-SSIM": use("mef-ms-ssim"),
    **_FMI,
}

_TANG_PY = {
    **{name: metric for name, metric in _TANG.items() if name not in _FMI},
    "EN": use("en", inside_log=1e-7),
    "MI": use("mi"),
    "SSIM": use("ssim", peak=1, sources="sum"),
    "MS-SSIM": use("ms-ssim", peak=1, sources="sum"),
    "Nabf": use("nabf", weighting="zero below threshold"),
}

_IVIF_ZOO = {
    **_TANG_PY,
    "AG": use("ag"),
    "VIF": use("vif", form="ivif-zoo"),
    "CE": use("ce", form="sigmoid"),
    "NMI": use("nmi", normalisation="sources"),
    "Q_NCIE": use("q-ncie", correlation="pearson"),
    "TE": use("te"),
    "EI": use("ei", border="zero"),
    "Q_Y": use("q-y", form="ivif-zoo"),
    "Qcb": use("qcb", form="ivif-zoo"),
}

_VIFB = {
    "CE": use("ce"),
    "EN": use("en"),
    "MI": use("mi", unit="nat"),
    "PSNR": use("psnr", peak="vifb"),
    "AG": use("ag", average="inner"),
    "EI": use("ei"),
    "Qabf": use("qabf"),
    "SD": use("sd"),
    "SF": use("sf", average="pixels"),
    "RMSE": use("rmse", norm="per pixel"),
    "SSIM": use("ssim", sources="sum"),
    "Qcb": use("qcb"),
    "Qcv": use("qcv"),
}

_LIU = {
    "Q_MI": use("nmi"),
    "Q_TE": use("q-te", transposed_marginals=True),
    "Q_NCIE": use("q-ncie"),
    "Q_G": use("q-g"),
    "Q_M": use("q-m"),
    "Q_SF": use("q-sf"),
    "Q_P": use("q-p"),
    "Q_S": use("q-s"),
    "Q_C": use("q-c", flat_patches="rounding noise"),
    "Q_Y": use("q-y", flat_patches="rounding noise"),
    "Qcv": use("qcv"),
    "Qcb": use("qcb"),
}

_HLI = {
    "EN": use("en"),
    "MI": use("mi", top_level="twice entropy"),
    "Qabf": use("qabf"),
    **_FMI,
    "Nabf": use("nabf", weighting="floor everywhere"),
    "SCD": use("scd"),
    "SSIM": use("ssim", border="replicate"),
    "MS-SSIM": use("mef-ms-ssim"),
}

_CARDS = (
    ProtocolCard(
        name="correct",
        title="the cited definitions: every metric that needs no weights",
        luma="bt601",
        metrics=_CORRECT,
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
    ProtocolCard(
        name="tang",
        title="Tang's MATLAB evaluator",
        source="Linfeng-Tang/Evaluation-for-Image-Fusion",
        used_by="SeAFusion, PIAFusion, SwinFusion, PSFusion",
        luma="matlab",
        metrics=_TANG,
    ),
    ProtocolCard(
        name="tang-py",
        title="the Metric_Python port of Tang's evaluator; its driver calls no FMI",
        source="folder Metric_Python, e.g. in Nonex111/vif_benchmark",
        used_by="many recent papers, text-guided ones too",
        luma="pil",
        metrics=_TANG_PY,
    ),
    ProtocolCard(
        name="ivif-zoo",
        title="IVIF_ZOO's torch evaluator",
        source="RollingPlain/IVIF_ZOO, Metric/",
        used_by="the IVIF survey, UniFusion, AiO-Degradation-IVIF-Metric",
        luma="pil",
        metrics=_IVIF_ZOO,
    ),
    ProtocolCard(
        name="vifb",
        title="VIFB's MATLAB evaluator",
        source="xingchenzhang/VIFB, metrics/",
        used_by="VIFB and papers that report its 13 metrics",
        luma="matlab",
        colour="channels",
        side_by_side=("SF",),
        metrics=_VIFB,
    ),
    ProtocolCard(
        name="liu",
        title="Liu's MATLAB evaluator of the 12 metrics of the TPAMI 2012 survey",
        source="zhengliu6699/imageFusionMetrics",
        used_by="Liu, Blasch, Xue, Zhao, Laganiere, Wu, IEEE TPAMI 34(1), 2012",
        luma="matlab",
        metrics=_LIU,
    ),
    ProtocolCard(
        name="hli",
        title="Li Hui's MATLAB evaluator",
        source="hli1221/imagefusion_densefuse, analysis_MatLab",
        used_by="DenseFuse, NestFuse, RFN-Nest, CrossFuse",
        luma="matlab",
        metrics=_HLI,
    ),
    ProtocolCard(
        name="thfylsty",
        title="the MATLAB collection of thfylsty",
        source="thfylsty/Objective-evaluation-for-image-fusion",
        used_by="PPT Fusion, PerceptualFusionGAN",
        luma="matlab",
        resize="sources",
        metrics={
            **_HLI,
            "MI-abf": use("mi", top_level="merged"),
            "CC": use("cc"),
            "SF": use("sf", average="pixels"),
            **_LIU,
            "VIF": use("vif-wavelet", peak=1),
            "VIFF": use("viff"),
            "EI": use("ei"),
            "CE": use("ce"),
            "DF": use("df"),
        },
    ),
    ProtocolCard(
        name="textfusion",
        title="TextFusion's textual attention metrics",
        source="AWCXV/TextFusion, textual_attention_metrics/",
        used_by="TextFusion",
        luma="matlab",
        resize="fused",
        metrics={
            "Qabf+": use("text-attention", base="qabf"),
            "SSIM+": use("text-attention", base="ssim"),
            "VIF+": use("text-attention", base="vif"),
        },
    ),
)

PROTOCOLS: dict[str, ProtocolCard] = {card.name: card for card in _CARDS}


def protocol_card(name: str) -> ProtocolCard:
    """Return the card of a protocol; case, ``-`` and ``_`` do not matter."""
    for card in _CARDS:
        if normalise(card.name) == normalise(name):
            return card
    raise UsageError(f"looking up the protocol {name!r}", found="no such protocol", hint=suggest(name, PROTOCOLS))
