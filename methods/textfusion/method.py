"""TextFusion as a fusion method: the sentence's feature, the network, and what the authors do before and after it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.weights import Checkpoint, WeightsInfo
from tgfbench.methods._checkpoints import read_network, shipped_weights
from tgfbench.methods._native import NativeMethod
from tgfbench.methods._text import sentence_vectors, text_source
from tgfbench.methods.base import FusionBatch, MethodInfo, reported
from tgfbench.methods.colour import jfif_to_rgb, rgb_to_jfif
from tgfbench.methods.textfusion.fast import FastTextFusion
from tgfbench.methods.textfusion.network import SMALLEST, build_network

REPOSITORY = "https://github.com/AWCXV/TextFusion"
ENCODER_OF_WIDTH = {512: "clip", 384: "minilm"}
CLIP_ABSENT = {
    "found": "neither a text feature nor weights of the text encoder CLIP",
    "expected": "one of them: CLIP is not part of the checkpoint",
    "hint": "text_weights=FILE with the weights of OpenAI's CLIP ViT-B/32 (ViT-B-32.pt as the package 'clip' downloads "
    "it, open_clip's checkpoint of ViT-B-32-quickgelu, hub name timm/vit_base_patch32_clip_224.openai, or a checkpoint "
    "of Text-IF, which holds them), or text_features=FILE.npy with its text feature, float (1, 512), not normalised",
}


class TextFusion(NativeMethod):
    """Fusion of luma, in which a sentence scales what the infrared image adds.

    Args:
        checkpoint: the authors' file or one that ``tgfbench train textfusion`` wrote.
        device: where to compute.
        text_features: ``.npy`` file with the feature (1, D) of one sentence for all samples, or a folder with
            ``<sample key>.npy``; the prompts are then ignored.
        text_encoder: ``clip`` or ``minilm``; ``auto`` takes the one that has the network's text width.
        text_weights: of the text encoder; for CLIP a checkpoint of OpenAI's ViT-B/32.
        postprocess: ``authors`` rounds to 8 bits, as the authors do before they save; ``authors-jpeg`` also passes the
            image through the JPEG file they save (quality 75, 4:2:0); ``plain`` does neither.

    Raises:
        WeightsError: the checkpoint does not fit, or there is neither a text feature nor an encoder for it.
        DataError: no text features where they should be.
        UsageError: a text encoder of another width than the network's.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="textfusion",
        title="TextFusion",
        paper="TextFusion: Unveiling the Power of Textual Semantics for Controllable Image Fusion",
        venue="Information Fusion",
        year=2025,
        arxiv="2312.14209",
        licence="MIT",
        repository=REPOSITORY,
        text_use="test",
        text_role="caption",
        # The authors advise the empty description for comparisons with methods that take no text.
        default_text="",
        weights=(
            shipped_weights(Path(__file__).parent, "textfusion.safetensors", note="text width 384, the paper's is 512"),
            WeightsInfo(
                name="authors",
                origin="authors",
                url=f"{REPOSITORY}/blob/main/models/LLVIP_pretrained.model",
                sha256="4471c6c376b8f7c5d63b2766d0dd9f5c361c740e1dc937658ed418febcd7d657",
                licence="MIT",
                layout="torch file (347,072 bytes), a bare state dict of 55 float32 tensors; CLIP is not in it",
                get=f"take models/LLVIP_pretrained.model from {REPOSITORY} (commit f409874)",
                trained_on=("llvip (train, 2000 pairs with texts: IVT)",),
            ),
        ),
        trained_on=("llvip (train)",),
        # The paper's own tables are in no public repository.
        reported=(
            *reported(
                "re-test in PTFuse, IEEE IoT-J 2026",
                ("vif", "en", "sd", "sf", "ag", "ei"),
                {
                    "msrs": (0.8560, 6.6345, 44.3498, 10.6853, 3.4219, 39.5173),
                    "fmb": (0.8213, 6.5024, 29.5681, 14.4248, 4.2427, 48.0408),
                    "m3fd": (0.6510, 6.5874, 32.2531, 14.5583, 4.6458, 51.1245),
                },
            ),
            *reported("re-test in PTFuse, IEEE IoT-J 2026", ("ap50", "ap50:95"), {"m3fd": (0.849, 0.546)}),
            *reported(
                "re-test in PTFuse, IEEE IoT-J 2026, in per cent", ("miou",), {"fmb": (0.5392,), "msrs": (0.7694,)}
            ),
            *reported(
                "re-test in ControlFuse, AAAI 2026",
                ("en", "sd", "sf", "ag", "vif", "qabf"),
                {
                    "msrs": (5.87, 56.30, 11.31, 3.64, 1.06, 0.73),
                    "roadscene": (4.96, 54.61, 12.42, 4.55, 0.73, 0.53),
                    "m3fd": (6.13, 63.58, 15.62, 6.03, 0.85, 0.74),
                },
            ),
            *reported("re-test in MSGFusion, arXiv 2509.12901", ("ssim",), {"tno": (0.520,)}),
            *reported("re-test in MSGFusion, arXiv 2509.12901", ("ap50", "ap50:95"), {"llvip": (0.836, 0.508)}),
        ),
        tags=("native", "attention"),
    )

    text_tokens: ClassVar[int] = 1

    def __init__(
        self,
        checkpoint: Checkpoint | None = None,
        device: torch.device | str = "cpu",
        *,
        text_features: str | Path | None = None,
        text_encoder: str = "auto",
        text_weights: str | None = None,
        postprocess: Literal["authors", "authors-jpeg", "plain"] = "authors",
    ) -> None:
        super().__init__(checkpoint, device)
        network, _ = read_network(self.checkpoint.path, build_network)
        self.network = FastTextFusion(network.to(self.device))
        self.postprocess = postprocess
        width = network.config["text_width"]
        self.text = text_source(
            "TextFusion", text_features, text_encoder, text_weights, width, ENCODER_OF_WIDTH, CLIP_ABSENT
        )

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        """Fuse a batch; masks are ignored.

        Raises:
            DataError: an image too small for the network, or a text feature that does not fit.
        """
        height, width = batch.visible.shape[-2:]
        if min(height, width) < SMALLEST:
            doing = f"fusing {', '.join(batch.keys)} with TextFusion"
            raise DataError(doing, found=f"{width} x {height} pixels", expected=f"at least {SMALLEST} pixels a side")
        # The authors compute colour in float64 and hand float32 to the network.
        ycbcr = rgb_to_jfif(batch.visible.double())
        width = self.network.reference.config["text_width"]
        text = sentence_vectors(self.text, batch.keys, batch.texts, width).to(self.device)
        fused = self.network(visible=ycbcr[:, :1].clamp(0, 1).float(), infrared=batch.infrared, text_feature=text)
        rgb = jfif_to_rgb(torch.cat([fused.double(), ycbcr[:, 1:]], dim=1)).clamp_(0, 1)
        if self.postprocess != "plain":
            rgb = (rgb * 255).round() / 255
        if self.postprocess == "authors-jpeg":
            rgb = torch.stack([through_jpeg(image) for image in rgb])
        return rgb.float()


def through_jpeg(image: Tensor) -> Tensor:
    """Return (3, H, W) in [0, 1] as it comes back from a JPEG file of Pillow's default quality."""
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    decoded = torch.from_numpy(np.array(Image.open(file)))
    return (decoded.permute(2, 0, 1).to(image) / 255).contiguous()
