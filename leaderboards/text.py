"""Numbers and names as readers see them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

NOT_AVAILABLE = "n/a"


def visible_text(text: str) -> str:
    """Return text on one line in which control and direction-changing characters are spelt out, e.g. ``\\u202e``."""
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char for char in text
    )


def decimals_for(values: Iterable[float]) -> int | None:
    """Return the decimals that show four significant digits of the largest value; None asks for exponents."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return 3
    return None if largest < 1e-4 else max(0, 3 - math.floor(math.log10(largest)))


def number_text(value: float, decimals: int | None) -> str:
    """Return a value with the decimals of ``decimals_for``, n/a where it is not finite."""
    if not math.isfinite(value):
        return NOT_AVAILABLE
    if decimals is None:
        return f"{value:.3e}"
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0 turns -0.0 into 0.0
