"""What decides the training of a segmenter, besides the images and the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tgfbench.benchmark.errors import suggest
from tgfbench.metrics.downstream.base import Recipe
from tgfbench.metrics.downstream.segmentation_networks import HUB_PREFIX, NETWORKS, hub_folder

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class SegmentationRecipe(Recipe):
    """A training of a segmenter with cross-entropy.

    ``model`` is one of ``segformer-b0`` … ``segformer-b5``, ``deeplabv3plus-r18``, ``-r50``, ``-r101`` and
    ``-r18-slim``, or ``hf:`` with the folder or hub name of a SegFormer of the library transformers, whose weights are
    then the start.

    Attributes:
        crop: (height, width) of the training crops in pixels.
        scale: smallest and largest random scale of a training image, relative to ``image_size``.
        largest_class: a crop is drawn again, up to ten times, while one class covers more than this share of it.
        centred: probability that a crop is drawn around an object instead: a random pixel of a class that is drawn
            evenly from those of the image but the largest.
        flip: probability of a horizontal flip.
        distortion: random brightness, contrast, saturation and hue.
        iterations: least number of steps; where given, ``epochs`` is replaced by the fewest that hold them.
        optimizer: by its name in torch.
        weight_decay: none for norms.
        momentum: of SGD.
        head_rate: learning rate of the heads relative to that of the backbone.
        warmup: steps of linear warm-up, at most half the training.
        power: of the polynomial decay to 0 that follows.
        class_weights: of the cross-entropy: ``equal``, ``inverse-sqrt`` (one over the square root of a class's share of
            the training pixels, mean 1 over the classes that occur), or a number for each class of the dataset.
    """

    crop: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]]
    scale: tuple[Positive, Positive] = (0.5, 2.0)
    largest_class: Annotated[float, Field(gt=0, le=1)] = 0.75
    centred: Share = 0.0
    flip: Share = 0.5
    distortion: bool = True
    iterations: Annotated[int, Field(ge=1)] | None = None
    optimizer: Literal["AdamW", "SGD"] = "AdamW"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    momentum: Share = 0.9
    head_rate: Positive = 1.0
    warmup: Annotated[int, Field(ge=0)] = 0
    power: Positive = 1.0
    class_weights: Literal["equal", "inverse-sqrt"] | tuple[Annotated[float, Field(ge=0)], ...] = "equal"

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        if model in NETWORKS or model.removeprefix(HUB_PREFIX) not in ("", model):
            return model
        raise ValueError(f"a segmentation network, or {HUB_PREFIX}FOLDER_OR_HUB_NAME; {suggest(model, NETWORKS)}")

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("the smaller scale first")
        return scale

    @model_validator(mode="after")
    def _one_start(self) -> SegmentationRecipe:
        if self.hub is not None and self.start is not None:
            raise ValueError(f"either start, or a model with {HUB_PREFIX}, whose weights are the start")
        return self

    @property
    def hub(self) -> str | None:
        """Folder or hub name of the SegFormer of transformers to train, or None."""
        return self.model.removeprefix(HUB_PREFIX) if self.model.startswith(HUB_PREFIX) else None

    def model_path(self) -> Path | None:
        """Return the folder of the SegFormer of transformers; see ``Recipe.model_path``."""
        return None if self.hub is None else hub_folder(self.hub)

    def steps_over(self, images: int) -> int:
        """Return the steps of an epoch; images that fill no batch wait for the next one."""
        return max(1, images // self.batch)

    def epochs_over(self, images: int) -> int:
        """Return how often so many training images are seen."""
        return self.epochs if self.iterations is None else -(-self.iterations // self.steps_over(images))
