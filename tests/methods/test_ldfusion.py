"""LDFusion equals the authors' code; its rewrite stays precise at full size; its two files are read together."""

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
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tgfbench.benchmark.errors import DataError, WeightsError
from tgfbench.methods import FusionBatch, create_method
from tgfbench.methods.ldfusion.fast import FastLDFusion
from tgfbench.methods.ldfusion.losses import (
    cut_patches,
    direction_loss,
    entropy,
    feature_loss,
    for_clip,
    patch_grids,
    similarity_loss,
)
from tgfbench.methods.ldfusion.method import LDFusion
from tgfbench.methods.ldfusion.network import LDFusionNetwork, build_network
from tgfbench.methods.ldfusion.objective import SIZES, LDFusionObjective
from tgfbench.methods.objective import TrainingBatch, TrainingTexts

CASES = golden.case_names("ldfusion")
TOLERANCE, TYPICAL = 5e-4, 1e-4
"""Largest deviation, and that of 99.9 % of the pixels: instance norms amplify rounding."""
NOISE = 1.5e-4


def special(name: str, drawn: np.ndarray) -> np.ndarray | None:
    """The rule for buffers and for the factors of the layer norm."""
    if name.endswith("running_mean"):
        return np.float32(0.02) * drawn
    if name.endswith("running_var"):
        return 1 + np.float32(0.02) * np.abs(drawn)
    if name.endswith("gamma"):
        return 1 + np.float32(0.02) * drawn
    return None


def filled(prefix: str = "", **config: Any) -> LDFusionNetwork:
    """The network with every tensor drawn, so that none is neutral by its initial value."""
    built = golden.fill(build_network(**config), prefix, special)
    assert isinstance(built, LDFusionNetwork)
    return built


@pytest.fixture(scope="module")
def drawn() -> LDFusionNetwork:
    return filled()


def inputs(case: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        "visible": golden.image(case["vis_y"]).to(dtype),
        "infrared": (golden.image(case["ir_u8"]) / 255).to(dtype),
    }


def scene(height: int, width: int, count: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Smooth shapes with noise."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2 * count, 1, 7, 9, generator=generator, dtype=torch.float64)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    images = (images + 0.03 * torch.randn(images.shape, generator=generator, dtype=torch.float64)).clamp(0, 1).to(dtype)
    return {"visible": images[:count], "infrared": images[count:]}


def assert_close(found: Tensor, expected: Tensor | np.ndarray) -> None:
    deviation = (found.double() - torch.as_tensor(expected).double()).abs()
    assert deviation.shape == found.shape
    assert deviation.max() <= TOLERANCE
    assert deviation.flatten().quantile(0.999) <= TYPICAL


def test_keys_shapes_and_order_are_the_authors() -> None:
    own = {name: tuple(value.shape) for name, value in build_network().state_dict().items()}
    official = golden.official_shapes("ldfusion")
    assert own == official
    assert list(own) == list(official)


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_network_equals_the_authors_code(name: str) -> None:
    case = golden.load_case("ldfusion", name)
    reference = filled(case["key_prefix"])
    given = inputs(case)
    outputs = reference(**given)
    assert_close(outputs["tanh_full"][0, 0], case["tanh_full"])
    assert_close(outputs["fused_y"][0, 0], case["fused_y"])
    content_vi, content_ir, style_vi, style_ir = reference.Enc(given["visible"], given["infrared"])
    assert_close(content_vi[0], case["content_vi"])
    assert_close(content_ir[0, :16], case["content_ir_ch0_15"])
    for style, key in ((style_vi, "style_vi"), (style_ir, "style_ir")):
        assert golden.greatest_deviation(style.flatten(), case[key]) <= 1e-5
    parameters = reference.Dec.mlp(torch.cat([style_vi, style_ir], dim=1).flatten(1))
    assert golden.greatest_deviation(parameters[0], case["adain_params"]) <= 1e-5
    exact = reference.double()(**inputs(case, torch.float64))
    for key, value in outputs.items():
        assert golden.greatest_deviation(value, exact[key]) <= max(NOISE, 2 * case["f32_f64_maxdiff"])


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_rewrite_equals_network_and_authors_code(name: str) -> None:
    case = golden.load_case("ldfusion", name)
    reference = filled(case["key_prefix"])
    fused = FastLDFusion(reference)(**inputs(case))
    height, width = fused.shape[-2:]
    assert_close(fused[0, 0], case["tanh_full"][:height, :width])
    assert_close(fused[0, 0].clamp(0, 1), case["fused_y"])
    exact = inputs(case, torch.float64)
    reference.double()
    expected = reference(**exact)["tanh_full"][..., :height, :width]
    assert golden.greatest_deviation(FastLDFusion(reference)(**exact), expected) <= 1e-10


def in_strips(network: LDFusionNetwork, rows: int = 32) -> LDFusionNetwork:
    """Convolve 7x7 in strips of rows: of a whole image in float64, PyTorch gathers the neighbourhoods in gigabytes."""

    def strips_of(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        def convolve(x: Tensor) -> Tensor:
            last = x.shape[2] - 6
            parts = [x[:, :, top : min(top + rows, last) + 6] for top in range(0, last, rows)]
            return torch.cat([F.conv2d(part, conv.weight, conv.bias) for part in parts], dim=2)

        return convolve

    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (7, 7):
            assert (module.stride, module.padding) == ((1, 1), (0, 0))
            module.forward = strips_of(module)  # type: ignore[method-assign]
    return network


@torch.inference_mode()
def test_rewrite_is_precise_at_full_size() -> None:
    """Statistics of 300,000 pixels, accumulated carelessly, cost two digits; small images do not show it."""
    reference = filled()
    fused = FastLDFusion(reference)(**scene(480, 640))
    exact = in_strips(reference.double())(**scene(480, 640, dtype=torch.float64))["tanh_full"][..., :480, :640]
    assert exact.clamp(0, 1).std() > 0.05
    assert golden.greatest_deviation(fused, exact) <= NOISE


@torch.inference_mode()
def test_rewrite_is_precise_at_an_odd_size_near_full() -> None:
    """The float64 rewrite, equal to the network above and on the golden cases, is the measure here."""
    reference = filled()
    fused = FastLDFusion(reference)(**scene(477, 639))
    exact = FastLDFusion(reference.double())(**scene(477, 639, dtype=torch.float64))
    assert golden.greatest_deviation(fused, exact) <= NOISE


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (45, 38), (56, 71)])
@pytest.mark.parametrize("rows", [5, 32])
@torch.inference_mode()
def test_rewrite_equals_network_for_any_size_and_strip(size: tuple[int, int], rows: int) -> None:
    reference = filled(dim=4).double()
    given = scene(*size, dtype=torch.float64)
    expected = reference(**given)["tanh_full"][..., : size[0], : size[1]]
    assert golden.greatest_deviation(FastLDFusion(reference, rows)(**given), expected) <= 1e-10


@pytest.mark.parametrize("rewritten", [False, True], ids=["network", "rewrite"])
@torch.inference_mode()
def test_images_of_a_batch_do_not_influence_each_other(rewritten: bool, drawn: LDFusionNetwork) -> None:
    fast = FastLDFusion(drawn)
    run: Callable[..., Tensor] = fast if rewritten else lambda **given: drawn(**given)["fused_y"]
    given = scene(40, 50, count=3)
    alone = [run(**{name: value[k : k + 1] for name, value in given.items()}) for k in range(3)]
    torch.testing.assert_close(run(**given), torch.cat(alone), rtol=0, atol=1e-6 if rewritten else TYPICAL)


@pytest.fixture(scope="module")
def encoder_file(drawn: LDFusionNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' layout: two bare state dicts in one folder."""
    folder = tmp_path_factory.mktemp("weight")
    for part in ("Enc", "Dec"):
        torch.save(drawn.get_submodule(part).state_dict(), folder / f"{part}_final.pt")
    return folder / "Enc_final.pt"


def create(weights: Path, **options: Any) -> LDFusion:
    method = create_method(LDFusion, options, weights=weights, device="cpu")
    assert isinstance(method, LDFusion)
    return method


def batch(size: tuple[int, int] = (40, 56), text: str = "") -> FusionBatch:
    random = np.random.default_rng(1)
    visible, infrared = (torch.from_numpy(random.integers(0, 256, (1, c, *size))).float() / 255 for c in (3, 1))
    return FusionBatch(visible, infrared, [text], None, ["sample-0"])


@pytest.mark.parametrize("name", CASES)
def test_method_returns_the_authors_pixels(name: str, encoder_file: Path) -> None:
    case = golden.load_case("ldfusion", name)
    assert not case["key_prefix"], "the weights of the files are those without prefix"
    plain = create(encoder_file, postprocess="plain").fuse(golden.pair(case))
    assert_close(plain[0], case["fused_rgb"].clip(0, 1))
    saved = golden.to_uint8(create(encoder_file).fuse(golden.pair(case)))
    difference = np.abs(saved.astype(int) - case["fused_rgb_u8"])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_either_file_finds_the_other(encoder_file: Path) -> None:
    decoder_file = encoder_file.with_name("Dec_final.pt")
    by_encoder, by_decoder = create(encoder_file), create(decoder_file)
    assert torch.equal(by_encoder.fuse(batch()), by_decoder.fuse(batch()))
    assert by_encoder.provenance()["second_file_sha256"] != by_decoder.provenance()["second_file_sha256"]


def test_one_file_with_both_parts_is_read(encoder_file: Path, drawn: LDFusionNetwork, tmp_path: Path) -> None:
    state = drawn.state_dict()
    save_file(state, tmp_path / "both.safetensors", {"config": json.dumps(drawn.config)})
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "parallel.pt")
    expected = create(encoder_file).fuse(batch())
    for path in (tmp_path / "both.safetensors", tmp_path / "parallel.pt"):
        assert torch.equal(create(path).fuse(batch()), expected)


def test_either_file_may_be_in_a_container_or_from_a_parallel_run(encoder_file: Path, tmp_path: Path) -> None:
    encoder, decoder = (torch.load(encoder_file.with_name(f"{part}_final.pt")) for part in ("Enc", "Dec"))
    torch.save({"model": {f"module.{name}": value for name, value in encoder.items()}}, tmp_path / "Enc.safe.pt")
    torch.save({"state_dict": decoder, "epoch": 3}, tmp_path / "Dec.safe.pt")
    assert torch.equal(create(tmp_path / "Enc.safe.pt").fuse(batch()), create(encoder_file).fuse(batch()))


def test_a_lone_or_wrong_file_is_described(encoder_file: Path, tmp_path: Path) -> None:
    lone = tmp_path / "Enc_final.pt"
    lone.write_bytes(encoder_file.read_bytes())
    with pytest.raises(WeightsError, match=r"(?s)Enc_final\.pt.*an encoder alone.*Dec_final\.pt beside it"):
        create(lone)
    renamed = tmp_path / "first.pt"
    renamed.write_bytes(encoder_file.read_bytes())
    with pytest.raises(WeightsError, match=r"(?s)first\.pt.*the other file beside it"):
        create(renamed)
    (tmp_path / "Dec_final.pt").write_bytes(encoder_file.read_bytes())
    with pytest.raises(WeightsError, match=r"(?s)Dec_final\.pt into Decoder.*missing: model_local"):
        create(lone)
    (tmp_path / "Dec_final.pt").write_bytes(encoder_file.read_bytes()[:9999])
    with pytest.raises(WeightsError, match=r"Dec_final\.pt"):
        create(lone)
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"(?s)other\.pt.*88 missing.*unexpected: conv\.weight"):
        create(tmp_path / "other.pt")


def test_the_authors_weights_are_not_shipped_but_explained() -> None:
    with pytest.raises(WeightsError, match=r"(?s)not shipped.*Enc_final\.pt and weight/Dec_final\.pt"):
        create_method(LDFusion, {}, weights="authors", device="cpu")


@pytest.mark.parametrize("size", [(61, 75), (16, 17)])
def test_rewrite_equals_the_small_network(size: tuple[int, int]) -> None:
    small = filled(**SIZES["small"]).eval()
    given = scene(*size)
    with torch.no_grad():
        expected = small(**given)["tanh_full"][..., : size[0], : size[1]]
        assert golden.greatest_deviation(FastLDFusion(small)(**given), expected) <= TOLERANCE


def test_images_that_are_too_small_are_named(encoder_file: Path) -> None:
    method = create(encoder_file)
    assert method.fuse(batch((16, 16))).shape == (1, 3, 16, 16)
    with pytest.raises(DataError, match=r"(?s)sample-0.*30 x 15 pixels.*at least 16"):
        method.fuse(batch((15, 30)))


def test_postprocessing_and_prompts(encoder_file: Path) -> None:
    authors, plain = create(encoder_file), create(encoder_file, postprocess="plain")
    truncated, exact = authors.fuse(batch()), plain.fuse(batch())
    assert torch.equal(truncated, authors.fuse(batch(text="the pedestrians")))
    assert torch.equal((exact * 255).floor() / 255, truncated)
    assert not torch.equal(exact, truncated)
    assert plain.provenance()["postprocess"] == "plain"
    assert json.loads(json.dumps(plain.provenance())) == plain.provenance()


def test_direction_loss_compares_ways() -> None:
    random = torch.Generator().manual_seed(0)
    texts = {"visible": torch.eye(4)[:1], "infrared": torch.eye(4)[1:2], "objective": torch.eye(4)[2:3]}
    visible, infrared = torch.eye(4)[:1] * 3, torch.eye(4)[1:2]
    along = direction_loss(torch.eye(4)[2:3] * 7, visible, infrared, texts)
    assert float(along) == pytest.approx(0, abs=1e-6)
    swapped = {**texts, "objective": texts["visible"], "visible": texts["objective"]}
    back = direction_loss(torch.eye(4)[2:3], visible, visible, {**swapped, "infrared": texts["objective"]})
    assert float(back) == pytest.approx(2, abs=1e-6)
    fused = torch.randn(5, 4, generator=random)
    assert direction_loss(fused, visible, infrared, texts).shape == (5,)


def test_similarity_and_feature_loss() -> None:
    a, b = torch.eye(3)[:1], torch.eye(3)[1:2]
    assert float(similarity_loss(a, a, a)) == pytest.approx(0)
    assert float(similarity_loss(a, a, b)) == pytest.approx(0.5)
    low, high = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    assert float(feature_loss([high], [low], [high])) == 0
    assert float(feature_loss([low, low], [high, low], [low, 2 * high])) == pytest.approx(1 + 4)


def test_entropy_is_that_of_the_histogram() -> None:
    levels = (torch.arange(256) + 0.5) / 256
    patches = torch.stack([levels, levels.clamp(0, 0.001), (levels > 0.5).float()])
    assert entropy(patches.view(3, 1, 16, 16)).tolist() == pytest.approx([8, 0, 1], abs=1e-6)


@pytest.mark.parametrize("size", [(224, 224), (64, 96)])
def test_patches_are_cut_within_the_image(size: tuple[int, int]) -> None:
    grids = patch_grids(size, 20, np.random.default_rng(0))
    assert grids.shape == (20, 224, 224, 2)
    assert torch.equal(grids, patch_grids(size, 20, np.random.default_rng(0)))
    assert grids.mean(dim=(1, 2)).abs().max() < 1
    rows = torch.linspace(0, 1, size[0])[:, None].expand(size)[None, None]
    patches = cut_patches(rows, grids)
    shortest = min(size) / 224
    steepness = (patches[:, 0, -1].mean(dim=1) - patches[:, 0, 0].mean(dim=1)) * size[0] / 224
    assert (steepness > 112 / 224 * shortest * 0.9).all()
    assert (steepness < 179 / 224 * shortest * 1.1).all()


def test_clip_sees_three_standardised_channels() -> None:
    seen = for_clip(torch.full((1, 1, 30, 40), 0.5))
    assert seen.shape == (1, 3, 224, 224)
    assert float(seen[0, 0, 0, 0]) == pytest.approx((0.5 - 0.48145466) / 0.26862954, abs=1e-5)


def test_objective_lowers_its_loss() -> None:
    given = scene(32, 32, count=2)
    visible = given["visible"].repeat(1, 3, 1, 1)
    crops = TrainingBatch(visible, given["infrared"], visible, (TrainingTexts(),) * 2, ({}, {}), ("a", "b"))
    objective = LDFusion.objective(size="small")
    assert isinstance(objective, LDFusionObjective)
    torch.manual_seed(0)
    built = objective.build()
    optimiser = torch.optim.Adam(built.parameters(), lr=3e-3)
    losses = []
    for step in range(15):
        terms = objective.loss(built, crops, np.random.default_rng(step))
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert math.isfinite(losses[-1])
    assert losses[-1] < 0.7 * losses[0]
    assert objective.card()["language"] == "left out"
    assert json.loads(json.dumps(objective.card())) == objective.card()
