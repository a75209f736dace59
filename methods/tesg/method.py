"""TeSG as a fusion method: SIG, the network, and the colour handling around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.benchmark.options import check_options
from tgfbench.benchmark.text import ENCODERS, TextEncoder, load_text_encoder
from tgfbench.benchmark.weights import Checkpoint, load_strict, read_checkpoint
from tgfbench.methods._checkpoints import shipped_weights
from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo
from tgfbench.methods.colour import fuse_luma, luma
from tgfbench.methods.tesg.fast import FastTeSG
from tgfbench.methods.tesg.network import SIZES, TeSGNetwork, build_network
from tgfbench.methods.tesg.sig import load_mask_source

if TYPE_CHECKING:
    from tgfbench.methods.tesg.objective import TeSGObjective

ENCODER_OF_WIDTH = {384: "minilm", 512: "clip"}


class TeSG(FusionMethod):
    """Mask-guided cross-attention and text-driven attentional fusion of luma; the chroma is the visible image's.

    Args:
        checkpoint: weights with their network's configuration.
        device: where to compute.
        mask_source: ``auto`` (masks that come with the images, else saliency), ``given``, ``saliency``, ``none``,
            ``clipseg`` or ``grounded-sam``.
        mask_weights: local folder of the last two; None looks in the Hugging Face cache.
        text_encoder: ``minilm`` or ``clip``; ``auto`` takes the one that has the network's text width.
        text_weights: local checkpoint of the text encoder, where it needs one.

    Raises:
        WeightsError: the checkpoint fits no TeSG network, or a text encoder or mask source lacks its weights.
        UsageError: no such mask source or text encoder.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="tesg",
        title="TeSG",
        paper="TeSG: Textual Semantic Guidance for Infrared and Visible Image Fusion",
        venue="arXiv",
        year=2025,
        arxiv="2506.16730",
        text_use="test",
        text_role="caption",
        default_text="people and cars",
        weights=(shipped_weights(Path(__file__).parent, "tesg.safetensors"),),
        reconstruction=True,
        version=2,
        tags=("native", "mask", "attention"),
    )

    def __init__(
        self,
        checkpoint: Checkpoint | None = None,
        device: torch.device | str = "cpu",
        *,
        mask_source: str = "auto",
        mask_weights: str | None = None,
        text_encoder: str = "auto",
        text_weights: str | None = None,
    ) -> None:
        super().__init__(checkpoint, device)
        if checkpoint is None:
            raise WeightsError("loading TeSG", found="no weights", hint="use load_method('tesg') for the shipped ones")
        self.network = FastTeSG(load_network(checkpoint.path).to(self.device).eval())
        self.mask_source = load_mask_source(mask_source, mask_weights, self.device)
        self.encoder = _encoder(text_encoder, text_weights, self.network.reference.config["text_width"])

    @classmethod
    def objective(cls, **options: Any) -> TeSGObjective:
        """Return what ``tgfbench train tesg`` minimises; the options are those of ``TeSGObjective``."""
        from tgfbench.methods.tesg.objective import TeSGObjective

        return TeSGObjective(**check_options("setting the training options of tesg", TeSGObjective, options, ()))

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        y, masks = luma(batch.visible), self.mask_source.masks(batch)
        # One by one: kernels round differently for other batch sizes, and an image must not depend on its neighbours.
        fused = [
            self.network(
                visible=y[row : row + 1],
                infrared=batch.infrared[row : row + 1],
                mask=None if masks is None else masks[row : row + 1],
                **self._text(text),
            )
            for row, text in enumerate(batch.texts)
        ]
        return (fuse_luma(batch.visible, torch.cat(fused)) * 255).round() / 255

    def _text(self, text: str) -> dict[str, Tensor]:
        """Return the network's text inputs for a prompt, none for the empty one."""
        if not text:
            return {}
        features = self.encoder.encode([text]).to(self.device)
        return {"tokens": features.tokens, "pooled": features.pooled, "valid": features.valid}

    def provenance(self) -> dict[str, Any]:
        config = self.network.reference.config
        return {**self.mask_source.describe(), "text_encoder": self.encoder.identity, "network": config}


def load_network(path: Path) -> TeSGNetwork:
    """Return the network of a checkpoint.

    Args:
        path: safetensors with ``config`` in the metadata, or a torch file ``{"model": state dict, "config": {...}}``.

    Raises:
        WeightsError: another layout, an unusable configuration, or tensors that do not fit it.
    """
    content, metadata = read_checkpoint(path)
    state, config = (content, metadata.get("config")) if metadata else (None, None)
    if isinstance(content, Mapping) and "model" in content:
        state, config = content["model"], content.get("config")
    doing = f"loading {path} into TeSG"
    if state is None or not isinstance(config, Mapping):
        raise WeightsError(
            doing,
            found="no network configuration",
            expected="safetensors with 'config' in the metadata, or a torch file {'model': tensors, 'config': {...}}",
            hint="train with `tgfbench train tesg`, which writes both",
        )
    try:
        network = build_network(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        expected = f"arguments of build_network, e.g. {{'size': 'tiny', 'text_width': 384}} (sizes: {', '.join(SIZES)})"
        raise WeightsError(doing, found=f"the configuration {dict(config)}: {error}", expected=expected) from error
    load_strict(network, state, path)
    return network


def _encoder(name: str, weights: str | None, width: int) -> TextEncoder:
    doing = "choosing TeSG's text encoder"
    if name == "auto":
        if width not in ENCODER_OF_WIDTH:
            expected = ", ".join(f"{known} ({encoder})" for known, encoder in ENCODER_OF_WIDTH.items())
            raise UsageError(
                doing, found=f"a network of text width {width}", expected=expected, hint="name text_encoder"
            )
        name = ENCODER_OF_WIDTH[width]
    encoder = load_text_encoder(name, **({"weights": weights} if weights or name == "clip" else {}))
    if encoder.width != width:
        known = " or ".join(ENCODERS)
        found = f"{name} of width {encoder.width} for a network of text width {width}"
        raise UsageError(doing, found=found, expected=f"an encoder of that width ({known})")
    return encoder
