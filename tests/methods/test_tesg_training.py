"""How TeSG is trained: losses against their definitions, and the drawing of texts and masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from tgfbench.methods.objective import TrainingBatch, TrainingTexts
from tgfbench.methods.tesg.losses import LossWeights, fusion_losses, magnitude, sobel, ssim_map, stronger
from tgfbench.methods.tesg.objective import TeSGObjective, draw_guidance, draw_text


def crops(seed: int = 0, side: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    smooth = nn.functional.avg_pool2d(torch.rand(4, 1, side + 4, side + 4, generator=generator), 5, stride=1)
    return tuple(smooth.split(1))  # type: ignore[return-value]


def test_default_losses_are_those_of_the_definition() -> None:
    fused, infrared, visible, region = (image.double() for image in crops())
    terms = fusion_losses(fused, infrared, visible, region, LossWeights())

    def gradient(image: Tensor) -> np.ndarray:
        padded = np.pad(image[0, 0].numpy(), 1, mode="edge")
        across = padded[:-2] + 2 * padded[1:-1] + padded[2:]
        down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
        return np.abs(across[:, 2:] - across[:, :-2]) + np.abs(down[2:] - down[:-2])

    def similarity(a: Tensor, b: Tensor) -> float:
        options = {"gaussian_weights": True, "sigma": 1.5, "truncate": 3.5, "use_sample_covariance": False}
        a, b = a[0, 0].numpy(), b[0, 0].numpy()
        _, full = structural_similarity(a, b, data_range=1, full=True, **options)
        return float(full[5:-5, 5:-5].mean())

    target = torch.maximum(infrared, visible)
    expected = {
        "intensity": 5 * (fused - target).abs().mean(),
        "gradient": 10 * np.abs(gradient(fused) - np.maximum(gradient(infrared), gradient(visible))).mean(),
        "ssim": 1 - similarity(fused, infrared) / 2 - similarity(fused, visible) / 2,
        "mask": 2 * (region * (fused - target).abs()).sum() / (region.sum() + 1),
        "suppression": 0,
    }
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-9
    )


@pytest.mark.parametrize("selection", [False, True])
def test_equal_sources_are_the_optimum(selection: bool) -> None:
    image, _, _, region = crops()
    terms = fusion_losses(image, image, image, region, LossWeights(selection=4.0 * selection))
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(dict.fromkeys(terms, 0.0), abs=1e-5)


def test_selection_follows_the_stronger_source_with_its_sign() -> None:
    ramp = torch.linspace(0, 1, 48).expand(1, 1, 48, 48)
    strong, weak = 1 - ramp, ramp * 0.3
    assert not stronger(weak, strong, 4.0).any()
    assert stronger(strong, weak, 4.0).all()
    region, weights = torch.zeros_like(ramp), LossWeights(selection=4.0)
    for infrared, visible in ((strong, weak), (weak, strong)):
        signed = fusion_losses(strong, infrared, visible, region, weights)
        flipped = fusion_losses(1 - strong, infrared, visible, region, weights)
        assert float(signed["gradient"]) == float(signed["ssim"]) == pytest.approx(0, abs=1e-6)
        assert float(flipped["gradient"]) > 0.5
        plain = fusion_losses(1 - strong, infrared, visible, region, LossWeights())
        assert float(plain["gradient"]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("selection", [0.0, 4.0])
def test_where_infrared_is_suppressed_the_visible_image_is_the_optimum(selection: float) -> None:
    visible, infrared, _, region = crops()
    weights = LossWeights(selection=selection, suppression=5.0)
    everywhere = torch.ones_like(region)
    hidden = fusion_losses(visible, infrared, visible, region, weights, everywhere)
    assert float(sum(hidden.values())) == pytest.approx(0, abs=1e-5)
    assert float(sum(fusion_losses(visible, infrared, visible, region, weights).values())) > 0.1
    shown = fusion_losses(infrared, infrared, visible, region, weights, everywhere)
    assert float(shown["suppression"]) == pytest.approx(float(5 * (infrared - visible).abs().mean()), rel=1e-3)


def test_building_blocks_of_the_losses() -> None:
    image = crops()[0]
    assert torch.equal(magnitude(image), sobel(image).abs().sum(dim=1, keepdim=True))
    similarity = ssim_map(image, image)
    assert similarity.shape == (1, 1, 30, 30)
    assert torch.allclose(similarity, torch.ones_like(similarity))


def regions(**boxes: slice) -> dict[str, Tensor]:
    found = {name: torch.zeros(1, 8, 8) for name in boxes}
    for name, rows in boxes.items():
        found[name][:, rows] = 1
    return found


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_named_objects_are_favoured_and_the_others_suppressed(seed: int) -> None:
    objects = regions(person=slice(0, 2), car=slice(2, 5), guardrail=slice(5, 6))
    hot = torch.zeros(1, 8, 8)
    hot[:, 7:] = 1
    shown, favoured, suppressed = draw_guidance("the pedestrians", hot, objects, np.random.default_rng(seed))
    assert torch.equal(favoured, objects["person"])
    assert torch.equal(suppressed, objects["car"])
    assert shown.shape == hot.shape


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_without_named_things_the_shown_mask_is_favoured(seed: int) -> None:
    objects = regions(person=slice(0, 2), car=slice(2, 5))
    hot = regions(hot=slice(4, 8))["hot"]
    shown, favoured, suppressed = draw_guidance("", hot, objects, np.random.default_rng(seed))
    present = torch.maximum(objects["person"], objects["car"])
    assert torch.equal(favoured, present if (shown == 0.5).all() else shown)
    assert torch.equal(suppressed, present * (1 - favoured))


def test_texts_are_dropped_now_and_then_and_otherwise_come_from_the_sample() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_text(TrainingTexts(("a caption",), ("a focus",)), random) for _ in range(400)]
    assert 20 <= drawn.count("") <= 60
    assert drawn.count("a caption") > 80
    assert drawn.count("a focus") > 120
    assert draw_text(TrainingTexts(), np.random.default_rng(3)) is not None


@pytest.mark.parametrize("recipe", ["guided", "dossier"])
def test_objective_gives_finite_terms_with_gradients_for_every_parameter(recipe: str) -> None:
    objective = TeSGObjective(size="tiny", recipe=recipe)  # type: ignore[arg-type]
    torch.manual_seed(0)
    network = objective.build()
    generator = torch.Generator().manual_seed(0)
    batch = TrainingBatch(
        visible=torch.rand(3, 3, 32, 32, generator=generator),
        infrared=torch.rand(3, 1, 32, 32, generator=generator),
        reference=torch.rand(3, 3, 32, 32, generator=generator),
        texts=(TrainingTexts(("a person walks",), ("the person",)), TrainingTexts(("fog",)), TrainingTexts()),
        objects=({"person": torch.ones(1, 32, 32)}, {}, {"car": torch.ones(1, 32, 32)}),
        keys=("a", "b", "c"),
    )
    terms = objective.loss(network, batch, np.random.default_rng(1))
    assert set(terms) == {"intensity", "gradient", "ssim", "mask", "suppression"}
    sum(terms.values(), torch.zeros(())).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    with torch.no_grad():
        again = objective.loss(network, batch, np.random.default_rng(1))
    assert all(torch.equal(again[name], value) for name, value in terms.items())


def test_training_starts_with_the_residual_branches_off() -> None:
    network = TeSGObjective(size="tiny").build()
    x = torch.rand(1, 16, 8, 8)
    assert torch.equal(network.get_submodule("enc_ir.0")(x), x)
    assert network.get_submodule("head.0").weight.abs().min() > 0  # type: ignore[union-attr, operator]
