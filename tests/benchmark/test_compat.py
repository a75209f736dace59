"""The cures for binaries that do not match torch: they compute the right thing and stay out of the way otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tgfbench.benchmark.compat.mmcv_ops import _StandIn, point_sample, sigmoid_focal_loss
from tgfbench.benchmark.compat.torchvision_ops import ensure_torchvision, greedy_nms


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    corner = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])
    overlap = float(corner.clamp(min=0).prod())
    return overlap / (float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - overlap)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 12), st.floats(0.1, 0.9), st.integers(0, 10**6))
def test_nms_keeps_exactly_the_boxes_no_better_kept_box_covers(count: int, threshold: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 20
    boxes = torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 10], dim=1)
    scores = torch.rand(count, generator=generator)
    kept = greedy_nms(boxes, scores, threshold).tolist()
    expected: list[int] = []
    for i in sorted(range(count), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j]) <= threshold for j in expected):
            expected.append(i)
    assert kept == expected


def test_torchvision_and_what_needs_it_import_in_a_fresh_process() -> None:
    code = (
        "from tgfbench.benchmark.compat import ensure_torchvision; ensure_torchvision(); ensure_torchvision()\n"
        "import torch, torchvision, open_clip, timm, piq\n"
        "b = torch.tensor([[0., 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])\n"
        "print(torchvision.ops.nms(b, torch.tensor([.5, .9, .1]), .5).tolist())"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[1, 2]"


def test_point_sample_reads_pixel_centres() -> None:
    features = torch.arange(12.0).reshape(1, 1, 3, 4)
    centres = torch.tensor([[[(x + 0.5) / 4, (y + 0.5) / 3] for y in range(3) for x in range(4)]])
    torch.testing.assert_close(point_sample(features, centres)[0, 0], torch.arange(12.0))
    assert point_sample(features, torch.rand(1, 2, 5, 2)).shape == (1, 1, 2, 5)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_focal_loss_equals_torchvisions(reduction: str) -> None:
    ensure_torchvision()
    from torchvision.ops import sigmoid_focal_loss as oracle

    logits, target = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 0, 3, 1])
    hot = torch.nn.functional.one_hot(target, 4)[:, :3].float()
    expected = oracle(logits, hot, alpha=0.25, gamma=2.0, reduction=reduction)
    torch.testing.assert_close(sigmoid_focal_loss(logits, target, reduction=reduction), expected)


def test_the_stand_in_offers_nothing_else() -> None:
    module = _StandIn("mmcv.ops")
    with pytest.raises(ModuleNotFoundError, match="DeformConv2d"):
        _ = module.DeformConv2d
    assert not hasattr(module, "__path__")
