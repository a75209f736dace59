"""Degraded variants of any dataset: ``load_dataset("msrs+haze:3")``.

``grammar`` reads the names, ``operators`` holds the arithmetic of every kind, ``instructions`` the sentences that ask
to mend it, ``dataset`` the wrapper around a dataset. Importing this package imports neither numpy nor cv2.
"""

from __future__ import annotations

from tgfbench.datasets.degradations.grammar import Degradation, parse_name
from tgfbench.datasets.degradations.instructions import INSTRUCTIONS, instructions_for

__all__ = ["INSTRUCTIONS", "Degradation", "instructions_for", "parse_name"]
