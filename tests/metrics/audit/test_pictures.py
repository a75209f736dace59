"""Sheets and summaries: complete, in bounds, and the same bytes for the same numbers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from tgfbench.metrics.audit.measures import Target
from tgfbench.metrics.audit.pictures import sheet, summary
from tgfbench.metrics.audit.prompts import Subject, counterfactual_prompts


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_a_sheet_shows_every_kind_and_outlines_the_named_object() -> None:
    prompts = counterfactual_prompts([Subject("k", "a car for $5 and $6", ("car",))], "caption")
    plain = np.full((40, 60, 3), 90, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    lit = np.where(mask[..., None], 200, plain).astype(np.uint8)
    outputs = {prompt.id: lit if prompt.id == "focus-car" else plain for prompt in prompts}
    drawn = sheet("m, k", prompts, outputs, [Target("car", mask)])
    assert drawn == sheet("m, k", prompts, outputs, [Target("car", mask)])
    image = pixels(drawn)
    red, green, _ = image.astype(int).transpose(2, 0, 1)
    assert (green > red + 60).sum() > 100, "no outline"
    assert sheet("m, k", prompts, {**outputs, "focus-car": plain}, [Target("car", mask)]) != drawn


def test_a_summary_has_a_row_per_method_and_bears_what_is_missing() -> None:
    def audit(value: float | None, verdict: str = "undecided") -> dict[str, Any]:
        found = {"value": value, "low": value, "high": value, "images": 12, "p": None}
        return {"result": {"estimates": {"presence / floor": found}, "verdict": verdict}}

    one, two = summary("d", [audit(3.0)], ["a"]), summary("d", [audit(3.0), audit(None)], ["a", "b"])
    assert pixels(two).shape[0] > pixels(one).shape[0]
    assert one == summary("d", [audit(3.0)], ["a"])
    others = {summary("e", [audit(3.0)], ["a"]), summary("d", [audit(3.0, "no effect")], ["a"])}
    assert len({one, *others}) == 3, "set of images and verdict are not shown"


def test_what_could_not_be_measured_does_not_look_like_nothing() -> None:
    def audit(value: float | None) -> dict[str, Any]:
        found = {"value": value, "low": value, "high": value, "images": 12, "p": None}
        return {"result": {"estimates": {"presence / floor": found}, "verdict": "undecided"}}

    assert summary("d", [audit(None), audit(1.0)], ["a", "b"]) != summary("d", [audit(0.0), audit(1.0)], ["a", "b"])
