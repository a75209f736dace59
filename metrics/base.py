"""What a metric is: a card, the images it sees, and one float64 value per image.

A metric is a frozen dataclass. Its fields are its *convention* (which logarithm, which window, which peak, sum or mean
over the sources), so that ``PSNR(peak="fused-maximum")`` says all there is to say about the number it returns. The
defaults are the definitions of the cited papers; other values exist because a published evaluator uses them.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from tgfbench.benchmark.errors import MetricError, TooSmallError, UsageError
from tgfbench.metrics.card import MetricInfo, Need

Image = Literal["fused", "visible", "infrared", "reference"]
Colour = Literal["fused_rgb", "visible_rgb"]
Sources = Literal["mean", "sum", "infrared", "visible", "reference"]
SOURCES: tuple[Image, ...] = ("infrared", "visible")


class MetricInputs:
    """One batch of fused images with their sources, and what several metrics compute from them only once.

    Args:
        fused: (B, H, W) luma in 0..255, uint8 or floating point.
        visible: (B, H, W) luma of the visible image, or None for metrics that do not need it.
        infrared: (B, H, W), or None.
        fused_rgb: (B, 3, H, W) RGB in 0..255, for metrics that see colour.
        visible_rgb: (B, 3, H, W) RGB in 0..255.
        reference: (B, H, W), a single image to compare with: the text-guided reference, or a clean target.
        confidence: (B,) in [0, 1], the text confidence of each pair.

    All tensors live on one device. They are converted to float64 on first use.
    """

    def __init__(
        self,
        fused: Tensor,
        visible: Tensor | None = None,
        infrared: Tensor | None = None,
        *,
        fused_rgb: Tensor | None = None,
        visible_rgb: Tensor | None = None,
        reference: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> None:
        given = {
            "fused": fused,
            "visible": visible,
            "infrared": infrared,
            "reference": reference,
            "fused_rgb": fused_rgb,
            "visible_rgb": visible_rgb,
            "confidence": confidence,
        }
        self._given: dict[str, Tensor] = {name: tensor for name, tensor in given.items() if tensor is not None}
        self._checked: set[str] = set()
        self._once: dict[Hashable, Any] = {}

    @property
    def batch(self) -> int:
        """Number of images B."""
        return self._given["fused"].shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self._given["fused"].shape[-2:]
        return height, width

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self._given["fused"].device

    def has(self, name: Need) -> bool:
        """Whether this image or number was given."""
        return name in self._given

    def image(self, name: Need) -> Tensor:
        """Return one of the tensors in float64: (B, H, W) luma, (B, 3, H, W) colour or (B,) confidence."""
        return self.once(("float64", name), lambda: self._given[name].to(torch.float64))

    def levels(self, name: Image) -> Tensor:
        """Return the grey levels of an image as int64 (B, H, W), rounded half up where they are fractional."""

        def round_half_up() -> Tensor:
            given = self._given[name]
            return given.long() if not given.is_floating_point() else torch.floor(self.image(name) + 0.5).long()

        return self.once(("levels", name), round_half_up)

    def once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return ``compute()``, remembered under ``key``: how metrics share histograms, gradients and moments."""
        if key not in self._once:
            self._once[key] = compute()
        return self._once[key]

    def trim(self, most: int) -> None:
        """Forget the images that metrics have shared if they take more than ``most`` bytes; histograms stay."""
        sizes = {key: _bytes((value,)) for key, value in self._once.items()}
        if sum(sizes.values()) > most:
            for key, size in sizes.items():
                if size > _SMALL:
                    del self._once[key]

    def map(self, change: Callable[[Tensor], Tensor]) -> MetricInputs:
        """Return the luma images of this batch, each changed by a function of float64 (B, H, W)."""
        names: tuple[Image, ...] = get_args(Image)
        return MetricInputs(**{name: change(self.image(name)) for name in names if self.has(name)})

    def require(self, needs: tuple[Need, ...], minimum_size: int, doing: str) -> None:
        """Check that everything in ``needs`` is there and sane.

        Raises:
            MetricError: something is missing, of the wrong shape or type, out of 0..255, not finite, or too small.
        """
        for name in needs:
            if name not in self._checked:
                self._check(name, doing)
                self._checked.add(name)
        if min(self.size) < minimum_size:
            raise TooSmallError(
                doing,
                found=f"images of {self.size[0]} x {self.size[1]} pixels",
                expected=f"at least {minimum_size} x {minimum_size}",
                hint="leave this metric out, or score larger images",
            )

    def _check(self, name: Need, doing: str) -> None:
        tensor = self._given.get(name)
        if tensor is None:
            raise MetricError(doing, found=f"no {name}", expected=f"{name}: {_EXPECTED[name]}")
        shape = tuple(tensor.shape)
        wanted = {
            "confidence": (self.batch,),
            "fused_rgb": (self.batch, 3, *self.size),
            "visible_rgb": (self.batch, 3, *self.size),
        }.get(name, (self.batch, *self.size))
        if name == "fused" and len(shape) != 3:
            raise MetricError(doing, found=f"fused of shape {shape}", expected=_EXPECTED["fused"])
        if shape != wanted:
            raise MetricError(
                doing, found=f"{name} of shape {shape}", expected=f"shape {wanted}, as the fused images ask for"
            )
        if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
            raise MetricError(doing, found=f"{name} of type {tensor.dtype}", expected="uint8 or floating point")
        if tensor.device != self.device:
            raise MetricError(doing, found=f"{name} on {tensor.device}", expected=f"{self.device}, as the fused images")
        if (tensor.dtype == torch.uint8 and name != "confidence") or not tensor.numel():
            return
        top = 1.0 if name == "confidence" else 255.0
        low, high = (float(bound) for bound in torch.aminmax(tensor))
        if math.isnan(low) or math.isinf(low) or math.isinf(high):
            raise MetricError(doing, found=f"NaN or infinite values in {name}", expected=f"finite values in 0..{top:g}")
        if low < 0 or high > top:
            raise MetricError(doing, found=f"{name} with values in {low:g}..{high:g}", expected=f"values in 0..{top:g}")


_SMALL = 2**20


def _bytes(values: Iterable[Any]) -> int:
    """Memory of all tensors in nested containers and batches."""
    total = 0
    for value in values:
        if isinstance(value, Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, MetricInputs):
            total += _bytes(value._given.values()) + _bytes(value._once.values())
        elif isinstance(value, tuple | list):
            total += _bytes(value)
    return total


_EXPECTED: dict[str, str] = {
    "fused": "a tensor (B, H, W) of grey levels in 0..255",
    "visible": "a tensor (B, H, W) of grey levels in 0..255",
    "infrared": "a tensor (B, H, W) of grey levels in 0..255",
    "reference": "a tensor (B, H, W) of grey levels in 0..255",
    "fused_rgb": "a tensor (B, 3, H, W) of RGB in 0..255",
    "visible_rgb": "a tensor (B, 3, H, W) of RGB in 0..255",
    "confidence": "a tensor (B,) of text confidences in 0..1",
}


@dataclass(frozen=True)
class Metric(ABC):
    """One metric under one convention; the dataclass fields of a subclass are that convention.

    A subclass sets ``info`` and writes ``compute``; checking inputs and options is done here.
    """

    info: ClassVar[MetricInfo]

    def __post_init__(self) -> None:
        for name, kind in _options(type(self)).items():
            value = getattr(self, name)
            if get_origin(kind) is Literal and value not in get_args(kind):
                raise UsageError(
                    f"setting up the metric {self.info.name}",
                    found=f"{name}={value!r}",
                    expected=f"one of {', '.join(map(repr, get_args(kind)))}",
                )

    def __call__(self, inputs: MetricInputs) -> Tensor:
        """Score a batch.

        Args:
            inputs: the images; see ``info.needs``.

        Returns:
            float64 (B,), one value per image, on the device of the inputs. NaN where the definition is 0/0.

        Raises:
            MetricError: the inputs are missing, malformed, not finite or too small; names this metric.
        """
        inputs.require(self.needs, self.info.minimum_size, f"computing {self.info.name}")
        with torch.inference_mode():
            return self.compute(inputs)

    @abstractmethod
    def compute(self, inputs: MetricInputs) -> Tensor:
        """Return float64 (B,) for inputs that have been checked."""

    @property
    def needs(self) -> tuple[Need, ...]:
        """What this convention is computed from."""
        return self.info.needs

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest possible value under this convention."""
        return self.info.range

    @property
    def on_constant(self) -> Literal["nan", "defined"]:
        """What constant images give under this convention."""
        return self.info.on_constant

    @property
    def convention(self) -> dict[str, Any]:
        """The options of this metric, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def departures(self) -> dict[str, Any]:
        """The options that differ from the definition, by name."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in self.convention.items() if value != defaults[name]}


@dataclass(frozen=True)
class SourceMetric(Metric):
    """A metric that compares the fused image with one source at a time.

    Args:
        sources: ``"mean"`` or ``"sum"`` over infrared and visible, or a single image to compare with.
    """

    sources: Sources = "mean"

    def compute(self, inputs: MetricInputs) -> Tensor:
        if self.sources not in ("mean", "sum"):
            return self.compare(inputs, self.sources)  # type: ignore[arg-type]
        infrared, visible = (self.compare(inputs, source) for source in SOURCES)
        total = infrared + visible
        return total if self.sources == "sum" else total / 2

    @abstractmethod
    def compare(self, inputs: MetricInputs, source: Image) -> Tensor:
        """Return float64 (B,): the fused image against one source, which is the reference of the comparison."""

    @property
    def needs(self) -> tuple[Need, ...]:
        if self.sources in ("mean", "sum"):
            return self.info.needs
        return "fused", self.sources  # type: ignore[return-value]

    @property
    def range(self) -> tuple[float, float]:
        low, high = self.info.range
        return (2 * low, 2 * high) if self.sources == "sum" else (low, high)


def load_variant(metric: type[Metric], options: dict[str, Any]) -> Metric:
    """Return ``metric(**options)``; an option it does not have is refused with the list of those it has."""
    known = _options(metric)
    for name in options:
        if name not in known:
            raise UsageError(
                f"setting up the metric {metric.info.name}",
                found=f"an option {name!r}",
                expected=f"one of {', '.join(known) or 'none: this metric has no options'}",
            )
    return metric(**options)


def _options(metric: type[Metric]) -> dict[str, Any]:
    hints = get_type_hints(metric)
    return {field.name: hints[field.name] for field in dataclasses.fields(metric)}
