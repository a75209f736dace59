"""Text attention (TextFusion) of an audited output, in the parts that matching and shuffled confidences combine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch

from tgfbench.benchmark.text import MiniLM, TextEncoder, load_text_encoder
from tgfbench.metrics.base import MetricInputs
from tgfbench.metrics.qabf import Qabf
from tgfbench.metrics.text_attention import TextAttention
from tgfbench.metrics.text_reference import text_reference

if TYPE_CHECKING:
    from tgfbench.metrics.audit.measures import Target


def attention_parts(
    fused: np.ndarray, visible: np.ndarray, infrared: np.ndarray, text: str, targets: Sequence[Target]
) -> dict[str, float]:
    """Return ``attention original``, ``attention improved`` (Qabf without and with the text) and ``confidence``.

    The heat of an object is the cosine of its name to the text, at least 0, in the offline sentence encoder. How heat
    becomes a reference image is in ``tgfbench.metrics.text_reference``, which says what is ours. The confidence is the
    mean heat of the labelled pixels and not the one from there: that one is of scaled maps, which have forgotten how
    close text and objects are.

    Args:
        fused: uint8 (H, W) luma of the output.
        visible: uint8 (H, W) luma.
        infrared: uint8 (H, W).
        text: the matching prompt.
        targets: the labelled objects.

    Returns:
        {} without objects, on images too small for the metric, or where the offline text encoder is not installed.
    """
    if not targets or min(fused.shape) < TextAttention.info.minimum_size or find_spec(MiniLM.package) is None:
        return {}
    pooled = _encoder().encode([text, *(target.name for target in targets)]).pooled.double()
    unit = pooled / pooled.norm(dim=1, keepdim=True)
    closeness = (unit[1:] @ unit[0]).clamp(min=0).tolist()
    heat = np.max([warm * target.mask for warm, target in zip(closeness, targets, strict=True)], axis=0)
    labelled = np.any([target.mask for target in targets], axis=0)
    made = text_reference(infrared, visible, heat[None], heat[None])
    planes = {"fused": fused, "visible": visible, "infrared": infrared, "reference": made.reference}
    inputs = MetricInputs(**{name: torch.from_numpy(np.ascontiguousarray(p))[None] for name, p in planes.items()})
    return {
        "attention original": float(Qabf()(inputs)[0]),
        "attention improved": float(Qabf(single_source=True)(inputs)[0]),
        "confidence": float(heat[labelled].mean()),
    }


@cache
def _encoder() -> TextEncoder:
    return load_text_encoder("minilm")
