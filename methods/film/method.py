"""FILM as a fusion method: text features, the network, and what the authors do before and after it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tgfbench.benchmark.text import FeatureFiles
from tgfbench.benchmark.weights import Checkpoint, WeightsInfo
from tgfbench.methods._checkpoints import read_network, shipped_weights
from tgfbench.methods._native import NativeMethod
from tgfbench.methods._text import text_source
from tgfbench.methods.base import FusionBatch, MethodInfo, reported
from tgfbench.methods.colour import fuse_luma, luma
from tgfbench.methods.film.fast import FastFILM
from tgfbench.methods.film.network import build_network

REPOSITORY = "https://github.com/Zhaozixiang1228/IF-FILM"
ENCODER_OF_WIDTH = {768: "blip2-qformer", 384: "minilm"}
ENCODER_ABSENT = {
    "found": "neither text features nor a text encoder",
    "expected": "BLIP-2 text features: the network has no text encoder of its own",
    "hint": "text_features=FOLDER with <sample key>.npy, such as TextFeature/IVF/<dataset> of VLF "
    f"({REPOSITORY}), or text_weights=FOLDER with the BLIP-2 model Salesforce/blip2-itm-vit-g",
}
PRINTED = {
    "paper, Table 1": {
        "msrs": (6.72, 43.17, 11.70, 3.84, 1.06, 0.73),
        "m3fd": (7.09, 41.53, 16.77, 5.55, 0.83, 0.67),
        "roadscene": (7.43, 49.25, 17.34, 6.60, 0.69, 0.62),
    },
    "README of the repository": {
        "msrs": (6.72, 43.64, 11.55, 3.72, 1.06, 0.70),
        "m3fd": (7.09, 41.52, 16.77, 5.55, 0.83, 0.67),
        "roadscene": (7.43, 49.26, 17.33, 6.59, 0.69, 0.62),
    },
}
"""EN, SD, SF, AG, VIF and Qabf under the authors' evaluator, the protocol ``film``."""


class FILM(NativeMethod):
    """Fusion of grey images, steered by the token features of a text.

    The authors feed BLIP-2 features of two paragraphs, one about each image, joined along the tokens. Only the mean
    over the tokens of what each is answered enters, so a prompt that stands for both paragraphs need not be repeated.

    Args:
        checkpoint: the authors' file or one that ``tgfbench train film`` wrote.
        device: where to compute.
        text_features: folder with ``<sample key>.npy`` (as VLF's ``TextFeature`` folders), or one ``.npy`` for all
            samples; the prompts are then ignored.
        text_encoder: ``blip2-qformer`` or ``minilm``; ``auto`` takes the one that has the network's text width.
        text_weights: local folder or hub name of the BLIP-2 model.
        postprocess: ``authors`` stretches the fused image to the full range, truncates to 8 bits and stays grey;
            ``plain`` does none of this and joins the fused luma with the visible image's chroma.

    Raises:
        WeightsError: the checkpoint does not fit, or there are neither features nor an encoder for them.
        DataError: no text features where they should be.
        UsageError: a text encoder of another width than the network's.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="film",
        title="FILM",
        paper="Image Fusion via Vision-Language Model",
        venue="ICML",
        year=2024,
        arxiv="2402.02235",
        licence="none stated",
        repository=REPOSITORY,
        text_use="test",
        text_role="caption",
        default_text="an infrared and a visible image of a scene with people and cars",
        weights=(
            shipped_weights(Path(__file__).parent, "film.safetensors", note="text width 384, the paper's is 768"),
            WeightsInfo(
                name="authors",
                origin="authors",
                url=f"{REPOSITORY}/blob/main/models/IVF.pth",
                licence="none stated: not to be redistributed",
                layout="torch file; state dict in the entry 'model', every key with the prefix 'module.'; beside it "
                "'optimizer1', 'lr_schedule1', 'epoch' and 'step'. MIF.pth has the same content, MEF.pth and MFF.pth "
                "(other kinds of images) the same layout",
                get=f"take models/IVF.pth from {REPOSITORY} (commit 26a2f01)",
                trained_on=("msrs (train)",),
            ),
        ),
        trained_on=("msrs (train)",),
        reported=tuple(
            number
            for source, rows in PRINTED.items()
            for number in reported(source, ("en", "sd", "sf", "ag", "vif", "qabf"), rows)
        ),
        tags=("native", "attention"),
    )

    text_tokens: ClassVar[int] = 64

    def __init__(
        self,
        checkpoint: Checkpoint | None = None,
        device: torch.device | str = "cpu",
        *,
        text_features: str | Path | None = None,
        text_encoder: str = "auto",
        text_weights: str | None = None,
        postprocess: Literal["authors", "plain"] = "authors",
    ) -> None:
        super().__init__(checkpoint, device)
        network, _ = read_network(self.checkpoint.path, build_network)
        self.network = FastFILM(network.to(self.device))
        self.postprocess = postprocess
        width = network.config["text_width"]
        self.text = text_source(
            "FILM", text_features, text_encoder, text_weights, width, ENCODER_OF_WIDTH, ENCODER_ABSENT
        )

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        grey = rounded_grey(batch.visible)
        # One by one: texts differ in length, and the network has no mask for padding.
        fused = torch.cat(
            [
                self.network(
                    visible=grey[row : row + 1],
                    infrared=batch.infrared[row : row + 1],
                    text_feature=self._tokens(key, text),
                )
                for row, (key, text) in enumerate(zip(batch.keys, batch.texts, strict=True))
            ]
        )
        if self.postprocess == "authors":
            return stretched(fused).repeat(1, 3, 1, 1)
        return (fuse_luma(batch.visible, fused) * 255).round() / 255

    def _tokens(self, key: str, text: str) -> Tensor:
        if isinstance(self.text, FeatureFiles):
            return self.text.read(key)[None].to(self.device)
        return self.text.encode([text]).tokens.to(self.device)


def rounded_grey(visible: Tensor) -> Tensor:
    """Return the luma of (B, 3, H, W) in whole grey levels, (B, 1, H, W) in [0, 1]."""
    return luma((visible * 255).round()).round() / 255


def stretched(fused: Tensor) -> Tensor:
    """Return each image of (B, 1, H, W) stretched to [0, 1] and truncated to 8 bits; a constant image becomes black."""
    least, most = fused.amin(dim=(1, 2, 3), keepdim=True), fused.amax(dim=(1, 2, 3), keepdim=True)
    span = torch.where(most > least, most - least, torch.ones_like(most))
    return ((fused - least) / span * 255).floor() / 255
