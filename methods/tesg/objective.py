"""What TeSG minimises in ``tgfbench train tesg``, and how text and mask come to matter.

A text names things; the mask says where things are. Each crop gets a text and a mask drawn at random, and from the two
follows what is *favoured* (named by the text and inside the mask's objects) and what is *suppressed* (hot or labelled
objects that were not named). Favoured objects follow max(infrared, visible), suppressed ones the visible image alone,
so that the network can lower its loss only by reading both inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tgfbench.benchmark.text import TextEncoder, load_text_encoder
from tgfbench.benchmark.weights import load_strict, read_checkpoint, sha256_of
from tgfbench.methods.colour import luma
from tgfbench.methods.objective import Objective, TrainingBatch, TrainingTexts
from tgfbench.methods.tesg.losses import LossWeights, fusion_losses
from tgfbench.methods.tesg.network import GDFN, MDTA, MGCA, TDAF, build_network
from tgfbench.methods.tesg.sig import saliency, things

BRANCH_ENDS: dict[type[nn.Module], tuple[str, ...]] = {
    MDTA: ("proj",),
    GDFN: ("proj_out",),
    MGCA: ("out_ir", "out_vi"),
    TDAF: ("out",),
}
"""Last layers of the residual branches; starting them at zero saves the first few hundred steps."""
TEXT_DROPOUT, MASK_DROPOUT = 0.1, 0.1
RECIPES: dict[str, LossWeights] = {
    "dossier": LossWeights(),
    "guided": LossWeights(intensity=1.0, ssim=5.0, selection=8.0),
}
"""``dossier``: plain losses, mask and text only move a weight. ``guided``: the recipe of the shipped weights."""


class TeSGObjective(Objective):
    """Builds TeSG and computes its training loss.

    Args:
        size: ``tiny`` or ``base``.
        text_encoder: ``minilm`` or ``clip``.
        text_weights: a local checkpoint of the text encoder, where it needs one.
        recipe: a name in ``RECIPES``.
        selection, suppression: replace those of the recipe's ``LossWeights``.
        init: weights of the same network to start from.
    """

    method = "tesg"
    checkpoint_name = "tesg-reconstruction"

    def __init__(
        self,
        size: Literal["tiny", "base"] = "tiny",
        text_encoder: str = "minilm",
        text_weights: str | None = None,
        recipe: Literal["guided", "dossier"] = "guided",
        selection: float | None = None,
        suppression: float | None = None,
        init: str | None = None,
    ) -> None:
        options = {"weights": text_weights} if text_weights else {}
        self.encoder: TextEncoder = load_text_encoder(text_encoder, **options)
        self.recipe, self.init = recipe, init
        changed = {"selection": selection, "suppression": suppression}
        given = {name: value for name, value in changed.items() if value is not None}
        self.weights = replace(RECIPES[recipe], **given)
        self.config = build_network(size=size, text_width=self.encoder.width).config

    def build(self) -> nn.Module:
        """Return the network with the weights of ``init``, else PyTorch's with every residual branch switched off."""
        network = build_network(**self.config)
        if self.init:
            load_strict(network, read_checkpoint(Path(self.init))[0], Path(self.init))
            return network
        for module in network.modules():
            for name in BRANCH_ENDS.get(type(module), ()):
                for parameter in module.get_submodule(name).parameters():
                    nn.init.zeros_(parameter)
        return network

    def card(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "loss": asdict(self.weights),
            "init_sha256": sha256_of(Path(self.init)) if self.init else None,
            "text_encoder": self.encoder.identity,
            "text_dropout": TEXT_DROPOUT,
            "mask_dropout": MASK_DROPOUT,
        }

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        visible, infrared = luma(batch.visible), batch.infrared
        hot = saliency(infrared)
        texts = [draw_text(texts, random) for texts in batch.texts]
        scenes = [
            draw_guidance(text, heat, objects, random)
            for text, heat, objects in zip(texts, hot, batch.objects, strict=True)
        ]
        mask, favoured, suppressed = (torch.stack(part) for part in zip(*scenes, strict=True))
        features = self.encoder.encode(texts).to(visible.device)
        spoken = torch.tensor([bool(text) for text in texts], device=visible.device)
        fused = network(
            visible=visible,
            infrared=infrared,
            mask=mask,
            tokens=features.tokens,
            pooled=features.pooled,
            valid=features.valid & spoken[:, None],
        )
        hidden = suppressed if self.recipe == "guided" else None
        return fusion_losses(fused, infrared, visible, favoured, self.weights, hidden)


def draw_text(texts: TrainingTexts, random: np.random.Generator) -> str:
    """Return a caption, a focus phrase, a phrase about any one thing (which may be absent), or "" for no text."""
    kind = random.random()
    if kind < TEXT_DROPOUT:
        return ""
    if kind < 0.3:
        return f"the {random.choice(('person', 'people', 'pedestrians', 'car', 'cars', 'vehicles', 'bicycle', 'bus'))}"
    offered = texts.focus if kind < 0.7 and texts.focus else texts.captions
    return str(random.choice(offered)) if offered else ""


def draw_guidance(
    text: str, hot: Tensor, objects: Mapping[str, Tensor], random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mask to show, the favoured and the suppressed region of one crop, each (1, H, W).

    Without named things the mask alone decides, whatever it covers; with them the text decides among the objects.

    Args:
        text: the prompt.
        hot: the salient region of the infrared crop.
        objects: masks by class name, empty where the image has no labels: then hot regions stand for all objects.
        random: chance.
    """
    named = set(things(text))
    known = {name: mask for name, mask in objects.items() if things(name)}
    present = union(known.values(), hot * 0) if objects else hot
    if not named:
        shown = (present, hot, 1 - hot, _rectangle(hot, random))[random.choice(4, p=(0.3, 0.4, 0.15, 0.15))]
        favoured = shown
    else:
        of_interest = [mask for name, mask in known.items() if named & set(things(name))]
        favoured = union(of_interest, hot * 0) if objects else hot
        shown = (present, hot, favoured)[random.choice(3, p=(0.35, 0.45, 0.2))]
    if random.random() < MASK_DROPOUT:
        shown = torch.full_like(hot, 0.5)
        favoured = favoured if named else present
    return shown, favoured, present * (1 - favoured)


def union(masks: Iterable[Tensor], empty: Tensor) -> Tensor:
    """Return where any of the masks is set; ``empty`` where there is none."""
    return functools.reduce(torch.maximum, masks, empty)


def _rectangle(like: Tensor, random: np.random.Generator) -> Tensor:
    _, height, width = like.shape
    top, bottom = sorted(random.integers(0, height + 1, 2))
    left, right = sorted(random.integers(0, width + 1, 2))
    mask = torch.zeros_like(like)
    mask[:, top:bottom, left:right] = 1
    return mask
