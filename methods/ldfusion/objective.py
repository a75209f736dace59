"""What ``tgfbench train ldfusion`` minimises.

The language-driven terms need CLIP with its image tower and are left out without its weights. The feature term needs
VGG-19; without its weights, images and their gradients are compared on a pyramid instead, so that something is left to
minimise. The card of every checkpoint lists the terms it was trained with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.benchmark.errors import WeightsError
from tgfbench.benchmark.text import OPENAI_CLIP, SIZES_IN_CLIP
from tgfbench.benchmark.weights import load_strict, read_checkpoint, sha256_of, state_dict_of
from tgfbench.methods._losses import joint_gradient
from tgfbench.methods._vgg import VGG19, pyramid, with_gradients
from tgfbench.methods.colour import luma
from tgfbench.methods.ldfusion.losses import (
    FEATURE_ENDS,
    FEATURE_WEIGHT,
    GLOBAL_WEIGHT,
    LEAST_ENTROPY,
    PATCH_WEIGHT,
    PATCHES,
    SIMILARITY_WEIGHT,
    cut_patches,
    direction_loss,
    entropy,
    feature_loss,
    for_clip,
    patch_grids,
    similarity_loss,
)
from tgfbench.methods.ldfusion.network import build_network
from tgfbench.methods.objective import Objective, TrainingBatch

TEXTS = {
    "visible": "a photograph in shades of grey",
    "infrared": "a thermal infrared image",
    "objective": "a clear image that shows the background in detail and makes objects stand out",
}
"""What the language terms compare; after the sense of the authors' texts, in words of our own."""
SIZES: dict[str, dict[str, int]] = {"paper": {}, "small": {"dim": 8, "n_downsample": 2}}
"""Arguments of the network. ``small`` keeps a quarter of the resolution where the paper's keeps an eighth: from that,
a short training does not learn to draw sharp edges."""
NOISE = 0.03
"""Deviation of the noise that the network's inputs get, and the losses' do not."""
PYRAMID_LEVELS = 3


class LDFusionObjective(Objective):
    """Builds LDFusion and computes its training loss.

    Args:
        size: ``paper`` or ``small``, see ``SIZES``.
        clip_weights: a local open_clip or OpenAI checkpoint of CLIP ViT-B/32; None leaves the language terms out.
        vgg_weights: torchvision's checkpoint of VGG-19; None compares an image pyramid in its place.
        patches: per image, for the language term.
        texture: weight of ``joint_gradient``, a term of our own; 0 leaves the paper's loss.
        init: weights of the same network to start from.
        visible_text, infrared_text, objective_text: in place of ``TEXTS``, for instance the authors' own.
    """

    method = "ldfusion"

    def __init__(
        self,
        size: Literal["paper", "small"] = "paper",
        clip_weights: str | None = None,
        vgg_weights: str | None = None,
        patches: int = PATCHES,
        texture: float = 0.0,
        init: str | None = None,
        visible_text: str = TEXTS["visible"],
        infrared_text: str = TEXTS["infrared"],
        objective_text: str = TEXTS["objective"],
    ) -> None:
        if size not in SIZES:
            raise ValueError(f"size is {size!r}; {' or '.join(SIZES)} was expected")
        self.config = build_network(**SIZES[size]).config
        self.checkpoint_name = "ldfusion" if size == "paper" else f"ldfusion-{size}"
        self.patches, self.texture, self.init = int(patches), float(texture), init
        self.texts = {"visible": visible_text, "infrared": infrared_text, "objective": objective_text}
        self.clip = _ImageAndText(clip_weights) if clip_weights else None
        self.vgg = VGG19(vgg_weights) if vgg_weights else None

    def build(self) -> nn.Module:
        network = build_network(**self.config)
        if self.init:
            load_strict(network, read_checkpoint(Path(self.init))[0], Path(self.init))
            return network
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
        return network

    def card(self) -> dict[str, Any]:
        return {
            "language": {"clip": self.clip.identity, "patches": self.patches, **self.texts}
            if self.clip
            else "left out",
            "features": "VGG-19" if self.vgg else "pyramid of grey levels and gradients, in place of VGG-19",
            "texture": self.texture,
            "init_sha256": sha256_of(Path(self.init)) if self.init else None,
        }

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        visible, infrared = luma(batch.visible), batch.infrared
        noisy = [image + NOISE * _normal(image, random) for image in (visible, infrared)]
        fused = network(visible=noisy[0], infrared=noisy[1])["fused_y"]
        features = [self._features(image) for image in (fused, visible, infrared)]
        terms = {"features": FEATURE_WEIGHT * feature_loss(*features)}
        if self.texture:
            terms["texture"] = self.texture * joint_gradient(fused, infrared, visible)
        if self.clip:
            terms |= self._language(self.clip, fused, visible, infrared, random)
        return terms

    def _features(self, image: Tensor) -> list[Tensor]:
        if self.vgg is None:
            return [with_gradients(level) for level in pyramid(image, PYRAMID_LEVELS)]
        return self.vgg.to(image.device)(image, FEATURE_ENDS)

    def _language(
        self, clip: _ImageAndText, fused: Tensor, visible: Tensor, infrared: Tensor, random: np.random.Generator
    ) -> dict[str, Tensor]:
        texts = {name: clip.text(text, fused.device) for name, text in self.texts.items()}
        with torch.no_grad():
            sources = clip.images(visible), clip.images(infrared)
        whole = clip.images(fused)
        parts = []
        for row in range(len(fused)):
            height, width = fused.shape[-2:]
            grids = patch_grids((height, width), self.patches, random).to(fused)
            cut = [cut_patches(image[row : row + 1], grids) for image in (fused, visible, infrared)]
            rich = (entropy(cut[1]) > LEAST_ENTROPY) & (entropy(cut[2]) > LEAST_ENTROPY)
            own_visible, own_infrared = (source[row : row + 1] for source in sources)
            parts.append((rich * direction_loss(clip.images(cut[0]), own_visible, own_infrared, texts)).mean())
        return {
            "language": GLOBAL_WEIGHT * direction_loss(whole, *sources, texts).mean(),
            "patches": PATCH_WEIGHT * torch.stack(parts).mean(),
            "similarity": SIMILARITY_WEIGHT * similarity_loss(whole, *sources).mean(),
        }


class _ImageAndText:
    """CLIP, frozen, both towers."""

    def __init__(self, weights: str) -> None:
        if not Path(weights).is_file():
            raise WeightsError("loading CLIP for a training loss", found=f"{weights} is not a file")
        ensure_torchvision()
        import open_clip

        self.model = open_clip.create_model(OPENAI_CLIP, device="cpu")
        state = state_dict_of(read_checkpoint(Path(weights))[0])
        if isinstance(state, dict):
            state = {name: value for name, value in state.items() if name not in SIZES_IN_CLIP}
        load_strict(self.model, state, Path(weights))
        self.model.eval().requires_grad_(False)
        self.tokenize = open_clip.get_tokenizer(OPENAI_CLIP)
        self.identity = f"clip-{OPENAI_CLIP}:{sha256_of(Path(weights))[:16]}"

    def images(self, grey: Tensor) -> Tensor:
        """Return embeddings (B, D) of grey images (B, 1, H, W) in [0, 1]."""
        return self.model.to(grey.device).encode_image(for_clip(grey))

    @torch.no_grad()
    def text(self, text: str, device: torch.device) -> Tensor:
        """Return the embedding (1, D) of a text."""
        return self.model.to(device).encode_text(self.tokenize([text]).to(device))


def _normal(like: Tensor, random: np.random.Generator) -> Tensor:
    return torch.from_numpy(random.standard_normal(tuple(like.shape), np.float32)).to(like)
