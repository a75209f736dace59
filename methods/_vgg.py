"""VGG-19's features, for training losses that compare images by them; the weights are the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tgfbench.benchmark.errors import WeightsError
from tgfbench.benchmark.weights import load_strict, read_checkpoint

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of convolutions between the poolings."""


class VGG19(nn.Module):
    """The convolutional part of VGG-19, frozen; layers are numbered as in torchvision's ``features``.

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.

    Args:
        weights: torchvision's checkpoint of ``vgg19`` trained on ImageNet (vgg19-dcbb9e9d.pth); the classifier in it is
            not read.

    Raises:
        WeightsError: no such file, or not VGG-19.
    """

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, count in STAGES:
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(
                "loading VGG-19 for a training loss",
                found=f"{path} is not a file",
                hint="download vgg19-dcbb9e9d.pth of torchvision and pass its path",
            )
        content, _ = read_checkpoint(path)
        if isinstance(content, dict):
            content = {name: value for name, value in content.items() if not str(name).startswith("classifier.")}
        load_strict(self, content, path)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor, ends: Sequence[int]) -> list[Tensor]:
        """Return the features before each of the layers ``ends``, ascending, of a grey image (B, 1, H, W) in [0, 1]."""
        x, found = image.expand(-1, 3, -1, -1), []
        for number in range(ends[-1]):
            x = self.features[number](x)
            if number + 1 in ends:
                found.append(x)
        return found


def pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """Return a grey image (B, 1, H, W) and its halvings by the mean of 2x2 pixels: a stand-in for features."""
    found = [image]
    for _ in range(levels - 1):
        found.append(F.avg_pool2d(found[-1], 2))
    return found


def with_gradients(image: Tensor) -> Tensor:
    """Return (B, 3, H, W): a grey image and the magnitudes of its Sobel derivatives, the border replicated."""
    kernel = image.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return torch.cat([image, F.conv2d(padded, torch.stack([kernel, kernel.T])[:, None]).abs()], dim=1)
