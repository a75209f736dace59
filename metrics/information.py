"""Information-theoretic fusion metrics: Q_MI, NMI, Q_TE, Q_NCIE, CE and TE.

All of them are functions of three 256 x 256 joint histograms (infrared-fused, visible-fused, infrared-visible).
Compute those once with ``joint_histograms`` and hand them to every function as ``histograms``.

Shapes: images are float64 (B, H, W) grey values in 0..255, rounded to whole levels before counting; results are float64
(B,). A protocol that first stretches its images to the full range (liu) passes ``stretch_to_8bit`` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 256


@dataclass(frozen=True, eq=False)
class JointHistograms:
    """Joint distributions of the three image pairs, each float64 (B, 256, 256) and summing to 1.

    The first index of each is the grey level of the image named first. A pair with a non-finite image is all NaN.
    """

    infrared_fused: Tensor
    visible_fused: Tensor
    infrared_visible: Tensor

    @property
    def infrared(self) -> Tensor:
        """Distribution of the infrared image, (B, 256)."""
        return self.infrared_fused.sum(2)

    @property
    def visible(self) -> Tensor:
        """Distribution of the visible image, (B, 256)."""
        return self.visible_fused.sum(2)

    @property
    def fused(self) -> Tensor:
        """Distribution of the fused image, (B, 256)."""
        return self.infrared_fused.sum(1)


def stretch_to_8bit(images: Tensor) -> Tensor:
    """Stretch each image (B, H, W) to fill 0..255 and round to whole levels; a constant image becomes NaN."""
    low, high = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
    # Halves are rounded upwards, as MATLAB does for positive numbers.
    return torch.floor((images - low) / (high - low) * 255 + 0.5)


def joint_histogram(first: Tensor, second: Tensor) -> Tensor:
    """Return the joint distribution of the grey levels of two image batches.

    Args:
        first, second: (B, H, W) in 0..255.

    Returns:
        float64 (B, 256, 256), rows for ``first``; NaN where either image has a non-finite value.
    """
    batch, pixels = first.shape[0], first[0].numel()
    invalid = ~(first.isfinite().flatten(1).all(1) & second.isfinite().flatten(1).all(1))
    code = (_levels(first) * LEVELS + _levels(second)).reshape(batch, pixels)
    code += torch.arange(batch, device=first.device)[:, None] * LEVELS**2
    counts = torch.bincount(code.flatten(), minlength=batch * LEVELS**2).reshape(batch, LEVELS, LEVELS)
    joint = counts.to(torch.float64) / pixels
    return joint.masked_fill(invalid[:, None, None], math.nan) if invalid.any() else joint


def joint_histograms(fused: Tensor, infrared: Tensor, visible: Tensor) -> JointHistograms:
    """Count the three joint histograms that the metrics of this module share."""
    return JointHistograms(
        joint_histogram(infrared, fused), joint_histogram(visible, fused), joint_histogram(infrared, visible)
    )


def entropy(distribution: Tensor, base: float = 2.0) -> Tensor:
    """Shannon entropy of distributions (B, ...) over all trailing dimensions, in units of log ``base``."""
    return torch.special.entr(distribution).flatten(1).sum(1) / math.log(base)


def mutual_information(joint: Tensor, base: float = 2.0) -> Tensor:
    """Shannon mutual information H(X) + H(Y) - H(X, Y) of joint distributions (B, 256, 256)."""
    return entropy(joint.sum(2), base) + entropy(joint.sum(1), base) - entropy(joint, base)


def q_mi(fused: Tensor, infrared: Tensor, visible: Tensor, *, histograms: JointHistograms | None = None) -> Tensor:
    """Normalised mutual information Q_MI, each source normalised by itself.

    ``2 [I(A,F) / (H(A)+H(F)) + I(B,F) / (H(B)+H(F))]``. Range 0..2, higher is better. Invariant to relabelling of grey
    levels, so stretching the images first changes nothing. NaN where fused and a source are both constant.

    Source: Hossny, Nahavandi, Creighton, Electron. Lett. 44(18), 2008, doi 10.1049/el:20081754.
    """
    joint = histograms or joint_histograms(fused, infrared, visible)
    total = fused.new_zeros(fused.shape[0], dtype=torch.float64)
    for pair in (joint.infrared_fused, joint.visible_fused):
        total = total + mutual_information(pair) / (entropy(pair.sum(2)) + entropy(pair.sum(1)))
    return 2 * total


def nmi(fused: Tensor, infrared: Tensor, visible: Tensor, *, histograms: JointHistograms | None = None) -> Tensor:
    """Mutual information normalised by the entropies of the sources: ``2 (I(A,F)+I(B,F)) / (H(A)+H(B))``.

    The normalisation of the ``ivif-zoo`` evaluator. Range 0..4, higher is better. NaN where both sources are constant.
    """
    joint = histograms or joint_histograms(fused, infrared, visible)
    shared = mutual_information(joint.infrared_fused) + mutual_information(joint.visible_fused)
    return 2 * shared / (entropy(joint.infrared) + entropy(joint.visible))


def tsallis_mutual_information(joint: Tensor, order: float, *, transposed_marginals: bool = False) -> Tensor:
    """Tsallis mutual information ``(1 - sum h^q (p_x p_y)^(1-q)) / (1-q)`` over bins with ``p_x p_y > 0``.

    Args:
        joint: (B, 256, 256).
        order: q, not 1.
        transposed_marginals: lay the product of marginals transposed over the joint histogram, the slip in the ``liu``
            evaluator.
    """
    product = joint.sum(2)[:, :, None] * joint.sum(1)[:, None, :]
    if transposed_marginals:
        product = product.transpose(1, 2)
    terms = torch.where(product > 0, joint**order * product ** (1 - order), 0.0 * product)
    return (1 - terms.sum((1, 2))) / (1 - order)


def q_te(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    order: float = 0.43137,
    normalised: bool = True,
    transposed_marginals: bool = False,
    histograms: JointHistograms | None = None,
) -> Tensor:
    """Fusion metric Q_TE from Tsallis mutual information. Higher is better; at least 0.

    Args:
        fused, infrared, visible: (B, H, W).
        order: q of the Tsallis entropy: 0.43137 (Nava) or 1.85 (Cvejic).
        normalised: divide the sum of both sources by ``H(A)^q + H(B)^q + I_q(A,B)`` (Nava); without it the sum is
            returned as it is (Cvejic) and has no upper bound.
        transposed_marginals: as in ``tsallis_mutual_information``; then the value depends on the labels of the grey
            levels, and ``liu`` counts them on stretched images.
        histograms: precomputed joint histograms.

    Returns:
        (B,); NaN where normalised and both sources are constant.

    Source: Cvejic, Canagarajah, Bull, Electron. Lett. 42(11), 2006, doi 10.1049/el:20060693; Nava, Cristobal,
    Escalante-Ramirez, SPIE Newsroom 2007.
    """
    joint = histograms or joint_histograms(fused, infrared, visible)

    def shared(pair: Tensor) -> Tensor:
        return tsallis_mutual_information(pair, order, transposed_marginals=transposed_marginals)

    total = shared(joint.infrared_fused) + shared(joint.visible_fused)
    if not normalised:
        return total
    entropies = entropy(joint.infrared) ** order + entropy(joint.visible) ** order
    return total / (entropies + shared(joint.infrared_visible))


def q_ncie(
    fused: Tensor,
    infrared: Tensor,
    visible: Tensor,
    *,
    correlation: str = "entropy",
    histograms: JointHistograms | None = None,
) -> Tensor:
    """Nonlinear correlation information entropy Q_NCIE. Range 0..1 (in practice 0.80..0.91), higher is better.

    The eigenvalues l of the 3 x 3 correlation matrix of infrared, visible and fused give
    ``1 + sum (l/3) log_256(l/3)``.

    Args:
        fused, infrared, visible: (B, H, W).
        correlation: "entropy" for the nonlinear coefficient ``H(X)+H(Y)-H(X,Y)`` with logarithms to base 256, or
            "pearson" for the linear coefficient of the ``ivif-zoo`` evaluator.
        histograms: precomputed joint histograms; used with "entropy".

    Returns:
        (B,); NaN where an image is constant and the coefficient is Pearson's.

    Source: Wang, Shen, Zhang, Physica D 200, 2005; Wang, Shen, Jin, chapter 19 in Stathaki (ed.), Image Fusion, 2008.
    """
    if correlation == "entropy":
        joint = histograms or joint_histograms(fused, infrared, visible)
        pairs = (joint.infrared_visible, joint.infrared_fused, joint.visible_fused)
        coefficients = [mutual_information(pair, LEVELS) for pair in pairs]
    elif correlation == "pearson":
        coefficients = [_pearson(infrared, visible), _pearson(infrared, fused), _pearson(visible, fused)]
    else:
        raise ValueError(f"correlation is {correlation!r}, expected 'entropy' or 'pearson'")
    iv, if_, vf = coefficients
    one = torch.ones_like(iv)
    matrix = torch.stack([one, iv, if_, iv, one, vf, if_, vf, one], 1).reshape(-1, 3, 3)
    undefined = matrix.isnan().flatten(1).any(1)
    # Rounding can leave an eigenvalue of a singular matrix just below 0, where the term is 0.
    shares = torch.linalg.eigvalsh(matrix.nan_to_num()).clamp(min=0) / 3
    value = 1 - torch.special.entr(shares).sum(1) / math.log(LEVELS)
    return value.masked_fill(undefined, math.nan)


def cross_entropy(
    fused: Tensor, infrared: Tensor, visible: Tensor, *, histograms: JointHistograms | None = None
) -> Tensor:
    """Cross entropy CE: mean over the sources of ``sum P log2(P / P_fused)``, in bits. Lower is better.

    The sum runs over the levels that occur in both images, so slightly negative values are possible. NaN where no
    level occurs in both images of a pair.

    Source: Bulanon, Burks, Alchanatis, Biosyst. Eng. 103(1), 2009.
    """
    joint = histograms or joint_histograms(fused, infrared, visible)
    target = joint.fused
    values = []
    for source in (joint.infrared, joint.visible):
        both = (source > 0) & (target > 0)
        terms = torch.where(both, source * torch.log2(source / target), 0.0 * source)
        undefined = ~both.any(1) & ~source.isnan().any(1)
        values.append(terms.sum(1).masked_fill(undefined, math.nan))
    return (values[0] + values[1]) / 2


def sigmoid_cross_entropy(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """The "CE" of the ``ivif-zoo`` evaluator: binary cross-entropy of sigmoids of raw grey values.

    The prediction is the sigmoid of the fused image, the target the mean of the sigmoids of the sources, both clamped
    to 1e-7..1-1e-7. The sigmoid of 0..255 saturates at once, so the number says nothing about the images; it exists to
    reproduce that evaluator only.
    """
    # The value is decided by how single precision rounds next to 1, so the maps keep that precision.
    prediction, first, second = (torch.sigmoid(images.to(torch.float32)) for images in (fused, infrared, visible))
    prediction, target = (maps.clamp(1e-7, 1 - 1e-7) for maps in (prediction, (first + second) / 2))
    terms = target * torch.log(prediction) + (1 - target) * torch.log(1 - prediction)
    return -terms.to(torch.float64).mean((1, 2))


def entropy_excess(
    fused: Tensor, infrared: Tensor, visible: Tensor, *, histograms: JointHistograms | None = None
) -> Tensor:
    """The "TE" of the ``ivif-zoo`` evaluator: ``H(A) + H(B) - H(F)`` in bits; no Tsallis entropy is involved."""
    joint = histograms or joint_histograms(fused, infrared, visible)
    return entropy(joint.infrared) + entropy(joint.visible) - entropy(joint.fused)


def _levels(images: Tensor) -> Tensor:
    return images.nan_to_num(0.0).add(0.5).floor().clamp(0, LEVELS - 1).to(torch.int64)


def _pearson(first: Tensor, second: Tensor) -> Tensor:
    first = first - first.mean((1, 2), keepdim=True)
    second = second - second.mean((1, 2), keepdim=True)
    energy = first.square().sum((1, 2)) * second.square().sum((1, 2))
    return (first * second).sum((1, 2)) / energy.sqrt()
