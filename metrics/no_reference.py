"""Quality of the fused image alone, without training: PIQE."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.metrics.base import Metric, MetricInfo, MetricInputs, Need
from tgfbench.metrics.filters import gaussian, pad

BLOCK = 16
SEGMENT = 6
ACTIVE_VARIANCE = 0.1
IMPAIRED_DEVIATION = 0.1


@dataclass(frozen=True)
class PIQE(Metric):
    """Perception-based image quality evaluator: noticeable distortion and noise in the active 16 x 16 blocks.

    The luma is divided by its maximum first. Values agree with pyiqa 0.1.16 within 1e-6, except where that division
    puts grey levels exactly between two levels.

    Args:
        colour: take the luma of the fused colour image, unrounded, instead of the grey levels the protocol fixed.
    """

    colour: bool = False

    info: ClassVar[MetricInfo] = MetricInfo(
        name="PIQE",
        title="perception-based image quality evaluator",
        higher_is_better=False,
        range=(0.0, 100.0),
        needs=("fused",),
        citation="Venkatanath, Praneeth, Bh, Channappayya, Medasani, NCC 2015",
        minimum_size=BLOCK,
        on_constant="nan",
        notes="NaN where no block has any activity.",
    )

    @property
    def needs(self) -> tuple[Need, ...]:
        return ("fused_rgb",) if self.colour else self.info.needs

    def compute(self, inputs: MetricInputs) -> Tensor:
        grey = inputs.image("fused_rgb") if self.colour else inputs.image("fused")[:, None].expand(-1, 3, -1, -1)
        red, green, blue = grey.div(255).unbind(1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        levels = torch.round(255 * luma / luma.amax((1, 2), keepdim=True))
        return torch.stack([_score(_blocks(image)) for image in levels[:, None]])


def _blocks(image: Tensor) -> Tensor:
    """Mean-subtracted, contrast-normalised blocks (N, 16, 16) of an image (1, H, W)."""
    # The reference continues the image by its remainder instead of by what is missing to a whole block.
    rows, columns = (side % BLOCK for side in image.shape[1:])
    continued = pad(image, rows, columns, "symmetric")[:, rows:, columns:]
    weights = _window(image.device)

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(pad(values, 3, 3, "replicate")[:, None], weights)[:, 0]

    average = mean(continued)
    deviation = (mean(continued.square()) - average.square()).abs().sqrt()
    normalised = (continued - average) / (deviation + 1)
    return normalised.unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).reshape(-1, BLOCK, BLOCK)


@cache
def _window(device: torch.device) -> Tensor:
    kernel = torch.from_numpy(gaussian(7, 7 / 6))
    # Single-precision weights, as in the reference: their sum is not quite 1, which moves the score by 1e-5.
    return torch.outer(kernel, kernel).float().double()[None, None].to(device)


def _score(blocks: Tensor) -> Tensor:
    variance = blocks.flatten(1).var(1)
    active = variance > ACTIVE_VARIANCE
    edges = torch.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], 1)
    segments = edges.unfold(2, SEGMENT, 1).std(3)
    impaired = (segments < IMPAIRED_DEVIATION).flatten(1).any(1)

    deviation = variance.sqrt()
    # The published code removes the second of the two central columns after the first is gone: one too far right.
    centre, surround = [7, 8], [column for column in range(BLOCK) if column not in (7, 9)]
    ratio = blocks[:, :, centre].flatten(1).std(1) / blocks[:, :, surround].flatten(1).std(1)
    ratio = ratio.nan_to_num(0.0, posinf=0.0)
    contrast = (deviation - ratio).abs() / torch.maximum(deviation, ratio)
    noisy = deviation > 2 * contrast

    distortion = (active * (impaired * (1 - variance) + noisy * variance)).sum()
    count = active.sum()
    return torch.where(count > 0, (distortion + 1) / (count + 1) * 100, torch.nan)
