"""SegFormer of the library transformers as a network of mmsegmentation. Import after ``import_mmseg``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.segmentors.base import BaseSegmentor
from torch import Tensor, nn

from tgfbench.benchmark.compat import without_loading_bar
from tgfbench.benchmark.errors import WeightsError, first_line
from tgfbench.metrics.downstream.segmentation_loss import CountedCrossEntropy


class TransformersSegmenter(BaseSegmentor):
    """``SegformerForSemanticSegmentation`` behind mmsegmentation's interface.

    Args:
        config: its configuration, as ``SegformerConfig.to_dict`` gives it.
        class_weights: of the cross-entropy, one per output; None for equal ones.
        data_preprocessor: as for every segmentor.
    """

    align_corners = False

    def __init__(
        self,
        config: Mapping[str, Any],
        class_weights: Sequence[float] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        self.network: nn.Module = SegformerForSemanticSegmentation(SegformerConfig.from_dict(dict(config)))
        self.criterion = CountedCrossEntropy(class_weights)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Return the logits: features are the network's own business."""
        return self.network(pixel_values=inputs).logits

    def encode_decode(self, inputs: Tensor, batch_data_samples: Any) -> Tensor:
        """Return logits at the input's size, (B, C, H, W)."""
        logits = self.extract_feat(inputs)
        return F.interpolate(logits, inputs.shape[-2:], mode="bilinear", align_corners=False)

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        labels = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples]).long()
        logits = self.encode_decode(inputs, data_samples)
        return {"loss_ce": self.criterion(logits, labels)}

    def predict(self, inputs: Tensor, data_samples: Any = None) -> Any:
        """Return the samples with logits and predictions at the size of the original image."""
        return self.postprocess_result(self.encode_decode(inputs, data_samples), data_samples)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        return self.extract_feat(inputs)


def read_hub_segmenter(folder: Path, classes: Sequence[str] | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a SegFormer without running code it may hold.

    Args:
        folder: made by ``save_pretrained``.
        classes: names of the outputs wanted; where they differ from the checkpoint's, the classifier is initialised
            anew. None for the checkpoint's own.

    Returns:
        The configuration and the state dict of ``TransformersSegmenter``.

    Raises:
        WeightsError: another kind of network, or files that cannot be read; names the folder.
    """
    from transformers import AutoConfig, SegformerForSemanticSegmentation
    from transformers.utils import logging

    doing = f"reading the SegFormer in {folder}"
    options: dict[str, Any] = {"local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(doing, found=first_line(error), expected="a config.json of transformers") from error
    if config.model_type != "segformer":
        raise WeightsError(doing, found=f"model_type {config.model_type!r}", expected="segformer")
    if classes is not None and list(classes) != output_names(config.to_dict()):
        options |= {
            "num_labels": len(classes),
            "id2label": dict(enumerate(classes)),
            "label2id": {name: position for position, name in enumerate(classes)},
            "ignore_mismatched_sizes": True,
        }
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_loading_bar():
            network = SegformerForSemanticSegmentation.from_pretrained(folder, **options)
    except Exception as error:  # the libraries below raise anything from OSError to pickle's own
        raise WeightsError(
            doing, found=first_line(error), expected="model.safetensors that fits config.json"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    state = {f"network.{key}": value.detach().clone() for key, value in network.state_dict().items()}
    return network.config.to_dict(), state


def output_names(config: Mapping[str, Any]) -> list[str]:
    """Return the class names of a configuration in the order of the outputs."""
    named = {int(position): str(name) for position, name in config.get("id2label", {}).items()}
    return [named[position] for position in sorted(named)]
