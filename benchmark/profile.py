"""What a method costs: seconds, memory, parameters and FLOPs per pair, each method measured in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgfbench.benchmark.compat.memory import peak_resident_mib
from tgfbench.benchmark.errors import MethodError, UsageError

if TYPE_CHECKING:
    from tgfbench.methods.base import FusionBatch, FusionMethod

KEY = "profile"
"""Of the sample that is fused."""


@dataclass(frozen=True)
class Cost:
    """The cost of fusing one pair, text features ready.

    Attributes:
        method: registry name.
        weights: checkpoint, ``random`` for the published configuration without training.
        device: where it ran.
        seconds: median wall seconds of a pair.
        peak_mib: largest resident size of the whole process, torch included (CPU), or peak allocated memory (GPU).
        parameters: number of parameters of the network, 0 for a method without one.
        gflops: floating-point operations of matrix products, convolutions and attention of a pair, in 1e9, as they
            are computed: rewrites need fewer than the network on paper. 0 where there are none.
        autocast: the same under autocast to float16 on a GPU, None elsewhere.
    """

    method: str
    weights: str
    device: str
    seconds: float
    peak_mib: float
    parameters: int
    gflops: float
    autocast: Autocast | None = None


@dataclass(frozen=True)
class Autocast:
    """Fusing under autocast.

    Attributes:
        seconds, peak_mib: as for ``Cost``.
        deviation: greatest difference from the float32 image, whose values lie in [0, 1].
    """

    seconds: float
    peak_mib: float
    deviation: float


def profile(
    name: str,
    *,
    weights: str | None,
    device: str,
    size: tuple[int, int],
    repeats: int,
    threads: int,
    authors_size: bool = False,
) -> Cost:
    """Measure one method in a fresh process.

    Args:
        name: registry name.
        weights: catalogue name, path, or None for the default.
        device: as for ``load_method``.
        size: (width, height) in pixels.
        repeats: number of timed pairs, after one that warms up.
        threads: of torch on the CPU.
        authors_size: measure the network of the published configuration, with random weights.

    Raises:
        UsageError: weights for a network that shall have random ones.
        MethodError: the process failed; holds its message.
    """
    if authors_size and weights:
        raise UsageError(f"profiling {name}", found=f"--weights {weights}", expected="none with --authors-size")
    request = {
        "name": name,
        "weights": weights,
        "device": device,
        "size": size,
        "repeats": repeats,
        "threads": threads,
        "authors_size": authors_size,
    }
    command = [sys.executable, "-m", "tgfbench.benchmark.profile", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise MethodError(f"profiling {name}", found=reason[0], expected="a method that runs here")
    cost = json.loads(done.stdout.splitlines()[-1])
    return Cost(**{**cost, "autocast": cost["autocast"] and Autocast(**cost["autocast"])})


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) from ``640x480``."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise UsageError("reading --size", found=repr(text), expected="WIDTHxHEIGHT, e.g. 640x480")
    return int(width), int(height)


def _measure(request: Mapping[str, Any]) -> Cost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tgfbench.methods import METHODS, load_method
    from tgfbench.methods.base import FusionBatch

    torch.set_num_threads(request["threads"])
    name, weights = request["name"], request["weights"]
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {}
        if request["authors_size"]:
            untrained = getattr(METHODS.load(name), "untrained", None)
            if untrained is None:
                found = "a method without a network of published size"
                raise UsageError(f"profiling {name}", found=found, expected="one of the published networks")
            weights, options = untrained(Path(folder), KEY)
        method = load_method(name, weights=weights, device=request["device"], **options)
        width, height = request["size"]
        generator = torch.Generator().manual_seed(0)
        images = [torch.rand(1, c, height, width, generator=generator).to(method.device) for c in (3, 1)]
        batch = FusionBatch(images[0], images[1], [method.info.default_text], None, [KEY])
        with torch.inference_mode():
            seconds, peak = _timed(method, batch, request["repeats"])
            with FlopCounterMode(display=False, custom_mapping=_uncounted()) as counter:
                fused = method.fuse(batch)
            autocast = None
            if method.device.type == "cuda":
                with torch.autocast("cuda"):
                    half_seconds, half_peak = _timed(method, batch, request["repeats"])
                    deviation = float((method.fuse(batch) - fused).abs().max())
                autocast = Autocast(half_seconds, half_peak, deviation)
    networks = [value for value in vars(method).values() if isinstance(value, torch.nn.Module)]
    return Cost(
        method=method.info.name,
        weights="random" if request["authors_size"] else method.checkpoint.name if method.checkpoint else "",
        device=str(method.device),
        seconds=seconds,
        peak_mib=peak,
        parameters=sum(p.numel() for network in networks for p in network.parameters()),
        gflops=counter.get_total_flops() / 1e9,
        autocast=autocast,
    )


def _timed(method: FusionMethod, batch: FusionBatch, repeats: int) -> tuple[float, float]:
    """Return median seconds and peak memory in MiB of fusing a batch; a first time warms up."""
    import torch

    cuda = method.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def once() -> float:
        started = time.perf_counter()
        method.fuse(batch)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    seconds = statistics.median(once() for _ in range(repeats))
    return seconds, torch.cuda.max_memory_allocated() / 2**20 if cuda else peak_resident_mib()


def _uncounted() -> dict[Any, Any]:
    """Return FLOP formulas, of shapes, for products that torch's counter does not know."""
    import torch
    from torch.utils.flop_counter import sdpa_flop_count

    def product(_: Any, a: Any, b: Any, **__: Any) -> int:
        return int(2 * a[0] * a[1] * b[1])

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    aten = torch.ops.aten
    return {aten.addmm_: product, aten._scaled_dot_product_flash_attention_for_cpu: attention}


if __name__ == "__main__":
    from tgfbench.benchmark.errors import TgfbenchError

    try:
        print(json.dumps(asdict(_measure(json.loads(sys.argv[1])))))
    except TgfbenchError as problem:
        sys.exit(problem.one_line)
