"""What ``tgfbench train textfusion`` minimises.

Some ingredients of the authors' loss are models of their own. The association map comes from ViLT and a segmentation
network there; here it is the union of the labelled objects that a text names, or of hot regions where nothing is
labelled. Activities come from DenseFuse there; here they are grey level and gradient magnitude. VGG-19 is used where
its weights are given, an image pyramid otherwise. The card of every checkpoint says which.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tgfbench.benchmark.text import TextEncoder
from tgfbench.methods._vgg import VGG19, pyramid, with_gradients
from tgfbench.methods.colour import luma
from tgfbench.methods.objective import Objective, TrainingBatch
from tgfbench.methods.tesg.sig import saliency, things
from tgfbench.methods.textfusion.losses import (
    FEATURE_ENDS,
    VGG_DIVISOR,
    activity_weights,
    association_losses,
    gradient_energy,
    source_preference,
)
from tgfbench.methods.textfusion.method import ENCODER_OF_WIDTH, text_source
from tgfbench.methods.textfusion.network import build_network

PYRAMID_DIVISOR = 1e-3


class TextFusionObjective(Objective):
    """Builds TextFusion and computes its training loss.

    Args:
        text_encoder: ``minilm`` (the network then has text width 384) or ``clip``.
        text_weights: of the text encoder, where it needs any.
        vgg_weights: torchvision's checkpoint of VGG-19; None compares gradients on an image pyramid.
    """

    method = "textfusion"
    checkpoint_name = "textfusion"

    def __init__(
        self, text_encoder: str = "minilm", text_weights: str | None = None, vgg_weights: str | None = None
    ) -> None:
        widths = {encoder: width for width, encoder in ENCODER_OF_WIDTH.items()}
        width = widths.get(text_encoder, 0)
        source = text_source(width, None, text_encoder, text_weights)
        assert isinstance(source, TextEncoder)
        self.encoder = source
        self.vgg = VGG19(vgg_weights) if vgg_weights else None
        self.config = build_network(text_width=width).config

    def build(self) -> nn.Module:
        return build_network(**self.config)

    def card(self) -> dict[str, Any]:
        return {
            "text_encoder": self.encoder.identity,
            "association": "labelled objects named by the text, hot regions where nothing is labelled",
            "activity": "grey level and Sobel magnitude, in place of DenseFuse's features",
            "gradients": "VGG-19" if self.vgg else "image pyramid, in place of VGG-19",
        }

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        visible, infrared = luma(batch.visible), batch.infrared
        texts = [str(random.choice(t.captions)) if t.captions else "" for t in batch.texts]
        text = self.encoder.encode(texts).pooled.to(visible.device)
        hot = saliency(infrared)
        described = torch.stack([described_region(*scene) for scene in zip(texts, hot, batch.objects, strict=True)])
        fused = network(visible=visible, infrared=infrared, text_feature=text)
        with torch.no_grad():
            activity = activity_weights(with_gradients(infrared), with_gradients(visible))
            preference = source_preference(
                gradient_energy(self._features(infrared), 1 - described),
                gradient_energy(self._features(visible), 1 - described),
                VGG_DIVISOR if self.vgg else PYRAMID_DIVISOR,
            )
        return association_losses(fused, infrared, visible, described, activity, preference)

    def _features(self, image: Tensor) -> list[Tensor]:
        if self.vgg is None:
            return pyramid(image, len(FEATURE_ENDS))
        return self.vgg.to(image.device)(image, FEATURE_ENDS)


def described_region(text: str, hot: Tensor, objects: Mapping[str, Tensor]) -> Tensor:
    """Return the association map (1, H, W) of a crop: 1 where the text describes what is seen.

    Args:
        text: the description.
        hot: (1, H, W), the salient region of the infrared crop.
        objects: masks (1, H, W) by class name, empty where the crop's image has no labels.
    """
    named = set(things(text))
    if named and not objects:
        return hot
    masks = [mask for name, mask in objects.items() if named & set(things(name))]
    return functools.reduce(torch.maximum, masks, torch.zeros_like(hot))
