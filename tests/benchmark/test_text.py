"""Text encoders: features that do not depend on the batch, one computation per distinct text, clear refusals."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.benchmark.text import CLIP, FeatureFiles, MiniLM, TextEncoder, load_text_encoder


class Letters(TextEncoder):
    """One token per letter; counts its computations."""

    name, width, identity = "letters", 2, "letters:1"

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[str] = []

    def _encode_one(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        self.computed.append(text)
        tokens = np.array([[ord(c), i] for i, c in enumerate(f"<{text}>")], np.float32)
        return tokens, tokens.mean(axis=0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TGFBENCH_CACHE", str(tmp_path))
    return tmp_path


def test_each_distinct_text_is_computed_once_and_kept_on_disk(cache: Path) -> None:
    first = Letters()
    features = first.encode(["ab", "", "ab"])
    assert first.computed == ["ab", ""]
    assert features.valid.tolist() == [[True] * 4, [True, True, False, False], [True] * 4]
    assert torch.equal(features.tokens[1, 2:], torch.zeros(2, 2))
    second = Letters()
    assert torch.equal(second.encode(["ab"]).tokens, features.tokens[:1])
    assert second.computed == []
    for path in cache.rglob("*.npz"):
        path.write_bytes(b"torn")
    third = Letters()
    assert torch.equal(third.encode(["ab"]).tokens, features.tokens[:1])
    assert third.computed == ["ab"]


@pytest.mark.parametrize("kept", [0, 60, -30])
def test_a_damaged_file_of_the_cache_is_made_again(kept: int, cache: Path) -> None:
    expected = Letters().encode(["ab"]).tokens
    (path,) = cache.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:kept])
    assert torch.equal(Letters().encode(["ab"]).tokens, expected)


def test_feature_files_that_are_no_arrays_are_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, feature=np.ones((1, 4)))
    for content in (buffer.getvalue(), buffer.getvalue()[:60], b"PK\x03\x04", b"", b"garbage"):
        (tmp_path / "feature.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"(?s)feature\.npy.*shape \(L, 4\)"):
            FeatureFiles(tmp_path / "feature.npy", 4).read("scene")


def test_an_unwritable_cache_costs_nothing_but_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TGFBENCH_CACHE", str(tmp_path / "file" / "below"))
    assert Letters().encode(["a"]).tokens.shape == (1, 3, 2)


def test_minilm_is_a_sentence_encoder() -> None:
    """Paraphrases lie closer than different scenes, whatever they are batched with."""
    encoder = load_text_encoder("MiniLM".lower())
    texts = ["a man crosses the street at night", "at night a person walks over the road", "a bowl of fresh fruit", ""]
    features = encoder.encode(texts)
    assert features.tokens.shape[::2] == (4, MiniLM.width)
    unit = torch.nn.functional.normalize(features.pooled, dim=1)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.3
    alone = MiniLM().encode([texts[2]])
    assert torch.equal(alone.pooled[0], features.pooled[2])
    states = features.tokens[0][features.valid[0]]
    torch.testing.assert_close(states.mean(dim=0), features.pooled[0])


def test_clip_without_weights_says_how_to_get_them(tmp_path: Path) -> None:
    for weights in (None, tmp_path / "absent.pt"):
        with pytest.raises(WeightsError, match="open_clip checkpoint"):
            load_text_encoder("clip", weights=weights)
    with pytest.raises(UsageError, match="did you mean minilm"):
        load_text_encoder("minilmm")


def test_clip_features_are_those_of_open_clip(tmp_path: Path) -> None:
    """With any weights, pooled equals open_clip's own text features and tokens end at the end-of-text token."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("RN50", device="cpu").eval()
    torch.save(model.state_dict(), tmp_path / "rn50.pt")
    encoder = CLIP(tmp_path / "rn50.pt", "RN50")
    features = encoder.encode(["a person"])
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer("RN50")(["a person"]))
    torch.testing.assert_close(features.pooled, expected, rtol=1e-4, atol=1e-5)
    assert features.tokens.shape == (1, 4, encoder.width)
    assert encoder.identity.startswith("clip-RN50:")


SIZES = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture
def tower(cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The tensors of a text tower much smaller than CLIP's; open_clip takes it for RN50's."""
    import open_clip
    from open_clip.transformer import TextTransformer

    torch.manual_seed(0)
    state: dict[str, Tensor] = TextTransformer(**SIZES, output_dim=8).state_dict()
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: {"embed_dim": 8, "text_cfg": SIZES})
    return state


def archived(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors as a TorchScript archive, the format of OpenAI's own files."""
    root = nn.Module()
    for name, value in state.items():
        *folders, last = name.split(".")
        module = root
        for folder in folders:
            if folder not in module._modules:
                module.add_module(folder, nn.Module())
            module = module.get_submodule(folder)
        module.register_buffer(last, value)
    torch.jit.save(torch.jit.script(root), path)


@pytest.mark.parametrize("layout", ["whole", "parallel", "Text-IF", "TorchScript"])
def test_clip_is_found_in_any_layout_of_its_files(layout: str, tower: dict[str, Tensor], tmp_path: Path) -> None:
    rest = {"visual.proj": torch.zeros(3, 4), "logit_scale": torch.tensor(1.0), "input_resolution": torch.tensor(224)}
    path, whole = tmp_path / "clip.pt", {**tower, **rest}
    if layout == "TorchScript":
        archived({**whole, "token_embedding.weight": tower["token_embedding.weight"].half()}, path)
    elif layout == "Text-IF":
        embedded = {f"model_clip.{name}": value for name, value in whole.items()}
        torch.save({"model": {**embedded, "output.weight": torch.zeros(3)}, "epoch": 1}, path)
    else:
        parallel = {"state_dict": {f"module.{name}": value for name, value in whole.items()}}
        torch.save(parallel if layout == "parallel" else whole, path)
    torch.save(tower, tmp_path / "tower.pt")
    expected = CLIP(tmp_path / "tower.pt", "RN50").encode(["two people"])
    found = CLIP(path, "RN50").encode(["two people"])
    tolerance = 1e-2 if layout == "TorchScript" else 0
    assert expected.tokens.std() > 0.1
    torch.testing.assert_close(found.pooled, expected.pooled, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.tokens, expected.tokens, rtol=0, atol=tolerance)


def test_what_is_no_clip_is_named(tower: dict[str, Tensor], tmp_path: Path) -> None:
    other: Any
    for other in (nn.Linear(2, 2).state_dict(), {**tower, "ln_final.bias": torch.zeros(3)}, [1, 2]):
        torch.save(other, tmp_path / "other.pt")
        with pytest.raises(WeightsError, match=r"(?s)other\.pt into TextTransformer.*(missing|misshaped|list)"):
            CLIP(tmp_path / "other.pt", "RN50").encode(["a person"])


def test_long_texts_and_other_kinds_of_towers_are_refused_by_clip(
    tower: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    torch.save(tower, tmp_path / "tower.pt")
    with pytest.raises(DataError, match=r"(?s)80 tokens.*at most 75"):
        CLIP(tmp_path / "tower.pt", "RN50").encode([" ".join(["light"] * 80)])
    for config in (None, {"embed_dim": 8, "text_cfg": {"hf_model_name": "bert"}}):
        monkeypatch.setattr(open_clip, "get_model_config", lambda _, config=config: config)
        with pytest.raises(UsageError, match=r"the architecture 'RN50'"):
            CLIP(tmp_path / "tower.pt", "RN50").encode(["a person"])
