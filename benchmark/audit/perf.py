"""What reuse saves an audit: ``python -m tgfbench.benchmark.audit.perf``, part of ``make perf``.

Times one pair of ``sample`` under its prompts with every method that runs here and is steered by text, once afresh for
every prompt and once with what does not depend on the prompt remembered, and says whether all pixels agree.
"""

from __future__ import annotations

import time

import numpy as np

from tgfbench.benchmark.audit.plan import Scenes
from tgfbench.benchmark.audit.reuse import Reuse
from tgfbench.benchmark.plan import MethodRequest, expand_methods
from tgfbench.datasets.sample import SampleDataset

WIDTH, HEIGHT, PROMPTS = 192, 144, 8


def main() -> None:
    """Print a row per method."""
    from tgfbench.methods import METHODS

    scenes = Scenes(SampleDataset(count=2, width=WIDTH, height=HEIGHT))
    sample = scenes.sample(scenes.dataset.keys[1])
    print(f"audit of one pair of {WIDTH}x{HEIGHT}: seconds afresh, seconds with reuse, saved, same pixels")
    for name in expand_methods(["all"])[0]:
        if METHODS.load(name).info.text_use != "test":
            continue
        method = MethodRequest(name, device="cpu").load()
        prompts = scenes.prompts(method.info, 0)
        texts = tuple(dict.fromkeys(prompt.text for prompt in prompts if prompt.key == sample.key))[:PROMPTS]
        reuse = Reuse(method)
        # Loads weights, encodes the texts once for all, and finds what can be remembered.
        with reuse.pair(sample, texts) as remembering:
            for text in texts:
                reuse.fuse(sample, text)
        plain, saving, same = 0.0, 0.0, True
        with reuse.pair(sample, texts) as remembering:
            # In turn: a machine that slows down meanwhile slows both.
            for text in texts:
                started = time.perf_counter()
                afresh = reuse.fuse(sample, text)
                between = time.perf_counter()
                remembered = remembering(text)
                saving += time.perf_counter() - between
                plain += between - started
                same = same and np.array_equal(afresh, remembered)
        print(f"{name:16} {len(texts):3} prompts {plain:8.2f} {saving:8.2f} {1 - saving / plain:6.0%}  {same}")


if __name__ == "__main__":
    main()
