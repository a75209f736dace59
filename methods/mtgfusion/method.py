"""MTG-Fusion as a fusion method: five texts, the network, and what happens before and after it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.weights import Checkpoint, WeightsInfo
from tgfbench.methods._checkpoints import read_network, shipped_weights
from tgfbench.methods._native import NativeMethod
from tgfbench.methods._text import choose_encoder
from tgfbench.methods.base import FusionBatch, MethodInfo, reported
from tgfbench.methods.colour import fuse_luma, luma
from tgfbench.methods.mtgfusion.fast import FastMTGFusion
from tgfbench.methods.mtgfusion.network import build_network
from tgfbench.methods.mtgfusion.texts import FOLDERS, Features, OnePrompt, TextFiles

REPOSITORY = "https://github.com/zhaolb4080/MTG-Fusion"
ENCODER_OF_WIDTH = {768: "blip", 384: "minilm"}
ENCODER_ABSENT = {
    "found": "neither text features nor a text encoder",
    "expected": "BLIP text features: the network has no text encoder of its own",
    "hint": "text_weights=FOLDER with the BLIP model Salesforce/blip-itm-base-coco, text_features=FOLDER with "
    f"<sample key>.npy in each of {', '.join(FOLDERS.values())}, or text_encoder=none for no text",
}
RETESTED = {
    "msrs": (5.98, 61.44, 11.60, 4.05, 1.08, 0.72),
    "roadscene": (5.05, 55.35, 13.18, 4.90, 0.81, 0.59),
    "m3fd": (6.21, 67.89, 16.68, 6.57, 0.91, 0.78),
}
"""EN, SD, SF, AG, VIF and Qabf of MTG-Fusion as another paper measured them."""


class MTGFusion(NativeMethod):
    """Fusion of luma, guided by texts about each image, about what both show and about what only one shows.

    Args:
        checkpoint: a state dict of the network, or a file that ``tgfbench train mtgfusion`` wrote.
        device: where to compute.
        text_features: folder with the subfolders ``text_ir``, ``text_vi``, ``text_ir_vi_common``, ``text_irunique``
            and ``text_viunique``, each holding ``<sample key>.npy`` with token features; prompts are then ignored.
        text_files: folder of that layout with ``<sample key>.txt``, as the authors publish their texts.
        text_encoder: ``blip`` or ``minilm``; ``auto`` takes the one that has the network's text width; ``none`` feeds
            zeros. Without features and text files a prompt stands for all five texts, and the empty one for zeros.
        text_weights: local folder or hub name of the BLIP model.
        window: side of the attention windows in pixels, ``none`` for full attention, whose cost grows with the square
            of the number of pixels; ``auto`` takes the checkpoint's, or 16 where it names none.
        postprocess: ``plain`` joins the fused luma with the visible image's chroma; ``authors`` stays grey, as the
            release does. Both clamp to [0, 1] and round to 8 bits.

    Raises:
        WeightsError: the checkpoint does not fit, or there are neither features nor an encoder for them.
        DataError: no texts or text features where they should be.
        UsageError: a text encoder of another width than the network's, or options that exclude each other.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="mtgfusion",
        title="MTG-Fusion",
        paper="Multi-Text Guidance Is Important: Multi-Modality Image Fusion via Large Generative Vision-Language "
        "Model",
        venue="International Journal of Computer Vision",
        year=2025,
        licence="none stated",
        repository=REPOSITORY,
        text_use="test",
        text_role="caption",
        default_text="",
        weights=(
            shipped_weights(
                Path(__file__).parent, "mtgfusion.safetensors", note="text width 384 (BLIP: 768), windows of 8 x 8"
            ),
            WeightsInfo(
                name="authors",
                origin="authors",
                url=REPOSITORY,
                licence="none stated",
                layout="not known: the repository's .pth files are empty placeholders. Expected: a torch file with a "
                "state dict, bare or in the entry 'model', prefixes visual, shared, tgce, tgsf, recon and text_in",
                get=f"the authors have not published weights ({REPOSITORY}, commit 16ebd74): ask them, or train your "
                "own with tgfbench train mtgfusion",
            ),
        ),
        reconstruction=True,
        reported=reported("re-test in ControlFuse, AAAI 2026", ("en", "sd", "sf", "ag", "vif", "qabf"), RETESTED),
        tags=("native", "attention"),
    )

    text_tokens: ClassVar[int] = 32
    text_folders: ClassVar[tuple[str, ...]] = tuple(FOLDERS.values())

    def __init__(
        self,
        checkpoint: Checkpoint | None = None,
        device: torch.device | str = "cpu",
        *,
        text_features: str | Path | None = None,
        text_files: str | Path | None = None,
        text_encoder: str = "auto",
        text_weights: str | None = None,
        window: int | Literal["auto"] | None = "auto",
        postprocess: Literal["plain", "authors"] = "plain",
    ) -> None:
        super().__init__(checkpoint, device)
        if isinstance(window, int) and window < 1:
            doing, expected = "setting the options of mtgfusion", "at least 1, auto or none"
            raise UsageError(doing, found=f"window={window}", expected=expected)
        network, _ = read_network(self.checkpoint.path, build_network)
        self.network = FastMTGFusion(network.to(self.device))
        if window != "auto" or network.config["window"] is None:
            network.set_window(None if window is None else (16, 16) if window == "auto" else (window, window))
        self.postprocess = postprocess
        self.text = text_source(network.config["text_width"], text_features, text_files, text_encoder, text_weights)

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        grey = luma(batch.visible)
        # One by one: texts differ in length, and the network has no mask for padding.
        fused = [
            self.network(
                visible=grey[row : row + 1],
                infrared=batch.infrared[row : row + 1],
                **{name: tokens.to(self.device) for name, tokens in self.text.tokens(key, text).items()},
            )
            for row, (key, text) in enumerate(zip(batch.keys, batch.texts, strict=True))
        ]
        luminance = torch.cat(fused).clamp(0, 1)
        authors = self.postprocess == "authors"
        rgb = luminance.repeat(1, 3, 1, 1) if authors else fuse_luma(batch.visible, luminance)
        return (rgb * 255).round() / 255


def text_source(
    width: int,
    features: str | Path | None,
    files: str | Path | None,
    encoder: str,
    weights: str | None,
) -> Features | TextFiles | OnePrompt:
    """Return where the five texts of a pair come from.

    Raises:
        WeightsError: there are neither features nor weights of an encoder; says how to get them.
        DataError, UsageError: as for ``MTGFusion``.
    """
    if features is not None and files is not None:
        given = "both text_features and text_files"
        raise UsageError("choosing the texts of MTG-Fusion", found=given, expected="one of them")
    if features is not None:
        return Features(features, width)
    if encoder == "none" and files is None:
        return OnePrompt(None, width)
    chosen = choose_encoder("MTG-Fusion", encoder, weights, width, ENCODER_OF_WIDTH, ENCODER_ABSENT)
    return OnePrompt(chosen, width) if files is None else TextFiles(files, chosen)
