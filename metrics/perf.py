"""CPU seconds of the protocols on one 640 x 480 pair, beside what other libraries take for the same quantities.

``python -m tgfbench.metrics.perf`` prints the table. Every number is the best of several runs of process time on one
thread, after a first run that fills caches of filters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.metrics import load_metric, load_protocol
from tgfbench.metrics.base import MetricInputs

SIZE = (480, 640)
REPEATS = 3

TARGETS = {
    "film": 0.12,
    "tang-py": 0.25,
    "ivif-zoo": 0.4,
    "vifb": 0.5,
    "liu": 1.0,
    "cddfuse": None,
    "tang": None,
    "hli": None,
}
"""Protocols measured, with the seconds they are meant to stay below."""

FEATURES = ("none", "edge", "gradient", "dct", "wavelet")


def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a fused image and its sources with natural-looking statistics, uint8 (480, 640)."""
    random = np.random.default_rng(0)
    images = []
    for sigma in (2.0, 6.0):
        scales = (sigma, 4 * sigma, 16 * sigma)
        texture = np.sum([cv2.GaussianBlur(random.normal(0, 1, SIZE), (0, 0), s) * s for s in scales], axis=0)
        images.append(np.clip(128 + 45 * texture / texture.std() + random.normal(0, 2, SIZE), 0, 255))
    visible, infrared = images
    fused = 0.5 * visible + 0.5 * infrared
    return fused.round().astype(np.uint8), visible.astype(np.uint8), infrared.astype(np.uint8)


def seconds(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the least process time of several runs after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def measure() -> list[tuple[str, float, float | None]]:
    """Return (what, CPU seconds, target or None), one row a line of the table."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    images = pair()
    rows: list[tuple[str, float, float | None]] = []
    for name, target in TARGETS.items():
        protocol = load_protocol(name)
        rows.append((f"protocol {name}", seconds(partial(protocol.evaluate, *images)), target))
        if target is not None:
            single = [partial(protocol.select([metric]).evaluate, *images) for metric in protocol.metrics]
            rows.append((f"  its metrics one by one, {name}", sum(map(seconds, single)), None))
    fused_rgb, visible_rgb = (np.stack([image] * 3, axis=2) for image in images[:2])
    in_colour = partial(load_protocol("vifb").evaluate, fused_rgb, visible_rgb, images[2])
    rows.append(("protocol vifb, in colour", seconds(in_colour), 0.5))
    fused, visible, infrared = (torch.from_numpy(image)[None] for image in images)

    def score(name: str, **options: object) -> Callable[[], object]:
        metric = load_metric(name, **options)
        return lambda: metric(MetricInputs(fused, visible, infrared))

    rows += [(f"FMI {feature}", seconds(score("fmi", feature=feature), 1), 1.0) for feature in FEATURES]
    rows += [(f"{name}, both sources", seconds(score(name)), None) for name in ("ssim", "ms-ssim", "vif", "psnr")]
    return rows + _libraries(images)


def _libraries(images: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[tuple[str, float, float | None]]:
    """The same quantities in other libraries, called once per source."""
    ensure_torchvision()
    import piq
    from skimage import metrics as skimage

    fused, visible, infrared = images
    tensors = [torch.from_numpy(image).double()[None, None] for image in images]

    def twice_numpy(function: Callable[..., object], **options: object) -> Callable[[], object]:
        return lambda: [function(source, fused, data_range=255, **options) for source in (visible, infrared)]

    def twice_torch(function: Callable[..., object], **options: object) -> Callable[[], object]:
        return lambda: [function(tensors[0], source, data_range=255.0, **options) for source in tensors[1:]]

    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    calls: dict[str, Callable[[], object]] = {
        "ssim, scikit-image": twice_numpy(skimage.structural_similarity, **wang),
        "psnr, scikit-image": twice_numpy(skimage.peak_signal_noise_ratio),
        "ssim, piq": twice_torch(piq.ssim, downsample=False),
        "ms-ssim, piq": twice_torch(piq.multi_scale_ssim),
        "vif, piq": twice_torch(piq.vif_p),
        "psnr, piq": twice_torch(piq.psnr),
    }
    try:
        from torchmetrics.functional import image as torchmetrics
    except ImportError:
        return [(name, seconds(call), None) for name, call in calls.items()]
    calls |= {
        "ssim, torchmetrics": twice_torch(torchmetrics.structural_similarity_index_measure),
        "ms-ssim, torchmetrics": twice_torch(torchmetrics.multiscale_structural_similarity_index_measure),
        "vif, torchmetrics": lambda: [
            torchmetrics.visual_information_fidelity(tensors[0], source) for source in tensors[1:]
        ],
        "psnr, torchmetrics": twice_torch(torchmetrics.peak_signal_noise_ratio),
    }
    return [(name, seconds(call), None) for name, call in calls.items()]


def table() -> str:
    """Return the measurements as text."""
    lines = [f"{'640 x 480, one pair, one thread':34} {'CPU s':>8} {'target':>8}"]
    for what, took, target in measure():
        lines.append(f"{what:34} {took:8.4f} {'' if target is None else f'{target:8.2f}'}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
