"""Sums over all pixels of quantities computed from several maps, without ever holding those quantities as whole images.

Most metrics end in "the mean over the pixels of some formula". On the CPU the formula runs on strips of a few rows,
small enough to stay in the cache: faster than on whole images, and memory stays bounded on large ones.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

STRIP_VALUES = 2**14
"""Values per map and strip; also below the size from which torch would start threads for one operation."""


def pixel_sums(formula: Callable[..., tuple[Tensor, ...]], *maps: Tensor) -> list[Tensor]:
    """Apply a pixelwise formula and sum what it returns over the pixels.

    Args:
        formula: takes the maps restricted to some rows, (B, h, W) each, and returns tensors (B, h, w).
        *maps: (B, H, W) of one size.

    Returns:
        One tensor (B,) for every tensor the formula returns.
    """
    batch, rows, columns = maps[0].shape
    step = max(1, STRIP_VALUES // (batch * columns)) if maps[0].is_cpu else rows
    totals: list[Tensor] = []
    for top in range(0, rows, step):
        strip = formula(*(values[:, top : top + step] for values in maps))
        sums = [values.sum((1, 2)) for values in strip]
        totals = [total + part for total, part in zip(totals, sums, strict=True)] if totals else sums
    return totals


def pixel_mean(formula: Callable[..., Tensor], *maps: Tensor) -> Tensor:
    """Return the mean (B,) over the pixels of a formula of several maps; see ``pixel_sums``."""
    (total,) = pixel_sums(lambda *strips: (formula(*strips),), *maps)
    return total / (maps[0].shape[1] * maps[0].shape[2])
