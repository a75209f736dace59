"""BLIP and BLIP-2 text encoders on tiny random models, and ready-made features from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.benchmark.errors import DataError, WeightsError
from tgfbench.benchmark.text import FeatureFiles, load_text_encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "crosses", "the", "street"]
LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SMALL, VISION = {**LAYERS, "vocab_size": 10}, {**LAYERS, "image_size": 28}


@pytest.fixture(scope="module", autouse=True)
def torchvision_loads() -> None:
    ensure_torchvision()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TGFBENCH_CACHE", str(tmp_path / "cache"))


def saved(name: str, folder: Path) -> Any:
    """Write a tiny model of that kind with its tokenizer and return it."""
    import transformers

    torch.manual_seed(0)
    if name == "blip":
        config = transformers.BlipConfig(text_config={**SMALL, "encoder_hidden_size": 16}, vision_config=VISION)
        model = transformers.BlipForImageTextRetrieval(config)
    else:
        config = transformers.Blip2Config(
            vision_config={**VISION, "patch_size": 14},
            qformer_config={**SMALL, "encoder_hidden_size": 16, "use_qformer_text_input": True},
            image_text_hidden_size=8,
        )
        model = transformers.Blip2TextModelWithProjection(config)
    model.eval().save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", ["blip", "blip2-qformer"])
def test_tokens_are_the_states_of_the_text_branch(name: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path)
    encoder = load_text_encoder(name, weights=tmp_path)
    features = encoder.encode(["the man crosses the street", "a man"])
    assert features.tokens.shape == (2, 7, encoder.width) == (2, 7, 16)
    assert features.valid.sum(dim=1).tolist() == [7, 4]
    ids = torch.tensor([[2, 5, 6, 3]])
    branch = model.text_encoder if name == "blip" else model
    with torch.inference_mode():
        expected = branch(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    torch.testing.assert_close(features.tokens[1, :4], expected)
    torch.testing.assert_close(features.pooled[1], expected[0])


@pytest.mark.parametrize("name", ["minilm", "blip", "blip2-qformer"])
def test_loading_prints_no_bar_and_leaves_the_bars_of_the_library_as_they_are(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    if name != "minilm":
        saved(name, tmp_path)
    capfd.readouterr()
    load_text_encoder(name, **({} if name == "minilm" else {"weights": tmp_path})).encode(["a man"])
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


@pytest.mark.parametrize(("name", "longest"), [("blip", 32), ("blip2-qformer", 512)])
def test_long_texts_are_cut(name: str, longest: int, tmp_path: Path) -> None:
    saved(name, tmp_path)
    features = load_text_encoder(name, weights=tmp_path).encode(["man " * 600])
    assert features.tokens.shape[1] == longest


def test_identity_follows_the_content(tmp_path: Path) -> None:
    saved("blip", tmp_path / "one")
    saved("blip", tmp_path / "two")
    one, two = (load_text_encoder("blip", weights=tmp_path / place).identity for place in ("one", "two"))
    assert one == two
    (tmp_path / "two" / "vocab.txt").write_text("other")
    assert load_text_encoder("blip", weights=tmp_path / "two").identity != one


@pytest.mark.parametrize("name", ["blip", "blip2-qformer"])
def test_missing_weights_are_explained(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Salesforce/"):
        load_text_encoder(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"(?s)empty.*folder with model and tokenizer.*Salesforce/"):
        load_text_encoder(name, weights=tmp_path / "empty").encode(["a man"])


def test_features_come_from_the_file_of_the_sample(tmp_path: Path) -> None:
    arrays = {name: np.random.default_rng(len(name)).standard_normal((1, 3, 5)).astype(np.float32) for name in "ab"}
    arrays["b"] = arrays["b"][0] * 2
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    folder = FeatureFiles(tmp_path, 5)
    assert np.array_equal(folder.read("a"), arrays["a"][0])
    assert np.array_equal(folder.read("b"), arrays["b"])
    one = FeatureFiles(tmp_path / "a.npy", 5)
    assert torch.equal(one.read("anything"), folder.read("a"))
    assert folder.identity != one.identity
    with pytest.raises(DataError, match=r"no c\.npy among 2 files"):
        folder.read("c")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (np.zeros((1, 3, 4), np.float32), r"shape \(1, 3, 4\)"),
        (np.zeros((2, 3, 5), np.float32), r"shape \(2, 3, 5\)"),
        (np.zeros((0, 5), np.float32), r"shape \(0, 5\)"),
        (np.zeros((3, 5), np.int64), "int64"),
        (np.full((3, 5), np.nan, np.float32), "missing values"),
        (np.array([{}]), "allow_pickle"),
        (None, "."),
    ],
)
def test_a_wrong_feature_file_is_named(content: np.ndarray | None, found: str, tmp_path: Path) -> None:
    path = tmp_path / "scene.npy"
    path.write_bytes(b"torn") if content is None else np.save(path, content)
    with pytest.raises(DataError, match=rf"(?s)scene\.npy.*{found}.*\(L, 5\)"):
        FeatureFiles(tmp_path, 5).read("scene")


def test_a_place_without_features_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent.npy"):
        with pytest.raises(DataError, match=path.name):
            FeatureFiles(path, 5)
