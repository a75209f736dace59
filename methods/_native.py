"""What the methods that are networks of this package have in common."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from tgfbench.benchmark.errors import WeightsError
from tgfbench.benchmark.weights import Checkpoint
from tgfbench.methods._fast import FastNetwork
from tgfbench.methods.base import FusionMethod

if TYPE_CHECKING:
    from tgfbench.methods.objective import Objective


class NativeMethod(FusionMethod):
    """A fusion method with a network of its own: ``network.py``, ``fast.py`` and ``objective.py`` lie beside it.

    Subclasses read the checkpoint into ``network`` and set ``postprocess`` and, where texts steer it, ``text``.

    Attributes:
        network: what ``fast.py`` makes of ``network.py``'s, which is its ``reference``; in eval mode.
        postprocess: which steps follow the network.
        text: where text features come from; its ``identity`` names them.
        text_tokens: vectors of a text that ``untrained`` draws, 0 where the network takes no text.
        text_folders: subfolders of the option ``text_features``.
    """

    text_tokens: ClassVar[int] = 0
    text_folders: ClassVar[tuple[str, ...]] = (".",)
    checkpoint: Checkpoint
    network: FastNetwork[Any]
    postprocess: str
    text: Any = None

    def __init__(self, checkpoint: Checkpoint | None = None, device: torch.device | str = "cpu") -> None:
        if checkpoint is None:
            hint = f"use load_method({self.info.name!r}) for the shipped ones"
            raise WeightsError(f"loading {self.info.title}", found="no weights", hint=hint)
        super().__init__(checkpoint, device)

    @classmethod
    def objective(cls, **options: Any) -> Objective:
        """Return what ``tgfbench train`` minimises; the options are those of the class in ``objective.py``."""
        objective: type[Objective] = getattr(_beside(cls, "objective"), f"{cls.__name__}Objective")
        return objective(**options)

    @classmethod
    def untrained(cls, folder: Path, key: str) -> tuple[Path, dict[str, Any]]:
        """Write a checkpoint of the published configuration and text features, all of them random: for timing alone.

        Args:
            folder: for the files.
            key: of the sample that will be fused.

        Returns:
            The checkpoint and the options that go with it.
        """
        network = _beside(cls, "network").build_network()
        path = folder / "random.pt"
        torch.save({"model": network.state_dict(), "config": network.config}, path)
        if not cls.text_tokens:
            return path, {}
        text = np.random.default_rng(0).standard_normal((cls.text_tokens, network.config["text_width"]))
        for sub in cls.text_folders:
            (folder / sub).mkdir(exist_ok=True)
            np.save(folder / sub / f"{key}.npy", text.astype(np.float32))
        return path, {"text_features": folder}

    def provenance(self) -> dict[str, Any]:
        text = {} if self.text is None else {"text": self.text.identity}
        return {"postprocess": self.postprocess, **text, "network": self.network.reference.config}


def _beside(cls: type, name: str) -> Any:
    return import_module(f"{cls.__module__.rpartition('.')[0]}.{name}")
