"""What is drawn over the images of a gallery."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tgfbench.benchmark import results
from tgfbench.benchmark.errors import DataError
from tgfbench.leaderboards.overlays import PREDICTION_COLUMNS, read_overlays, with_opacity
from tgfbench.leaderboards.site import build_site


def _gallery(folder):
    text = (folder / "gallery-roadscene-test-core.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)[1])


def test_the_store_and_the_gallery_mean_the_same_columns():
    assert results.PREDICTION_COLUMNS == PREDICTION_COLUMNS


def test_boxes_come_best_first_without_the_least_certain(hostile_predictions):
    boxes, masks = read_overlays(hostile_predictions.sample(frac=1, random_state=1))
    assert (boxes.kind, masks.kind) == ("boxes", "mask")
    for found in boxes.boxes.values():
        assert found == [(16, 12, 32, 36, 1, 0.9), (0, 0, 20, 8, 0, 0.3), (1, 1, 9, 9, 0, 0.1)]
    assert masks.colours == ("#000000", "#fa0a14")
    assert len({*boxes.colours, "#000000"}) == 3
    assert [entry["shown"] for entry in masks.data()["classes"]] == [False, True]


def test_a_mask_is_half_transparent_and_its_background_wholly(tmp_path):
    ids = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    image = Image.fromarray(ids, mode="P")
    image.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "mask.png", transparency=3)
    (tmp_path / "out.png").write_bytes(with_opacity(tmp_path / "mask.png", [0, 150, 150]))
    pixels = np.asarray(Image.open(tmp_path / "out.png").convert("RGBA"))
    assert pixels[..., 3].tolist() == [[0, 150], [150, 0]]
    assert pixels[0, 1].tolist() == [10, 20, 30, 150]


def test_only_indexed_masks_are_drawn(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match=r"grey\.png"):
        with_opacity(tmp_path / "grey.png", [0])


def test_the_gallery_offers_what_was_found(hostile_site_frames, hostile_predictions, tmp_path):
    build_site(*hostile_site_frames, tmp_path / "site", predictions=hostile_predictions)
    data = _gallery(tmp_path / "site")
    assert [overlay["kind"] for overlay in data["overlays"]] == ["boxes", "mask"]
    assert data["overlays"][1]["title"] == "segmentation: quick"
    for image in data["images"]:
        for run, shown in image["shown"].items():
            assert len(shown["found"]["0"]) == 3
            assert shown["found"]["1"] is True
            assert (tmp_path / "site" / "masks" / "1" / run / f"{image['key']}.png").is_file()


def test_images_without_predictions_say_so(hostile_site_frames, hostile_predictions, tmp_path):
    some = hostile_predictions[hostile_predictions["key"] == "test-0001"]
    build_site(*hostile_site_frames, tmp_path / "site", predictions=some)
    for image in _gallery(tmp_path / "site")["images"]:
        for shown in image["shown"].values():
            assert (shown["found"]["1"] is None) == (image["key"] != "test-0001")


def test_predictions_of_other_images_offer_nothing(hostile_site_frames, hostile_predictions, tmp_path):
    other = hostile_predictions.assign(run_id="elsewhere")
    build_site(*hostile_site_frames, tmp_path / "site", predictions=other)
    build_site(*hostile_site_frames, tmp_path / "plain", predictions=pd.DataFrame(columns=list(PREDICTION_COLUMNS)))
    assert _gallery(tmp_path / "site") == _gallery(tmp_path / "plain")
    assert _gallery(tmp_path / "site")["overlays"] == []


def test_a_board_of_trainings_has_a_gallery_of_its_test_images(
    store, hostile_site_frames, hostile_predictions, tmp_path
):
    images = hostile_site_frames[3]
    for run in sorted(set(images["run_id"])):
        store.run(run, {"AP50": [0.5]}, run_id=run, keys=["seed 0"], protocol="core")
    build_site(*store.frames, images, tmp_path / "site", most_images=2, predictions=hostile_predictions)
    data = _gallery(tmp_path / "site")
    assert [image["key"] for image in data["images"]] == ["test-0000", "test-0001"]
    assert data["metrics"] == []
    assert all("dispute" not in image for image in data["images"])
    assert len(data["overlays"]) == 2
