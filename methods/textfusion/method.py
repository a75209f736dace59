"""TextFusion as a fusion method: the sentence's feature, the network, and what the authors do before and after it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.benchmark.text import FeatureFiles, TextEncoder, load_text_encoder
from tgfbench.benchmark.weights import Checkpoint, WeightsInfo
from tgfbench.methods._checkpoints import read_network, shipped_weights
from tgfbench.methods._text import choose_encoder
from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo
from tgfbench.methods.colour import jfif_to_rgb, rgb_to_jfif
from tgfbench.methods.textfusion.fast import FastTextFusion
from tgfbench.methods.textfusion.network import SMALLEST, build_network

if TYPE_CHECKING:
    from tgfbench.methods.textfusion.objective import TextFusionObjective

REPOSITORY = "https://github.com/AWCXV/TextFusion"
CLIP_WIDTH, CLIP_ARCHITECTURE = 512, "ViT-B-32-quickgelu"
ENCODER_OF_WIDTH = {CLIP_WIDTH: "clip", 384: "minilm"}
HOW_TO_GET_CLIP = (
    "text_weights=FILE with the weights of OpenAI's CLIP ViT-B/32 (ViT-B-32.pt as the package 'clip' downloads it, or "
    "open_clip's checkpoint of ViT-B-32-quickgelu, hub name timm/vit_base_patch32_clip_224.openai), or "
    "text_features=FILE.npy with its text feature, float (1, 512), not normalised"
)


class TextFusion(FusionMethod):
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
        tags=("native", "attention"),
    )

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
        if checkpoint is None:
            hint = "use load_method('textfusion') for the shipped ones"
            raise WeightsError("loading TextFusion", found="no weights", hint=hint)
        network, _ = read_network(checkpoint.path, build_network)
        self.network = network.to(self.device)
        self.postprocess = postprocess
        self._fuse = FastTextFusion(self.network)
        self.text = text_source(network.config["text_width"], text_features, text_encoder, text_weights)

    @classmethod
    def objective(cls, **options: Any) -> TextFusionObjective:
        """Return what ``tgfbench train textfusion`` minimises; the options are those of ``TextFusionObjective``."""
        from tgfbench.methods.textfusion.objective import TextFusionObjective

        return TextFusionObjective(**options)

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
        text = self._features(batch).to(self.device)
        fused = self._fuse(visible=ycbcr[:, :1].clamp(0, 1).float(), infrared=batch.infrared, text_feature=text)
        rgb = jfif_to_rgb(torch.cat([fused.double(), ycbcr[:, 1:]], dim=1)).clamp_(0, 1)
        if self.postprocess != "plain":
            rgb = (rgb * 255).round() / 255
        if self.postprocess == "authors-jpeg":
            rgb = torch.stack([through_jpeg(image) for image in rgb])
        return rgb.float()

    def _features(self, batch: FusionBatch) -> Tensor:
        """Return (B, D)."""
        width = self.network.config["text_width"]
        if not isinstance(self.text, FeatureFiles):
            pooled = self.text.encode(batch.texts).pooled
            if pooled.shape[1] != width:
                found = f"{self.text.identity} with features of width {pooled.shape[1]}"
                raise UsageError("encoding texts for TextFusion", found=found, expected=f"width {width}")
            return pooled
        features = [self.text.read(key) for key in batch.keys]
        for key, feature in zip(batch.keys, features, strict=True):
            if len(feature) != 1:
                doing, found = f"reading the text feature of {key} from {self.text.path}", f"{len(feature)} vectors"
                raise DataError(doing, found=found, expected=f"one sentence's feature, float (1, {width})")
        return torch.cat(features)

    def provenance(self) -> dict[str, Any]:
        return {"postprocess": self.postprocess, "text": self.text.identity, "network": self.network.config}


def text_source(
    width: int, features: str | Path | None, encoder: str, weights: str | None
) -> FeatureFiles | TextEncoder:
    """Return where the text features of that width come from.

    Raises:
        WeightsError: there are neither features nor weights of an encoder; says how to get them.
        DataError, UsageError: as for ``TextFusion``.
    """
    if features is not None:
        return FeatureFiles(features, width)
    if encoder == "auto":
        encoder = ENCODER_OF_WIDTH.get(width, encoder)
    if encoder != "clip":
        return choose_encoder("TextFusion", encoder, weights, width, ENCODER_OF_WIDTH)
    if weights is None:
        raise WeightsError(
            "loading TextFusion",
            found="neither a text feature nor weights of the text encoder CLIP",
            expected="one of them: CLIP is not part of the checkpoint",
            hint=HOW_TO_GET_CLIP,
        )
    return load_text_encoder("clip", weights=weights, architecture=CLIP_ARCHITECTURE)


def through_jpeg(image: Tensor) -> Tensor:
    """Return (3, H, W) in [0, 1] as it comes back from a JPEG file of Pillow's default quality."""
    pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    decoded = torch.from_numpy(np.array(Image.open(file)))
    return (decoded.permute(2, 0, 1).to(image) / 255).contiguous()
