"""What ``tgfbench train textfusion`` minimises.

Some ingredients of the authors' loss are models of their own. The association map comes from ViLT and a segmentation
network there; here it is the union of the labelled objects that a text names, or of hot regions where nothing is
labelled. Activities come from DenseFuse there; here they are grey level and gradient magnitude. VGG-19 is used where
its weights are given, an image pyramid otherwise. The paper's terms draw the fused image between its sources; a texture
term, which is not the paper's, can be added. The card of every checkpoint says which.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.methods._losses import joint_gradient
from tgfbench.methods._text import choose_encoder
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
from tgfbench.methods.textfusion.method import CLIP_ABSENT, ENCODER_OF_WIDTH
from tgfbench.methods.textfusion.network import MULTIPLE, TextFusionNetwork, build_network, pad_to_multiple

PYRAMID_DIVISOR = 1e-3


class TextFusionObjective(Objective):
    """Builds TextFusion and computes its training loss.

    Args:
        text_encoder: ``minilm`` (the network then has text width 384) or ``clip``.
        text_weights: of the text encoder, where it needs any.
        vgg_weights: torchvision's checkpoint of VGG-19; None compares gradients on an image pyramid.
        texture: weight of ``joint_gradient``, a term of our own; 0 leaves the paper's loss.
    """

    method = "textfusion"
    checkpoint_name = "textfusion"

    def __init__(
        self,
        text_encoder: str = "minilm",
        text_weights: str | None = None,
        vgg_weights: str | None = None,
        texture: float = 0.0,
    ) -> None:
        widths = {encoder: width for width, encoder in ENCODER_OF_WIDTH.items()}
        width = widths.get(text_encoder, 0)
        self.encoder = choose_encoder("TextFusion", text_encoder, text_weights, width, ENCODER_OF_WIDTH, CLIP_ABSENT)
        self.vgg = VGG19(vgg_weights) if vgg_weights else None
        self.texture = float(texture)
        self.config = build_network(text_width=width).config

    def build(self) -> nn.Module:
        return build_network(**self.config)

    def card(self) -> dict[str, Any]:
        return {
            "text_encoder": self.encoder.identity,
            "association": "labelled objects named by the text, hot regions where nothing is labelled",
            "activity": "grey level and Sobel magnitude, in place of DenseFuse's features",
            "gradients": "VGG-19" if self.vgg else "image pyramid, in place of VGG-19",
            "texture": self.texture,
        }

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        visible, infrared = luma(batch.visible), batch.infrared
        texts = [str(random.choice(t.captions)) if t.captions else "" for t in batch.texts]
        text = self.encoder.encode(texts).pooled.to(visible.device)
        hot = saliency(infrared)
        described = torch.stack([described_region(*scene) for scene in zip(texts, hot, batch.objects, strict=True)])
        assert isinstance(network, TextFusionNetwork)
        fused = folded(network, visible, infrared, text)
        with torch.no_grad():
            activity = activity_weights(with_gradients(infrared), with_gradients(visible))
            preference = source_preference(
                gradient_energy(self._features(infrared), 1 - described),
                gradient_energy(self._features(visible), 1 - described),
                VGG_DIVISOR if self.vgg else PYRAMID_DIVISOR,
            )
        terms = association_losses(fused, infrared, visible, described, activity, preference)
        if self.texture:
            terms["texture"] = self.texture * joint_gradient(fused, infrared, visible)
        return terms

    def _features(self, image: Tensor) -> list[Tensor]:
        if self.vgg is None:
            return pyramid(image, len(FEATURE_ENDS))
        return self.vgg.to(image.device)(image, FEATURE_ENDS)


def folded(network: TextFusionNetwork, visible: Tensor, infrared: Tensor, text: Tensor) -> Tensor:
    """Return what the network returns, up to rounding, without its three maps of D channels.

    A text acts linearly between the first layer of the affine fusion unit and the last convolution: for each text both
    become one 3x3 convolution.

    Args:
        network: with parameters that get gradients.
        visible, infrared: (B, 1, H, W).
        text: (B, D).
    """
    height, width = visible.shape[-2:]
    padded = (pad_to_multiple(image, MULTIPLE) for image in (visible, infrared))
    embedded = (embed(image) for embed, image in zip((network.patch_embed, network.patch_embed2), padded, strict=True))
    units, last = (network.fuse_text_image.mlp_vis, network.fuse_text_image.mlp_ir), network.patch_unembed1.proj[0]
    hidden, kernels = [], []
    scales = (torch.ones_like(text), text)
    for features, unit, scale in zip(network.layer1(*embedded), units, scales, strict=True):
        hidden.append(F.relu(unit[0](features)))
        kernels.append(
            torch.einsum(
                "bc,ck,cyx->bkyx", scale, unit[2].get_parameter("weight")[..., 0, 0], last.get_parameter("weight")[0]
            )
        )
    maps = F.pad(torch.cat(hidden, dim=1), (1, 1, 1, 1), mode="reflect")
    bias = last.get_parameter("bias")
    fused = [F.conv2d(x[None], k[None], bias) for x, k in zip(maps, torch.cat(kernels, dim=1), strict=True)]
    return (torch.cat(fused).tanh() / 2 + 0.5)[..., :height, :width]


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
