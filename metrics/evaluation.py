"""Running a protocol: from images to one value per metric, everything shared that can be shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from tgfbench.benchmark.compat import IMAGES, keep_freed_memory
from tgfbench.benchmark.errors import MetricError, UsageError, suggest
from tgfbench.benchmark.registry import normalise
from tgfbench.metrics import METRICS
from tgfbench.metrics.base import Metric, MetricInfo, MetricInputs, load_variant
from tgfbench.metrics.luma import to_luma
from tgfbench.metrics.protocols import CORE, ProtocolCard

EXTRA = {
    "reference": "uint8 (H, W) or (H, W, 3) RGB, a single image to compare with",
    "confidence": "a number in 0..1, the text confidence of the pair",
}
"""What ``evaluate`` accepts beyond the three images, by name."""

CHUNK_PIXELS = {"cpu": 2**18, "cuda": 2**23}
"""Images are scored in chunks of about this many pixels, so that memory does not grow with the batch."""


SHARED_BYTES = {"cpu": 2**29, "cuda": 2**32}
"""What metrics may share of one chunk; beyond it, images are computed again by the metric that asks for them."""


class Protocol:
    """A named set of metrics with one input convention.

    Args:
        card: which metrics, in which convention.
        names: the metrics to keep, in the order of the card; all by default.
    """

    def __init__(self, card: ProtocolCard, names: Iterable[str] | None = None) -> None:
        self.card = card
        kept = set(card.metrics if names is None else names)
        self.metrics: tuple[str, ...] = tuple(name for name in card.metrics if name in kept)

    @property
    def name(self) -> str:
        """The protocol's name, e.g. ``"film"``."""
        return self.card.name

    @cached_property
    def instances(self) -> dict[str, Metric]:
        """The metrics, ready to be called, by printed name."""
        uses = {name: self.card.metrics[name] for name in self.metrics}
        return {name: load_variant(METRICS.load(use.metric), use.options) for name, use in uses.items()}

    def versions(self) -> dict[str, int]:
        """Return the version of every metric, by printed name; part of a run's identity."""
        return {name: metric.info.version for name, metric in self.instances.items()}

    def info(self, metric: str) -> MetricInfo:
        """Return the card of a metric under this protocol: printed name, range and departures from the definition."""
        name = self.resolve(metric)
        instance = self.instances[name]
        departures = ", ".join(f"{option}={value}" for option, value in instance.departures.items())
        notes = " ".join(filter(None, (instance.info.notes, f"Convention: {departures}." if departures else "")))
        return instance.info.model_copy(
            update={
                "name": name,
                "range": instance.range,
                "needs": instance.needs,
                "on_constant": instance.on_constant,
                "notes": notes,
            }
        )

    def select(self, names: str | Iterable[str]) -> Protocol:
        """Return this protocol reduced to some metrics.

        Args:
            names: printed names, or the named sets ``core`` and ``all``; a comma-separated string or an iterable.

        Raises:
            UsageError: the protocol has no such metric.
        """
        wanted = names.split(",") if isinstance(names, str) else list(names)
        kept: list[str] = []
        for name in filter(None, (name.strip() for name in wanted)):
            if normalise(name) == "all":
                kept += self.metrics
            elif normalise(name) == "core":
                kept += [core for core in CORE if core in self.metrics]
            else:
                kept.append(self.resolve(name))
        return Protocol(self.card, kept)

    def evaluate(self, fused: np.ndarray, visible: np.ndarray, infrared: np.ndarray, **extra: Any) -> dict[str, float]:
        """Score one fused image.

        Args:
            fused: uint8 (H, W) grey or (H, W, 3) RGB.
            visible: uint8, likewise.
            infrared: uint8, likewise.
            **extra: ``reference`` (uint8 image) and ``confidence`` (number) for the metrics that need them.

        Returns:
            Value by printed metric name, in the order of the protocol; NaN where a definition is 0/0.

        Raises:
            MetricError: an image is missing, of the wrong type, shape or size, or too small for a metric.
            UsageError: ``extra`` holds something unknown.
        """
        for name in extra:
            if name not in EXTRA:
                raise UsageError(
                    f"scoring under the protocol {self.name}",
                    found=f"an argument {name!r}",
                    expected="; ".join(f"{known}: {what}" for known, what in EXTRA.items()),
                )
        images = {"fused": fused, "visible": visible, "infrared": infrared}
        if extra.get("reference") is not None:
            images["reference"] = extra["reference"]
        tensors = {name: self._to_tensor(name, image) for name, image in self._match_sizes(images).items()}
        confidence = extra.get("confidence")
        if confidence is not None:
            tensors["confidence"] = torch.tensor([float(confidence)], dtype=torch.float64)
        return {name: float(value) for name, value in self.evaluate_batch(**tensors).items()}

    def evaluate_batch(
        self,
        fused: Tensor,
        visible: Tensor,
        infrared: Tensor,
        *,
        reference: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch of fused images of one size, on the device of the tensors.

        Args:
            fused: uint8 (B, H, W) grey or (B, 3, H, W) RGB.
            visible: uint8, likewise, same B, H and W.
            infrared: uint8, likewise.
            reference: uint8, likewise, or None.
            confidence: floating point (B,) in [0, 1], or None.

        Returns:
            float64 (B,) by printed metric name.

        Raises:
            MetricError: see ``evaluate``.
        """
        given = {"fused": fused, "visible": visible, "infrared": infrared, "reference": reference}
        tensors = {name: tensor for name, tensor in given.items() if tensor is not None}
        for name, tensor in tensors.items():
            self._check(name, tensor, fused)
        if confidence is not None:
            tensors["confidence"] = confidence
        if fused.is_cpu:
            keep_freed_memory(IMAGES)
        parts = self._score_all(list(self._chunks(tensors)), side_by_side=fused.is_cpu)
        return {name: torch.cat([part[name] for part in parts]) for name in self.metrics}

    def _score_all(self, chunks: list[dict[str, Tensor]], *, side_by_side: bool) -> list[dict[str, Tensor]]:
        """Score the chunks; on the CPU as many at a time as torch may use threads, each on one of them."""
        workers = min(torch.get_num_threads(), len(chunks)) if side_by_side else 1
        if workers <= 1:
            return [self._score(chunk) for chunk in chunks]
        _ = self.instances  # created once, before several threads ask for them
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(self._score, chunks))

    def _score(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.card.colour == "channels" and tensors["fused"].ndim == 4:
            return self._score_channels(tensors)
        return _in_one_pass(self._inputs(tensors), self.instances)

    def _inputs(self, tensors: Mapping[str, Tensor]) -> MetricInputs:
        images = {
            name: tensor if name == "confidence" else to_luma(tensor, self.card.luma)
            for name, tensor in tensors.items()
        }
        colour = {
            f"{name}_rgb": tensors[name][:, None].expand(-1, 3, -1, -1) if tensors[name].ndim == 3 else tensors[name]
            for name in ("fused", "visible")
        }
        return MetricInputs(**images, **colour)

    def _score_channels(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Score every colour channel against the same channel of the sources, and average the three values."""
        batch, _, height, width = tensors["fused"].shape
        planes = {
            name: tensor[:, None].expand(-1, 3, -1, -1) if tensor.ndim == 3 else tensor
            for name, tensor in tensors.items()
            if name != "confidence"
        }
        together = {name for name in self.instances if name in self.card.side_by_side}
        beside = {name: plane.transpose(1, 2).reshape(batch, height, 3 * width) for name, plane in planes.items()}
        values = _in_one_pass(MetricInputs(**beside), {name: self.instances[name] for name in together})
        alone = {name: metric for name, metric in self.instances.items() if name not in together}
        channels = {name: plane.reshape(batch * 3, height, width) for name, plane in planes.items()}
        parts = [_in_one_pass(MetricInputs(**part), alone) for part in self._chunks(channels)]
        return values | {name: torch.cat([part[name] for part in parts]).view(batch, 3).mean(1) for name in alone}

    def _chunks(self, tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        batch, pixels = tensors["fused"].shape[0], tensors["fused"][0].numel()
        step = max(1, CHUNK_PIXELS.get(tensors["fused"].device.type, 2**23) // pixels)
        for start in range(0, batch, step):
            yield {name: tensor[start : start + step] for name, tensor in tensors.items()}

    def _match_sizes(self, images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Resize what the protocol resizes where sizes differ."""
        for image in images.values():
            if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
                return images
        target = images["visible"] if self.card.resize == "fused" else images["fused"]
        resized = {"none": (), "fused": ("fused",), "sources": ("visible", "infrared")}[self.card.resize]
        height, width = target.shape[:2]
        return {
            name: cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
            if name in resized and image.shape[:2] != (height, width)
            else image
            for name, image in images.items()
        }

    def _to_tensor(self, name: str, image: np.ndarray) -> Tensor:
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            found = getattr(image, "dtype", type(image).__name__)
            raise MetricError(self._doing, found=f"{name} of type {found}", expected="a numpy array of type uint8")
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise MetricError(
                self._doing, found=f"{name} of shape {image.shape}", expected="(H, W) grey or (H, W, 3) RGB"
            )
        tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
        return tensor if image.ndim == 2 else tensor.permute(0, 3, 1, 2)

    def _check(self, name: str, tensor: Tensor, fused: Tensor) -> None:
        if tensor.dtype != torch.uint8:
            raise MetricError(self._doing, found=f"{name} of type {tensor.dtype}", expected="uint8")
        if tensor.ndim not in (3, 4) or (tensor.ndim == 4 and tensor.shape[1] != 3):
            raise MetricError(
                self._doing, found=f"{name} of shape {tuple(tensor.shape)}", expected="(B, H, W) or (B, 3, H, W)"
            )
        found, expected = ((t.shape[0], *t.shape[-2:]) for t in (tensor, fused))
        if found != expected:
            raise MetricError(
                self._doing,
                found=f"{name} of {found[0]} x {found[1]} x {found[2]}",
                expected=f"{expected[0]} x {expected[1]} x {expected[2]} (batch, height, width), as the fused images",
            )

    @property
    def _doing(self) -> str:
        return f"scoring under the protocol {self.name} ({', '.join(self.metrics)})"

    def resolve(self, metric: str) -> str:
        """Return the printed name of a metric; case, ``-`` and ``_`` do not matter.

        Raises:
            UsageError: the protocol has no such metric.
        """
        for name in self.metrics:
            if normalise(name) == normalise(metric):
                return name
        raise UsageError(
            f"looking up the metric {metric!r} in the protocol {self.name}",
            found="no such metric",
            hint=suggest(metric, self.metrics),
        )


def _in_one_pass(inputs: MetricInputs, metrics: Mapping[str, Metric]) -> dict[str, Tensor]:
    """Score a batch under several metrics, which share what they compute from it as far as memory allows."""
    values = {}
    for name, metric in metrics.items():
        values[name] = metric(inputs)
        inputs.trim(SHARED_BYTES.get(inputs.device.type, 2**32))
    return values
