"""Text-IF equals the authors' code; its rewrite for inference equals the network; its inputs are checked."""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.benchmark.text import EmbeddedCLIP, MiniLM, load_text_encoder
from tgfbench.benchmark.weights import Checkpoint
from tgfbench.methods import FusionBatch, create_method
from tgfbench.methods.text_if.fast import FastTextIF
from tgfbench.methods.text_if.method import NEUTRAL, TextIF, resized, stretched
from tgfbench.methods.text_if.network import TextIFNetwork, build_network

CASES = golden.case_names("text-if", "case")
TOLERANCE = 1e-4
NOISE = 3e-5
BLOCK_NOISE = 1e-5
DIM = 512


def special(perturbed: bool) -> golden.Special:
    """The dossier's rule for temperatures."""

    def value(name: str, drawn: np.ndarray) -> np.ndarray | None:
        return 1 + perturbed * np.float32(0.5) * np.abs(drawn) if name.endswith("temperature") else None

    return value


def small(text_width: int = DIM, seed: int = 0) -> TextIFNetwork:
    """A small network with all parameters drawn, so that none is neutral by its initial value."""
    filled = golden.fill(build_network(size="small", text_width=text_width), f"{seed}:", special(perturbed=True))
    assert isinstance(filled, TextIFNetwork)
    return filled


def random_inputs(height: int, width: int, count: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(height)
    drawn = {
        "visible": torch.rand(count, 3, height, width, generator=generator),
        "infrared": torch.rand(count, 1, height, width, generator=generator),
        "text_feature": 0.4 * torch.randn(count, DIM, generator=generator),
    }
    return {name: value.to(dtype) for name, value in drawn.items()}


def inputs(case: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        "visible": golden.image(case["vis_resized_u8"].transpose(2, 0, 1), dtype) / 255,
        "infrared": golden.image(case["ir_resized_u8"], dtype) / 255,
        "text_feature": torch.from_numpy(case["text_feature"]).to(dtype),
    }


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> TextIF:
    """The method with a network of the published size; the golden cases' weights lie in a file like the authors'."""
    folder = tmp_path_factory.mktemp("text-if")
    for name in CASES:
        np.save(folder / f"{name}.npy", golden.load_case("text-if", name)["text_feature"])
    weights = golden.golden_state(build_network().state_dict(), "", special(perturbed=False))
    args = argparse.Namespace(epochs=120, lr=1e-4)
    content = {"model": weights, "optimizer": {}, "lr_scheduler": {}, "epoch": 99, "args": args}
    torch.save(content, folder / "text_fusion.pth")
    return loaded(folder / "text_fusion.pth", text_features=folder)


def set_temperatures(network: TextIFNetwork, perturbed: bool) -> None:
    """Cases differ in nothing else of their weights."""
    state = {name: value for name, value in network.state_dict().items() if name.endswith("temperature")}
    network.load_state_dict(golden.golden_state(state, "", special(perturbed)), strict=False)


def loaded(weights: Path, **options: Any) -> TextIF:
    method = create_method(TextIF, options, weights=weights, device="cpu")
    assert isinstance(method, TextIF)
    return method


def test_keys_and_shapes_are_the_authors() -> None:
    with torch.device("meta"):
        own = {name: tuple(value.shape) for name, value in build_network().state_dict().items()}
    assert list(own.items()) == list(golden.official_shapes("text-if").items())
    assert sum(np.prod(shape, dtype=int) for shape in own.values()) == 63_839_230


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_network_and_rewrite_equal_the_authors_code(name: str, official: TextIF) -> None:
    case, seen = golden.load_case("text-if", name), {}
    network = official.network.reference
    set_temperatures(network, bool(case["perturbed"]))
    watched = {
        "enc_vis_level4": network.encoder_A.encoder_level4,
        "enc_ir_level1": network.encoder_B.encoder_level1,
        "prompt_guided_level4": network.prompt_guidance_4,
        "decoder_level2": network.decoder_level2,
    }
    hooks = [
        module.register_forward_hook(lambda _, __, output, part=part: seen.update({part: output[0]}))
        for part, module in watched.items()
    ]
    fused = network(**inputs(case))
    for hook in hooks:
        hook.remove()
    assert golden.greatest_deviation(fused[0], case["fused"]) < TOLERANCE / 2
    assert golden.greatest_deviation(seen["enc_vis_level4"], case["enc_vis_level4"]) < TOLERANCE
    assert golden.greatest_deviation(seen["enc_ir_level1"][:4], case["enc_ir_level1_ch0_3"]) < TOLERANCE
    assert golden.greatest_deviation(seen["prompt_guided_level4"], case["prompt_guided_level4"]) < TOLERANCE
    assert golden.greatest_deviation(seen["decoder_level2"][:4], case["decoder_level2_ch0_3"]) < TOLERANCE
    fast = official.network(**inputs(case))
    assert golden.greatest_deviation(fast[0], case["fused"]) < TOLERANCE / 2


@pytest.mark.parametrize("name", CASES[1:2] or CASES)
@torch.inference_mode()
def test_wide_convolutions_round_no_worse_than_the_reference(name: str, official: TextIF) -> None:
    case = golden.load_case("text-if", name)
    set_temperatures(official.network.reference, bool(case["perturbed"]))
    exact = copy.deepcopy(official.network.reference).double()(**inputs(case, torch.float64))
    assert golden.greatest_deviation(official.network.reference(**inputs(case)), exact) < NOISE
    assert golden.greatest_deviation(official.network(**inputs(case)), exact) < NOISE


@pytest.mark.parametrize("name", CASES)
def test_method_saves_the_authors_pixels(name: str, official: TextIF) -> None:
    case = golden.load_case("text-if", name)
    set_temperatures(official.network.reference, bool(case["perturbed"]))
    pair = golden.pair(case)
    pair.keys[0] = name
    saved = golden.to_uint8(official.saved(pair))
    difference = np.abs(saved.astype(int) - case["fused_png_u8"])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
    assert official.fuse(pair).shape == pair.visible.shape
    if saved.shape == case["vis_u8"].shape:
        assert np.array_equal(golden.to_uint8(official.fuse(pair)), saved)


@pytest.mark.parametrize("name", CASES)
def test_images_are_resized_and_stretched_as_the_authors_do(name: str) -> None:
    case = golden.load_case("text-if", name)
    pair, size = golden.pair(case), case["vis_resized_u8"].shape[:2]
    assert np.array_equal(golden.to_uint8(resized(pair.visible, size)), case["vis_resized_u8"])
    infrared = (resized(pair.infrared, size)[0, 0] * 255).round().numpy()
    assert np.array_equal(infrared, case["ir_resized_u8"])
    probe = golden.image(case["post_probe_in"].transpose(2, 0, 1))
    difference = np.abs(golden.to_uint8(stretched(probe)).astype(int) - case["post_probe_out_u8"])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_stretching_uses_the_whole_range_of_each_image() -> None:
    images = torch.stack([torch.linspace(0.2, 0.6, 48).view(3, 4, 4), torch.full((3, 4, 4), 0.3)])
    images[0, 0, 0, 0] = -1.0  # clipped before it is taken for the least value
    out = stretched(images)
    assert (out[0].min(), out[0].max()) == (0, 1)
    assert float(out[0, 1, 0, 0]) * 255 == pytest.approx(round(float(images[0, 1, 0, 0]) / 0.6 * 255), abs=1e-4)
    assert not out[1].any()


@pytest.mark.parametrize(("height", "width", "rows"), [(40, 56, None), (40, 56, 3), (24, 72, 8), (8, 8, 2)])
@torch.inference_mode()
def test_nothing_but_rounding_differs(height: int, width: int, rows: int | None) -> None:
    """Strips must not show; odd numbers of level 4's rows and columns."""
    network, given = small().double(), random_inputs(height, width, dtype=torch.float64)
    exact = network(**given)
    assert golden.greatest_deviation(FastTextIF(network, rows)(**given), exact) < 1e-12
    given = {name: value.float() for name, value in given.items()}
    assert golden.greatest_deviation(network.float()(**given), exact) < NOISE
    assert golden.greatest_deviation(FastTextIF(network, rows)(**given), exact) < NOISE


@pytest.mark.parametrize(("size", "measure"), [((480, 640), None), ((472, 632), FastTextIF)])
@torch.inference_mode()
def test_rewrite_is_precise_at_full_size(size: tuple[int, int], measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second size the float64 rewrite, equal to the network above, is the measure: it takes less time."""
    monkeypatch.setattr("tgfbench.methods.text_if.fast.WINOGRAD_CHANNELS", 1)
    network = small()
    fused = FastTextIF(network)(**random_inputs(*size))
    network.double()
    exact = (measure(network) if measure else network)(**random_inputs(*size, dtype=torch.float64))
    assert exact.std() > 0.5
    assert golden.greatest_deviation(fused, exact) < NOISE


@torch.inference_mode()
def test_sums_over_a_whole_image_are_precise() -> None:
    """Running float32 sums over so many pixels are off by a hundred times what small images show."""
    network = small()
    blocks = network.part("encoder_A").part("encoder_level1")
    image = 1 + torch.rand(1, 8, 472, 632, generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(blocks).double()(image.double())
    assert golden.greatest_deviation(blocks(image), exact) < BLOCK_NOISE
    fast = FastTextIF(network)._blocks(blocks, image[0].permute(1, 2, 0).contiguous())
    assert golden.greatest_deviation(fast.permute(2, 0, 1), exact[0]) < BLOCK_NOISE


def test_black_crops_have_gradients() -> None:
    network, given = small(), random_inputs(16, 16)
    network(**{**given, "visible": torch.zeros(1, 3, 16, 16)}).square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)


@torch.inference_mode()
def test_winograd_convolutions_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """All convolutions of a small network are too narrow for them unless told otherwise."""
    monkeypatch.setattr("tgfbench.methods.text_if.fast.WINOGRAD_CHANNELS", 1)
    network, given = small().double(), random_inputs(40, 56, dtype=torch.float64)
    assert golden.greatest_deviation(FastTextIF(network, rows=6)(**given), network(**given)) < 1e-12


@torch.inference_mode()
def test_images_of_a_batch_do_not_influence_each_other() -> None:
    network, given = small(), random_inputs(24, 40, count=3)
    for run in (network, FastTextIF(network)):
        alone = [run(**{name: value[row : row + 1] for name, value in given.items()}) for row in range(3)]
        torch.testing.assert_close(run(**given), torch.cat(alone), rtol=0, atol=1e-5)
        one_text = run(**{**given, "text_feature": given["text_feature"][:1]})
        torch.testing.assert_close(one_text[:1], alone[0], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_an_infrared_image_in_three_channels_may_be_grey() -> None:
    network, given = small(), random_inputs(16, 24)
    for run in (network, FastTextIF(network)):
        assert torch.equal(run(**given), run(**{**given, "infrared": given["infrared"].repeat(1, 3, 1, 1)}))


def test_only_known_sizes_can_be_built() -> None:
    with pytest.raises(ValueError, match="'tiny', there are authors, small"):
        build_network(size="tiny")
    assert build_network(size="small").config == {"size": "small", "text_width": 384}
    assert sum(parameter.numel() for parameter in small(384).parameters()) * 4 < 8e6


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network in the layout of the authors' files, without CLIP."""
    path = tmp_path_factory.mktemp("text-if") / "small.pth"
    torch.save({"model": small().state_dict(), "config": {"size": "small", "text_width": DIM}}, path)
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    np.save(tmp_path / "scene.npy", np.random.default_rng(1).standard_normal((1, DIM)).astype(np.float32))
    return tmp_path


def scene(key: str = "scene", text: str = "", height: int = 37, width: int = 50) -> FusionBatch:
    generator = torch.Generator().manual_seed(3)
    visible = (torch.rand(1, 3, height, width, generator=generator) * 255).round() / 255
    infrared = (torch.rand(1, 1, height, width, generator=generator) * 255).round() / 255
    return FusionBatch(visible, infrared, [text], None, [key])


def test_plain_output_keeps_levels_and_size(weights: Path, features: Path) -> None:
    method, batch = loaded(weights, text_features=features, postprocess="plain"), scene(height=32, width=48)
    with torch.inference_mode():
        text = torch.from_numpy(np.load(features / "scene.npy"))
        raw = method.network.reference(visible=batch.visible, infrared=batch.infrared, text_feature=text)
    assert (method.fuse(batch) - raw.clamp(0, 1)).abs().max() < 0.51 / 255
    odd = scene()
    assert method.fuse(odd).shape == odd.visible.shape
    saved = loaded(weights, text_features=features).saved(odd)
    assert saved.shape == (1, 3, 32, 48)
    assert (saved.min(), saved.max()) == (0, 1)
    enlarged = Image.fromarray(golden.to_uint8(saved)).resize((50, 37))
    assert np.array_equal(golden.to_uint8(loaded(weights, text_features=features).fuse(odd)), np.asarray(enlarged))


def test_features_of_the_sample_steer_the_output(weights: Path, features: Path) -> None:
    np.save(features / "other.npy", np.zeros((1, DIM), np.float32))
    np.save(features / "two.npy", np.zeros((2, DIM), np.float32))
    method = loaded(weights, text_features=features)
    assert not torch.equal(method.fuse(scene()), method.fuse(scene("other")))
    with pytest.raises(DataError, match=r"(?s)text feature of two.*2 vectors.*\(1, 512\)"):
        method.fuse(scene("two"))
    with pytest.raises(DataError, match=r"(?s)no absent\.npy.*available: other, scene"):
        method.fuse(scene("absent"))


def test_too_small_images_are_named(weights: Path, features: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)scene with Text-IF.*50 x 15 pixels.*16"):
        loaded(weights, text_features=features).fuse(scene(height=15))


@pytest.fixture(scope="module")
def minilm_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as ``tgfbench train text-if`` writes it."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("text-if") / "text-if.safetensors"
    save_file(small(384).state_dict(), path, {"config": json.dumps({"size": "small", "text_width": 384})})
    return path


def test_prompts_steer_the_output_and_an_empty_one_is_neutral(minilm_weights: Path) -> None:
    method = loaded(minilm_weights)
    assert method.provenance()["text"] == MiniLM().identity
    assert method.provenance()["network"]["size"] == "small"
    neutral = method.fuse(scene(text=NEUTRAL))
    assert torch.equal(method.fuse(scene(text=" ")), neutral)
    assert not torch.equal(method.fuse(scene(text="Brighten the visible image.")), neutral)


def test_without_feature_and_clip_it_says_what_to_get(weights: Path, minilm_weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?s)neither a text feature nor.*model_clip.*text_features=FILE\.npy"):
        loaded(weights)
    with pytest.raises(UsageError, match="minilm of width 384 for a network of text width 512"):
        loaded(weights, text_encoder="minilm")
    with pytest.raises(WeightsError, match=r"CLIP.*"):
        loaded(minilm_weights, text_encoder="clip")


def test_a_checkpoint_that_does_not_fit_lists_what_differs(features: Path, tmp_path: Path) -> None:
    state = small().state_dict()
    del state["output.weight"]
    state |= {"extra": torch.zeros(1), "cross_attention.out_A.bias": torch.zeros(3)}
    torch.save({"model": state, "config": {"size": "small", "text_width": DIM}}, tmp_path / "wrong.pth")
    problems = r"(?s)wrong\.pth.*1 missing: output\.weight.*1 unexpected: extra.*out_A\.bias \(3,\), expected \(64,"
    with pytest.raises(WeightsError, match=problems):
        loaded(tmp_path / "wrong.pth", text_features=features)
    torch.save({"model": state, "config": {"size": "huge"}}, tmp_path / "wrong.pth")
    with pytest.raises(WeightsError, match=r"(?s)wrong\.pth.*no size is called 'huge'"):
        loaded(tmp_path / "wrong.pth", text_features=features)


class Payload:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("payload-ran"),))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, features: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "args": argparse.Namespace(payload=Payload())}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        loaded(tmp_path / "evil.pth", text_features=features)
    assert not (tmp_path / "payload-ran").exists()


@pytest.fixture(scope="module")
def clip() -> dict[str, Tensor]:
    """The golden weights of the text tower, under OpenAI's names."""
    folder = golden.folder_of("text-if")
    if folder is None:
        pytest.skip("TGFBENCH_SHARED is not set")
    shapes = json.loads((folder / "clip_text_state_dict.json").read_text())["tensors"]
    like = {name: torch.empty(entry["shape"]) for name, entry in shapes.items()}
    return golden.golden_state(like, "clip.")


def test_clip_of_a_checkpoint_gives_the_authors_tokens_and_features(
    clip: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TGFBENCH_CACHE", str(tmp_path / "cache"))
    state = {**small().state_dict(), "model_clip.visual.proj": torch.zeros(3, 4)}
    state |= {f"model_clip.{name}": value for name, value in clip.items()}
    torch.save({"model": state, "config": {"size": "small", "text_width": DIM}}, tmp_path / "text_fusion.pth")
    method, case = loaded(tmp_path / "text_fusion.pth"), golden.load_case("text-if", "clip_text_tower")
    assert isinstance(method.text, EmbeddedCLIP)
    tokenizer, tower = method.text._model
    texts = [str(text) for text in case["texts"]]
    assert np.array_equal(tokenizer(texts).numpy(), case["tokens"])
    assert golden.greatest_deviation(method.text.encode(texts).pooled, case["text_features"]) < 2e-5
    with torch.inference_mode():
        embedded = tower.token_embedding(tokenizer(texts[:1])) + tower.positional_embedding
        block = tower.transformer.resblocks[0](embedded, attn_mask=tower.attn_mask)
    assert golden.greatest_deviation(block[0, :8], case["block0_text0_tokens0_7"]) < 2e-5
    assert not torch.equal(method.fuse(scene(text=texts[1])), method.fuse(scene(text=texts[2])))
    monkeypatch.setenv("TGFBENCH_CACHE", str(tmp_path / "another"))
    elsewhere = load_text_encoder("clip", weights=tmp_path / "text_fusion.pth").encode(texts[:2])
    assert golden.greatest_deviation(elsewhere.pooled, case["text_features"][:2]) < 2e-5
    with pytest.raises(DataError, match=r"(?s)encoding a text with CLIP.*80 tokens.*at most 75"):
        method.fuse(scene(text=" ".join(["light"] * 80)))


def test_texts_are_encoded_once(clip: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TGFBENCH_CACHE", str(tmp_path))
    halves = {name: value.half() for name, value in clip.items()}
    encoder = EmbeddedCLIP(halves, Checkpoint("c", tmp_path / "c.pth", "0" * 64, "user"))
    assert all(parameter.dtype == torch.float32 for parameter in encoder._model[1].parameters())
    calls: list[str] = []
    encode = encoder._encode_one
    monkeypatch.setattr(encoder, "_encode_one", lambda text: calls.append(text) or encode(text))
    first = encoder.encode(["rain", "fog", "rain"]).pooled
    assert torch.equal(encoder.encode(["fog"]).pooled[0], first[1])
    assert calls == ["rain", "fog"]


def test_an_incomplete_clip_is_refused(tmp_path: Path) -> None:
    state = {**small().state_dict(), "model_clip.ln_final.weight": torch.ones(512), "model_clip.odd": torch.ones(1)}
    torch.save({"model": state, "config": {"size": "small", "text_width": DIM}}, tmp_path / "half.pth")
    with pytest.raises(WeightsError, match=r"(?s)half\.pth.*148 missing: positional_embedding.*1 unexpected: odd"):
        loaded(tmp_path / "half.pth")


def test_card() -> None:
    info = TextIF.info
    assert info.text_role == "instruction"
    assert info.default_text == NEUTRAL
    assert {"text-fusion", "simple-fusion", "text-fusion-power"} <= {entry.name for entry in info.weights}
    assert all("re-test" in entry.source for entry in info.reported)
    power = next(entry for entry in info.weights if entry.name == "text-fusion-power")
    assert "1jstLiOp-ZBppz_vZhyG55YeUYFLyOdrP" in power.get
