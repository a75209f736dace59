"""mmsegmentation as a guest: importable beside this torch, off the network, silent and out of the home folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tgfbench.benchmark.compat import ensure_mmcv_ops, ensure_torchvision
from tgfbench.metrics.downstream.offline import offline


def import_mmseg(folder: Path) -> None:
    """Import mmsegmentation; call before any other import of it.

    Args:
        folder: where libraries may keep settings and caches.
    """
    offline(folder)
    _import_yapf(Path(os.environ["MPLCONFIGDIR"]).parent)
    ensure_torchvision()
    ensure_mmcv_ops()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mmseg.datasets
        import mmseg.evaluation
        import mmseg.models  # noqa: F401  (fills the registries)


def _import_yapf(folder: Path) -> None:
    """Import what mmengine formats its configurations with; at import it writes tables into the user's cache."""
    kept = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder / "yapf")
    try:
        import yapf.yapflib.yapf_api  # noqa: F401
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if kept is not None:
            os.environ["XDG_CACHE_HOME"] = kept


@contextmanager
def undisturbed() -> Iterator[None]:
    """Give back as they were the settings of the process that mmengine changes, and hide the library's warnings."""
    import random

    import cv2
    import numpy as np
    import torch

    threads = cv2.getNumThreads()
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    generators = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        cv2.setNumThreads(threads)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
        random.setstate(generators[0])
        np.random.set_state(generators[1])
