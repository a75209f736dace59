"""Text-IF's training loss follows its definition, and the shared loop can minimise it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tgfbench.benchmark.errors import UsageError
from tgfbench.methods._losses import ssim
from tgfbench.methods.objective import TrainingBatch, TrainingTexts
from tgfbench.methods.text_if import losses
from tgfbench.methods.text_if.method import TextIF
from tgfbench.methods.text_if.objective import TextIFObjective, task_of


def images(height: int = 64, width: int = 80, count: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height)
    return (
        torch.rand(count, 3, height, width, generator=generator),
        torch.rand(count, 3, height, width, generator=generator),
        torch.rand(count, 1, height, width, generator=generator),
    )


def test_loss_terms_follow_their_definitions() -> None:
    fused, visible, infrared = images()
    grey = visible.mean(dim=1, keepdim=True)
    target = torch.where(infrared > grey, infrared.expand_as(visible), visible)
    expected = (fused - target).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(losses.intensity_loss(fused, visible, infrared), expected)

    def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
        return 1 - ssim(a, b, window=48, sigma=1.5)

    def luma(x: Tensor) -> Tensor:
        return (0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])[:, None]

    colours = [dissimilarity(visible[:, k : k + 1], fused[:, k : k + 1]) for k in range(3)]
    structure = torch.stack(colours).mean(dim=0) + dissimilarity(infrared, luma(fused))
    torch.testing.assert_close(losses.structure_loss(fused, visible, infrared), structure, rtol=1e-5, atol=1e-6)

    matrix = torch.tensor([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    chroma = torch.einsum("kc,bchw->bkhw", matrix, fused - visible).abs().mean(dim=(2, 3)).sum(dim=1)
    torch.testing.assert_close(losses.colour_loss(fused, visible), chroma)

    edges = [losses.sobel(x) for x in (luma(fused), luma(visible), infrared)]
    gradient = (edges[0] - torch.maximum(edges[1], edges[2])).abs().mean(dim=(2, 3)).sum(dim=1)
    torch.testing.assert_close(losses.gradient_loss(fused, visible, infrared), gradient)


def test_sobel_continues_the_image_by_its_border() -> None:
    step = torch.zeros(1, 1, 5, 5)
    step[..., 3:] = 1
    assert losses.sobel(step)[0, 0, 0].tolist() == [0, 0, 4, 4, 0]
    assert not losses.sobel(step)[0, 1].any()


def test_degradations_weigh_the_terms_of_their_own_samples() -> None:
    fused, visible, infrared = images()
    terms = losses.fusion_losses(fused, visible, infrared, ["over-exposure", "infrared noise"])
    intensity = losses.intensity_loss(fused, visible, infrared)
    structure = losses.structure_loss(fused, visible, infrared)
    gradient = losses.gradient_loss(fused, visible, infrared)
    expected = {
        "intensity": (4 * intensity[0] + 6 * intensity[1]) / 2,
        "structure": structure[1] / 2,
        "colour": 12 * losses.colour_loss(fused, visible).mean(),
        "gradient": (2 * gradient[0] + 10 * gradient[1]) / 2,
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


@pytest.mark.parametrize(
    ("key", "task"),
    [
        ("sample/train-0001", "low light"),
        ("sample+low-light-4/train-0001", "low light"),
        ("sample+haze-3/train-0001", "low light"),
        ("sample+low-contrast-3/train-0001", "low light"),
        ("sample+over-exposure-3/train-0001", "over-exposure"),
        ("sample+low-contrast-3@infrared/train-0001", "infrared low contrast"),
        ("roadscene+noise-3@infrared/FLIR_1", "infrared noise"),
        ("sample+stripe-noise-3/train-0001", "infrared noise"),
        ("ems-lite/Low_light_7", "low light"),
        ("ems-lite/Over_exposure_7", "over-exposure"),
        ("ems-lite/IR_Low_contrast_7", "infrared low contrast"),
        ("ems-lite/IR_Noise_7", "infrared noise"),
        ("folder/IR_over_exposure", "low light"),
    ],
)
def test_the_degradation_is_read_from_names(key: str, task: str) -> None:
    assert task_of(key) == task


def training_batch(height: int = 64) -> TrainingBatch:
    clean, dark, infrared = images(height, 64)
    texts = (TrainingTexts(instruction=("Brighten the visible image.",)), TrainingTexts())
    keys = ("sample+low-light-3/a", "sample/b")
    return TrainingBatch(0.3 * dark, infrared, clean, texts, ({}, {}), keys, 1 - infrared)


def test_the_untrained_network_returns_the_mean_of_its_images() -> None:
    visible, _, infrared = images(16, 24)
    fused = TextIFObjective().build()(visible=visible, infrared=infrared, text_feature=torch.randn(1, 384))
    torch.testing.assert_close(fused, (visible + infrared) / 2)


def test_objective_lowers_its_loss_against_the_clean_pair() -> None:
    objective, batch = TextIF.objective(), training_batch()
    torch.manual_seed(0)
    network = objective.build()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    history = []
    for step in range(3):
        terms = objective.loss(network, batch, np.random.default_rng(step))
        total = torch.stack(list(terms.values())).sum()
        if step == 0:
            with torch.no_grad():
                mean = (batch.visible + batch.infrared) / 2
                assert batch.infrared_reference is not None
                clean = losses.fusion_losses(mean, batch.reference, batch.infrared_reference, ["low light"] * 2)
            torch.testing.assert_close(terms["intensity"], clean["intensity"])
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        history.append(float(total.detach()))
    assert history[-1] < history[0]
    unused = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not unused
    assert objective.checkpoint_name == "text-if-small-reconstruction"
    assert objective.card()["text_encoder"].startswith("minilm:")


def test_objective_refuses_what_it_cannot_train_on() -> None:
    objective = TextIFObjective()
    with pytest.raises(UsageError, match=r"(?s)crops of 64 x 32 pixels.*at least 48"):
        objective.loss(objective.build(), training_batch(height=32), np.random.default_rng(0))
    with pytest.raises(UsageError, match="start=zero"):
        TextIFObjective(start="zero")  # type: ignore[arg-type]
