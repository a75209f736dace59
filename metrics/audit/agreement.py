"""Whether outputs move towards what their texts say, in the eyes of an image-text model such as CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.benchmark.errors import WeightsError, suggest
from tgfbench.benchmark.weights import sha256_of


class ImageTextModel(Protocol):
    """Embeds images and texts into one space."""

    identity: str

    def load(self) -> None:
        """Read the weights, if they are not read yet.

        Raises:
            WeightsError: they cannot be used.
        """

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return unit vectors (B, D) of uint8 (H, W, 3) images."""

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors (B, D)."""


class OpenCLIP:
    """Any model of open_clip, from a local checkpoint; nothing is downloaded.

    Args:
        weights: checkpoint of the architecture.
        architecture: open_clip's name of the model.

    Raises:
        WeightsError: no such file; when loaded, a file that is no checkpoint of this architecture.
    """

    def __init__(self, weights: Path, architecture: str = "ViT-B-32") -> None:
        self.weights, self.architecture = weights.expanduser(), architecture
        if not self.weights.is_file():
            raise WeightsError(
                f"loading {architecture} for language-image agreement",
                found=f"{weights} is not a file",
                expected=f"an open_clip checkpoint of {architecture}",
            )
        self.identity = f"{architecture}:{sha256_of(self.weights)[:16]}"

    @cached_property
    def _model(self) -> tuple[Any, Any, Any]:
        ensure_torchvision()
        import open_clip
        from huggingface_hub import constants

        doing = f"loading {self.weights} into {self.architecture}"
        if self.architecture not in open_clip.list_models():
            found, hint = "no architecture of open_clip", suggest(self.architecture, open_clip.list_models())
            raise WeightsError(doing, found=found, hint=hint)
        online, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True  # some have texts read by models of the hub
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                self.architecture, pretrained=str(self.weights), device="cpu"
            )
            return model.eval(), preprocess, open_clip.get_tokenizer(self.architecture)
        except Exception as error:  # what a foreign file raises, no library promises
            raise WeightsError(
                doing,
                found=(str(error).strip().splitlines() or [type(error).__name__])[0],
                expected=f"an open_clip checkpoint of {self.architecture}",
                hint="name the architecture with --clip-architecture",
            ) from error
        finally:
            constants.HF_HUB_OFFLINE = online

    def load(self) -> None:
        """Read the weights, if they are not read yet."""
        self._model  # noqa: B018

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return unit vectors (B, D) of uint8 (H, W, 3) images."""
        import torch
        from PIL import Image

        model, preprocess, _ = self._model
        with torch.inference_mode():
            batch = torch.stack([preprocess(Image.fromarray(image)) for image in images])
            return model.encode_image(batch, normalize=True).double().numpy()

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors (B, D)."""
        import torch

        model, _, tokenise = self._model
        with torch.inference_mode():
            return model.encode_text(tokenise(list(texts)), normalize=True).double().numpy()


def agreement(
    model: ImageTextModel, matching: tuple[str, np.ndarray], others: Sequence[tuple[str, np.ndarray]]
) -> float:
    """Return how much more outputs resemble their own text than each other's: the change along the text direction.

    With s the cosine similarity of an output and a text, m the matching prompt and c another one, half of
    [s(F(m), m) - s(F(c), m)] - [s(F(m), c) - s(F(c), c)], averaged over c. What an image has in common with all texts,
    or a text with all images, cancels. It equals half of (f(F(m)) - f(F(c))) . (g(m) - g(c)) for embeddings f and g.

    Args:
        model: embeds images and texts.
        matching: text and output, uint8 (H, W, 3).
        others: texts and outputs of another meaning.
    """
    pairs = [matching, *others]
    images, texts = model.images([image for _, image in pairs]), model.texts([text for text, _ in pairs])
    steps, directions = images[0] - images[1:], texts[0] - texts[1:]
    return float((steps * directions).sum(axis=1).mean() / 2)
