"""Tasks that learn in no time, and leave traces of every call; registered through the plugin variable."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.images import read_label_map, read_visible
from tgfbench.metrics.card import MetricInfo
from tgfbench.metrics.downstream.base import LabelledSet, Outcome, Progress, Recipe, Task
from tgfbench.metrics.downstream.recipes import read_recipe

DELAY = "STUB_DELAY"
"""Environment variable: seconds that a step takes."""
STOP_AT = "STUB_STOP_AT"
"""Environment variable: the step at which a training fails."""
RECIPE = "model: none\nimage_size: 32\nepochs: 4\nbatch: 1\nlearning_rate: 0.1\n"


class Brightness(Task):
    """Learns how bright the training images are."""

    name: ClassVar[str] = "stub-brightness"
    title: ClassVar[str] = "Brightness"
    version: ClassVar[int] = 3
    labels: ClassVar[Literal["boxes", "segmentation"]] = "boxes"
    metrics: ClassVar[tuple[MetricInfo, ...]] = (
        MetricInfo(name="Level", title="mean level", higher_is_better=True, range=(0, 255), citation="none"),
        MetricInfo(name="Trained", title="level learnt", higher_is_better=True, range=(0, 255), citation="none"),
    )

    @classmethod
    def require(cls) -> None:
        if os.environ.get("STUB_NO_LIBRARY"):
            raise UsageError("evaluating brightness", found="no library", hint='pip install "tgfbench[downstream]"')

    @classmethod
    def recipe(cls, name: str, overrides: Mapping[str, Any]) -> Recipe:
        folder = Path(os.environ["STUB_RECIPES"])
        (folder / f"{cls.name}-quick.yaml").write_text(RECIPE, encoding="utf-8")
        return read_recipe(Recipe, cls.name, name, overrides, folder)

    def check(self, images: LabelledSet) -> None:
        assert images.images
        for image in images.images:
            assert read_visible(image.path).shape[:2] == image.size[::-1]
            assert image.boxes.shape == (len(image.classes), 4)

    def train(
        self, images: LabelledSet, recipe: Recipe, seed: int, folder: Path, device: str, progress: Progress
    ) -> Path:
        state, log = folder / "state", folder / "log"
        done = int(state.read_text()) if state.is_file() else 0
        with log.open("a") as lines:
            lines.write(f"from {done}\n")
        for step in range(done, recipe.epochs):
            if step == int(os.environ.get(STOP_AT, "-1")):
                raise MemoryError("on purpose")
            time.sleep(float(os.environ.get(DELAY, "0")))
            state.write_text(str(step + 1))
            progress(step + 1, recipe.epochs)
        level = np.mean([read_visible(image.path).mean() for image in images.images]) + seed
        weights = folder / "weights.json"
        weights.write_text(json.dumps({"level": float(level)}))
        return weights

    def test(
        self, weights: Path, images: LabelledSet, recipe: Recipe, folder: Path, device: str, progress: Progress
    ) -> Outcome:
        trained = json.loads(weights.read_text())["level"]
        (folder / "predictions").mkdir(parents=True)
        with (folder / "predictions" / "boxes.jsonl").open("w") as lines:
            for done, image in enumerate(images.images, start=1):
                found = {"key": image.key, "boxes": image.boxes.tolist(), "classes": image.classes.tolist()}
                lines.write(json.dumps({**found, "scores": [1.0] * len(image.boxes)}) + "\n")
                progress(done, len(images.images))
        level = float(np.mean([read_visible(image.path).mean() for image in images.images]))
        per_class = {(name, "Level"): level if name == "person" else float("nan") for name in images.classes}
        labels = sum(len(image.boxes) for image in images.images)
        return Outcome(
            {"Level": level, "Trained": trained},
            per_class,
            {"images": len(images.images), "labels": labels},
            ("a stub measured this",),
        )


class Maps(Brightness):
    """The same on label maps."""

    name: ClassVar[str] = "stub-maps"
    labels: ClassVar[Literal["boxes", "segmentation"]] = "segmentation"

    def check(self, images: LabelledSet) -> None:
        for image in images.images:
            assert image.segmentation is not None
            assert read_label_map(image.segmentation).shape == image.size[::-1]
