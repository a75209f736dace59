"""Text-IF as a fusion method: the sentence's feature, the network, and what the authors do before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.text import CLIP_PREFIX, EmbeddedCLIP
from tgfbench.benchmark.weights import Checkpoint, WeightsInfo
from tgfbench.methods._checkpoints import fit_network, read_state, shipped_weights
from tgfbench.methods._native import NativeMethod
from tgfbench.methods._text import sentence_vectors, text_source
from tgfbench.methods.base import FusionBatch, MethodInfo, reported
from tgfbench.methods.text_if.fast import FastTextIF
from tgfbench.methods.text_if.network import TextIFNetwork, build_network

REPOSITORY = "https://github.com/XunpengYi/Text-IF"
LAYOUT = (
    "torch file; state dict in the entry 'model', CLIP ViT-B/32 in it under the prefix 'model_clip.' (image tower not "
    "needed); beside it 'optimizer', 'lr_scheduler', 'epoch' and 'args'"
)
ENCODER_OF_WIDTH = {512: "clip", 384: "minilm"}
CLIP_ABSENT = {
    "found": "neither a text feature nor weights of the text encoder CLIP",
    "expected": f"one of them: this checkpoint holds no CLIP (names with the prefix {CLIP_PREFIX})",
    "hint": "text_weights=FILE with the weights of OpenAI's CLIP ViT-B/32, or text_features=FILE.npy with its text "
    "feature, float (1, 512), not normalised",
}
NEUTRAL = "fuse the infrared and the visible light image"
MULTIPLE = 16
"""The authors reduce both sides to multiples of this."""


def _entry(name: str, what: str, drive: str, baidu: str, code: str, trained_on: str) -> WeightsInfo:
    """Return the catalogue entry of one of the authors' files."""
    url = f"https://drive.google.com/file/d/{drive}"
    return WeightsInfo(
        name=name.replace("_", "-"),
        origin="authors",
        url=url,
        licence="MIT",
        layout=LAYOUT,
        get=f"download {name}.pth ({what}) from {url} (Baidu {baidu}, code {code}), linked from {REPOSITORY}",
        trained_on=(trained_on,) if trained_on else (),
    )


class TextIF(NativeMethod):
    """Fusion in colour that mends the degradation named by a sentence.

    An empty prompt stands for the neutral sentence, under which nothing is mended.

    Args:
        checkpoint: an authors' file or one that ``tgfbench train text-if`` wrote.
        device: where to compute.
        text_features: ``.npy`` file with the feature (1, D) of one sentence for all samples, or a folder with
            ``<sample key>.npy``; the prompts are then ignored.
        text_encoder: ``clip`` or ``minilm``; ``auto`` takes the CLIP in the checkpoint, or the encoder that has the
            network's text width.
        text_weights: of the text encoder, where the checkpoint holds none; for CLIP a file of OpenAI's ViT-B/32.
        postprocess: ``authors`` reduces both sides to multiples of 16, stretches the fused image to the full range and
            rounds to 8 bits, as the authors do before they save, then enlarges it to the size of the input, which the
            authors do not; ``plain`` continues the images by their borders instead and does not stretch.

    Raises:
        WeightsError: the checkpoint does not fit, or there is neither a text feature nor an encoder for it.
        DataError: no text features where they should be.
        UsageError: a text encoder of another width than the network's.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="text-if",
        title="Text-IF",
        paper="Text-IF: Leveraging Semantic Text Guidance for Degradation-Aware and Interactive Image Fusion",
        venue="CVPR",
        year=2024,
        arxiv="2403.16387",
        licence="MIT",
        repository=REPOSITORY,
        text_use="test",
        text_role="instruction",
        # The authors advise a sentence without degradation for comparisons with methods that take no text.
        default_text=NEUTRAL,
        weights=(
            shipped_weights(
                Path(__file__).parent,
                "text-if-small.safetensors",
                name="small",
                note="small configuration (8 channels, the paper's has 48; text width 384, the paper's is 512)",
            ),
            _entry(
                "text_fusion",
                "low light, over-exposure, infrared low contrast and noise",
                "13yYzMUV_EXu-y2Yb82rDy0MmzPcGqGCY",
                "1VdedSkychRRxkUP-fbRiYw",
                "cgrm",
                "ems-lite (train)",
            ),
            _entry(
                "simple_fusion",
                "fusion without restoration",
                "1B_xOgS3SYIiTRGX2sZJ-0Vckbc76yXDQ",
                "1iMtAUaetvSS4Upf8BWIE8w",
                "nh9y",
                "",
            ),
            _entry(
                "text_fusion_power",
                "nine degradations; the authors advise it only where many kinds occur",
                "1jstLiOp-ZBppz_vZhyG55YeUYFLyOdrP",
                "1wydIlgurftN5tyCa6Nt7mg",
                "rwth",
                "ems-full (train)",
            ),
        ),
        trained_on=("ems-lite (train)",),
        # The paper's own tables are in no public repository.
        reported=(
            *reported(
                "re-test in PTFuse, IEEE IoT-J 2026",
                ("vif", "en", "sd", "sf", "ag", "ei"),
                {
                    "msrs": (1.0775, 6.7866, 42.9689, 11.4112, 3.7790, 42.0606),
                    "fmb": (0.9353, 6.6954, 35.0029, 12.9427, 4.0058, 45.4567),
                    "m3fd": (0.8884, 6.8927, 36.3843, 14.4388, 4.8766, 53.3129),
                },
            ),
            *reported("re-test in PTFuse, IEEE IoT-J 2026", ("ap50", "ap50:95"), {"m3fd": (0.862, 0.574)}),
            *reported(
                "re-test in PTFuse, IEEE IoT-J 2026, in per cent", ("miou",), {"fmb": (0.5783,), "msrs": (0.7748,)}
            ),
            *reported(
                "re-test in ControlFusion, NeurIPS 2025",
                ("en", "sd", "vif", "qabf"),
                {
                    "msrs": (6.619, 55.881, 0.753, 0.656),
                    "llvip": (6.364, 49.868, 0.859, 0.566),
                    "roadscene": (6.836, 47.596, 0.634, 0.609),
                    "fmb": (7.397, 47.726, 0.568, 0.528),
                },
            ),
            *reported(
                "re-test in ControlFusion, NeurIPS 2025",
                ("precision", "recall", "ap50", "ap75", "ap50:95"),
                {"llvip": (0.959, 0.892, 0.939, 0.655, 0.601)},
            ),
            *reported(
                "re-test in ControlFuse, AAAI 2026",
                ("en", "sd", "sf", "ag", "vif", "qabf"),
                {
                    "msrs": (5.91, 59.61, 11.24, 3.66, 1.02, 0.71),
                    "roadscene": (4.94, 52.09, 12.53, 4.61, 0.71, 0.52),
                    "m3fd": (6.11, 64.21, 15.53, 6.30, 0.88, 0.74),
                },
            ),
            *reported(
                "re-test in TITA, ICCV 2025", ("mi", "fmi", "qabf", "vif"), {"llvip": (3.322, 0.892, 0.684, 0.932)}
            ),
            *reported(
                "re-test in CCF",
                ("ssim", "mse", "cc", "psnr", "nabf"),
                {"llvip": (1.20, 2135, 0.669, 31.97, 0.023)},
            ),
            *reported("re-test in MagicFuse, in per cent", ("miou",), {"mfnet": (0.6065,)}),
            *reported(
                "re-test in HARMONIA's repository",
                ("qabf", "mi"),
                {"msrs": (0.691, 3.891), "llvip": (0.573, 3.422)},
            ),
        ),
        tags=("native", "attention", "restoration"),
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
        postprocess: Literal["authors", "plain"] = "authors",
    ) -> None:
        super().__init__(checkpoint, device)
        network, clip = read_parts(self.checkpoint.path)
        self.network = FastTextIF(network.to(self.device))
        self.postprocess = postprocess
        width = network.config["text_width"]
        if clip and text_features is None and text_weights is None and text_encoder in ("auto", "clip"):
            self.text = EmbeddedCLIP(clip, self.checkpoint)
        else:
            self.text = text_source(
                "Text-IF", text_features, text_encoder, text_weights, width, ENCODER_OF_WIDTH, CLIP_ABSENT
            )

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        """Fuse a batch; masks are ignored.

        Raises:
            DataError: an image too small for the network, or a text feature that does not fit.
        """
        height, width = batch.visible.shape[-2:]
        if self.postprocess == "authors":
            return resized(self.saved(batch), (height, width))
        margins = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        visible, infrared = (F.pad(image, margins, mode="replicate") for image in (batch.visible, batch.infrared))
        fused = self.network(visible=visible, infrared=infrared, text_feature=self._features(batch))
        return (fused[..., :height, :width].clamp(0, 1) * 255).round_() / 255

    @torch.inference_mode()
    def saved(self, batch: FusionBatch) -> Tensor:
        """Return the images that the authors save: float32 (B, 3, H', W'), sides reduced to multiples of 16.

        Raises:
            DataError: as for ``fuse``.
        """
        height, width = batch.visible.shape[-2:]
        if min(height, width) < MULTIPLE:
            doing = f"fusing {', '.join(batch.keys)} with Text-IF"
            raise DataError(doing, found=f"{width} x {height} pixels", expected=f"at least {MULTIPLE} pixels a side")
        size = (height - height % MULTIPLE, width - width % MULTIPLE)
        visible, infrared = (resized(image, size) for image in (batch.visible, batch.infrared))
        return stretched(self.network(visible=visible, infrared=infrared, text_feature=self._features(batch)))

    def _features(self, batch: FusionBatch) -> Tensor:
        """Return (B, D)."""
        texts = [text.strip() or NEUTRAL for text in batch.texts]
        return sentence_vectors(self.text, batch.keys, texts, self.network.reference.config["text_width"]).to(
            self.device
        )


def read_parts(path: Path) -> tuple[TextIFNetwork, dict[str, Tensor]]:
    """Return the network of a checkpoint, in eval mode, and the tensors of the CLIP in it ({} without one).

    Raises:
        WeightsError: unreadable, an unusable configuration, or tensors that do not fit the network.
    """
    state, config, _ = read_state(path)
    clip = {}
    if isinstance(state, Mapping):
        names = [str(name) for name in state]
        clip = {name.removeprefix(CLIP_PREFIX): state[name] for name in names if name.startswith(CLIP_PREFIX)}
        state = {name: state[name] for name in names if not name.startswith(CLIP_PREFIX)}
    return fit_network(path, build_network, config, state), clip


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return 8-bit images (B, C, H, W) in [0, 1] in another size, as Pillow resizes them (bicubic, antialiased)."""
    if tuple(images.shape[-2:]) == size:
        return images
    planes = (images * 255).round().to(torch.uint8).cpu().flatten(0, 1).numpy()
    # Pillow resizes each channel by itself.
    scaled = np.stack([np.asarray(Image.fromarray(plane).resize(size[::-1])) for plane in planes])
    return torch.from_numpy(scaled).view(*images.shape[:2], *size).to(images) / 255


def stretched(fused: Tensor) -> Tensor:
    """Return (B, 3, H, W), clamped, each image stretched to the full range and rounded; a constant one becomes black.

    Least and greatest value are those over all pixels and channels.
    """
    fused = fused.clamp(0, 1)
    least, most = (extreme(fused, (1, 2, 3), keepdim=True).double() for extreme in (torch.amin, torch.amax))
    factor = torch.where(most > least, 255 / (most - least), torch.zeros_like(most))
    return ((fused * factor - least * factor).float().round() / 255).clamp_(0, 1)
