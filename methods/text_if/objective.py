"""What ``tgfbench train text-if`` minimises.

Degraded pairs bring instructions and clean references: EMS, or any dataset degraded by name (``sample+low-light:4``).
Which degradation a pair suffers, and so the weights of its loss, is read from the dataset's name or, in EMS, from the
key. Undegraded pairs are fused under the neutral sentence.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tgfbench.benchmark.errors import UsageError
from tgfbench.methods._text import choose_encoder
from tgfbench.methods.objective import Objective, TrainingBatch
from tgfbench.methods.text_if.losses import COLOUR_WEIGHT, NEAREST_TASK, TASKS, WINDOW, fusion_losses
from tgfbench.methods.text_if.method import CLIP_ABSENT, ENCODER_OF_WIDTH, MULTIPLE, NEUTRAL
from tgfbench.methods.text_if.network import TextIFNetwork, TransformerBlock, build_network


class TextIFObjective(Objective):
    """Builds Text-IF and computes its training loss.

    Args:
        size: ``small``, for weights that a package can carry, or ``authors``.
        text_encoder: ``minilm`` (text width 384) or ``clip`` (512).
        text_weights: of the text encoder, where it needs any.
        start: ``average`` makes the untrained network return the mean of its images, ``random`` is PyTorch's default.
    """

    method = "text-if"

    def __init__(
        self,
        size: Literal["small", "authors"] = "small",
        text_encoder: str = "minilm",
        text_weights: str | None = None,
        start: Literal["average", "random"] = "average",
    ) -> None:
        widths = {encoder: width for width, encoder in ENCODER_OF_WIDTH.items()}
        width = widths.get(text_encoder, 0)
        self.encoder = choose_encoder("Text-IF", text_encoder, text_weights, width, ENCODER_OF_WIDTH, CLIP_ABSENT)
        if start not in ("average", "random"):
            raise UsageError(
                "setting the training options of text-if", found=f"start={start}", expected="average, random"
            )
        self.start = start
        # A name of its own: nobody shall take the small network for the published one.
        self.checkpoint_name = f"text-if-{size}-reconstruction" if size == "small" else "text-if"
        self.config = {"size": size, "text_width": self.encoder.width}

    def build(self) -> nn.Module:
        network = build_network(**self.config)
        return start_as_average(network) if self.start == "average" else network

    def card(self) -> dict[str, Any]:
        return {
            "loss": {"tasks": {task: list(weights) for task, weights in TASKS.items()}, "colour": COLOUR_WEIGHT},
            "start": self.start,
            "text_encoder": self.encoder.identity,
            "neutral_text": NEUTRAL,
        }

    def loss(self, network: nn.Module, batch: TrainingBatch, random: np.random.Generator) -> dict[str, Tensor]:
        height, width = batch.visible.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE or min(height, width) < WINDOW:
            expected = f"a multiple of {MULTIPLE}, at least {WINDOW}"
            raise UsageError("training text-if", found=f"crops of {width} x {height} pixels", expected=expected)
        texts = [str(random.choice(t.instruction)) if t.instruction else NEUTRAL for t in batch.texts]
        text = self.encoder.encode(texts).pooled.to(batch.visible.device)
        fused = network(visible=batch.visible, infrared=batch.infrared, text_feature=text)
        infrared = batch.infrared if batch.infrared_reference is None else batch.infrared_reference
        return fusion_losses(fused, batch.reference, infrared, [task_of(key) for key in batch.keys])


def task_of(key: str) -> str:
    """Return the name in ``TASKS`` whose weights fit the degradation of a pair.

    Args:
        key: ``dataset/key``, e.g. ``sample+noise-3@infrared/train-0001`` or ``ems-lite/IR_Noise_00123``.
    """
    dataset, _, sample = key.partition("/")
    named = dataset.partition("+")[2] or (sample if dataset.startswith("ems") else "")
    named = named.lower().replace("_", "-")
    infrared = "infrared" in named or "stripe" in named or named.startswith("ir-")
    if infrared and "low-contrast" in named:
        return "infrared low contrast"
    if not infrared and "over-exposure" in named:
        return "over-exposure"
    return NEAREST_TASK["infrared" if infrared else "visible"]


@torch.no_grad()
def start_as_average(network: TextIFNetwork) -> TextIFNetwork:
    """Switch off all residual branches and pass the images' mean through the first three channels of level 1.

    Nothing else of the drawn parameters changes, and all of them get gradients after the first steps.
    """
    for module in network.modules():
        if isinstance(module, TransformerBlock):
            for last in (module.attn.project_out, module.ffn.project_out):
                nn.init.zeros_(last.weight)
    dim, colours = network.size.dim, range(3)
    for encoder in (network.encoder_A, network.encoder_B):
        nn.init.zeros_(encoder.patch_embed.proj.weight[:3])
        encoder.patch_embed.proj.weight[colours, colours, 1, 1] = 1
    joined = network.part("feature_fusion_1").fusion_proj.weight
    nn.init.zeros_(joined[:3])
    nn.init.zeros_(network.output.weight)
    for colour in colours:
        joined[colour, [colour, dim + colour]] = 0.5
        # Of the decoder's channels, the fused encoder features come second.
        network.output.weight[colour, dim + colour, 1, 1] = 1
    return network
