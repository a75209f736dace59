"""The building blocks of the methods' rewrites compute what they say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tgfbench.methods._fast import (
    ChannelGram,
    as_image,
    channel_moments,
    channel_norm,
    fold_affine,
    mirrored_rows,
    normed_strips,
    strips,
)
from tgfbench.methods._winograd import winograd_convolve, winograd_kernel


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("height", "rows"), [(1, 8), (8, 8), (9, 8), (17, 5)])
def test_strips_cover_every_row_once(height: int, rows: int) -> None:
    covered = [row for start, stop in strips(height, rows) for row in range(start, stop)]
    assert covered == list(range(height))
    assert all(stop - start <= rows for start, stop in strips(height, rows))


@pytest.mark.parametrize("height", [1, 2, 5, 8])
def test_mirrored_rows_are_those_of_reflection_padding(height: int) -> None:
    border = height - 1
    image = torch.arange(height, dtype=torch.float64)[None, :, None].expand(1, height, 3)
    padded = F.pad(image[None], (0, 0, border, border), mode="reflect")[0, 0, :, 0]
    assert mirrored_rows(height, -border, height + border) == padded.long().tolist()


def test_images_are_recognised_as_channels_last() -> None:
    for x in (draw(5, 6, 3), draw(5, 6, 1)):
        image = as_image(x)
        assert torch.equal(image[0].permute(1, 2, 0), x)
        weight = draw(2, x.shape[2], 3, 3)
        assert F.conv2d(image, weight).is_contiguous(memory_format=torch.channels_last)


def test_folded_map_scales_and_shifts_its_input() -> None:
    x, weight, bias, scale, shift = draw(7, 3), draw(4, 3, 1, 1), draw(4), draw(3), draw(3)
    folded, summand = fold_affine(weight, bias, scale, shift)
    expected = (x * scale + shift) @ weight.flatten(1).t() + bias
    torch.testing.assert_close(x @ folded.t() + summand, expected)
    torch.testing.assert_close(fold_affine(weight, None, scale, shift)[1], summand - bias)


@pytest.mark.parametrize(("height", "rows"), [(1, 4), (2, 1), (5, 2), (9, 4), (8, 8), (5, 1)])
def test_normed_strips_carry_the_bias_of_a_projection(height: int, rows: int) -> None:
    """A projection with bias and a zero-padded convolution are one convolution of pixels and ones."""
    x, projection, bias, weight = draw(height, 6, 3), draw(4, 3, seed=1), draw(4, seed=2), draw(5, 4, 3, 3, seed=3)
    projected = channel_norm(x) @ projection.t() + bias
    expected = F.conv2d(as_image(projected), weight, padding=1)[0].permute(1, 2, 0)
    both = torch.einsum("ohyx,hc->ocyx", weight, torch.cat([projection, bias[:, None]], dim=1))
    found = [F.conv2d(as_image(strip), both)[0].permute(1, 2, 0) for _, _, strip in normed_strips(x, rows)]
    torch.testing.assert_close(torch.cat(found), expected)


@pytest.mark.parametrize("count", [1, 100, 4096, 30000])
def test_moments_are_those_of_float64(count: int) -> None:
    """A mean a thousand times the deviation: sums of squares taken in float32 would leave nothing of the variance."""
    x = draw(count, 3, dtype=torch.float32) * 1e-2 + torch.tensor([10.0, 0.0, -10.0])
    mean, variance = channel_moments(x)
    exact = x.double()
    torch.testing.assert_close(mean, exact.mean(dim=0), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(variance, exact.var(dim=0, correction=0), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 8), (7, 10), (9, 5)])
@pytest.mark.parametrize("tile_rows", [1, 3, 10])
def test_winograd_is_convolution(height: int, width: int, tile_rows: int) -> None:
    x, weight = draw(height + 2, width + 2, 5), draw(4, 5, 3, 3, seed=1)
    expected = F.conv2d(as_image(x), weight)[0].permute(1, 2, 0)
    torch.testing.assert_close(winograd_convolve(x, winograd_kernel(weight), tile_rows), expected)


def test_winograd_rounds_no_worse_than_direct_convolution() -> None:
    x, weight = draw(34, 42, 128), draw(64, 128, 3, 3, seed=1) / 128**0.5 / 3
    exact = F.conv2d(as_image(x), weight)[0].permute(1, 2, 0)
    single = winograd_convolve(x.float(), winograd_kernel(weight.float()))
    direct = F.conv2d(as_image(x.float()), weight.float())[0].permute(1, 2, 0)
    assert (single - exact).abs().max() <= max(2 * float((direct - exact).abs().max()), 5e-6)


def test_gram_gives_channel_attention() -> None:
    heads, channels = 2, 6
    q, k, v = (draw(40, channels, seed=seed) for seed in range(3))
    temperature, projection = draw(heads, 1, 1, seed=3), draw(channels, channels, 1, 1, seed=4)
    gram = ChannelGram(channels, heads, q)
    for start, stop in strips(40, 16):
        gram.add(q[start:stop], k[start:stop])
    by_head = [x.t().unflatten(0, (heads, -1)) for x in (q, k, v)]
    unit_q, unit_k = (F.normalize(x, dim=-1) for x in by_head[:2])
    attended = (unit_q @ unit_k.transpose(1, 2) * temperature).softmax(dim=-1) @ by_head[2]
    expected = attended.flatten(0, 1).t() @ projection.flatten(1).t()
    torch.testing.assert_close(v @ gram.mixing(temperature, projection).t(), expected)
