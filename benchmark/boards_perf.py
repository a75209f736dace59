"""What boards of a large store cost: ``python -m tgfbench.benchmark.boards_perf``, part of ``make perf``.

Writes a store of made-up scores (3,000 images, 30 methods, 25 metrics, some ties and undefined values) into a temporary
folder, makes its boards in every format, and prints seconds and peak memory.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from tgfbench.benchmark.compat.memory import peak_resident_mib
from tgfbench.benchmark.store import Run

IMAGES, METHODS, METRICS = 3000, 30, 25


def write_store(root: Path, images: int, methods: int, metrics: int, dataset: str = "made-up") -> None:
    """Write runs with made-up scores under the protocol ``correct``; the same bytes every time.

    Args:
        root: folder of the store.
        images, methods, metrics: how many.
        dataset: name of the data set.
    """
    from tgfbench.metrics import load_protocol

    protocol = load_protocol("correct")
    names = protocol.metrics[:metrics]
    keys = [f"{number:05d}" for number in range(images)]
    rng = np.random.default_rng(0)
    scenes = rng.normal(size=(images, len(names)))
    for number in range(methods):
        identity = {
            "method": f"method-{number:02d}", "weights": "", "options": {}, "masks": "none", "dataset": dataset,
            "split": "test", "fingerprint": "0" * 64, "images": images, "text_policy": "dataset",
        }  # fmt: skip
        run = Run.of(root, identity)
        run.folder.mkdir(parents=True)
        values = scenes + rng.normal(0.03 * number, 1, size=scenes.shape)
        # Every third metric has few different values, and every tenth is undefined on one image.
        values[:, ::3] = values[:, ::3].round(1)
        values[0, ::10] = np.nan
        run.scores = {
            (key, metric, protocol.name): float(values[row, column])
            for row, key in enumerate(keys)
            for column, metric in enumerate(names)
        }
        run.save(keys, {protocol.name: names})
        run.write_json(
            {
                "identity": identity, "title": identity["method"], "weights_origin": "none", "reconstruction": False,
                "tags": [], "seen_in_training": 0, "fuse_seconds": 0.01 * (number + 1), "finished_at": "",
                "metrics": {protocol.name: {name: protocol.versions()[name] for name in names}},
            }
        )  # fmt: skip


def main() -> None:
    """Print what each step takes."""
    from tgfbench.benchmark.results import store_frames
    from tgfbench.leaderboards.board import build_boards
    from tgfbench.leaderboards.render import RENDERERS, write_boards

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_store(root, IMAGES, METHODS, METRICS)
        print(f"boards of {IMAGES} images, {METHODS} methods, {METRICS} metrics: seconds, of the processor in brackets")
        frames = _timed("reading the store", store_frames, root)
        boards = _timed("boards", build_boards, *frames)
        _timed("intervals and tests", lambda: [board.evidence for board in boards])
        _timed(f"writing {', '.join(RENDERERS)}", write_boards, boards, root, list(RENDERERS))
        _timed("diagrams", write_boards, boards, root, ["svg", "png"])
    print(f"{'peak memory':32} {peak_resident_mib() / 2**10:8.2f} GiB")


def _timed(step, work, *arguments):  # type: ignore[no-untyped-def]  # Whatever the work takes and gives.
    started, used = time.perf_counter(), time.process_time()
    found = work(*arguments)
    print(f"{step:32} {time.perf_counter() - started:8.2f} ({time.process_time() - used:.2f})", flush=True)
    return found


if __name__ == "__main__":
    main()
