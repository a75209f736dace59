"""Mask sources that find named things with open-vocabulary models: CLIPSeg, and Grounding DINO with SAM.

Both look at the visible image and at the infrared image shown in three channels; the mask is the union over the things
that the text names and over both images.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.benchmark.compat import ensure_torchvision, without_loading_bar
from tgfbench.benchmark.errors import WeightsError, first_line
from tgfbench.methods.base import FusionBatch
from tgfbench.methods.tesg.sig import MaskSource, things

USUAL_THINGS = ("person", "car", "bus", "truck", "motorcycle", "bicycle")
"""Looked for where a text names no thing."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Loaded = TypeVar("Loaded")


class Segmenter(MaskSource):
    """A mask source with a pretrained model.

    Args:
        weights: a local folder, or None for the Hugging Face cache.
        device: where to compute.

    Raises:
        WeightsError: the weights are not there; says which and how to get them.
    """

    repositories: tuple[str, ...]

    def __init__(self, weights: str | Path | None, device: torch.device | str = "cpu") -> None:
        self.weights = None if weights is None else Path(weights)
        self.device = torch.device(device)
        if self.weights is not None and not self.weights.is_dir():
            raise self._absent(f"{self.weights} is not a folder")
        ensure_torchvision()
        self.load()

    def load(self) -> None:
        """Load the models, so that absent weights are reported before any work is done."""

    def places(self) -> list[str]:
        """Return the folder of each repository's files, or its name for the Hugging Face cache."""
        if self.weights is None:
            return list(self.repositories)
        if len(self.repositories) == 1:
            return [str(self.weights)]
        return [str(self.weights / repository.split("/")[-1]) for repository in self.repositories]

    def fetch(self, read: Callable[..., Loaded], place: str) -> Loaded:
        """Call a ``from_pretrained`` on local files only."""
        try:
            with without_loading_bar():
                return read(place, local_files_only=True)
        except (OSError, ValueError) as error:
            raise self._absent(f"{place}: {first_line(error)}") from error

    def describe(self) -> dict[str, Any]:
        return {"mask_source": self.name, "mask_weights": self.places()}

    def masks(self, batch: FusionBatch) -> Tensor:
        rows = []
        for row, text in enumerate(batch.texts):
            names = things(text) or USUAL_THINGS
            shown = torch.cat([batch.visible[row : row + 1], batch.infrared[row : row + 1].expand(-1, 3, -1, -1)])
            rows.append(self.find(shown.to(self.device), names))
        return torch.stack(rows).to(batch.visible.device)

    @abstractmethod
    def find(self, images: Tensor, names: tuple[str, ...]) -> Tensor:
        """Return the union mask (1, H, W) in {0, 1} of named things in images (2, 3, H, W) RGB in [0, 1]."""

    def _absent(self, found: str) -> WeightsError:
        each = " and ".join(f"`hf download {repository}`" for repository in self.repositories)
        layout = (
            ""
            if len(self.repositories) == 1
            else " with the subfolders " + ", ".join(repository.split("/")[-1] for repository in self.repositories)
        )
        return WeightsError(
            f"loading the mask source {self.name}",
            found=found,
            expected=f"the files of {' and '.join(self.repositories)}",
            hint=f"run {each} once, or pass a local folder{layout} as mask_weights; mask_source=saliency needs neither",
        )


class CLIPSeg(Segmenter):
    """CLIPSeg rd64-refined: one heat map per noun, cut at 0.4."""

    name = "clipseg"
    repositories = ("CIDAS/clipseg-rd64-refined",)
    side, threshold = 352, 0.4

    def load(self) -> None:
        from transformers import AutoTokenizer, CLIPSegForImageSegmentation

        (place,) = self.places()
        self.tokenizer = self.fetch(AutoTokenizer.from_pretrained, place)
        self.model = self.fetch(CLIPSegForImageSegmentation.from_pretrained, place).eval().to(self.device)

    @torch.inference_mode()
    def find(self, images: Tensor, names: tuple[str, ...]) -> Tensor:
        size = images.shape[-2:]
        small = F.interpolate(images, size=(self.side, self.side), mode="bilinear", antialias=True)
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = ((small - mean) / std).repeat_interleave(len(names), dim=0)
        words = self.tokenizer(list(names) * len(images), padding=True, return_tensors="pt").to(self.device)
        logits = self.model(
            input_ids=words.input_ids, attention_mask=words.attention_mask, pixel_values=pixels
        ).logits.view(-1, 1, self.side, self.side)
        heat = F.interpolate(logits.sigmoid(), size=size, mode="bilinear", align_corners=False)
        return (heat.amax(dim=0) > self.threshold).to(images.dtype)


class GroundedSAM(Segmenter):
    """Grounding DINO (SwinT) finds boxes of the nouns, SAM turns them into masks."""

    name = "grounded-sam"
    repositories = ("IDEA-Research/grounding-dino-tiny", "facebook/sam-vit-base")
    box_threshold, text_threshold, overlap = 0.25, 0.20, 0.5

    def load(self) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, SamModel, SamProcessor

        dino, sam = self.places()
        self.detector_processor = self.fetch(AutoProcessor.from_pretrained, dino)
        self.detector = self.fetch(AutoModelForZeroShotObjectDetection.from_pretrained, dino).eval().to(self.device)
        self.sam_processor = self.fetch(SamProcessor.from_pretrained, sam)
        self.sam = self.fetch(SamModel.from_pretrained, sam).eval().to(self.device)

    @torch.inference_mode()
    def find(self, images: Tensor, names: tuple[str, ...]) -> Tensor:
        found = torch.zeros(1, *images.shape[-2:], dtype=images.dtype, device=images.device)
        prompt = ". ".join(names) + "."
        for image in (images * 255).round().to(torch.uint8).cpu():
            boxes = self.boxes(image, prompt)
            if len(boxes):
                found = torch.maximum(found, self.segment(image, boxes).to(found))
        return found

    def boxes(self, image: Tensor, prompt: str) -> Tensor:
        """Return the boxes (N, 4) xyxy in pixels of what the prompt names in a uint8 image (3, H, W)."""
        from torchvision.ops import nms

        inputs = self.detector_processor(images=image, text=prompt, return_tensors="pt").to(self.device)
        (result,) = self.detector_processor.post_process_grounded_object_detection(
            self.detector(**inputs),
            inputs.input_ids,
            threshold=self.box_threshold,
            text_threshold=self.text_threshold,
            target_sizes=[tuple(image.shape[-2:])],
        )
        return result["boxes"][nms(result["boxes"], result["scores"], self.overlap)]

    def segment(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Return the union mask (1, H, W) of the things in the boxes."""
        inputs = self.sam_processor(images=image, input_boxes=[boxes.tolist()], return_tensors="pt").to(self.device)
        sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        outputs = self.sam(**inputs, multimask_output=False)
        (masks,) = self.sam_processor.image_processor.post_process_masks(outputs.pred_masks.cpu(), *sizes)
        return masks.flatten(0, 1).any(dim=0, keepdim=True)


SEGMENTERS: dict[str, type[Segmenter]] = {source.name: source for source in (CLIPSeg, GroundedSAM)}
