"""Properties of the classical baselines, and their building blocks against independent implementations."""

from __future__ import annotations

import inspect
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.images import read_infrared, read_visible
from tgfbench.methods import FusionBatch, baselines, load_method
from tgfbench.methods.baselines import DWT, Average, Baseline, GuidedFilter, LaplacianPyramid, Maximum
from tgfbench.methods.colour import fuse_luma, luma, rgb_to_ycbcr, ycbcr_to_rgb

BASELINES = [
    kind
    for kind in vars(baselines).values()
    if inspect.isclass(kind) and issubclass(kind, Baseline) and not inspect.isabstract(kind)
]
every_baseline = pytest.mark.parametrize("kind", BASELINES, ids=[kind.info.name for kind in BASELINES])
sides = st.integers(1, 70)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None, derandomize=True)


def random_image(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def fuse(kind: type[Baseline], visible: Tensor, infrared: Tensor) -> Tensor:
    count = len(visible)
    return kind().fuse(FusionBatch(visible, infrared, [""] * count, None, [str(k) for k in range(count)]))


def test_all_five_are_covered() -> None:
    assert set(BASELINES) == {Average, Maximum, LaplacianPyramid, DWT, GuidedFilter}


@every_baseline
@few
@given(height=sides, width=sides, seed=seeds)
def test_equal_sources_give_the_source(kind: type[Baseline], height: int, width: int, seed: int) -> None:
    grey = random_image(seed, 1, 1, height, width)
    fused = fuse(kind, grey.repeat(1, 3, 1, 1), grey)
    torch.testing.assert_close(fused, grey.repeat(1, 3, 1, 1), rtol=0, atol=1e-4)


@every_baseline
@few
@given(height=sides, width=sides, seed=seeds)
def test_exchanging_the_sources_changes_nothing(kind: type[Baseline], height: int, width: int, seed: int) -> None:
    a, b = random_image(seed, 2, 1, 1, height, width)
    method = kind()
    torch.testing.assert_close(method.fuse_grey(a, b), method.fuse_grey(b, a), rtol=0, atol=1e-6)


@every_baseline
@pytest.mark.parametrize("size", [(37, 53), (1, 1), (2, 5), (120, 100)])
def test_constant_sources_give_their_mean_or_maximum(kind: type[Baseline], size: tuple[int, int]) -> None:
    fused = fuse(kind, torch.full((1, 3, *size), 0.2), torch.full((1, 1, *size), 0.7))
    expected = 0.7 if kind is Maximum else 0.45
    torch.testing.assert_close(fused, torch.full((1, 3, *size), expected), rtol=0, atol=1e-5)


@every_baseline
def test_chroma_is_that_of_the_visible_image(kind: type[Baseline]) -> None:
    visible = 0.4 + 0.2 * random_image(1, 2, 3, 37, 53)
    infrared = 0.4 + 0.2 * random_image(2, 2, 1, 37, 53)
    fused = fuse(kind, visible, infrared)
    torch.testing.assert_close(rgb_to_ycbcr(fused)[:, 1:], rgb_to_ycbcr(visible)[:, 1:], rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", [LaplacianPyramid, DWT, GuidedFilter], ids=lambda kind: kind.info.name)
def test_detail_of_either_source_survives(kind: type[Baseline]) -> None:
    """Stripes in one source beside a flat other source keep their contrast; the average halves it."""
    stripes = (torch.arange(64) % 2).float().mul(0.4).add(0.3).expand(1, 1, 64, 64)
    flat = torch.full((1, 1, 64, 64), 0.5)
    inner = kind().fuse_grey(stripes, flat)[..., 16:-16, 16:-16]
    assert inner.std() > 0.95 * stripes.std()
    assert Average().fuse_grey(stripes, flat).std() < 0.55 * stripes.std()


@pytest.mark.parametrize("kind", [LaplacianPyramid, DWT, GuidedFilter], ids=lambda kind: kind.info.name)
def test_real_pair_gets_stronger_edges_than_by_averaging(kind: type[Baseline], shared: Path) -> None:
    folder = shared / "data" / "roadscene"
    path = sorted((folder / "crop_LR_visible").glob("*.jpg"))[0]
    visible = torch.from_numpy(read_visible(path).copy()).permute(2, 0, 1)[None].float() / 255
    infrared = torch.from_numpy(read_infrared(folder / "cropinfrared" / path.name).copy())[None, None].float() / 255

    def edges(fused: Tensor) -> float:
        return luma(fused).diff(dim=-1).abs().mean().item() + luma(fused).diff(dim=-2).abs().mean().item()

    assert edges(fuse(kind, visible, infrared)) > 1.3 * edges(fuse(Average, visible, infrared))


@pytest.mark.parametrize("size", [(37, 53), (40, 64), (5, 6)])
def test_pyramid_steps_equal_opencv(size: tuple[int, int]) -> None:
    image = random_image(3, 1, 1, *size)
    coarse = baselines._reduce(image)
    expected = cv2.pyrDown(image[0, 0].numpy(), borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(coarse[0, 0].numpy(), expected, atol=1e-6)
    fine = baselines._expand(coarse, size)[0, 0].numpy()
    expanded = cv2.pyrUp(coarse[0, 0].numpy(), dstsize=size[::-1])
    inner = np.s_[2:-2, 2:-2]  # OpenCV mirrors at the border
    np.testing.assert_allclose(fine[inner], expanded[inner], atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 16, 37])
@pytest.mark.parametrize("dim", [-1, -2])
def test_lifting_equals_the_filter_bank_of_the_biorthogonal_spline_wavelet(count: int, dim: int) -> None:
    signal = random_image(4, count).double()
    shape = (1, 1, 1, count) if dim == -1 else (1, 1, count, 1)
    low, high = baselines._analyse(signal.view(shape), dim)
    mirrored = np.pad(signal.numpy(), 2, mode="reflect")
    all_low = np.convolve(mirrored, np.array([-1, 2, 6, 2, -1]) / 8, mode="valid")
    all_high = np.convolve(mirrored[1:-1], np.array([-1, 2, -1]) / 2, mode="valid")
    np.testing.assert_allclose(low.flatten().numpy(), all_low[0::2], atol=1e-12)
    np.testing.assert_allclose(high.flatten().numpy(), all_high[1::2], atol=1e-12)
    np.testing.assert_allclose(baselines._synthesise(low, high, dim).flatten().numpy(), signal.numpy(), atol=1e-12)


def guided_filter_by_definition(guide: np.ndarray, image: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """A linear regression in every window, then the mean of the lines that cover a pixel."""
    windows = {
        (y, x): np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        for y, x in np.ndindex(guide.shape)
    }
    slope, offset = np.zeros((2, *guide.shape))
    for at, window in windows.items():
        g, p = guide[window], image[window]
        slope[at] = ((g - g.mean()) * p).mean() / (g.var() + epsilon)
        offset[at] = p.mean() - slope[at] * g.mean()
    filtered = [slope[window].mean() * guide[at] + offset[window].mean() for at, window in windows.items()]
    return np.reshape(filtered, guide.shape)


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 1e-6), (3, 0.3), (20, 0.01)])
def test_guided_filter_equals_its_definition(radius: int, epsilon: float) -> None:
    guide, image = random_image(5, 2, 1, 1, 13, 17).double()
    found = baselines._guided_filter(guide, image, radius, epsilon)[0, 0].numpy()
    expected = guided_filter_by_definition(guide[0, 0].numpy(), image[0, 0].numpy(), radius, epsilon)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("scene", ["noise", "faint", "ramp"])
def test_guided_filter_fusion_equals_the_paper(scene: str) -> None:
    """Against the paper's steps in float64, through OpenCV and numpy.

    Faint contrast needs more than single precision; on noisy ramps the filtered weights leave [0, 1].
    """
    noise = random_image(5, 2, 1, 1, 24, 31)
    ramp = torch.linspace(0, 0.9, 24)[:, None] * torch.linspace(0, 1, 31)
    ramps = torch.stack([ramp, ramp.flip(1)])[:, None, None]
    pair = {"noise": noise, "faint": 1 - 4e-3 * noise, "ramp": ramps**2 + 0.01 * noise}[scene]
    images = [image[0, 0].double().numpy() for image in pair]
    bases = [cv2.blur(image, (31, 31), borderType=cv2.BORDER_REPLICATE) for image in images]
    saliency = [
        cv2.GaussianBlur(
            np.abs(cv2.Laplacian(image, cv2.CV_64F, ksize=1, borderType=cv2.BORDER_REPLICATE)),
            (11, 11),
            5.0,
            borderType=cv2.BORDER_REPLICATE,
        )
        for image in images
    ]
    chosen = [(own >= other).astype(float) for own, other in (saliency, saliency[::-1])]
    expected = np.zeros_like(images[0])
    for layers, radius, epsilon in (
        (bases, 45, 0.3),
        ([image - base for image, base in zip(images, bases, strict=True)], 7, 1e-6),
    ):
        weights = [
            guided_filter_by_definition(image, pick, radius, epsilon).clip(0, 1)
            for image, pick in zip(images, chosen, strict=True)
        ]
        expected += sum(w * layer for w, layer in zip(weights, layers, strict=True)) / sum(weights)
    found = GuidedFilter().fuse_grey(*pair)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 if scene == "faint" else 1e-5)


def test_smoothing_and_laplacian_equal_opencv() -> None:
    image = random_image(6, 1, 1, 37, 53)
    smooth = cv2.GaussianBlur(image[0, 0].numpy(), (11, 11), 5.0, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(baselines._smooth(image, 5, 5.0)[0, 0].numpy(), smooth, atol=1e-6)
    laplacian = cv2.Laplacian(image[0, 0].numpy(), cv2.CV_32F, ksize=1, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(baselines._laplacian(image)[0, 0].numpy(), laplacian, atol=1e-5)


@pytest.mark.parametrize("name", ["laplacian-pyramid", "dwt"])
def test_levels_decide_the_output_and_are_recorded(name: str) -> None:
    visible, infrared = random_image(8, 1, 3, 64, 64), random_image(9, 1, 1, 64, 64)
    shallow, deep = load_method(name, device="cpu", levels="1"), load_method(name, device="cpu", levels=6)
    batch = FusionBatch(visible, infrared, [""], None, ["key"])
    assert not torch.equal(shallow.fuse(batch), deep.fuse(batch))
    assert (shallow.provenance()["levels"], deep.provenance()["levels"]) == (1, 6)
    with pytest.raises(UsageError, match="levels=0"):
        load_method(name, device="cpu", levels=0)


@few
@given(seed=seeds)
def test_colour_round_trip_stays_below_half_a_grey_level(seed: int) -> None:
    rgb = random_image(seed, 1, 3, 8, 8)
    assert (ycbcr_to_rgb(rgb_to_ycbcr(rgb)) - rgb).abs().max() < 0.2 / 255
    assert (fuse_luma(rgb, luma(rgb)) - rgb).abs().max() < 0.2 / 255


def test_colour_of_known_pixels() -> None:
    red, green, blue, white = (*torch.eye(3).view(3, 3, 1, 1).unbind(0), torch.ones(3, 1, 1))
    pixels = torch.stack([red, green, blue, white])
    assert luma(pixels).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114, 1.0])
    ycbcr = rgb_to_ycbcr(pixels).view(4, 3)
    assert ycbcr[0].tolist() == pytest.approx([0.299, 0.5 - 0.564 * 0.299, 0.5 + 0.713 * 0.701])
    assert ycbcr[3].tolist() == pytest.approx([1.0, 0.5, 0.5])
    bright = fuse_luma(pixels, torch.ones(4, 1, 1, 1))
    assert bright.max() == 1  # red at full luma leaves the RGB cube and is clamped
    assert bright[0, 1].item() == pytest.approx(1 - 0.714 * 0.713 * 0.701 + 0.344 * 0.564 * 0.299, abs=1e-6)
