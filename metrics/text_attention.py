"""Text attention: metrics that move from both sources to a text-guided reference image as the text becomes relevant.

Cheng, Xu, Wu, Li, Li, Tang, Kittler, Inf. Fusion 117, 102790, 2025 (TextFusion). Where no reference images and
confidences come with a dataset, ``tgfbench.metrics.text_reference`` makes them, in a way of our own.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from tgfbench.benchmark.errors import DataError, counted
from tgfbench.benchmark.images import images_by_stem, read_infrared
from tgfbench.metrics.base import Metric, MetricInfo, MetricInputs
from tgfbench.metrics.qabf import Qabf
from tgfbench.metrics.ssim import SSIM
from tgfbench.metrics.vifvec import VIFWavelet


def text_attention(original: Tensor, improved: Tensor, confidence: Tensor) -> Tensor:
    """Return (1 - C) original + C improved.

    Args:
        original: (B,), a metric against both sources.
        improved: (B,), the same metric against the text-guided reference image.
        confidence: (B,) in [0, 1]; 0 means that no region of the text was found.
    """
    return (1 - confidence) * original + confidence * improved


@dataclass(frozen=True)
class TextAttention(Metric):
    """A fusion metric blended, by the text confidence, with its one-source form against the text-guided reference.

    Args:
        base: ``"qabf"``, ``"ssim"`` (Gaussian window, edge pixels repeated, mean over the sources) or ``"vif"``
            (wavelet domain on 0..1 images, mean over the sources).
    """

    base: Literal["qabf", "ssim", "vif"] = "qabf"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="text attention",
        title="text-attended fusion metric",
        higher_is_better=True,
        range=(-1.0, math.inf),
        needs=("fused", "visible", "infrared", "reference", "confidence"),
        citation="Cheng et al., Inf. Fusion 117, 102790, 2025",
        minimum_size=65,
        on_constant="nan",
    )

    def compute(self, inputs: MetricInputs) -> Tensor:
        original, improved = _FORMS[self.base]
        return text_attention(original.compute(inputs), improved.compute(inputs), inputs.image("confidence"))


_FORMS: dict[str, tuple[Metric, Metric]] = {
    "qabf": (Qabf(), Qabf(single_source=True)),
    "ssim": (SSIM(border="replicate"), SSIM(border="replicate", sources="reference")),
    "vif": (VIFWavelet(peak=1), VIFWavelet(peak=1, sources="reference")),
}
"""Original and improved form of each base metric."""


@dataclass(frozen=True, eq=False)
class TextReference:
    """What text attention needs to know about one pair.

    Attributes:
        reference: uint8 (H, W), the text-guided reference image R.
        confidence: C in [0, 1].
    """

    reference: np.ndarray
    confidence: float


def read_confidences(path: Path, keys: Sequence[str]) -> dict[str, float]:
    """Read the text confidence of every pair.

    Args:
        path: a ``.mat`` file with a vector ``Confidence``, as TextFusion ships it (entry n belongs to the image named
            n; with other names, the entries follow the keys and must be as many), or a CSV with the columns ``key``
            and ``confidence``.
        keys: the pairs, in the order of the dataset.

    Raises:
        DataError: the file cannot be read, lacks a key, or holds a number outside [0, 1].
    """
    doing = f"reading the text confidences {path}"
    found = _from_mat(path, keys, doing) if path.suffix.lower() == ".mat" else _from_csv(path, doing)
    for key in keys:
        if key not in found:
            raise DataError(
                doing, found=f"no confidence for {key!r}", expected=f"one for each of {counted(len(keys), 'pair')}"
            )
        if not 0 <= found[key] <= 1:
            raise DataError(doing, found=f"{found[key]} for {key!r}", expected="a number in 0..1")
    return {key: found[key] for key in keys}


def _from_mat(path: Path, keys: Sequence[str], doing: str) -> dict[str, float]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise DataError(doing, found=str(error), expected="a MATLAB file of version 7 or older") from error
    if "Confidence" not in content:
        names = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise DataError(doing, found=f"the variables {names}", expected="a vector named Confidence")
    values = np.asarray(content["Confidence"], dtype=np.float64).ravel()
    if all(key.isdigit() and 1 <= int(key) <= len(values) for key in keys):
        return {key: float(values[int(key) - 1]) for key in keys}
    if len(keys) != len(values):
        raise DataError(
            doing,
            found=f"{counted(len(values), 'confidence')} for {counted(len(keys), 'pair')} not named by number",
            expected="as many confidences as pairs, or pairs named 1, 2, ...",
            hint="write a CSV with the columns key and confidence",
        )
    return dict(zip(keys, values.tolist(), strict=True))


def _from_csv(path: Path, doing: str) -> dict[str, float]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["key"]: float(row["confidence"]) for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(doing, found=str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(doing, found=repr(error), expected="the columns key and confidence (a number)") from error


def read_text_references(folder: Path, confidences: Path, keys: Sequence[str]) -> dict[str, TextReference]:
    """Read the reference images and confidences of a dataset.

    Args:
        folder: reference images named as the pairs, or with ``fuse`` before the name, as TextFusion ships them.
        confidences: see ``read_confidences``.
        keys: the pairs, in the order of the dataset.

    Returns:
        By key, ready to be handed to ``Protocol.evaluate`` as ``reference`` and ``confidence``.

    Raises:
        DataError: an image is missing or unreadable, or see ``read_confidences``.
    """
    files = images_by_stem(folder)
    values = read_confidences(confidences, keys)
    references = {}
    for key in keys:
        path = files.get(key) or files.get(f"fuse{key}")
        if path is None:
            raise DataError(
                f"reading the text-guided reference images in {folder}",
                found=f"no image for {key!r}",
                expected=f"a file named {key} or fuse{key}, with an image suffix",
            )
        references[key] = TextReference(read_infrared(path), values[key])
    return references
