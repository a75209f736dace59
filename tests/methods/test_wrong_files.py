"""Every method with weights explains files that are not what it needs: which one, what is in it, what was expected."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tgfbench.benchmark.errors import DataError, WeightsError
from tgfbench.benchmark.weights import folder_of
from tgfbench.methods import METHODS, FusionBatch, load_method

PAYLOAD = "payload-ran"


class Payload:
    """Would run a command if the pickle it lies in were trusted."""

    def __reduce__(self) -> object:
        return os.mkdir, (PAYLOAD,)


def shipped(name: str) -> Path | None:
    files = [entry.file for entry in METHODS.load(name).info.weights if entry.file]
    return folder_of(METHODS.load(name)) / files[0] if files else None


WITH_WEIGHTS = [name for name in METHODS.names() if shipped(name)]
WITH_FEATURES = [name for name in WITH_WEIGHTS if getattr(METHODS.load(name), "text_tokens", 0)]


def write(kind: str, name: str, folder: Path) -> Path:
    """Write a file that is wrong for a method."""
    own, other = shipped(name), shipped(WITH_WEIGHTS[WITH_WEIGHTS.index(name) - 1])
    assert own and other
    path = folder / f"{kind}.{'safetensors' if kind in ('other', 'cut') else 'pt'}"
    if kind == "other":
        shutil.copy(other, path)
    elif kind == "cut":
        path.write_bytes(own.read_bytes()[:-100])
    elif kind == "cut-torch":
        torch.save({"model": {"weight": torch.zeros(1000)}}, path)
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "other-torch":
        torch.save({"model": {"layer.weight": torch.zeros(3)}}, path)
    elif kind == "code":
        torch.save({"model": Payload()}, path)
    return path


@pytest.mark.parametrize("name", WITH_WEIGHTS)
@pytest.mark.parametrize("kind", ["other", "other-torch", "cut", "cut-torch", "code"])
def test_a_wrong_checkpoint_is_explained(kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(kind, name, tmp_path)
    with pytest.raises(WeightsError) as caught:
        load_method(name, weights=path, device="cpu")
    assert str(path) in caught.value.doing
    assert caught.value.found
    assert caught.value.expected
    assert not Path(PAYLOAD).exists()
    assert kind != "code" or "mkdir" in caught.value.found


@pytest.mark.parametrize("name", WITH_FEATURES)
def test_text_features_of_another_width_are_explained(name: str, tmp_path: Path) -> None:
    for sub in METHODS.load(name).text_folders:  # type: ignore[attr-defined]
        (tmp_path / sub).mkdir(exist_ok=True)
        np.save(tmp_path / sub / "scene.npy", np.zeros((1, 100), np.float32))
    method = load_method(name, device="cpu", text_features=tmp_path)
    with pytest.raises(DataError) as caught:
        method.fuse(FusionBatch(torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32), [""], None, ["scene"]))
    assert "scene.npy" in caught.value.doing
    assert "(1, 100)" in caught.value.found
    assert "384" in caught.value.expected
