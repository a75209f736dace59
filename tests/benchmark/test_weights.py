"""Checkpoints: found, verified, read without running code, and loaded exactly or refused with the reason."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tgfbench.benchmark.errors import WeightsError
from tgfbench.benchmark.weights import (
    Checkpoint,
    WeightsInfo,
    load_strict,
    read_checkpoint,
    resolve_checkpoint,
    sha256_of,
    state_dict_of,
)


class Code:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/should-never-exist",)


def catalogue(**fields: str) -> tuple[WeightsInfo, ...]:
    return (WeightsInfo(name="small", origin="project", **fields),)


def test_a_shipped_file_is_the_default_and_is_verified(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"weights")
    good = catalogue(file="w.bin", sha256=sha256_of(tmp_path / "w.bin"))
    found = resolve_checkpoint("net", good, tmp_path, None)
    assert found is not None
    assert (found.name, found.origin, found.info) == ("small", "project", good[0])
    with pytest.raises(WeightsError, match="expected: sha256 0000"):
        resolve_checkpoint("net", catalogue(file="w.bin", sha256="0000"), tmp_path, None)


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    entry = (WeightsInfo(name="paper", origin="authors", get="write to the authors"),)
    for request in (None, "paper"):
        with pytest.raises(WeightsError, match="write to the authors"):
            resolve_checkpoint("net", entry, tmp_path, request)
    with pytest.raises(WeightsError, match=r"neither a file nor a name.*\n.*paper.*; or the path of a checkpoint"):
        resolve_checkpoint("net", entry, tmp_path, "papper")
    with pytest.raises(WeightsError, match="no parameters"):
        resolve_checkpoint("average", (), tmp_path, "anything")


def test_a_users_file_is_called_the_users_unless_its_hash_is_known(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(b"x")
    found = resolve_checkpoint("net", catalogue(), tmp_path, path)
    assert found is not None
    assert (found.origin, found.name) == ("user", f"mine-{sha256_of(path)[:8]}")
    known = resolve_checkpoint("net", catalogue(sha256=sha256_of(path)), tmp_path, path)
    assert known is not None
    assert (known.origin, known.name) == ("project", "small")


def test_both_formats_are_read(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    torch.save({"model": state}, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors", {"config": '{"size": "tiny"}'})
    assert torch.equal(read_checkpoint(tmp_path / "a.pt")[0]["model"]["weight"], state["weight"])
    tensors, metadata = read_checkpoint(tmp_path / "a.safetensors")
    assert metadata["config"] == {"size": "tiny"}
    assert torch.equal(tensors["weight"], state["weight"])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".model"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"damaged{suffix}"
    for content in (b"", b"garbage that is no checkpoint", b"hello", b"\x80\x02"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="damaged"):
            read_checkpoint(path)


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(64, 64).state_dict(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-500])
    with pytest.raises(WeightsError, match=r"cut\.pt"):
        read_checkpoint(tmp_path / "cut.pt")


@pytest.mark.parametrize("write", [torch.save, lambda o, p: Path(p).write_bytes(pickle.dumps(o))], ids=["zip", "plain"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, write: object) -> None:
    write({"model": Code()}, tmp_path / "evil.pt")  # type: ignore[operator]
    with pytest.raises(WeightsError, match=r"evil\.pt"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not Path("/tmp/should-never-exist").exists()


def test_tensors_of_torchscript_are_read_without_its_code(tmp_path: Path) -> None:
    """OpenAI's own CLIP files are such archives."""
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Sequential(nn.Linear(3, 2).half()))
    scripted = torch.jit.script(module)
    torch.jit.save(scripted, tmp_path / "scripted.pt")
    content, _ = read_checkpoint(tmp_path / "scripted.pt")
    expected = scripted.state_dict()
    assert content.keys() == expected.keys()
    for name, value in expected.items():
        assert content[name].dtype == value.dtype
        assert torch.equal(content[name], value)


@pytest.mark.parametrize(("named", "problem"), [(os.system, "system"), (print, "print"), (eval, "eval")])
def test_a_torchscript_archive_that_would_run_code_is_refused(tmp_path: Path, named: object, problem: str) -> None:
    class Call:
        def __reduce__(self) -> tuple[object, ...]:
            return named, ("1",)

    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps(Call(), protocol=2))
        archive.writestr("evil/constants.pkl", b"")
    with pytest.raises(WeightsError, match=rf"(?s)evil\.pt.*it would call .*{problem}"):
        read_checkpoint(tmp_path / "evil.pt")


def test_the_command_line_beside_a_state_dict_is_read(tmp_path: Path) -> None:
    """Text-IF's training script stores it, and those of others."""
    content = {"model": nn.Linear(2, 1).state_dict(), "args": argparse.Namespace(lr=1e-4)}
    torch.save(content, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")[0]["args"].lr == 1e-4
    torch.save({"args": argparse.Namespace(payload=Code())}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not Path("/tmp/should-never-exist").exists()


@pytest.mark.parametrize("container", ["model", "state_dict", ""])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_state_dict_is_found_in_its_container(container: str, prefix: str) -> None:
    state = nn.Linear(2, 1).state_dict()
    stored = {f"{prefix}{name}": value for name, value in state.items()}
    assert state_dict_of({container: stored, "epoch": 3} if container else stored) == state
    assert state_dict_of([1]) == [1]


def test_entries_that_are_no_tensors_are_listed(tmp_path: Path) -> None:
    state = {"net": nn.Linear(2, 1).state_dict(), "epoch": 3}
    with pytest.raises(WeightsError, match=r"named tensors \(no tensors: net, epoch\)"):
        load_strict(nn.Linear(2, 1), state, tmp_path / "other.pt")  # type: ignore[arg-type]


def test_a_state_dict_must_fit_exactly(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    good = {key: value + 1 for key, value in network.state_dict().items()}
    load_strict(network, good, tmp_path / "good")
    assert torch.equal(network.state_dict()["0.weight"], good["0.weight"])
    bad = {**good, "2.weight": torch.zeros(1), "1.bias": torch.zeros(7)}
    del bad["0.bias"]
    with pytest.raises(WeightsError) as caught:
        load_strict(network, bad, tmp_path / "bad")
    for part in ("1 missing: 0.bias", "1 unexpected: 2.weight", "1 misshaped: 1.bias (7,), expected (2,)"):
        assert part in str(caught.value)
    with pytest.raises(WeightsError, match="a state dict"):
        load_strict(network, {"0.weight": 3}, tmp_path / "bad")  # type: ignore[dict-item]


def test_what_weights_were_trained_on_comes_from_the_catalogue_or_the_card_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"weights")
    own = Checkpoint("net", path, sha256_of(path), "user")
    assert (own.trained_keys, own.card) == ({}, "")
    keys = {"msrs:train": ["a", "b"], "msrs:test": ["c"], "tno:test": ["d"]}
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"sha256": own.sha256, "steps": 7, "keys": keys}))
    assert own.trained_keys == {"msrs": ("a", "b", "c"), "tno": ("d",)}
    assert own.card == "trained by the user with tgfbench: 7 steps on msrs:train (2), msrs:test (1), tno:test (1)"
    for other in ("[]", "no json", json.dumps({"sha256": "of another file", "steps": 7, "keys": keys})):
        card.write_text(other)
        assert (own.trained_keys, own.card) == ({}, "")
    listed = WeightsInfo(name="x", origin="project", trained_keys={"tno": ("1",)}, card="by us")
    known = Checkpoint("x", path, own.sha256, "project", listed)
    assert (known.trained_keys, known.card) == ({"tno": ("1",)}, "by us")
