"""Labels in the gallery: found in the store by their hash, the same whoever fused the image."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tgfbench.benchmark import results
from tgfbench.benchmark.downstream.labels import LabelFolder
from tgfbench.benchmark.downstream.store import Work
from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import write_png
from tgfbench.leaderboards import overlays
from tgfbench.leaderboards.overlays import read_overlays, with_opacity
from tgfbench.leaderboards.site import build_site

KEYS = ("a", "b", "c")


@pytest.fixture
def labels(tmp_path):
    """Labels of three images in a store, of which the last has no known boxes."""
    folder = tmp_path / "labels" / "sample" / "test-0123"
    for key in KEYS[:2]:
        write_png(folder / "segmentation" / f"{key}.png", np.eye(4, dtype=np.uint8))
    LabelFolder(folder).write_json(
        {
            "kind": "boxes",
            "keys": KEYS,
            "digests": dict.fromkeys(KEYS, "0"),
            "maps": KEYS[:2],
            "classes": ["car"],
            "segmentation_classes": ["background", "road"],
            "palette": [[0, 0, 0], [1, 2, 3]],
        }
    )
    lines = [{"key": key, "boxes": [[1, 2, 3, 4]], "classes": [0]} for key in KEYS[:2]]
    lines.append({"key": "c", "boxes": None, "classes": []})
    (folder / "boxes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return LabelFolder(folder)


def _work(root, labels_hash, keys=KEYS, name="one", **content):
    folder = root / "downstream" / "detection" / "sample" / "m@none" / name
    (folder / "predictions").mkdir(parents=True)
    identity = {"task": "detection", "dataset": "sample", "split": "test", "protocol": "detection quick retrain"}
    facts = {"run_id": "run", "unit": "seed 3", "finished_at": "2025-03-01", "classes": ["car"], "palette": []}
    Work(folder).write_json({"identity": {**identity, "test_labels": labels_hash, "seed": 3}, **facts, **content})
    (folder / "metrics.csv").write_text("class,metric,value\n")
    lines = [json.dumps({"key": key, "boxes": [], "classes": [], "scores": []}) for key in keys]
    (folder / "predictions" / "boxes.jsonl").write_text("\n".join(lines))


def _found(root) -> pd.DataFrame:
    frame = results.prediction_frame(root)
    return frame[(frame["task"] == overlays.LABELS) & (frame["run_id"] == "run")]


def test_labels_are_found_by_their_hash_and_belong_to_every_tested_image(tmp_path, labels):
    _work(tmp_path, labels.content_hash(KEYS))
    found = _found(tmp_path)
    boxes, maps = found[found["variant"] == "boxes"], found[found["variant"] == "segmentation"]
    assert dict(zip(boxes["key"], boxes["boxes"], strict=True)) == dict.fromkeys("ab", "[[1.0, 2.0, 3.0, 4.0, 0, 1.0]]")
    assert set(boxes["classes"]) == {'["car"]'}
    assert [path.rpartition("/")[2] for path in maps["mask"]] == ["a.png", "b.png"]
    assert set(maps["classes"]) == {'["background", "road"]'}
    assert set(maps["palette"]) == {"[[0, 0, 0], [1, 2, 3]]"}
    assert len(results.prediction_frame(tmp_path)) == 2 * (3 + len(found)), "the row of the board has the same"


def test_a_part_of_the_labelled_images_is_known_by_the_hash_of_that_part(tmp_path, labels):
    _work(tmp_path, labels.content_hash(["a"]), keys=["a"])
    assert set(_found(tmp_path)["key"]) == {"a"}


@pytest.mark.parametrize("lost", ["changed", "incomplete", "removed"])
def test_labels_that_are_no_longer_those_of_the_test_are_not_shown(tmp_path, labels, lost):
    _work(tmp_path, labels.content_hash(KEYS))
    if lost == "changed":
        labels.write_json(labels.read_json() | {"digests": dict.fromkeys(KEYS, "1")})
    else:
        (labels.folder / {"incomplete": "segmentation/a.png", "removed": "labels.json"}[lost]).unlink()
    assert _found(tmp_path).empty


def test_unusual_options_of_the_dataset_are_part_of_the_name(tmp_path, labels):
    _work(tmp_path, labels.content_hash(KEYS), data_options={"detection": "infrared"})
    assert set(_found(tmp_path)["variant"]) == {"boxes (detection=infrared)", "segmentation (detection=infrared)"}


def test_damaged_labels_are_named(tmp_path, labels):
    _work(tmp_path, labels.content_hash(KEYS))
    (labels.folder / "boxes.jsonl").write_text('{"key": "a"')
    with pytest.raises(DataError, match=r"labels/sample/test-0123/boxes\.jsonl"):
        results.prediction_frame(tmp_path)


def test_a_grey_map_gets_the_palette_and_a_transparent_background(tmp_path):
    ids = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    write_png(tmp_path / "ids.png", ids)
    (tmp_path / "out.png").write_bytes(
        with_opacity(tmp_path / "ids.png", [0, 255, 255], ["#000000", "#fa0a14", "#010203"])
    )
    shown = Image.open(tmp_path / "out.png")
    assert shown.mode == "P"
    pixels = np.asarray(shown.convert("RGBA"))
    assert pixels[..., 3].tolist() == [[0, 255], [255, 0]]
    assert pixels[0, 1].tolist() == [250, 10, 20, 255]
    assert pixels[1, 0].tolist() == [1, 2, 3, 255]


def test_datasets_whose_classes_differ_have_overlays_of_their_own(hostile_predictions):
    boxes = hostile_predictions[hostile_predictions["task"] == "detection"]
    other = boxes.assign(run_id="elsewhere", classes=json.dumps(["tree", "lamp", "sign"]))
    first, second = read_overlays(pd.concat([boxes, other], ignore_index=True))
    assert first.title == second.title
    assert {one.classes[0]: {run for run, _ in one.boxes} for one in (first, second)} == {
        "car": set(boxes["run_id"]),
        "tree": {"elsewhere"},
    }


def test_a_gallery_shows_the_labels_of_an_image_once(
    hostile_site_frames, hostile_predictions, hostile_labels, tmp_path
):
    predictions = pd.concat([hostile_labels, hostile_predictions], ignore_index=True)
    build_site(*hostile_site_frames, tmp_path / "site", predictions=predictions)
    text = (tmp_path / "site" / "gallery-roadscene-test-core.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)[1])
    truths = {one["title"]: one["number"] for one in data["overlays"] if one["truth"]}
    assert set(truths) == {"boxes", "segmentation"}
    run = hostile_labels["run_id"].iloc[0]
    for image in data["images"]:
        labels = image["labels"]
        assert len(labels[str(truths["boxes"])]) == (0 if image["key"] == "test-0000" else 2)
        assert labels[str(truths["segmentation"])] == run
        assert (tmp_path / "site" / "masks" / str(truths["segmentation"]) / run / f"{image['key']}.png").is_file()
        for shown in image["shown"].values():
            assert not {*shown["found"]} & {*map(str, truths.values())}
