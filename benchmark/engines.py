"""Who computes: this process with decoding, fusion and measuring overlapped, or a ray cluster.

An engine takes works (what is missing for one key) and yields outcomes; it writes the fused PNGs itself and leaves all
bookkeeping to the runner, so that any engine gives the same store.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tgfbench.benchmark.compat import keep_freed_memory
from tgfbench.benchmark.errors import MethodError, MetricError, TgfbenchError, TooSmallError, UsageError, raised
from tgfbench.benchmark.images import read_visible
from tgfbench.benchmark.store import Image

if TYPE_CHECKING:
    from torch import Tensor

    from tgfbench.benchmark.plan import PlannedRun, RunSpec
    from tgfbench.datasets.base import Sample
    from tgfbench.metrics.evaluation import Protocol as MetricProtocol
    from tgfbench.metrics.text_attention import TextReference

RANGE_SLACK = 1e-4
"""How far outside [0, 1] an output may lie: float32 noise is clamped, more is a method's mistake."""


@dataclass(frozen=True)
class Work:
    """What is missing for one key.

    Attributes:
        key: the sample.
        fuse: whether the fused image is missing.
        metrics: missing metric names by protocol.
    """

    key: str
    fuse: bool
    metrics: Mapping[str, tuple[str, ...]]


@dataclass
class Outcome:
    """What came out of a work.

    Attributes:
        key: the sample.
        text: the prompt given, where a fusion ran.
        image: the fused image where one was written now.
        scores: values by metric, by protocol.
        too_small: why metrics are undefined here, one reason each: the image has fewer pixels than they take.
        error: message where something failed; what succeeded before it still counts.
        seconds: of the fusion alone, 0 where none ran.
    """

    key: str
    text: str = ""
    image: Image | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    too_small: list[str] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0


class Engine(Protocol):
    """Anything that turns works into outcomes, in any order."""

    def process(self, planned: PlannedRun, works: Sequence[Work]) -> Iterator[Outcome]:
        """Do the works of a run; an exception inside one work becomes its outcome's error."""


class Stages:
    """The three stages of a work, each safe to run beside the others of other works."""

    def __init__(self, planned: PlannedRun) -> None:
        self.planned = planned
        self._prompt = planned.spec.prompt_rule(planned.method.info)
        self._protocols = {protocol.name: protocol for protocol in planned.protocols}

    def decode(self, work: Work) -> Sample:
        """Load the sample."""
        return self.planned.dataset.load(work.key)

    def fuse(self, work: Work, sample: Sample, outcome: Outcome) -> np.ndarray | None:
        """Return the fused uint8 (H, W, 3), or None where it lies in the store already."""
        if not work.fuse:
            return None
        outcome.text = self._prompt.choose(sample.key, sample.texts)
        started = time.perf_counter()
        fused = fuse_sample(self.planned.method, sample, outcome.text, self._masks(sample))
        outcome.seconds = time.perf_counter() - started
        return fused

    def finish(self, work: Work, sample: Sample, fused: np.ndarray | None, outcome: Outcome) -> Outcome:
        """Write the image and measure it."""
        run = self.planned.run
        if fused is None:
            fused = read_visible(run.image_path(work.key))
        else:
            outcome.image = run.write_image(work.key, fused, outcome.text)
        refusals = []
        for name, metrics in work.metrics.items():
            outcome.scores[name], too_small, refused = measure(
                self._protocols[name].select(metrics), fused, sample, self.planned.text_references.get(work.key)
            )
            outcome.too_small += [
                f"{metric} ({name}) takes {expected} pixels" for metric, expected in too_small.items()
            ]
            refusals += refused
        outcome.error = "; ".join(refusals)
        return outcome

    def _masks(self, sample: Sample) -> np.ndarray | None:
        if self.planned.spec.masks == "none" or sample.labels is None:
            return None
        from tgfbench.datasets.labels import rasterise

        return rasterise(sample.labels, sample.infrared.shape)


class LocalEngine:
    """Works in this process: threads decode ahead, this thread fuses, more threads write and measure.

    Args:
        workers: threads on either side of the fusion; also how many images may wait there.
    """

    def __init__(self, workers: int = 2) -> None:
        if workers < 1:
            raise UsageError("reading --workers", found=str(workers), expected="a positive number")
        self.workers = workers

    def process(self, planned: PlannedRun, works: Sequence[Work]) -> Iterator[Outcome]:
        """See ``Engine``; outcomes come in the order of the works."""
        keep_freed_memory()
        stages = Stages(planned)
        finishing: deque[tuple[Outcome, Future[Outcome] | None]] = deque()
        decoding = ThreadPoolExecutor(self.workers, "decode")
        finishing_pool = ThreadPoolExecutor(self.workers, "finish", initializer=compute_alone)
        with decoding as decoders, finishing_pool as finishers:
            try:
                for work, decoded in _ahead(decoders, stages, works, self.workers + 1):
                    outcome, future = Outcome(work.key), None
                    try:
                        sample = decoded.result()
                        fused = stages.fuse(work, sample, outcome)
                        future = finishers.submit(stages.finish, work, sample, fused, outcome)
                    # Any failure of one image is that image's outcome: the others go on.
                    except Exception as error:
                        outcome.error = message_of(error)
                    finishing.append((outcome, future))
                    while finishing and (len(finishing) > self.workers or _ready(finishing[0][1])):
                        yield _settle(*finishing.popleft())
                while finishing:
                    yield _settle(*finishing.popleft())
            finally:
                decoders.shutdown(wait=True, cancel_futures=True)
                finishers.shutdown(wait=True, cancel_futures=True)


class RayEngine:
    """Spreads the works over a ray cluster that sees the same file system; every actor loads the method once.

    Args:
        workers: number of actors.
        gpus: GPUs reserved for each actor (fractions allowed).
    """

    def __init__(self, workers: int = 2, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError(
                "starting the ray engine", found="ray is not installed", hint="pip install 'tgfbench[ray]'"
            ) from None
        self.workers, self.gpus, self._ray = workers, gpus, ray

    def process(self, planned: PlannedRun, works: Sequence[Work]) -> Iterator[Outcome]:
        """See ``Engine``; outcomes come as they are ready."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        actor = ray.remote(num_gpus=self.gpus)(_RayWorker)
        actors = [actor.remote(planned.spec, planned.root) for _ in range(min(self.workers, len(works)))]
        pool = ray.util.ActorPool(actors)
        yield from pool.map_unordered(lambda worker, work: worker.do.remote(work), works)


class _RayWorker:
    """One actor: plans the run again from its spec and does the works it is sent, one after the other."""

    def __init__(self, spec: RunSpec, root: Path) -> None:
        from tgfbench.benchmark.plan import plan_runs

        self._stages = Stages(plan_runs([spec], root)[0])

    def do(self, work: Work) -> Outcome:
        outcome = Outcome(work.key)
        try:
            sample = self._stages.decode(work)
            fused = self._stages.fuse(work, sample, outcome)
            return self._stages.finish(work, sample, fused, outcome)
        # Any failure of one image is that image's outcome: the others go on.
        except Exception as error:
            outcome.error = message_of(error)
            return outcome


def make_engine(name: str, workers: int, device: str = "auto") -> Engine:
    """Return the engine of ``--engine``.

    Raises:
        UsageError: no such engine, or its package is not installed.
    """
    if name == "local":
        return LocalEngine(workers)
    if name == "ray":
        import torch

        return RayEngine(workers, gpus=1.0 if device != "cpu" and torch.cuda.is_available() else 0.0)
    raise UsageError("reading --engine", found=repr(name), expected="local or ray")


def fuse_sample(method: Any, sample: Sample, text: str, mask: np.ndarray | None = None) -> np.ndarray:
    """Fuse one sample and check that the method kept its contract.

    Args:
        method: a ``FusionMethod``.
        sample: the pair.
        text: the prompt, "" for none.
        mask: uint8 or float (H, W) in [0, 1], or None.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        MethodError: the method raised, or returned another shape, dtype, non-finite or out-of-range values.
    """
    import torch

    from tgfbench.methods.base import FusionBatch

    def image(pixels: np.ndarray) -> Tensor:
        planes = pixels[..., None] if pixels.ndim == 2 else pixels
        return torch.from_numpy(np.ascontiguousarray(planes)).to(method.device).permute(2, 0, 1)[None].float()

    masks = None if mask is None else image(mask)
    batch = FusionBatch(image(sample.visible) / 255, image(sample.infrared) / 255, [text], masks, [sample.key])
    doing = f"fusing {sample.key!r} with {method.info.name}"
    try:
        with torch.inference_mode():
            fused = method.fuse(batch)
    except TgfbenchError:
        raise
    # A method may be anybody's code: whatever it raises, its own exit included, belongs to this image.
    except (Exception, SystemExit) as error:
        raise MethodError(doing, found=raised(error), expected="a fused image") from error
    expected = (1, 3, *sample.infrared.shape)
    if not isinstance(fused, torch.Tensor) or tuple(fused.shape) != expected or fused.dtype != torch.float32:
        found = f"{fused.dtype} {tuple(fused.shape)}" if isinstance(fused, torch.Tensor) else type(fused).__name__
        raise MethodError(doing, found=found, expected=f"torch.float32 {expected}")
    low, high = float(fused.min()), float(fused.max())
    if not np.isfinite(low) or not np.isfinite(high):
        count = int((~torch.isfinite(fused)).sum())
        raise MethodError(doing, found=f"{count} non-finite values (NaN or infinity)", expected="values in [0, 1]")
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise MethodError(doing, found=f"values in [{low:.4g}, {high:.4g}]", expected="values in [0, 1]")
    return (fused[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def measure(
    protocol: MetricProtocol, fused: np.ndarray, sample: Sample, text_reference: TextReference | None = None
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Score one fused image; a metric that refuses it costs no other metric.

    Args:
        protocol: the metrics.
        fused: uint8 (H, W, 3) RGB.
        sample: its sources; where they are degraded and the clean pair is known, metrics compare with that.
        text_reference: what text attention metrics compare with; takes the place of the sample's own reference.

    Returns:
        Values by metric, NaN where the image is too small for it; which size those metrics take; and the messages of
        the metrics that refused.
    """
    extra: dict[str, Any] = {} if sample.reference is None else {"reference": sample.reference}
    if text_reference is not None:
        extra = {"reference": text_reference.reference, "confidence": text_reference.confidence}
    sources = sample.clean or sample
    images = (fused, sources.visible, sources.infrared)
    try:
        return protocol.evaluate(*images, **extra), {}, []
    except MetricError:
        values: dict[str, float] = {}
        too_small, refusals = {}, []
        for metric in protocol.metrics:
            try:
                values |= protocol.select([metric]).evaluate(*images, **extra)
            except TooSmallError as error:
                values[metric], too_small[metric] = math.nan, error.expected
            except MetricError as error:
                refusals.append(error.one_line)
        return values, too_small, refusals


def message_of(error: BaseException) -> str:
    """Return an error on one line, fit for ``failures.csv``."""
    if isinstance(error, TgfbenchError):
        return error.one_line
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def _ahead(
    pool: ThreadPoolExecutor, stages: Stages, works: Iterable[Work], depth: int
) -> Iterator[tuple[Work, Future[Sample]]]:
    """Yield works in order with their decoding under way, at most ``depth`` samples ahead."""
    rest = iter(works)
    waiting = deque((work, pool.submit(stages.decode, work)) for work in islice(rest, depth))
    while waiting:
        yield waiting.popleft()
        waiting.extend((work, pool.submit(stages.decode, work)) for work in islice(rest, 1))


def compute_alone() -> None:
    """Have torch use one thread for what this thread computes.

    Images are measured side by side, so nothing is lost; and sums whose order depends on the number of threads would
    differ in their last bits from machine to machine.
    """
    import torch

    torch.set_num_threads(1)


def _ready(future: Future[Outcome] | None) -> bool:
    return future is None or future.done()


def _settle(outcome: Outcome, future: Future[Outcome] | None) -> Outcome:
    if future is None:
        return outcome
    try:
        return future.result()
    # As in LocalEngine.process: writing or measuring one image failed; an image that was written counts.
    except Exception as error:
        outcome.error = message_of(error)
        return outcome
