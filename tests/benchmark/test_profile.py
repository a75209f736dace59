"""What the profile counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from tgfbench.benchmark.profile import _uncounted


def test_products_in_place_and_attention_are_counted() -> None:
    out, a, b = torch.zeros(3, 5), torch.ones(3, 4), torch.ones(4, 5)
    q = torch.ones(1, 2, 16, 8)
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=_uncounted()) as counter:
        out.addmm_(a, b)
        F.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 2 * 3 * 4 * 5 + 2 * 2 * (2 * 16 * 16 * 8)
