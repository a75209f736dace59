"""What ``tgfbench train mtgfusion`` minimises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tgfbench.methods._losses import joint_gradient
from tgfbench.methods._text import choose_encoder
from tgfbench.methods.colour import luma
from tgfbench.methods.mtgfusion.fast import text_vectors, text_weight
from tgfbench.methods.mtgfusion.guidance import nearest, unit
from tgfbench.methods.mtgfusion.losses import fusion_losses
from tgfbench.methods.mtgfusion.method import ENCODER_OF_WIDTH
from tgfbench.methods.mtgfusion.network import TEXTS, MTGFusionNetwork, build_network
from tgfbench.methods.mtgfusion.texts import OnePrompt
from tgfbench.methods.objective import Objective, TrainingBatch


class MTGFusionObjective(Objective):
    """Builds MTG-Fusion and computes its stage-1 loss; stage 2's text term needs BLIP's image tower and is left out.

    Args:
        text: ``none`` feeds zeros, as the release's stage 1 does; ``captions`` feeds a caption of the pair, drawn each
            time, as all five texts.
        text_encoder: ``minilm`` (the network then has text width 384) or ``blip``.
        text_weights: of the text encoder, where it needs any.
        window: side of the attention windows in pixels.
        texture: weight of ``joint_gradient``, a term of our own: the paper's terms, means over both sources, are least
            near the sources' average. 0 leaves the paper's loss.
    """

    method = "mtgfusion"
    checkpoint_name = "mtgfusion-reconstruction"

    def __init__(
        self,
        text: Literal["none", "captions"] = "captions",
        text_encoder: str = "minilm",
        text_weights: str | None = None,
        window: int = 16,
        texture: float = 0.0,
    ) -> None:
        if text not in ("none", "captions"):
            raise ValueError(f"text is {text!r}; none or captions was expected")
        widths = {encoder: width for width, encoder in ENCODER_OF_WIDTH.items()}
        width = widths.get(text_encoder, 384)
        encoder = choose_encoder("MTG-Fusion", text_encoder, text_weights, width, {}) if text == "captions" else None
        self.text = OnePrompt(encoder, width)
        self.config = {"text_width": width, "window": [int(window)] * 2}
        self.texture = float(texture)

    def build(self) -> nn.Module:
        network = build_network(**self.config)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(_keep_statistics)
        return network

    def card(self) -> dict[str, Any]:
        return {"loss": "stage 1, no text term", "texture": self.texture, "text_encoder": self.text.identity}

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, MTGFusionNetwork)
        visible, infrared = luma(batch.visible), batch.infrared
        # One by one: the network has no mask for padding, every token counts.
        fused = [
            fused_alike(network, v[None], i[None], self._tokens(batch, row, random, v.device))
            for row, (v, i) in enumerate(zip(visible, infrared, strict=True))
        ]
        terms = fusion_losses(torch.cat(fused), infrared, visible)
        if self.texture:
            terms["texture"] = self.texture * joint_gradient(torch.cat(fused), infrared, visible)
        return terms

    def _tokens(
        self, batch: TrainingBatch, row: int, random: np.random.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        captions = batch.texts[row].captions
        prompt = str(random.choice(captions)) if captions else ""
        return {name: tokens.to(device) for name, tokens in self.text.tokens(batch.keys[row], prompt).items()}


def fused_alike(network: MTGFusionNetwork, visible: Tensor, infrared: Tensor, texts: Mapping[str, Tensor]) -> Tensor:
    """Return the network's ``fused``, up to rounding, with text maps computed where they differ (see ``fast.py``).

    Args:
        network: with parameters that get gradients, its batch norms in eval mode.
        visible, infrared: (1, 1, H, W).
        texts: tokens (1, L, text_width) by name.
    """
    tA, tB, tAB, tAS, tBS = (network.text_tokens(texts[name], 1) for name in TEXTS)
    size = (visible.shape[-2], visible.shape[-1])
    visual = network.shared(torch.cat([infrared, visible], dim=1)).permute(0, 2, 3, 1)
    vectors = text_vectors(network.tgce, size, tA, tB, tAB)
    chosen = vectors[nearest(unit(visual.flatten(0, 2)), vectors)].view(visual.shape)
    common = network.tgce.extracted(visual, chosen).permute(0, 3, 1, 2)
    specific = torch.zeros_like(common)
    for x, encode, image, text in (("A", network.visual.EA, infrared, tAS), ("B", network.visual.EB, visible, tBS)):
        crossed = torch.cat(network.tgsf.crossed(x, encode(image)[0].flatten(2).transpose(1, 2), text), dim=-1)
        reduced = network.tgsf.final_reducer(crossed.transpose(1, 2).unflatten(2, size))
        specific = specific + reduced * text_weight(network.tgsf, x, text, size)
    return network.recon(common, specific)


def _keep_statistics(module: nn.Module, inputs: object) -> None:
    """Keep a batch norm's mean 0 and variance 1: within one image a text's map hardly varies, and would vanish."""
    module.eval()
