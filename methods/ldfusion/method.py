"""LDFusion as a fusion method: two checkpoint files, the network, and what the authors do before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tgfbench.benchmark.errors import DataError, WeightsError
from tgfbench.benchmark.weights import Checkpoint, WeightsInfo, load_strict, sha256_of
from tgfbench.methods._checkpoints import fit_network, read_state, shipped_weights
from tgfbench.methods._native import NativeMethod
from tgfbench.methods.base import FusionBatch, MethodInfo
from tgfbench.methods.colour import fuse_luma, luma
from tgfbench.methods.ldfusion.fast import FastLDFusion
from tgfbench.methods.ldfusion.network import SMALLEST, LDFusionNetwork, build_network

REPOSITORY = "https://github.com/wyhlaowang/LDFusion"
PARTS = {"Enc": "content_encoder1.", "Dec": "model_local."}
"""Beginning of a key by which the authors' encoder and decoder files are told apart."""


class LDFusion(NativeMethod):
    """Fusion of luma by a network that was trained with language in the loss; prompts are ignored.

    Args:
        checkpoint: ``Enc_final.pt`` or ``Dec_final.pt`` of the authors, the other one lying beside it, or one file of
            ``tgfbench train ldfusion``.
        device: where to compute.
        postprocess: ``authors`` truncates to 8 bits, ``plain`` does not (truncation darkens by half a grey level).

    Raises:
        WeightsError: a checkpoint does not fit, or the second file is missing.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="ldfusion",
        title="LDFusion",
        paper="Infrared and Visible Image Fusion with Language-Driven Loss in CLIP Embedding Space",
        venue="ACM Multimedia",
        year=2025,
        arxiv="2402.16267",
        licence="Apache-2.0",
        repository=REPOSITORY,
        text_use="train",
        weights=(
            shipped_weights(
                Path(__file__).parent,
                "ldfusion-small.safetensors",
                name="small",
                note="small configuration (8 channels, 2 halvings; the paper's has 16 and 3); no language in the loss",
            ),
            WeightsInfo(
                name="authors",
                origin="authors",
                url=f"{REPOSITORY}/tree/main/weight",
                licence="Apache-2.0",
                layout="two torch files, Enc_final.pt (7.0 MB) and Dec_final.pt (16.1 MB), each a bare state dict; "
                "--weights names one, the other lies beside it",
                get=f"take weight/Enc_final.pt and weight/Dec_final.pt from {REPOSITORY} (commit 3173ffb), one folder",
                trained_on=("infrared and visible pairs of the authors' own",),
            ),
        ),
        tags=("native", "language in the loss"),
    )

    def __init__(
        self,
        checkpoint: Checkpoint | None = None,
        device: torch.device | str = "cpu",
        *,
        postprocess: Literal["authors", "plain"] = "authors",
    ) -> None:
        super().__init__(checkpoint, device)
        network, self._partner = read_parts(self.checkpoint.path)
        self.network = FastLDFusion(network.to(self.device))
        self.postprocess = postprocess

    @torch.inference_mode()
    def fuse(self, batch: FusionBatch) -> Tensor:
        """Fuse a batch; texts and masks are ignored.

        Raises:
            DataError: an image too small for the network.
        """
        height, width = batch.visible.shape[-2:]
        if min(height, width) < SMALLEST:
            doing = f"fusing {', '.join(batch.keys)} with LDFusion"
            raise DataError(doing, found=f"{width} x {height} pixels", expected=f"at least {SMALLEST} pixels a side")
        fused = self.network(visible=luma(batch.visible), infrared=batch.infrared).clamp_(0, 1)
        rgb = fuse_luma(batch.visible, fused)
        return (rgb * 255).floor() / 255 if self.postprocess == "authors" else rgb

    def provenance(self) -> dict[str, Any]:
        partner = {"second_file_sha256": sha256_of(self._partner)} if self._partner else {}
        return {**super().provenance(), **partner}


def read_parts(path: Path) -> tuple[LDFusionNetwork, Path | None]:
    """Return the network, in eval mode, of a whole checkpoint or of an encoder and a decoder file.

    Args:
        path: either file, its name containing ``Enc`` or ``Dec``, or a file with both.

    Returns:
        The network and the second file, None where ``path`` holds everything.

    Raises:
        WeightsError: a file is missing, unreadable, or does not fit.
    """
    state, config, _ = read_state(path)
    own = part_in(state)
    if own is None:
        return fit_network(path, build_network, config, state), None
    other = "Dec" if own == "Enc" else "Enc"
    partner = path.with_name(path.name.replace(own, other))
    if partner == path or not partner.is_file():
        raise WeightsError(
            f"loading LDFusion from {path}",
            found=f"{'an encoder' if own == 'Enc' else 'a decoder'} alone",
            expected=f"{partner.name if partner != path else 'the other file'} beside it",
            hint="keep Enc_final.pt and Dec_final.pt in one folder, under these names",
        )
    network = build_network()
    for part, held, file in ((own, state, path), (other, read_state(partner)[0], partner)):
        load_strict(network.get_submodule(part), held, file)
    return network.eval(), partner


def part_in(state: Mapping[str, Tensor]) -> str | None:
    """Return whether a state dict is the encoder's (``Enc``) or the decoder's (``Dec``) alone; None: neither."""
    names = [str(name) for name in state] if isinstance(state, Mapping) else []
    return next((part for part, start in PARTS.items() if any(name.startswith(start) for name in names)), None)
