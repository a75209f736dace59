"""Small stores made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tgfbench.benchmark.images import write_png
from tgfbench.leaderboards.frames import RUN_OPTIONAL
from tgfbench.leaderboards.overlays import LABELS, PREDICTION_COLUMNS


class StoreFrames:
    """Builds the three frames a store hands over, run by run."""

    def __init__(self) -> None:
        self.run_rows: list[dict[str, object]] = []
        self.score_rows: list[tuple[object, ...]] = []
        self.metric_rows: list[dict[str, object]] = []

    def metric(self, name: str, higher: bool | None = True, protocol: str = "core", title: str = "") -> None:
        order = len(self.metric_rows)
        card = {"protocol": protocol, "metric": name, "title": title or name, "higher_is_better": higher}
        self.metric_rows.append({**card, "order": order})

    def run(
        self,
        method: str,
        values: Mapping[str, Sequence[float | None]] | None = None,
        *,
        keys: Sequence[str] = (),
        protocol: str = "core",
        versions: Mapping[str, int] | None = None,
        **facts: object,
    ) -> str:
        """Add a run; ``values`` holds one list per metric, one value per image, None for an image without a score."""
        run_id = str(facts.pop("run_id", f"run-{len(self.run_rows):02d}"))
        row: dict[str, object] = {
            "run_id": run_id,
            "dataset": "roadscene",
            "split": "test",
            "fingerprint": "f" * 64,
            "images": max((len(v) for v in (values or {}).values()), default=1),
            "method": method,
            "title": method.title(),
            "weights": "",
            "weights_origin": "none",
            "reconstruction": False,
            "tags": "",
            "text_policy": "dataset",
            "options": "{}",
            "seen_in_training": 0,
            "finished_at": "2025-03-01T12:00:00+00:00",
        }
        assert set(facts) <= {*row, *RUN_OPTIONAL}, facts
        self.run_rows.append(row | facts)
        self.score(run_id, values or {}, keys=keys, protocol=protocol, versions=versions)
        return run_id

    def score(
        self,
        run_id: str,
        values: Mapping[str, Sequence[float | None]],
        *,
        keys: Sequence[str] = (),
        protocol: str = "core",
        versions: Mapping[str, int] | None = None,
    ) -> None:
        for metric, column in values.items():
            if not any(card["metric"] == metric and card["protocol"] == protocol for card in self.metric_rows):
                self.metric(metric, protocol=protocol)
            for number, value in enumerate(column):
                key = keys[number] if keys else f"test-{number:04d}"
                if value is not None:
                    self.score_rows.append((run_id, key, protocol, metric, value, (versions or {}).get(metric, 1)))

    @property
    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        columns = ["run_id", "key", "protocol", "metric", "value", "metric_version"]
        scores = pd.DataFrame(self.score_rows, columns=columns)
        return pd.DataFrame(self.run_rows), scores, pd.DataFrame(self.metric_rows)


@pytest.fixture
def store() -> StoreFrames:
    return StoreFrames()


HARM = "<script>window.harmed=1</script><img src=x onerror='window.harmed=1'>\" onload=\"window.harmed=1"


@pytest.fixture(scope="session")
def hostile_site_frames(tmp_path_factory) -> tuple[pd.DataFrame, ...]:
    """Frames of a store with pictures, in which every text tries to run a script."""
    store, folder = StoreFrames(), tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    card = json.dumps({"title": HARM, "paper": HARM, "trained_on": [HARM], "text_use": "test"})
    claim = json.dumps([{"dataset": "roadscene", "metric": "VIF", "value": 0.5, "source": HARM}])
    pictures = []
    for number, method in enumerate(("average", "tesg", HARM, "visible")):
        facts = {"tags": "source" if method == "visible" else "", "seconds": 0.1 + number, "device": HARM}
        values = {"VIF": rng.random(3).tolist(), "CC": rng.random(3).tolist(), HARM: rng.random(3).tolist()}
        run = store.run(method, values, text_policy=HARM, card=card, reported=claim, **facts)
        for image in range(3):
            path = folder / run / f"test-{image:04d}.png"
            write_png(path, rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
            text = f"<b>prompt</b> {HARM} \u202e\u200f & % _ |"
            pictures.append({"run_id": run, "key": f"test-{image:04d}", "text": text, "path": str(path)})
    runs, scores, metrics = store.frames
    metrics["card"] = json.dumps({"title": HARM, "citation": HARM, "notes": HARM, "unit": HARM, "range": [0, 1]})
    return runs, scores, metrics, pd.DataFrame(pictures)


@pytest.fixture(scope="session")
def hostile_predictions(hostile_site_frames, tmp_path_factory) -> pd.DataFrame:
    """Boxes and masks of the same images, whose class names try to run a script."""
    folder, rows = tmp_path_factory.mktemp("masks"), []
    for picture in hostile_site_frames[3].itertuples():
        work = {"run_id": picture.run_id, "key": picture.key, "boxes": "", "mask": ""}
        boxes = [[16, 12, 32, 36, 1, 0.9], [0, 0, 20, 8, 0, 0.3], [1, 1, 9, 9, 0, 0.1], [1, 1, 9, 9, 0, 0.01]]
        names = {"classes": json.dumps(["car", HARM]), "palette": "[]"}
        rows.append({**work, "task": "detection", "variant": f"quick {HARM}", "boxes": json.dumps(boxes), **names})
        mask = Image.new("P", (64, 48))
        mask.putpalette([0, 0, 0, 250, 10, 20, 30, 40, 50])
        mask.paste(1, (0, 0, 32, 48))
        path = folder / picture.run_id / f"{picture.key}.png"
        path.parent.mkdir(exist_ok=True)
        mask.save(path)
        names = {"classes": json.dumps(["background", HARM]), "palette": "[[0, 0, 0], [250, 10, 20]]"}
        rows.append({**work, "task": "segmentation", "variant": "quick", "mask": str(path), **names})
    return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))


@pytest.fixture(scope="session")
def hostile_labels(hostile_site_frames, tmp_path_factory) -> pd.DataFrame:
    """Boxes and grey label maps of the same images, known for the first run only, as labels are the same for all."""
    folder, rows = tmp_path_factory.mktemp("maps"), []
    run = hostile_site_frames[3]["run_id"].iloc[0]
    for number in range(3):
        common = {"run_id": run, "key": f"test-{number:04d}", "task": LABELS, "boxes": "", "mask": ""}
        common["palette"] = "[[0, 0, 0], [250, 10, 20]]"
        boxes = [[16, 12, 48, 36, 0, 1.0], [0, 40, 20, 48, 1, 1.0]] if number else []
        names = {"variant": "boxes", "classes": json.dumps(["car", HARM])}
        rows.append({**common, **names, "boxes": json.dumps(boxes)})
        ids = np.zeros((48, 64), dtype=np.uint8)
        ids[:24] = 1
        write_png(folder / f"{number}.png", ids)
        names = {"variant": "segmentation", "classes": json.dumps(["background", HARM])}
        rows.append({**common, **names, "mask": str(folder / f"{number}.png")})
    return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
