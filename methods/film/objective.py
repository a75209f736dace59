"""What ``tgfbench train film`` minimises."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tgfbench.benchmark.text import FeatureFiles
from tgfbench.methods._text import choose_encoder
from tgfbench.methods.colour import luma
from tgfbench.methods.film.fast import mean_answer
from tgfbench.methods.film.losses import GRADIENT_WEIGHT, SSIM_WEIGHT, fusion_losses
from tgfbench.methods.film.method import ENCODER_OF_WIDTH
from tgfbench.methods.film.network import CrossAttention, FILMNetwork, build_network
from tgfbench.methods.objective import Objective, TrainingBatch


class PooledCrossAttention(CrossAttention):
    """Cross-attention whose answer is averaged over the text tokens, all that the network uses of it."""

    def forward(self, text: Tensor, tokens: Tensor) -> Tensor:
        """Return (B, 1, D)."""
        answers = [mean_answer(self.multihead_attn, *pair) for pair in zip(text, tokens, strict=True)]
        return torch.stack(answers)[:, None]


class FILMObjective(Objective):
    """Builds FILM and computes its training loss.

    Args:
        text_features: ready-made features, as for the method; None encodes the captions of a pair, one drawn each time.
        text_encoder: ``minilm`` (the network then has text width 384) or ``blip2-qformer``.
        text_weights: of the text encoder, where it needs any.
        gradient_weight, ssim_weight: of the loss.
    """

    method = "film"
    checkpoint_name = "film"

    def __init__(
        self,
        text_features: str | None = None,
        text_encoder: str = "minilm",
        text_weights: str | None = None,
        gradient_weight: float = GRADIENT_WEIGHT,
        ssim_weight: float = SSIM_WEIGHT,
    ) -> None:
        widths = {encoder: width for width, encoder in ENCODER_OF_WIDTH.items()}
        width = 768 if text_features else widths.get(text_encoder, 384)
        self.files = FeatureFiles(text_features, width) if text_features else None
        self.encoder = choose_encoder("FILM", text_encoder, text_weights, width, {}) if not self.files else None
        self.config = {"text_width": width}
        self.weights = {"gradient_weight": float(gradient_weight), "ssim_weight": float(ssim_weight)}

    def build(self) -> nn.Module:
        network = build_network(**self.config)
        for stage in network.stages:
            # The same parameters and result at a fraction of the cost, which the grid's 13,824 tokens would dominate.
            stage.cross_attentionA1 = PooledCrossAttention(network.config["hidden_dim"])
            stage.cross_attentionA2 = PooledCrossAttention(network.config["hidden_dim"])
        return network

    def card(self) -> dict[str, Any]:
        source = self.files or self.encoder
        return {"loss": self.weights, "text": source.identity if source else ""}

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        assert isinstance(network, FILMNetwork)
        visible, infrared = luma(batch.visible), batch.infrared
        # One by one: the network has no mask for padding, every token counts.
        fused = [
            network(visible=v[None], infrared=i[None], text_feature=self._tokens(batch, row, random).to(v.device))
            for row, (v, i) in enumerate(zip(visible, infrared, strict=True))
        ]
        return fusion_losses(torch.cat(fused), infrared, visible, **self.weights)

    def _tokens(self, batch: TrainingBatch, row: int, random: np.random.Generator) -> Tensor:
        if self.files:
            return self.files.read(batch.keys[row].partition("/")[2])[None]
        captions = batch.texts[row].captions
        text = str(random.choice(captions)) if captions else ""
        assert self.encoder is not None
        return self.encoder.encode([text]).tokens
