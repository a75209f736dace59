"""Association models: where in an image is what a phrase names? They make the heat maps of text attention.

CLIPSeg is trained for this. CLIP and BLIP are not: their maps are the cosine of every image patch with the phrase,
both in the space in which the model compares whole images with texts. That is a use of ours; TextFusion's own maps come
from a transport plan between words and patches of a vision-language model.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from tgfbench.benchmark.errors import UsageError, WeightsError, counted, first_line


class Association(ABC):
    """Says where in an image each phrase is."""

    @abstractmethod
    def heat(self, image: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
        """Return one heat map per phrase, floating point (T, h, w) of any size, for uint8 (H, W, 3) RGB."""


class PretrainedAssociation(Association):
    """A model of the transformers library from a local folder; nothing is downloaded.

    Args:
        folder: model, tokenizer and preprocessor as ``save_pretrained`` writes them.
        device: where the model runs.

    Raises:
        WeightsError: asked for a map, where the folder cannot be loaded.
    """

    example: ClassVar[str]

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self.folder, self.device = Path(folder).expanduser(), device

    def heat(self, image: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
        import torch

        tokenizer, preprocessor, model = self._loaded
        tokens = tokenizer(list(phrases), padding=True, truncation=True, return_tensors="pt").to(self.device)
        pixels = _pixels(image, self.side(model), preprocessor.image_mean, preprocessor.image_std).to(self.device)
        with torch.inference_mode():
            return self.maps(model, pixels, tokens).cpu().double().numpy()

    @abstractmethod
    def model_class(self) -> Any:
        """Return the class of the model."""

    def side(self, model: Any) -> int:
        """Return the side of the square image the model sees."""
        return int(model.config.vision_config.image_size)

    @abstractmethod
    def maps(self, model: Any, pixels: Any, tokens: Any) -> Any:
        """Return heat maps (T, h, w) of normalised pixels (1, 3, S, S) for T tokenised phrases."""

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        from tgfbench.benchmark.compat import ensure_torchvision, without_loading_bar

        ensure_torchvision()
        from transformers import AutoImageProcessor, AutoTokenizer

        try:
            with without_loading_bar():
                parts = [
                    kind.from_pretrained(self.folder, local_files_only=True)
                    for kind in (AutoTokenizer, AutoImageProcessor, self.model_class())
                ]
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"loading the association model {type(self).__name__} from {self.folder}",
                found=first_line(error),
                expected="model, tokenizer and preprocessor as transformers writes them",
                hint=f"download {self.example} and pass its folder",
            ) from error
        return parts[0], parts[1], parts[2].eval().to(self.device)


class CLIPSeg(PretrainedAssociation):
    """Segmentation by text: the probability of the phrase at every pixel (Lüddecke, Ecker, CVPR 2022)."""

    example = "CIDAS/clipseg-rd64-refined"

    def model_class(self) -> Any:
        from transformers import CLIPSegForImageSegmentation

        return CLIPSegForImageSegmentation

    def maps(self, model: Any, pixels: Any, tokens: Any) -> Any:
        count = len(tokens["input_ids"])
        logits = model(**tokens, pixel_values=pixels.expand(count, -1, -1, -1)).logits
        return logits.sigmoid().reshape(count, *logits.shape[-2:])


class CLIP(PretrainedAssociation):
    """Cosine of every patch of CLIP's image tower, projected as the class token is, with the phrase."""

    example = "openai/clip-vit-base-patch16"

    def model_class(self) -> Any:
        from transformers import CLIPModel

        return CLIPModel

    def maps(self, model: Any, pixels: Any, tokens: Any) -> Any:
        states = model.vision_model(pixel_values=pixels).last_hidden_state[0, 1:]
        patches = model.visual_projection(model.vision_model.post_layernorm(states))
        return _cosines(patches, model.text_projection(model.text_model(**tokens).pooler_output))


class BLIP(PretrainedAssociation):
    """Cosine of every patch of BLIP's image tower with the phrase, both in the space of its contrastive head."""

    example = "Salesforce/blip-itm-base-coco"

    def model_class(self) -> Any:
        from transformers import BlipForImageTextRetrieval

        return BlipForImageTextRetrieval

    def maps(self, model: Any, pixels: Any, tokens: Any) -> Any:
        states = model.vision_model(pixel_values=pixels).last_hidden_state[0, 1:]
        given = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        texts = model.text_encoder(**given).last_hidden_state[:, 0]
        return _cosines(model.vision_proj(states), model.text_proj(texts))


MODELS: dict[str, type[PretrainedAssociation]] = {"clipseg": CLIPSeg, "clip": CLIP, "blip": BLIP}
"""By ``model_type`` in a checkpoint's config.json."""


def load_association(folder: str | Path, device: str = "cpu") -> PretrainedAssociation:
    """Return the association model of a transformers folder, by what its config.json says it is.

    Raises:
        WeightsError: no such folder, or a kind of model that gives no maps.
    """
    config = Path(folder).expanduser() / "config.json"
    try:
        kind = json.loads(config.read_text(encoding="utf-8"))["model_type"]
        found = f"a model of type {kind!r}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind, found = None, f"no config.json that says what it is ({error})"
    if kind not in MODELS:
        raise WeightsError(
            f"loading the association model {folder}",
            found=found,
            expected=f"the folder of a checkpoint of the transformers library, one of {', '.join(MODELS)}",
            hint=f"download {CLIPSeg.example} and pass its folder, or use the labels of the dataset (--model labels)",
        )
    return MODELS[kind](folder, device)


class LabelAssociation(Association):
    """The offline choice: the labelled boxes of a pair, each as warm as its class name is close to the phrase.

    Closeness is the cosine of the bundled sentence encoder (MiniLM), at least 0.

    Args:
        boxes: (N, 4), xyxy in pixels.
        names: the class name of every box.
    """

    def __init__(self, boxes: np.ndarray, names: Sequence[str]) -> None:
        if len(boxes) != len(names):
            raise UsageError(
                "associating a text with labels",
                found=f"{counted(len(boxes), 'box', 'boxes')}, {counted(len(names), 'name')}",
                expected="as many",
            )
        self.boxes, self.names = np.asarray(boxes), tuple(names)

    def heat(self, image: np.ndarray, phrases: Sequence[str]) -> np.ndarray:
        maps = np.zeros((len(phrases), *image.shape[:2]))
        if not self.names:
            return maps
        closeness = self._closeness(phrases)
        for index, box in enumerate(self.boxes):
            left, top, right, bottom = (round(float(side)) for side in box)
            region = maps[:, top:bottom, left:right]
            np.maximum(region, closeness[:, index, None, None], out=region)
        return maps

    def _closeness(self, phrases: Sequence[str]) -> np.ndarray:
        from tgfbench.benchmark.text import load_text_encoder

        pooled = load_text_encoder("minilm").encode([*phrases, *self.names]).pooled.double()
        unit = pooled / pooled.norm(dim=1, keepdim=True)
        return (unit[: len(phrases)] @ unit[len(phrases) :].T).clamp(min=0).numpy()


def _pixels(image: np.ndarray, side: int, mean: Sequence[float], deviation: Sequence[float]) -> Any:
    """Return (1, 3, side, side): the whole image, squeezed; models' own preprocessors would crop its sides away."""
    import torch

    squeezed = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    normalised = (squeezed - np.asarray(mean, np.float32)) / np.asarray(deviation, np.float32)
    return torch.from_numpy(normalised).permute(2, 0, 1)[None].contiguous()


def _cosines(patches: Any, texts: Any) -> Any:
    """Return (T, h, w) for the patches (h w, D) of a square image and texts (T, D)."""
    from torch.nn.functional import normalize

    side = round(len(patches) ** 0.5)
    return (normalize(texts, dim=-1) @ normalize(patches, dim=-1).T).reshape(len(texts), side, side)
