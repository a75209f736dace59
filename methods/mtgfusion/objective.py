"""What ``tgfbench train mtgfusion`` minimises."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tgfbench.methods._text import choose_encoder
from tgfbench.methods.colour import luma
from tgfbench.methods.mtgfusion.losses import fusion_losses
from tgfbench.methods.mtgfusion.method import ENCODER_OF_WIDTH
from tgfbench.methods.mtgfusion.network import MTGFusionNetwork, build_network
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
    """

    method = "mtgfusion"
    checkpoint_name = "mtgfusion-reconstruction"

    def __init__(
        self,
        text: Literal["none", "captions"] = "captions",
        text_encoder: str = "minilm",
        text_weights: str | None = None,
        window: int = 16,
    ) -> None:
        if text not in ("none", "captions"):
            raise ValueError(f"text is {text!r}; none or captions was expected")
        widths = {encoder: width for width, encoder in ENCODER_OF_WIDTH.items()}
        width = widths.get(text_encoder, 384)
        encoder = choose_encoder("MTG-Fusion", text_encoder, text_weights, width, {}) if text == "captions" else None
        self.text = OnePrompt(encoder, width)
        self.config = {"text_width": width, "window": [int(window)] * 2}

    def build(self) -> nn.Module:
        return build_network(**self.config)

    def card(self) -> dict[str, Any]:
        return {"loss": "stage 1, no text term", "text_encoder": self.text.identity}

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, MTGFusionNetwork)
        visible, infrared = luma(batch.visible), batch.infrared
        # One by one: the network has no mask for padding, every token counts.
        fused = [
            network.fused(visible=v[None], infrared=i[None], **self._tokens(batch, row, random, v.device))
            for row, (v, i) in enumerate(zip(visible, infrared, strict=True))
        ]
        return fusion_losses(torch.cat(fused), infrared, visible)

    def _tokens(
        self, batch: TrainingBatch, row: int, random: np.random.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        captions = batch.texts[row].captions
        prompt = str(random.choice(captions)) if captions else ""
        return {name: tokens.to(device) for name, tokens in self.text.tokens(batch.keys[row], prompt).items()}
