"""Keeps the libraries that train off the network and out of the user's home."""

from __future__ import annotations

import os
from pathlib import Path

_SWITCHES = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "disabled",
    "COMET_MODE": "disabled",
}
_FOLDERS = {"YOLO_CONFIG_DIR": "ultralytics", "MPLCONFIGDIR": "matplotlib", "TORCH_HOME": "torch"}
_MARK = "TGFBENCH_OFFLINE"


def offline(folder: Path) -> None:
    """Set the environment of this process and its children; to be called before ultralytics or mmengine is imported.

    Libraries read it once, at import: the first folder of a process stays, later calls change nothing. The engine calls
    it before it touches a task; a task calls it for those who use the task alone.

    Args:
        folder: where libraries may keep settings and caches; made when something is written.
    """
    if os.environ.get(_MARK):
        return
    os.environ[_MARK] = "1"
    os.environ.update(_SWITCHES)
    os.environ.update({name: str((folder / part).resolve()) for name, part in _FOLDERS.items()})
