"""What a method costs: seconds, memory, parameters and FLOPs per pair, each method measured in a process of its own."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tgfbench.benchmark.errors import MethodError, UsageError


@dataclass(frozen=True)
class Cost:
    """The cost of fusing one pair, text features ready.

    Attributes:
        method: registry name.
        weights: checkpoint.
        device: where it ran.
        seconds: median wall seconds of a pair.
        peak_mib: largest resident size of the whole process, torch included (CPU), or peak allocated memory (GPU).
        parameters: number of parameters of the network, 0 for a method without one.
        gflops: floating-point operations of matrix products and convolutions of a pair, in 1e9; 0 where torch's
            counter sees none.
    """

    method: str
    weights: str
    device: str
    seconds: float
    peak_mib: float
    parameters: int
    gflops: float


def profile(name: str, *, weights: str | None, device: str, size: tuple[int, int], repeats: int, threads: int) -> Cost:
    """Measure one method in a fresh process.

    Args:
        name: registry name.
        weights: catalogue name, path, or None for the default.
        device: as for ``load_method``.
        size: (width, height) in pixels.
        repeats: number of timed pairs, after one that warms up.
        threads: of torch on the CPU.

    Raises:
        MethodError: the process failed; holds its message.
    """
    request = {"name": name, "weights": weights, "device": device, "size": size, "repeats": repeats, "threads": threads}
    command = [sys.executable, "-m", "tgfbench.benchmark.profile", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise MethodError(f"profiling {name}", found=reason[0], expected="a method that runs here")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) from ``640x480``."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise UsageError("reading --size", found=repr(text), expected="WIDTHxHEIGHT, e.g. 640x480")
    return int(width), int(height)


def _measure(request: Mapping[str, Any]) -> Cost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tgfbench.methods import load_method
    from tgfbench.methods.base import FusionBatch

    torch.set_num_threads(request["threads"])
    method = load_method(request["name"], weights=request["weights"], device=request["device"])
    width, height = request["size"]
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, c, height, width, generator=generator).to(method.device) for c in (3, 1)]
    batch = FusionBatch(images[0], images[1], [method.info.default_text], None, ["profile"])
    cuda = method.device.type == "cuda"

    def once() -> float:
        started = time.perf_counter()
        method.fuse(batch)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    with torch.inference_mode():
        once()
        seconds = statistics.median(once() for _ in range(request["repeats"]))
        peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _resident_mib()
        with FlopCounterMode(display=False) as counter:
            method.fuse(batch)
    networks = [value for value in vars(method).values() if isinstance(value, torch.nn.Module)]
    return Cost(
        method=method.info.name,
        weights=method.checkpoint.name if method.checkpoint else "",
        device=str(method.device),
        seconds=seconds,
        peak_mib=peak,
        parameters=sum(p.numel() for network in networks for p in network.parameters()),
        gflops=counter.get_total_flops() / 1e9,
    )


def _resident_mib() -> float:
    """Return the largest resident size of this process so far (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    from tgfbench.benchmark.errors import TgfbenchError

    try:
        print(json.dumps(asdict(_measure(json.loads(sys.argv[1])))))
    except TgfbenchError as problem:
        sys.exit(problem.one_line)
