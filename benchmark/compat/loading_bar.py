"""Loading a model of transformers without the bar that it draws even where output is no terminal.

A download keeps its own bar: it takes minutes where loading takes a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_loading_bar() -> Iterator[None]:
    """Keep transformers' bars off inside the ``with``; afterwards they are as they were."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    loading, downloading = logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    logging.disable_progress_bar()
    if downloading:
        enable_progress_bars()
    try:
        yield
    finally:
        if loading:
            logging.enable_progress_bar()
