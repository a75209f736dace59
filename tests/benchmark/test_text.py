"""Text encoders: features that do not depend on the batch, one computation per distinct text, clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.benchmark.text import CLIP, MiniLM, TextEncoder, load_text_encoder


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
