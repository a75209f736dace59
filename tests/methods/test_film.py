"""FILM equals the authors' code; its rewrite for inference equals the network; its inputs are checked."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
from torch import Tensor

from tgfbench.benchmark.errors import DataError, WeightsError
from tgfbench.benchmark.weights import Checkpoint, sha256_of
from tgfbench.methods import FusionBatch, create_method
from tgfbench.methods._losses import sobel_magnitude, ssim
from tgfbench.methods.film.fast import FastFILM
from tgfbench.methods.film.losses import fusion_losses, structure_loss
from tgfbench.methods.film.method import FILM
from tgfbench.methods.film.network import FILMNetwork, build_network, nearest_indices

CASES = golden.case_names("film")
TOLERANCE = 2e-5
NOISE = 1e-5


def special(perturbed: bool) -> golden.Special:
    """The dossier's rule for temperatures and PReLU slopes."""

    def value(name: str, drawn: np.ndarray) -> np.ndarray | None:
        if name.endswith("temperature"):
            return 1 + perturbed * np.float32(0.5) * np.abs(drawn)
        if "prelu" in name:
            return np.float32(0.25) + perturbed * np.float32(0.1) * drawn
        return None

    return value


def network(case: dict[str, Any]) -> FILMNetwork:
    filled = golden.fill(build_network(), case["key_prefix"], special(bool(case["perturbed"])))
    assert isinstance(filled, FILMNetwork)
    return filled


def inputs(case: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        "visible": golden.image(case["vis_gray_u8"], dtype) / 255,
        "infrared": golden.image(case["ir_u8"], dtype) / 255,
        "text_feature": torch.from_numpy(case["text_feature"]).to(dtype),
    }


def small(seed: int = 0) -> FILMNetwork:
    """An untrained network with all parameters drawn, so that none is neutral by its initial value."""
    filled = golden.fill(build_network(), f"{seed}:", special(perturbed=True))
    assert isinstance(filled, FILMNetwork)
    return filled


def random_inputs(height: int, width: int, tokens: int, count: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(height)
    return {
        "visible": torch.rand(count, 1, height, width, generator=generator),
        "infrared": torch.rand(count, 1, height, width, generator=generator),
        "text_feature": torch.randn(count, tokens, 768, generator=generator),
    }


def test_keys_and_shapes_are_the_authors() -> None:
    own = {name: tuple(value.shape) for name, value in build_network().state_dict().items()}
    assert own == golden.official_shapes("film")
    assert sum(np.prod(shape, dtype=int) for shape in own.values()) == 2_070_235


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_network_equals_the_authors_code(name: str) -> None:
    case = golden.load_case("film", name)
    film, seen = network(case), {}
    watched = {
        "logit": film.conv2,
        "text_processed": film.text_process,
        "crossattn": film.stages[0].cross_attentionA1,
        "block1": film.stages[0],
        "block3": film.stages[2],
    }
    for part, module in watched.items():
        module.register_forward_hook(lambda _, __, output, part=part: seen.update({part: output}))
    fused = film(**inputs(case))
    assert golden.greatest_deviation(fused[0, 0], case["fused"]) < TOLERANCE
    assert golden.greatest_deviation(seen["logit"][0, 0], case["logit"]) < 4 * TOLERANCE
    assert golden.greatest_deviation(seen["text_processed"][0], case["text_processed"]) < TOLERANCE
    assert golden.greatest_deviation(seen["crossattn"][0, :4], case["block1_crossattnA_row0_3"]) < TOLERANCE
    assert golden.greatest_deviation(seen["block1"][0][0, :4], case["block1_A_ch0_3"]) < TOLERANCE
    assert golden.greatest_deviation(seen["block1"][1][0, :4], case["block1_B_ch0_3"]) < TOLERANCE
    assert golden.greatest_deviation(seen["block3"][0][0, :2], case["block3_A_ch0_1"]) < 4 * TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_rewrite_equals_network_and_authors_code(name: str) -> None:
    case = golden.load_case("film", name)
    film = network(case)
    double = copy.deepcopy(film).double()
    with torch.inference_mode():
        exact = double(**inputs(case, torch.float64))
        plain = film(**inputs(case))
    fast = FastFILM(film)(**inputs(case))
    assert golden.greatest_deviation(plain, exact) < NOISE
    assert golden.greatest_deviation(fast, exact) < NOISE
    assert golden.greatest_deviation(fast[0, 0], case["fused"]) < TOLERANCE


@pytest.mark.parametrize(("height", "width", "tokens", "rows"), [(300, 23, 3, 7), (21, 397, 40, 1), (37, 41, 33, 64)])
def test_nothing_but_rounding_differs(height: int, width: int, tokens: int, rows: int) -> None:
    """Strips must not show; sides longer than the grid's are sampled down first; of many tokens, keys are projected."""
    film = small().double()
    given = {name: value.double() for name, value in random_inputs(height, width, tokens).items()}
    with torch.inference_mode():
        exact = film(**given)
    assert golden.greatest_deviation(FastFILM(film, rows)(**given), exact) < 1e-11
    single = FastFILM(film.float(), rows)(**{name: value.float() for name, value in given.items()})
    assert golden.greatest_deviation(single, exact) < TOLERANCE


def test_sampling_multiplies_in_float32() -> None:
    rows = nearest_indices(300, 288)
    assert rows[[120, 216, 240]].tolist() == [124, 224, 249]
    for size in (480, 640, 61, 288):
        assert nearest_indices(size, 288).tolist() == [i * size // 288 for i in range(288)]


@pytest.mark.parametrize("run", [lambda film, given: film(**given), lambda film, given: FastFILM(film)(**given)])
@torch.inference_mode()
def test_images_of_a_batch_do_not_influence_each_other(run: Any) -> None:
    film, given = small(), random_inputs(20, 27, 5, count=3)
    alone = [run(film, {name: value[row : row + 1] for name, value in given.items()}) for row in range(3)]
    torch.testing.assert_close(run(film, given), torch.cat(alone), rtol=0, atol=NOISE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file laid out like the authors'."""
    path = tmp_path_factory.mktemp("film") / "IVF.pth"
    state = {f"module.{name}": value for name, value in small().state_dict().items()}
    torch.save({"model": state, "optimizer1": {}, "lr_schedule1": {}, "epoch": 149, "step": 3}, path)
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    np.save(tmp_path / "scene.npy", np.random.default_rng(1).standard_normal((1, 4, 768)).astype(np.float32))
    return tmp_path


def loaded(weights: Path, **options: Any) -> FILM:
    method = create_method(FILM, options, weights=weights, device="cpu")
    assert isinstance(method, FILM)
    return method


def scene(key: str = "scene") -> FusionBatch:
    generator = torch.Generator().manual_seed(3)
    visible = (torch.rand(1, 3, 18, 25, generator=generator) * 255).round() / 255
    infrared = (torch.rand(1, 1, 18, 25, generator=generator) * 255).round() / 255
    return FusionBatch(visible, infrared, ["two people"], None, [key])


@pytest.mark.parametrize("name", CASES)
def test_method_saves_the_authors_pixels(name: str, tmp_path: Path) -> None:
    case = golden.load_case("film", name)
    torch.save({"model": network(case).state_dict()}, tmp_path / "weights.pth")
    np.save(tmp_path / "golden.npy", case["text_feature"])
    fused = loaded(tmp_path / "weights.pth", text_features=tmp_path / "golden.npy").fuse(golden.pair(case))
    saved = golden.to_uint8(fused)
    assert np.array_equal(saved, np.repeat(saved[..., :1], 3, axis=2))
    difference = np.abs(saved[..., 0].astype(int) - case["fused_u8"])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_plain_output_keeps_levels_and_colour(weights: Path, features: Path) -> None:
    batch = scene()
    plain = loaded(weights, text_features=features, postprocess="plain")
    fused = plain.fuse(batch)
    grey = ((0.299 * batch.visible[:, 0] + 0.587 * batch.visible[:, 1] + 0.114 * batch.visible[:, 2]) * 255).round()
    raw = plain.network(
        visible=grey[:, None] / 255,
        infrared=batch.infrared,
        text_feature=torch.from_numpy(np.load(features / "scene.npy")),
    )
    y = 0.299 * fused[:, 0] + 0.587 * fused[:, 1] + 0.114 * fused[:, 2]
    inside = ((fused > 0) & (fused < 1)).all(dim=1)
    assert inside.float().mean() > 0.3
    assert (y - raw[:, 0]).abs()[inside].max() < 1.5 / 255
    assert fused.std(dim=1).mean() > 0.01
    authors = loaded(weights, text_features=features).fuse(batch)
    assert (authors.amin(), authors.amax()) == (0, 1)


def test_features_of_the_sample_steer_the_output(weights: Path, features: Path) -> None:
    np.save(features / "other.npy", np.zeros((9, 768), np.float32))
    method = loaded(weights, text_features=features)
    assert not torch.equal(method.fuse(scene()), method.fuse(scene("other")))
    with pytest.raises(DataError, match=r"(?s)no absent\.npy.*available: other, scene"):
        method.fuse(scene("absent"))


def test_without_features_and_encoder_it_says_what_to_get(weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?s)neither text features nor a text encoder.*VLF.*blip2-itm-vit-g"):
        loaded(weights)


def test_the_authors_weights_are_not_shipped_but_explained() -> None:
    with pytest.raises(WeightsError, match=r"(?s)not shipped.*models/IVF\.pth"):
        create_method(FILM, {}, weights="authors", device="cpu")


def test_a_network_of_another_text_width_takes_its_own_encoder(tmp_path: Path) -> None:
    """Files written by ``tgfbench train`` carry the network's configuration."""
    from safetensors.torch import save_file

    film = build_network(text_width=384)
    save_file(film.state_dict(), tmp_path / "film.safetensors", {"config": '{"text_width": 384}'})
    method = loaded(tmp_path / "film.safetensors", text_encoder="minilm")
    people, none = (method.fuse(FusionBatch(**{**vars(scene()), "texts": [text]})) for text in ("people", ""))
    assert not torch.equal(people, none)
    assert method.provenance()["text"].startswith("minilm:")


def test_a_checkpoint_of_another_network_is_described(tmp_path: Path, features: Path) -> None:
    state = {f"module.{name}": value for name, value in build_network().state_dict().items()}
    state["module.conv1.weight"] = torch.zeros(3, 3)
    state["module.extra"] = state.pop("module.conv2.bias")
    torch.save({"model": state}, tmp_path / "wrong.pth")
    problems = r"(?s)wrong\.pth.*1 missing: conv2\.bias.*1 unexpected: extra.*conv1\.weight \(3, 3\), expected \(32, 64"
    with pytest.raises(WeightsError, match=problems):
        loaded(tmp_path / "wrong.pth", text_features=features)


def test_card_and_provenance(weights: Path, features: Path) -> None:
    method = loaded(weights, text_features=features)
    assert method.checkpoint == Checkpoint(f"IVF-{sha256_of(weights)[:8]}", weights, sha256_of(weights), "user")
    assert method.provenance()["postprocess"] == "authors"
    assert method.provenance()["text"].startswith("files:")
    msrs = {r.metric: r.value for r in method.info.reported if (r.dataset, r.source[:5]) == ("msrs", "paper")}
    assert msrs == {"en": 6.72, "sd": 43.17, "sf": 11.70, "ag": 3.84, "vif": 1.06, "qabf": 0.73}


def test_loss_follows_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    fused, infrared, visible = torch.rand(3, 2, 1, 16, 17, generator=generator)
    terms = fusion_losses(fused, infrared, visible, ssim_weight=0.5)
    assert float(terms["intensity"]) == pytest.approx(float((fused - torch.maximum(infrared, visible)).abs().mean()))
    step = torch.zeros(1, 1, 5, 5)
    step[..., 3:] = 1
    assert sobel_magnitude(step)[0, 0, 2].tolist() == [0, 0, 4, 4, 4]  # zero padding: an edge at the right border
    assert float(fusion_losses(visible, visible, visible)["gradient"]) == 0
    assert set(fusion_losses(fused, infrared, visible)) == {"intensity", "gradient"}
    both = structure_loss(fused, infrared) + structure_loss(fused, visible)
    assert float(terms["structure"]) == pytest.approx(0.5 * float(both))
    assert float(structure_loss(fused, fused)) == pytest.approx(0, abs=1e-5)
    wide, wider = (torch.nn.functional.pad(image, (2, 2, 2, 2)) for image in (fused, infrared))
    expected = (fused - infrared).flatten(1).norm(dim=1) + (16 * 17) ** 0.5 * (1 - ssim(wide, wider, window=5))
    assert float(structure_loss(fused, infrared)) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_ssim_of_constant_images_compares_their_means() -> None:
    dark, bright = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert float(ssim(dark, bright, window=5)) == pytest.approx(expected, rel=1e-3)


def test_training_form_equals_the_network() -> None:
    torch.manual_seed(0)
    trained = FILM.objective().build()
    assert isinstance(trained, FILMNetwork)
    reference = build_network(**trained.config)
    reference.load_state_dict(trained.state_dict())
    visible, infrared, text = torch.rand(1, 1, 33, 41), torch.rand(1, 1, 33, 41), torch.randn(1, 5, 384)
    with torch.no_grad():
        images = [f(visible=visible, infrared=infrared, text_feature=text) for f in (trained, reference)]
    assert golden.greatest_deviation(*images) <= TOLERANCE


def test_objective_lowers_its_loss() -> None:
    from tgfbench.methods.objective import TrainingBatch, TrainingTexts

    objective = FILM.objective()
    torch.manual_seed(0)
    film = objective.build()
    generator = torch.Generator().manual_seed(0)
    visible, infrared = torch.rand(2, 3, 32, 32, generator=generator), torch.rand(2, 1, 32, 32, generator=generator)
    texts = (TrainingTexts(captions=("two people",)), TrainingTexts())
    batch = TrainingBatch(visible, infrared, visible, texts, ({}, {}), ("sample/a", "sample/b"))
    optimiser = torch.optim.Adam(film.parameters(), lr=1e-3)
    history = []
    for step in range(4):
        total = torch.stack(list(objective.loss(film, batch, np.random.default_rng(step)).values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        history.append(float(total.detach()))
    assert history[-1] < history[0]
    assert all(p.grad is not None for p in film.parameters())
    assert objective.card()["text"].startswith("minilm:")
