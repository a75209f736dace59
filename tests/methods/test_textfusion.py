"""TextFusion equals the authors' code and, with their checkpoint, their images; its inputs are checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.benchmark.text import TextEncoder
from tgfbench.methods import FusionBatch, create_method
from tgfbench.methods.objective import TrainingBatch, TrainingTexts
from tgfbench.methods.textfusion.fast import FastTextFusion
from tgfbench.methods.textfusion.losses import (
    activity_weights,
    association_losses,
    gradient_energy,
    laplacian,
    source_preference,
)
from tgfbench.methods.textfusion.method import TextFusion
from tgfbench.methods.textfusion.network import TextFusionNetwork, build_network
from tgfbench.methods.textfusion.objective import TextFusionObjective, described_region, folded

CASES = golden.case_names("textfusion")
RULE_CASES = golden.case_names("textfusion", "case_")
TOLERANCE = 2e-6
NOISE = 1e-6
OFFICIAL = "LLVIP_pretrained.model"


def official() -> Path:
    folder = golden.folder_of("textfusion")
    if folder is None:
        pytest.skip("TGFBENCH_SHARED is not set: the authors' checkpoint is not available")
    return folder / OFFICIAL


def network(case: dict[str, Any]) -> TextFusionNetwork:
    built = build_network()
    if case["real_checkpoint"]:
        built.load_state_dict(torch.load(official(), weights_only=True), strict=True)
        return built.eval()
    return filled(built, case["key_prefix"])


def filled(built: TextFusionNetwork, prefix: str = "") -> TextFusionNetwork:
    """The network with every tensor drawn, so that none is neutral by its initial value."""
    golden.fill(built, prefix)
    return built


def inputs(case: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    rgb = case["vis_u8"].astype(np.float64)
    grey = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
    return {
        "visible": golden.image(grey / 255).to(dtype),
        "infrared": golden.image(case["ir_u8"] / 255).to(dtype),
        "text_feature": torch.from_numpy(case["text_feature"]).to(dtype),
    }


def scene(height: int, width: int, count: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Smooth shapes with noise, and one text feature per image."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2 * count, 1, 7, 9, generator=generator, dtype=torch.float64)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    images = (images + 0.03 * torch.randn(images.shape, generator=generator, dtype=torch.float64)).clamp(0, 1).to(dtype)
    text = 0.4 * torch.randn(count, 512, generator=generator, dtype=torch.float64).to(dtype)
    return {"visible": images[:count], "infrared": images[count:], "text_feature": text}


def test_keys_shapes_and_order_are_the_authors() -> None:
    own = {name: tuple(value.shape) for name, value in build_network().state_dict().items()}
    official_shapes = golden.official_shapes("textfusion")
    assert own == official_shapes
    assert list(own) == list(official_shapes)


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_network_equals_the_authors_code(name: str) -> None:
    case = golden.load_case("textfusion", name)
    reference = network(case)
    fused = reference(**inputs(case))
    assert golden.greatest_deviation(fused[0, 0], case["fused_y"]) <= TOLERANCE
    exact = reference.double()(**inputs(case, torch.float64))
    assert golden.greatest_deviation(fused, exact) <= max(NOISE, 2 * case["f32_f64_maxdiff"])


@pytest.mark.parametrize("name", RULE_CASES)
@torch.inference_mode()
def test_parts_of_the_network_equal_the_authors_code(name: str) -> None:
    case = golden.load_case("textfusion", name)
    reference = network(case)
    found: dict[str, Any] = {}
    parts = {"norm": reference.layer1.blocks[0].norm1, "layer": reference.layer1, "text": reference.fuse_text_image}
    for part, module in parts.items():
        module.register_forward_hook(lambda _m, _i, out, part=part: found.__setitem__(part, out))
    reference.patch_unembed1.register_forward_hook(lambda _m, _i, out: found.__setitem__("pre_tanh", out))
    reference(**inputs(case))
    normed, rescale, rebias = found["norm"]
    assert golden.greatest_deviation(normed[0, :2], case["norm1_vis_ch0_1"]) <= 1e-5
    assert golden.greatest_deviation(rescale.flatten(), case["norm1_rescale"]) <= 1e-6
    assert golden.greatest_deviation(rebias.flatten(), case["norm1_rebias"]) <= 1e-6
    for key, value in (("layer1_vis_ch0_3", found["layer"][0]), ("layer1_ir_ch0_3", found["layer"][1])):
        assert golden.greatest_deviation(value[0, :4], case[key]) <= 1e-5
    assert golden.greatest_deviation(found["text"][0, :4], case["text_fused_ch0_3"]) <= 1e-5
    assert golden.greatest_deviation(found["pre_tanh"][0, 0], case["pre_tanh"]) <= 1e-5


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_rewrite_equals_network_and_authors_code(name: str) -> None:
    case = golden.load_case("textfusion", name)
    reference = network(case)
    assert golden.greatest_deviation(FastTextFusion(reference)(**inputs(case))[0, 0], case["fused_y"]) <= TOLERANCE
    exact = inputs(case, torch.float64)
    reference.double()
    assert golden.greatest_deviation(FastTextFusion(reference)(**exact), reference(**exact)) <= 1e-12


@pytest.mark.parametrize("size", [(480, 640), (477, 639)])
@torch.inference_mode()
def test_rewrite_is_precise_at_full_size(size: tuple[int, int]) -> None:
    """The float64 rewrite, equal to the network wherever that is small enough to run, is the measure here."""
    reference = filled(build_network())
    fused = FastTextFusion(reference)(**scene(*size))
    exact = FastTextFusion(reference.double())(**scene(*size, dtype=torch.float64))
    assert fused.std() > 0.01
    assert golden.greatest_deviation(fused, exact) <= TOLERANCE


@pytest.mark.parametrize("size", [(5, 6), (8, 8), (30, 45), (61, 75)])
@pytest.mark.parametrize("rows", [8, 24, None])
@torch.inference_mode()
def test_rewrite_equals_network_for_any_size_and_strip(size: tuple[int, int], rows: int | None) -> None:
    reference = filled(build_network()).double()
    given = scene(*size, dtype=torch.float64)
    assert golden.greatest_deviation(FastTextFusion(reference, rows)(**given), reference(**given)) <= 1e-12


@pytest.mark.parametrize("rewritten", [False, True], ids=["network", "rewrite"])
@torch.inference_mode()
def test_images_of_a_batch_do_not_influence_each_other(rewritten: bool) -> None:
    reference = filled(build_network())
    run: Callable[..., Tensor] = FastTextFusion(reference) if rewritten else reference
    given = scene(37, 50, count=3)
    alone = [run(**{name: value[k : k + 1] for name, value in given.items()}) for k in range(3)]
    torch.testing.assert_close(run(**given), torch.cat(alone), rtol=0, atol=1e-6)
    shared = {**given, "text_feature": given["text_feature"][:1]}
    torch.testing.assert_close(run(**shared)[:1], alone[0], rtol=0, atol=1e-6)


def weights_of(case: dict[str, Any], folder: Path) -> Path:
    if case["real_checkpoint"]:
        return official()
    path = folder / "rule.model"
    torch.save(network(case).state_dict(), path)
    return path


def feature_file(folder: Path, feature: np.ndarray | None = None) -> Path:
    if feature is None:
        feature = 0.4 * np.random.default_rng(5).standard_normal((1, 512))
    np.save(folder / "feature.npy", feature.astype(np.float32))
    return folder / "feature.npy"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "drawn.model"
    torch.save(filled(build_network()).state_dict(), path)
    return path


def create(weights: Path, **options: Any) -> TextFusion:
    method = create_method(TextFusion, options, weights=weights, device="cpu")
    assert isinstance(method, TextFusion)
    return method


def batch(texts: list[str] | None = None, size: tuple[int, int] = (40, 56)) -> FusionBatch:
    random = np.random.default_rng(1)
    count = len(texts) if texts else 1
    visible, infrared = (torch.from_numpy(random.integers(0, 256, (count, c, *size))).float() / 255 for c in (3, 1))
    return FusionBatch(visible, infrared, texts or [""], None, [f"sample-{k}" for k in range(count)])


@pytest.mark.parametrize("name", CASES)
def test_method_returns_the_authors_pixels(name: str, tmp_path: Path) -> None:
    case = golden.load_case("textfusion", name)
    method = create(weights_of(case, tmp_path), text_features=str(feature_file(tmp_path, case["text_feature"])))
    saved = golden.to_uint8(method.fuse(golden.pair(case)))
    difference = np.abs(saved.astype(int) - case["fused_rgb_u8"])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert method.checkpoint is not None
    assert method.checkpoint.origin == ("authors" if case["real_checkpoint"] else "user")


def test_postprocessing(weights: Path, tmp_path: Path) -> None:
    feature = str(feature_file(tmp_path))
    given = batch()
    authors, plain, jpeg = (
        create(weights, text_features=feature, postprocess=name).fuse(given)
        for name in ("authors", "plain", "authors-jpeg")
    )
    assert torch.equal((authors * 255).round() / 255, authors)
    assert golden.greatest_deviation(authors, plain) <= 0.5 / 255 + 1e-6
    assert not torch.equal(authors, plain)
    assert 1e-4 < (jpeg - authors).abs().mean() < 0.2
    assert torch.equal((jpeg * 255).round() / 255, jpeg)


def test_a_grey_pair_stays_grey(weights: Path, tmp_path: Path) -> None:
    given = batch()
    given.visible = given.visible[:, :1].repeat(1, 3, 1, 1)
    fused = create(weights, text_features=str(feature_file(tmp_path))).fuse(given)
    assert golden.greatest_deviation(fused[:, 0], fused[:, 2]) <= 1 / 255 + 1e-6


def test_features_of_the_sample_steer_the_output(weights: Path, tmp_path: Path) -> None:
    features = tmp_path / "features"
    features.mkdir()
    random = np.random.default_rng(2)
    for key in ("sample-0", "sample-1"):
        np.save(features / f"{key}.npy", random.standard_normal((1, 512)).astype(np.float32))
    given = batch(["", ""])
    for images in (given.visible, given.infrared):
        images[1] = images[0]
    first, second = create(weights, text_features=str(features)).fuse(given)
    assert not torch.allclose(first, second, atol=1e-3)
    given.keys = ["sample-0", "sample-7"]
    with pytest.raises(DataError, match=r"sample-7"):
        create(weights, text_features=str(features)).fuse(given)


@pytest.mark.parametrize("shape", [(1, 384), (2, 512), (1, 512, 1)])
def test_a_feature_of_another_shape_is_named(weights: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = feature_file(tmp_path, np.ones(shape))
    with pytest.raises(DataError, match=r"(?s)feature\.npy.*expected.*512"):
        create(weights, text_features=str(path)).fuse(batch())


def test_without_feature_and_clip_it_says_what_to_get(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?s)neither a text feature nor.*CLIP.*ViT-B-32.*text_features=FILE\.npy"):
        create(weights)
    with pytest.raises(WeightsError, match=r"none\.pt is not a file"):
        create(weights, text_weights=str(tmp_path / "none.pt"))
    with pytest.raises(UsageError, match=r"(?s)minilm of width 384 for a network of text width 512"):
        create(weights, text_encoder="minilm")


def test_the_authors_weights_are_not_shipped_but_explained() -> None:
    with pytest.raises(WeightsError, match=r"(?s)not shipped.*LLVIP_pretrained\.model"):
        create_method(TextFusion, {}, weights="authors", device="cpu")


def test_clip_weights_are_taken_as_openai_trained_them(weights: Path, tmp_path: Path) -> None:
    """OpenAI's CLIP has QuickGELU; open_clip's model of the plain name has not."""
    (tmp_path / "clip.pt").write_bytes(b"read when the first text is encoded")
    method = create(weights, text_weights=str(tmp_path / "clip.pt"))
    assert method.provenance()["text"].startswith("clip-ViT-B-32-quickgelu:")


class Letters(TextEncoder):
    """Features from the letters of a text."""

    name, width, identity = "letters", 512, "letters:1"

    def _encode_one(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        pooled = np.sin(np.arange(self.width) * (1 + sum(map(ord, text)))).astype(np.float32)
        return pooled[None], pooled


def test_prompts_steer_the_output(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TGFBENCH_CACHE", str(tmp_path))
    method = create(weights, text_features=str(feature_file(tmp_path)))
    method.text = Letters()
    given = batch(["the pedestrians", "", "the pedestrians"])
    for images in (given.visible, given.infrared):
        images[1], images[2] = images[0], images[0]
    first, second, third = method.fuse(given)
    assert torch.equal(first, third)
    assert not torch.equal(first, second)
    monkeypatch.setattr(Letters, "width", 64)
    method.text = Letters()
    with pytest.raises(UsageError, match=r"(?s)letters:1 with features of width 64.*width 512"):
        method.fuse(batch(["anything else"]))


def test_a_network_of_another_text_width_takes_its_own_encoder(tmp_path: Path) -> None:
    built = filled(build_network(text_width=384))
    path = tmp_path / "trained.safetensors"
    save_file(built.state_dict(), path, {"config": json.dumps(built.config)})
    method = create(path)
    given = batch(["two cars on a road", "an empty room"])
    for images in (given.visible, given.infrared):
        images[1] = images[0]
    first, second = method.fuse(given)
    assert not torch.equal(first, second)
    assert method.provenance()["text"].startswith("minilm:")


def test_checkpoint_of_a_parallel_run_is_read(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "parallel.pt")
    feature = str(feature_file(tmp_path))
    same = create(tmp_path / "parallel.pt", text_features=feature).fuse(batch())
    assert torch.equal(same, create(weights, text_features=feature).fuse(batch()))


def test_wrong_checkpoints_are_described(weights: Path, tmp_path: Path) -> None:
    feature = str(feature_file(tmp_path))
    state = torch.load(weights, weights_only=True)
    state["norm.weight"] = state.pop("patch_embed.proj.weight")
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"(?s)other\.pt.*1 missing: patch_embed\.proj\.weight; 1 unexpected: norm"):
        create(tmp_path / "other.pt", text_features=feature)


def test_images_that_are_too_small_are_named(weights: Path, tmp_path: Path) -> None:
    method = create(weights, text_features=str(feature_file(tmp_path)))
    assert method.fuse(batch(size=(5, 5))).shape == (1, 3, 5, 5)
    with pytest.raises(DataError, match=r"(?s)sample-0.*9 x 4 pixels.*at least 5"):
        method.fuse(batch(size=(4, 9)))


def test_provenance_tells_text_and_postprocessing(weights: Path, tmp_path: Path) -> None:
    found = create(weights, text_features=str(feature_file(tmp_path)), postprocess="plain").provenance()
    assert json.loads(json.dumps(found)) == found
    assert found["postprocess"] == "plain"
    assert found["text"].startswith("files:")


def test_loss_follows_the_definition() -> None:
    given = scene(32, 32, count=2, dtype=torch.float64)
    visible, infrared = given["visible"], given["infrared"]
    described = torch.zeros_like(visible)
    described[..., :16] = 1
    activity, preference = torch.full_like(visible, 0.25), torch.full((2, 1, 1, 1), 0.5, dtype=torch.float64)
    terms = association_losses(infrared, infrared, visible, described, activity, preference)
    difference = (infrared - visible).square()
    expected = 0.75**2 * (described * difference).mean()
    assert terms["described"] == pytest.approx(float(expected))
    assert terms["rest"] == pytest.approx(float(0.5 * ((1 - described) * difference).mean()))
    same = association_losses(visible, visible, visible, described, activity, preference)
    assert all(float(term) == 0 for term in same.values())


def test_the_more_active_source_weighs_more() -> None:
    given = scene(32, 32, dtype=torch.float64)
    weights = activity_weights(given["infrared"], given["visible"])
    assert torch.equal(weights > 0.5, given["infrared"] > given["visible"])
    flat, steep = torch.full((1, 1, 32, 32), 0.5, dtype=torch.float64), given["visible"]
    energies = [gradient_energy([image], torch.ones_like(flat)) for image in (steep, flat)]
    assert energies[1] == 0
    assert energies[0] == pytest.approx(float(laplacian(steep).square().mean()))
    preference = source_preference(*energies, divisor=float(energies[0]))
    assert float(preference) == pytest.approx(1 / (1 + math.exp(-1)))


def test_the_described_region_is_what_the_text_names() -> None:
    hot = torch.zeros(1, 4, 4)
    hot[..., 0] = 1
    objects = {"car": torch.zeros(1, 4, 4), "person": torch.ones(1, 4, 4)}
    objects["car"][..., 1] = 1
    assert torch.equal(described_region("a red car", hot, objects), objects["car"])
    assert torch.equal(described_region("a person", hot, {}), hot)
    assert not described_region("", hot, objects).any()


def test_training_form_equals_the_network() -> None:
    built = filled(build_network(text_width=384))
    visible, infrared, text = torch.rand(2, 1, 21, 35), torch.rand(2, 1, 21, 35), torch.randn(2, 384)
    with torch.no_grad():
        expected = built(visible=visible, infrared=infrared, text_feature=text)
        assert golden.greatest_deviation(folded(built, visible, infrared, text), expected) <= TOLERANCE


def test_texture_is_a_term_of_our_own() -> None:
    image = torch.rand(1, 1, 32, 32)
    batch = TrainingBatch(image.expand(-1, 3, -1, -1), image, image, (TrainingTexts(),), ({},), ("sample/a",))
    names = {}
    for texture in (0.0, 0.5):
        objective = TextFusionObjective(texture=texture)
        names[texture] = set(objective.loss(objective.build(), batch, np.random.default_rng(0)))
        assert objective.card()["texture"] == texture
    assert names[0.5] - names[0.0] == {"texture"}


def test_objective_lowers_its_loss() -> None:
    given = scene(32, 32, count=2)
    crops = TrainingBatch(
        visible=given["visible"].repeat(1, 3, 1, 1),
        infrared=given["infrared"],
        reference=given["visible"].repeat(1, 3, 1, 1),
        texts=(TrainingTexts(captions=("a person",)), TrainingTexts(captions=("a car",))),
        objects=({}, {}),
        keys=("a", "b"),
    )
    objective = TextFusion.objective()
    assert isinstance(objective, TextFusionObjective)
    torch.manual_seed(0)
    built = objective.build()
    optimiser = torch.optim.Adam(built.parameters(), lr=3e-3)
    losses = []
    for step in range(12):
        terms = objective.loss(built, crops, np.random.default_rng(step))
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert "in place of VGG-19" in objective.card()["gradients"]
    assert json.loads(json.dumps(objective.card())) == objective.card()
