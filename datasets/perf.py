"""How fast pairs are decoded, against what Pillow alone takes for the same files.

``python -m tgfbench.datasets.perf [DATA_ROOT]`` loads 200 pairs of MSRS (all that are there, again and again where
they are fewer; without a data root, pairs of the built-in dataset stored in the same layout) in one thread and in one a
core, and prints seconds of the clock, CPU seconds and their ratio to bare Pillow. CPU seconds count every core used
and do not depend on what else the machine does. Files come from the page cache: the first pass is not timed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from tgfbench.benchmark.errors import TgfbenchError
from tgfbench.benchmark.images import write_png
from tgfbench.datasets import load_dataset
from tgfbench.datasets.base import Dataset
from tgfbench.datasets.roots import ROOT_VARIABLE

PAIRS = 200
RENDERED = 24
REPEATS = 3
TARGET = 1.3


def rendered(root: Path) -> Dataset:
    """Store pairs of the built-in dataset in the layout, modes and size of MSRS, and open them as such."""
    for sample in load_dataset("sample", count=RENDERED):
        write_png(root / "msrs/test/vi" / f"{sample.key}.png", sample.visible)
        write_png(root / "msrs/test/ir" / f"{sample.key}.png", sample.infrared)
    return load_dataset("msrs", root)


def decode(paths: Sequence[Path]) -> None:
    """Decode files as one would without tgfbench."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image)


def seconds(work: Callable[[str], object], keys: Sequence[str], threads: int) -> tuple[float, float]:
    """Return the least (clock seconds, CPU seconds of all threads) of several runs, after one that does not count."""
    times = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS + 1):
            start = (time.perf_counter(), time.process_time())
            for _ in pool.map(work, keys):
                pass
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    clock, processor = zip(*times[1:], strict=True)
    return min(clock), min(processor)


def measure(dataset: Dataset, threads: int, pairs: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return ``seconds`` of ``Dataset.load`` and of Pillow for so many pairs."""
    keys = list(islice(cycle(dataset.keys), pairs))
    files = {key: [dataset.files(key)[role] for role in ("visible", "infrared")] for key in dataset.keys}
    return seconds(dataset.load, keys, threads), seconds(lambda key: decode(files[key]), keys, threads)


def main() -> None:
    """Print the table."""
    root = sys.argv[1] if sys.argv[1:] and sys.argv[1] else os.environ.get(ROOT_VARIABLE)
    with tempfile.TemporaryDirectory() as folder:
        try:
            dataset, what = load_dataset("msrs", root, "all"), "of MSRS"
        except TgfbenchError:
            dataset, what = rendered(Path(folder)), "rendered, stored as MSRS"
        print(f"decoding {PAIRS} pairs ({len(dataset)} {what}); target: at most {TARGET} times the CPU time of Pillow")
        row = "{:>7}  {:>8}  {:>8}  {:>10}  {:>8}  {:>6}"
        print(row.format("threads", "clock s", "CPU s", "Pillow: s", "CPU s", "ratio"))
        for threads in sorted({1, os.cpu_count() or 1}):
            (clock, ours), (bare_clock, bare) = measure(dataset, threads, PAIRS)
            numbers = (f"{value:.2f}" for value in (clock, ours, bare_clock, bare, ours / bare))
            print(row.format(threads, *numbers))


if __name__ == "__main__":
    main()
