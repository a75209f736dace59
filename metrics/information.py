"""Information in grey levels: EN, MI, Q_MI (NMI), Q_TE, Q_NCIE, CE and TE.

All are functions of the distributions of grey levels of one image, or of two images jointly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tgfbench.metrics.base import SOURCES, Image, Metric, MetricInfo, MetricInputs, SourceMetric, Sources
from tgfbench.metrics.histograms import LEVELS, entropy, histogram, joint_histogram, mutual_information, pearson


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
        levels = histogram(inputs, "fused")
        if not self.inside_log:
            return entropy(levels)
        return -(levels * torch.log2(levels + self.inside_log)).sum(1)


@dataclass(frozen=True)
class MI(SourceMetric):
    """Mutual information of the fused image with each source, from 256 x 256 joint histograms.

    Args:
        unit: ``"bit"`` or ``"nat"``.
        top_level: ``"exact"``; ``"merged in joint"``: levels 254 and 255 share a bin of the joint histogram but not of
            the marginals (Tang's MATLAB evaluator, where uint8 + 1 saturates); ``"merged"``: in all three (thfylsty's);
            ``"twice entropy"``: 2 EN, what the evaluator of DenseFuse returns: its row-wise joint entropy cancels.
        sources: ``"sum"`` of both, ``"mean"``, or one image.
    """

    unit: Literal["bit", "nat"] = "bit"
    top_level: Literal["exact", "merged in joint", "merged", "twice entropy"] = "exact"
    sources: Sources = "sum"

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
        bits = inputs.once(("mutual information", source, self.top_level), lambda: self._bits(inputs, source))
        return bits * math.log(2) if self.unit == "nat" else bits

    def _bits(self, inputs: MetricInputs, source: Image) -> Tensor:
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


@dataclass(frozen=True)
class NMI(Metric):
    """Normalised mutual information Q_MI.

    Args:
        normalisation: by the entropies of each pair, 2 [I(A,F) / (H(A)+H(F)) + I(B,F) / (H(B)+H(F))] (``"pairwise"``,
            the definition); by those of the sources, 2 (I(A,F)+I(B,F)) / (H(A)+H(B)) (``"sources"``, IVIF_ZOO); or
            Studholme's (H(X)+H(F)) / H(X,F) averaged over the sources (``"studholme"``, scikit-image), another index.
        sources: which sources ``"studholme"`` looks at.
    """

    normalisation: Literal["pairwise", "sources", "studholme"] = "pairwise"
    sources: Sources = "mean"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="NMI",
        title="normalised mutual information",
        higher_is_better=True,
        range=(0.0, 2.0),
        citation="Hossny, Nahavandi, Creighton, Electron. Lett. 44(18), 2008",
        on_constant="nan",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        if self.normalisation == "studholme":
            return self._studholme(inputs)
        fused = entropy(histogram(inputs, "fused"))
        shared = [mutual_information(joint_histogram(inputs, source, "fused")) for source in SOURCES]
        own = [entropy(histogram(inputs, source)) for source in SOURCES]
        if self.normalisation == "sources":
            return 2 * (shared[0] + shared[1]) / (own[0] + own[1])
        return 2 * (shared[0] / (own[0] + fused) + shared[1] / (own[1] + fused))

    def _studholme(self, inputs: MetricInputs) -> Tensor:
        chosen = SOURCES if self.sources in ("mean", "sum") else (self.sources,)
        joints = [joint_histogram(inputs, source, "fused") for source in chosen]  # type: ignore[arg-type]
        ratios = [(entropy(joint.sum(2)) + entropy(joint.sum(1))) / entropy(joint) for joint in joints]
        return torch.stack(ratios).sum(0) if self.sources == "sum" else torch.stack(ratios).mean(0)

    @property
    def range(self) -> tuple[float, float]:
        return {"pairwise": (0.0, 2.0), "sources": (0.0, 4.0), "studholme": (1.0, 2.0)}[self.normalisation]


@dataclass(frozen=True)
class QTE(Metric):
    """Q_TE: Tsallis mutual information of the fused image with both sources.

    Args:
        form: ``"nava"``: order 0.43137, divided by H(A)^q + H(B)^q + I_q(A,B); ``"cvejic"``: order 1.85, the plain sum,
            which has no upper bound.
        transposed_marginals: lay the product of the marginals transposed over the joint histogram of the stretched
            images: the slip of Liu's evaluator, hence of every table made with it.
    """

    form: Literal["nava", "cvejic"] = "nava"
    transposed_marginals: bool = False

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_TE",
        title="Tsallis mutual information",
        higher_is_better=True,
        range=(0.0, math.inf),
        citation="Nava, Cristobal, Escalante-Ramirez, SPIE Newsroom 2007; "
        "Cvejic, Canagarajah, Bull, Electron. Lett. 42(11), 2006",
        on_constant="nan",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        order = {"nava": 0.43137, "cvejic": 1.85}[self.form]

        def shared(first: Image, second: Image) -> Tensor:
            joint = joint_histogram(inputs, first, second, stretched=self.transposed_marginals)
            return tsallis(joint, order, transposed_marginals=self.transposed_marginals)

        total = shared("infrared", "fused") + shared("visible", "fused")
        if self.form == "cvejic":
            constant = [entropy(histogram(inputs, source)) == 0 for source in SOURCES]
            return total.masked_fill(constant[0] & constant[1], torch.nan)
        own = [entropy(histogram(inputs, source)) ** order for source in SOURCES]
        return total / (own[0] + own[1] + shared("infrared", "visible"))


def tsallis(joint: Tensor, order: float, *, transposed_marginals: bool = False) -> Tensor:
    """Return (1 - sum h^q (p_x p_y)^(1-q)) / (1-q) over the bins of (B, N, N) with p_x p_y > 0; see ``QTE``."""
    product = joint.sum(2)[:, :, None] * joint.sum(1)[:, None, :]
    if transposed_marginals:
        product = product.transpose(1, 2)
    both = (joint > 0) & (product > 0)
    terms = joint[both] ** order * product[both] ** (1 - order)
    image = both.nonzero()[:, 0]
    return (1 - joint.new_zeros(joint.shape[0]).index_add_(0, image, terms)) / (1 - order)


@dataclass(frozen=True)
class QNCIE(Metric):
    """Nonlinear correlation information entropy of infrared, visible and fused image.

    The eigenvalues l of the 3 x 3 matrix of their correlations give 1 + sum (l/3) log_256(l/3).

    Args:
        correlation: the nonlinear coefficient H(X)+H(Y)-H(X,Y) with logarithms to base 256 (``"entropy"``), or
            Pearson's r (``"pearson"``: IVIF_ZOO).
    """

    correlation: Literal["entropy", "pearson"] = "entropy"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="Q_NCIE",
        title="nonlinear correlation information entropy",
        higher_is_better=True,
        range=(0.0, 1.0),
        citation="Wang, Shen, Jin, chapter 19 in Stathaki (ed.), Image Fusion, 2008",
        notes="About 0.80..0.91 whatever the images.",
    )

    @property
    def on_constant(self) -> Literal["nan", "defined"]:
        return "nan" if self.correlation == "pearson" else "defined"

    def compute(self, inputs: MetricInputs) -> Tensor:
        iv, if_, vf = (
            pearson(inputs, *pair)
            if self.correlation == "pearson"
            else mutual_information(joint_histogram(inputs, *pair), LEVELS)
            for pair in _PAIRS
        )
        one = torch.ones_like(iv)
        matrix = torch.stack([one, iv, if_, iv, one, vf, if_, vf, one], 1).view(-1, 3, 3)
        # Rounding can leave an eigenvalue of a singular matrix just below 0, where its term is 0.
        shares = torch.linalg.eigvalsh(matrix.nan_to_num()).clamp(min=0) / 3
        value = 1 - entropy(shares, LEVELS)
        return value.masked_fill(matrix.isnan().any(2).any(1), torch.nan)


_PAIRS: tuple[tuple[Image, Image], ...] = (("infrared", "visible"), ("infrared", "fused"), ("visible", "fused"))


@dataclass(frozen=True)
class CE(SourceMetric):
    """Cross entropy sum P log2(P / P_fused) over the grey levels that occur in both images, in bits.

    Args:
        form: ``"histogram"``, or ``"sigmoid"``: binary cross-entropy of sigmoids of the raw grey levels against the
            mean of both sources (IVIF_ZOO), which saturates at once and says nothing about the images.
        sources: ``"mean"`` of both, ``"sum"``, or one image; the sigmoid form always sees both.
    """

    form: Literal["histogram", "sigmoid"] = "histogram"
    sources: Sources = "mean"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="CE",
        title="cross entropy",
        higher_is_better=False,
        range=(-8.0, math.inf),
        citation="Bulanon, Burks, Alchanatis, Biosyst. Eng. 103(1), 2009",
        unit="bit",
        notes="Levels missing in one image are skipped, so small negative values are possible; NaN if none is shared.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        return self._sigmoid(inputs) if self.form == "sigmoid" else super().compute(inputs)

    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        p, q = histogram(inputs, source), histogram(inputs, "fused")
        both = (p > 0) & (q > 0)
        terms = torch.where(both, p * torch.log2(p / q), 0)
        return terms.sum(1).masked_fill(~both.any(1), torch.nan)

    @staticmethod
    def _sigmoid(inputs: MetricInputs) -> Tensor:
        # The value is decided by how single precision rounds next to 1, so the maps keep that precision.
        fused, first, second = (torch.sigmoid(inputs.image(name).float()) for name in ("fused", *SOURCES))
        prediction, target = (maps.clamp(1e-7, 1 - 1e-7) for maps in (fused, (first + second) / 2))
        terms = target * torch.log(prediction) + (1 - target) * torch.log(1 - prediction)
        return -terms.double().mean((1, 2))


@dataclass(frozen=True)
class TE(Metric):
    """The "TE" of IVIF_ZOO: H(A) + H(B) - H(F) in bits. No Tsallis entropy is involved."""

    info: ClassVar[MetricInfo] = MetricInfo(
        name="TE",
        title="entropy of the sources beyond that of the fused image",
        higher_is_better=True,
        range=(-8.0, 16.0),
        citation="as in RollingPlain/IVIF_ZOO",
        unit="bit",
        notes="Not the Tsallis entropy its name suggests: rises as the fused image loses information.",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        infrared, visible, fused = (entropy(histogram(inputs, name)) for name in (*SOURCES, "fused"))
        return infrared + visible - fused
