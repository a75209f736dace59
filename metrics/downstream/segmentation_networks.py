"""Segmentation networks as mmsegmentation configurations; none names an address to fetch weights from.

Widths, depths and strides are those of the papers: SegFormer (Xie et al., NeurIPS 2021, table 6), DeepLabV3+ (Chen et
al., ECCV 2018) on ResNets whose stem is three 3x3 convolutions, Fast-SCNN (Poudel et al., BMVC 2019, table 1). Heads
have mmsegmentation's widths (256 channels for every SegFormer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SEGFORMERS: dict[str, tuple[int, tuple[int, int, int, int]]] = {
    "segformer-b0": (32, (2, 2, 2, 2)),
    "segformer-b1": (64, (2, 2, 2, 2)),
    "segformer-b2": (64, (3, 4, 6, 3)),
    "segformer-b3": (64, (3, 4, 18, 3)),
    "segformer-b4": (64, (3, 8, 27, 3)),
    "segformer-b5": (64, (3, 6, 40, 3)),
}
"""Width of the first stage and blocks a stage."""

DEEPLABS: dict[str, int] = {"deeplabv3plus-r18": 18, "deeplabv3plus-r50": 50, "deeplabv3plus-r101": 101}
"""Depth of the ResNet."""

FAST_SCNN = "fast-scnn"
HUB_PREFIX = "hf:"
"""What follows is a folder, or a name in the local hub cache, of a SegFormer of the library transformers."""

NETWORKS = (*SEGFORMERS, *DEEPLABS, FAST_SCNN)
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
    if model in SEGFORMERS:
        parts = _segformer(*SEGFORMERS[model])
    elif model in DEEPLABS:
        parts = _deeplab(DEEPLABS[model])
    else:
        parts = _fast_scnn()
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


def _deeplab(depth: int) -> dict[str, Any]:
    expansion = 1 if depth < 50 else 4
    first, _, third, last = (64 * expansion * factor for factor in (1, 2, 4, 8))
    backbone = {
        "type": "ResNetV1c",
        "depth": depth,
        "num_stages": 4,
        "out_indices": (0, 1, 2, 3),
        "dilations": (1, 1, 2, 4),
        "strides": (1, 2, 1, 1),
        "norm_cfg": _NORM,
        "norm_eval": False,
        "style": "pytorch",
        "contract_dilation": True,
    }
    head = {
        "type": "DepthwiseSeparableASPPHead",
        "in_channels": last,
        "in_index": 3,
        "channels": last // 4,
        "dilations": (1, 12, 24, 36),
        "c1_in_channels": first,
        "c1_channels": 12 * expansion,
        "dropout_ratio": 0.1,
    }
    return {"backbone": backbone, "decode_head": head, "auxiliary_head": [_auxiliary(third, third // 4, 2)]}


def _fast_scnn() -> dict[str, Any]:
    backbone = {
        "type": "FastSCNN",
        "downsample_dw_channels": (32, 48),
        "global_in_channels": 64,
        "global_block_channels": (64, 96, 128),
        "global_block_strides": (2, 2, 1),
        "global_out_channels": 128,
        "higher_in_channels": 64,
        "lower_in_channels": 128,
        "fusion_out_channels": 128,
        "out_indices": (0, 1, 2),
        "norm_cfg": _NORM,
        "align_corners": False,
    }
    head = {
        "type": "DepthwiseSeparableFCNHead",
        "in_channels": 128,
        "channels": 128,
        "concat_input": False,
        "in_index": -1,
    }
    return {
        "backbone": backbone,
        "decode_head": head,
        "auxiliary_head": [_auxiliary(128, 32, -2), _auxiliary(64, 32, -3)],
    }


def _auxiliary(inputs: int, channels: int, index: int) -> dict[str, Any]:
    return {
        "type": "FCNHead",
        "in_channels": inputs,
        "channels": channels,
        "in_index": index,
        "num_convs": 1,
        "concat_input": False,
        "dropout_ratio": 0.1,
    }
