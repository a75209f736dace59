"""Segmentation networks as mmsegmentation configurations; none names an address to fetch weights from.

Widths, depths and strides are those of the papers: SegFormer (Xie et al., NeurIPS 2021, table 6), DeepLabV3+ (Chen et
al., ECCV 2018) on ResNets whose stem is three 3x3 convolutions. Heads have mmsegmentation's widths (256 channels for
every SegFormer).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tgfbench.benchmark.errors import WeightsError

SEGFORMERS: dict[str, tuple[int, tuple[int, int, int, int]]] = {
    "segformer-b0": (32, (2, 2, 2, 2)),
    "segformer-b1": (64, (2, 2, 2, 2)),
    "segformer-b2": (64, (3, 4, 6, 3)),
    "segformer-b3": (64, (3, 4, 18, 3)),
    "segformer-b4": (64, (3, 8, 27, 3)),
    "segformer-b5": (64, (3, 6, 40, 3)),
}
"""Width of the first stage and blocks a stage."""

DEEPLABS: dict[str, tuple[int, int, int]] = {
    "deeplabv3plus-r18": (18, 64, 8),
    "deeplabv3plus-r50": (50, 64, 8),
    "deeplabv3plus-r101": (101, 64, 8),
    "deeplabv3plus-r18-slim": (18, 16, 16),
}
"""Depth and first width of the ResNet, and its output stride. The slim one, ours, trains on a CPU in minutes."""

HUB_PREFIX = "hf:"
"""What follows is a folder, or a name in the local hub cache, of a SegFormer of the library transformers."""

NETWORKS = (*SEGFORMERS, *DEEPLABS)
IGNORED = 255
"""Label of pixels that count neither in training nor in any score."""

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet's RGB values in 0..255, which every public start checkpoint expects."""

_NORM = {"type": "BN", "requires_grad": True}
_AUXILIARY_WEIGHT = 0.4


def network_config(model: str, classes: int, class_weights: Sequence[float] | None = None) -> dict[str, Any]:
    """Return the configuration of a network, without its preprocessing.

    Args:
        model: one of ``NETWORKS``.
        classes: number of outputs.
        class_weights: of the cross-entropy, one per output; None for equal ones.
    """
    parts = _segformer(*SEGFORMERS[model]) if model in SEGFORMERS else _deeplab(*DEEPLABS[model])
    weights = None if class_weights is None else [float(weight) for weight in class_weights]
    heads = [parts["decode_head"], *parts.get("auxiliary_head", ())]
    for position, head in enumerate(heads):
        head.update(num_classes=classes, norm_cfg=_NORM, align_corners=False, ignore_index=IGNORED)
        loss = {"type": "CountedCrossEntropy", "class_weights": weights}
        head["loss_decode"] = {**loss, "loss_weight": _AUXILIARY_WEIGHT if position else 1.0}
    return {"type": "EncoderDecoder", **parts, "train_cfg": {}, "test_cfg": {"mode": "whole"}}


def preprocessing(crop: tuple[int, int] | None) -> dict[str, Any]:
    """Return the configuration that turns decoded images into network inputs; crops are (height, width)."""
    return {
        "type": "SegDataPreProcessor",
        "mean": MEAN,
        "std": STD,
        "bgr_to_rgb": True,
        "pad_val": 0,
        "seg_pad_val": IGNORED,
        "size": crop,
    }


def hub_folder(name: str) -> Path:
    """Return the folder of a checkpoint: the name itself where it is one, else what the local hub cache holds.

    Raises:
        WeightsError: neither; nothing is downloaded.
    """
    folder = Path(name).expanduser()
    doing = f"finding the SegFormer {HUB_PREFIX}{name}"
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(name, local_files_only=True))
        except (HFValidationError, LocalEntryNotFoundError) as error:
            raise WeightsError(
                doing,
                found="neither a folder nor a name in the local hub cache",
                hint=f"fetch it first: hf download {name}; nothing is downloaded here",
            ) from error
    if not (folder / "config.json").is_file():
        raise WeightsError(doing, found=f"no config.json in {folder}", expected="a folder made by save_pretrained")
    return folder


def _segformer(width: int, blocks: tuple[int, ...]) -> dict[str, Any]:
    backbone = {
        "type": "MixVisionTransformer",
        "embed_dims": width,
        "num_layers": list(blocks),
        "num_heads": [1, 2, 5, 8],
        "patch_sizes": [7, 3, 3, 3],
        "sr_ratios": [8, 4, 2, 1],
        "out_indices": (0, 1, 2, 3),
        "mlp_ratio": 4,
        "qkv_bias": True,
        "drop_path_rate": 0.1,
    }
    head = {
        "type": "SegformerHead",
        "in_channels": [width, 2 * width, 5 * width, 8 * width],
        "in_index": [0, 1, 2, 3],
        "channels": 256,
        "dropout_ratio": 0.1,
    }
    return {"backbone": backbone, "decode_head": head}


def _deeplab(depth: int, width: int, stride: int) -> dict[str, Any]:
    channels = [width * (1 if depth < 50 else 4) * factor for factor in (1, 2, 4, 8)]
    backbone = {
        "type": "ResNetV1c",
        "depth": depth,
        "stem_channels": width,
        "base_channels": width,
        "num_stages": 4,
        "out_indices": (0, 1, 2, 3),
        "dilations": (1, 1, 2, 4) if stride == 8 else (1, 1, 1, 2),
        "strides": (1, 2, 1, 1) if stride == 8 else (1, 2, 2, 1),
        "norm_cfg": _NORM,
        "norm_eval": False,
        "style": "pytorch",
        "contract_dilation": True,
    }
    head = {
        "type": "DepthwiseSeparableASPPHead",
        "in_channels": channels[3],
        "in_index": 3,
        "channels": channels[3] // 4,
        "dilations": (1, 12, 24, 36) if stride == 8 else (1, 6, 12, 18),
        "c1_in_channels": channels[0],
        "c1_channels": max(12, channels[0] * 3 // 16),
        "dropout_ratio": 0.1,
    }
    auxiliary = {
        "type": "FCNHead",
        "in_channels": channels[2],
        "channels": channels[2] // 4,
        "in_index": 2,
        "num_convs": 1,
        "concat_input": False,
        "dropout_ratio": 0.1,
    }
    return {"backbone": backbone, "decode_head": head, "auxiliary_head": [auxiliary]}
