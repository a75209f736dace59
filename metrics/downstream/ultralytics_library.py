"""ultralytics as a guest: off the network, silent, out of the home folder, and never running a checkpoint's code."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.metrics.downstream.offline import offline

_SERVICES = ("sync", "clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")


def import_ultralytics(folder: Path) -> None:
    """Import ultralytics so that it keeps to itself; call before any other import of it.

    Args:
        folder: where the library may keep its settings file.
    """
    offline(folder)
    # Checkpoints are read and networks are built from known layer classes only, without unpickling or evaluating more.
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "true"
    os.environ.setdefault("YOLO_VERBOSE", "false")
    ensure_torchvision()
    import torch
    from PIL import Image

    originals = Image.open, torch.save
    from ultralytics import SETTINGS
    from ultralytics.nn import tasks

    # Its replacements serve the whole process; that of PIL wants to install a plugin for every file that is no image.
    Image.open, torch.save = originals
    tasks.SAFE_LOAD = True
    # The plain update of a dict: the library's own would write the file, which may be the user's.
    dict.update(SETTINGS, {service: False for service in _SERVICES if service in SETTINGS})


@contextmanager
def logging_to(path: Path) -> Iterator[logging.Logger]:
    """Send what ultralytics has to say to a file instead of the screen."""
    import ultralytics.utils
    from ultralytics.utils import LOGGER

    path.parent.mkdir(parents=True, exist_ok=True)
    handlers, level, verbose = LOGGER.handlers[:], LOGGER.level, ultralytics.utils.VERBOSE
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.handlers[:] = [file]
    LOGGER.setLevel(logging.INFO)
    ultralytics.utils.VERBOSE = False  # its progress bars
    try:
        yield LOGGER
    finally:
        LOGGER.handlers[:] = handlers
        LOGGER.setLevel(level)
        ultralytics.utils.VERBOSE = verbose
        file.close()
