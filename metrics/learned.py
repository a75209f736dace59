"""Metrics that need trained weights: LPIPS, BRISQUE and CLIP-IQA through piq, NIQE and MUSIQ through pyiqa.

Nothing is ever downloaded here. Where a file or package is missing the metric is refused with the steps to get it.
They look at the fused colour image, not at its luma.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.benchmark.errors import WeightsError
from tgfbench.metrics.base import Metric, MetricInfo, MetricInputs

_PIQ_RELEASES = "https://github.com/photosynthesis-team/piq/releases/download"


@dataclass(frozen=True)
class PiqLearned(Metric):
    """A metric of piq that reads weights from torch's own folder of weights (``TORCH_HOME``)."""

    urls: ClassVar[tuple[str, ...]]

    def compute(self, inputs: MetricInputs) -> Tensor:
        for url in self.urls:
            path = self.folder() / url.rsplit("/", 1)[1]
            if not path.is_file():
                raise WeightsError(
                    f"computing {self.info.name}",
                    found=f"no file {path}",
                    expected="the weights piq uses",
                    hint=f"download {url} into {path.parent}",
                )
        model = _piq_model(self.info.name, inputs.device)
        return torch.stack([self.score(model, inputs, index) for index in range(inputs.batch)]).double()

    @staticmethod
    def folder() -> Path:
        """Where piq looks for the weights."""
        return Path(torch.hub.get_dir()) / "checkpoints"

    @abstractmethod
    def score(self, model: Any, inputs: MetricInputs, index: int) -> Tensor:
        """Return the scalar score of one image of the batch."""


@cache
def _piq_model(name: str, device: torch.device) -> Any:
    ensure_torchvision()
    import piq

    if name == "BRISQUE":
        return piq.brisque
    return (piq.LPIPS(reduction="none") if name == "LPIPS" else piq.CLIPIQA(data_range=1.0)).to(device)


def _colour(inputs: MetricInputs, index: int) -> Tensor:
    return inputs.image("fused_rgb")[index : index + 1].float() / 255


@dataclass(frozen=True)
class LPIPS(PiqLearned):
    """Learned perceptual image patch similarity (VGG16), mean over the visible and the infrared image."""

    urls: ClassVar[tuple[str, ...]] = (
        f"{_PIQ_RELEASES}/v0.4.0/lpips_weights.pt",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
    )

    info: ClassVar[MetricInfo] = MetricInfo(
        name="LPIPS",
        title="learned perceptual image patch similarity",
        higher_is_better=False,
        range=(0.0, math.inf),
        needs=("fused_rgb", "visible_rgb", "infrared"),
        citation="Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018",
        minimum_size=32,
        symmetric=False,
    )

    def score(self, model: Any, inputs: MetricInputs, index: int) -> Tensor:
        visible = inputs.image("visible_rgb")[index : index + 1].float() / 255
        infrared = (inputs.image("infrared")[index : index + 1, None].float() / 255).expand(-1, 3, -1, -1)
        fused = _colour(inputs, index)
        return (model(fused, visible) + model(fused, infrared)).squeeze() / 2


@dataclass(frozen=True)
class BRISQUE(PiqLearned):
    """Blind/referenceless image spatial quality evaluator."""

    urls: ClassVar[tuple[str, ...]] = (f"{_PIQ_RELEASES}/v0.4.0/brisque_svm_weights.pt",)

    info: ClassVar[MetricInfo] = MetricInfo(
        name="BRISQUE",
        title="blind image spatial quality evaluator",
        higher_is_better=False,
        range=(-math.inf, math.inf),
        needs=("fused_rgb",),
        citation="Mittal, Moorthy, Bovik, IEEE TIP 21(12), 2012",
        minimum_size=32,
    )

    def score(self, model: Any, inputs: MetricInputs, index: int) -> Tensor:
        return model(_colour(inputs, index), data_range=1.0, reduction="none").squeeze()


@dataclass(frozen=True)
class CLIPIQA(PiqLearned):
    """CLIP-IQA: how much closer the image is to "Good photo." than to "Bad photo." in the space of CLIP's RN50."""

    urls: ClassVar[tuple[str, ...]] = (
        f"{_PIQ_RELEASES}/v0.7.1/RN50.pt",
        f"{_PIQ_RELEASES}/v0.7.1/clipiqa_tokens.pt",
    )

    info: ClassVar[MetricInfo] = MetricInfo(
        name="CLIP-IQA",
        title="CLIP image quality assessment",
        higher_is_better=True,
        range=(0.0, 1.0),
        needs=("fused_rgb",),
        citation="Wang, Chan, Loy, AAAI 2023",
        minimum_size=32,
    )

    @staticmethod
    def folder() -> Path:
        return Path("~/.cache/clip").expanduser()

    def score(self, model: Any, inputs: MetricInputs, index: int) -> Tensor:
        return model(_colour(inputs, index)).squeeze()


@dataclass(frozen=True)
class PyiqaMetric(Metric):
    """A metric of pyiqa, which tgfbench does not install: its licence forbids commercial use."""

    key: ClassVar[str]

    def compute(self, inputs: MetricInputs) -> Tensor:
        if find_spec("pyiqa") is None:
            raise WeightsError(
                f"computing {self.info.name}",
                found="the package pyiqa is not installed",
                expected=f"pyiqa with the weights of {self.key!r}",
                hint="pip install pyiqa, if its non-commercial licence suits you; it fetches the weights on first use",
            )
        model = _pyiqa_model(self.key, inputs.device)
        return torch.stack([model(_colour(inputs, index)).squeeze() for index in range(inputs.batch)]).double()


@cache
def _pyiqa_model(key: str, device: torch.device) -> Any:
    ensure_torchvision()
    import pyiqa

    return pyiqa.create_metric(key, device=device)


@dataclass(frozen=True)
class NIQE(PyiqaMetric):
    """Natural image quality evaluator."""

    key = "niqe"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="NIQE",
        title="natural image quality evaluator",
        higher_is_better=False,
        range=(0.0, math.inf),
        needs=("fused_rgb",),
        citation="Mittal, Soundararajan, Bovik, IEEE SPL 20(3), 2013",
        minimum_size=96,
    )


@dataclass(frozen=True)
class MUSIQ(PyiqaMetric):
    """Multi-scale image quality transformer, KonIQ weights."""

    key = "musiq"

    info: ClassVar[MetricInfo] = MetricInfo(
        name="MUSIQ",
        title="multi-scale image quality transformer",
        higher_is_better=True,
        range=(0.0, 100.0),
        needs=("fused_rgb",),
        citation="Ke, Wang, Wang, Milanfar, Yang, ICCV 2021",
        minimum_size=32,
    )
