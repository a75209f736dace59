"""Association models: tiny random CLIPSeg, CLIP and BLIP, and the labels of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tgfbench.benchmark.compat import ensure_torchvision
from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.metrics.association import MODELS, LabelAssociation, load_association

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "crosses", "the", "street"]
TOWER = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {**TOWER, "vocab_size": len(WORDS), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
VISION = {**TOWER, "image_size": 28, "patch_size": 7}
MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
SIZE = (40, 60)


def tiny(kind: str) -> torch.nn.Module:
    ensure_torchvision()
    import transformers

    torch.manual_seed(0)
    if kind == "clip":
        return transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8))
    if kind == "blip":
        config = transformers.BlipConfig(
            text_config={**TEXT, "encoder_hidden_size": 16}, vision_config=VISION, image_text_hidden_size=8
        )
        return transformers.BlipForImageTextRetrieval(config)
    config = transformers.CLIPSegConfig(
        text_config=TEXT, vision_config=VISION, projection_dim=8, reduce_dim=8, extract_layers=[0, 1, 2],
        decoder_num_attention_heads=2, decoder_intermediate_size=8,
    )  # fmt: skip
    return transformers.CLIPSegForImageSegmentation(config)


def saved(kind: str, folder: Path) -> torch.nn.Module:
    """Write a tiny model of that kind with tokenizer and preprocessor, and return it."""
    import transformers

    model = tiny(kind).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    transformers.ViTImageProcessor(size=28, image_mean=MEAN, image_std=DEVIATION).save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_gives_a_map_per_phrase(kind: str, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    association = load_association(tmp_path)
    heat = association.heat(image, ["the man", "a street"])
    assert heat.shape == ((2, 28, 28) if kind == "clipseg" else (2, 4, 4))
    assert heat.dtype == np.float64 and np.isfinite(heat).all() and np.ptp(heat) > 0
    alone = np.concatenate([association.heat(image, [phrase]) for phrase in ("the man", "a street")])
    np.testing.assert_allclose(heat, alone, atol=1e-5)


def test_loading_prints_no_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved("clip", tmp_path)
    capfd.readouterr()
    load_association(tmp_path).heat(np.zeros((*SIZE, 3), np.uint8), ["the man"])
    assert "Loading" not in capfd.readouterr().err


def test_clip_maps_are_cosines_of_projected_patches(tmp_path: Path) -> None:
    model = saved("clip", tmp_path)
    image = np.full((28, 28, 3), 100, np.uint8)
    image[:7, 21:] = 250
    (heat,) = load_association(tmp_path).heat(image, ["the man"])
    pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(
        DEVIATION
    )[:, None, None]
    with torch.inference_mode():
        states = model.vision_model(pixel_values=pixels[None]).last_hidden_state[0]
        ids = torch.tensor([[2, 8, 6, 3]])
        text = model.text_projection(model.text_model(input_ids=ids).pooler_output)[0]
        for row, column in ((0, 3), (2, 1)):
            patch = model.visual_projection(model.vision_model.post_layernorm(states[1 + 4 * row + column]))
            assert heat[row, column] == pytest.approx(float(torch.cosine_similarity(patch, text, 0)), abs=1e-5)


@pytest.mark.parametrize("content", [None, "{}", '{"model_type": "vit"}'])
def test_folders_that_are_no_association_model_are_refused(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match="--model labels"):
        load_association(tmp_path)


def test_a_damaged_checkpoint_is_refused_by_its_folder(tmp_path: Path) -> None:
    saved("clip", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="CLIP from"):
        load_association(tmp_path).heat(np.zeros((*SIZE, 3), np.uint8), ["a man"])


def test_labels_close_to_the_phrase_are_warmer() -> None:
    boxes = np.array([[0, 0, 20, 20], [30, 10, 50, 30]], np.float32)
    heat = LabelAssociation(boxes, ["person", "tree"]).heat(np.zeros((*SIZE, 3), np.uint8), ["the pedestrians"])
    assert heat.shape == (1, *SIZE)
    assert heat[0, 5, 5] > heat[0, 20, 40] >= 0 and heat[0, 35, 5] == 0


def test_labels_without_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2 boxes, 1 name\b"):
        LabelAssociation(np.zeros((2, 4)), ["person"])
