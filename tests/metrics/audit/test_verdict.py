"""Which numbers give which verdict, and what is remarked; and reports that say it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from tgfbench.metrics.audit.locality import NamedChange
from tgfbench.metrics.audit.measures import SampleMeasures
from tgfbench.metrics.audit.report import groups_of, labels_of, render_csv, render_markdown
from tgfbench.metrics.audit.verdict import Audit, Verdict, judge

STILL: dict[tuple[str, str], float] = {
    ("rms", "floor"): 1.0, ("rms", "presence"): 0.0, ("rms", "meaning"): 0.0, ("mae", "presence"): 0.0,
    ("mae", "paraphrase"): 0.0, ("mae", "meaning"): 0.0, ("mae", "repeat"): 0.0, ("mae", "sense response"): 0.0,
    ("mae", "nonsense response"): 0.0,
}  # fmt: skip
MOVED = STILL | {
    ("rms", "presence"): 5.0, ("rms", "meaning"): 5.0, ("mae", "presence"): 5.0, ("mae", "meaning"): 5.0,
    ("mae", "paraphrase"): 1.0, ("mae", "sense response"): 5.0, ("mae", "nonsense response"): 1.0,
}  # fmt: skip
NAMED = {
    ("object movement", "car"): 9.0, ("object floor", "car"): 1.0, ("energy share", "car"): 0.8,
    ("area share", "car"): 0.1, ("pointing", "car"): 1.0, ("specificity", "car"): 0.6,
    ("specificity over best", "car"): 0.5, ("contrast gain", "car"): 8.0, ("gradient gain", "car"): 1.0,
    ("information gain", "car"): 0.1, ("contrast gain over best", "car"): 8.0,
    ("gradient gain over best", "car"): 1.0, ("information gain over best", "car"): 0.1,
    ("contrast floor", "car"): 0.5, ("gradient floor", "car"): 0.3, ("information floor", "car"): 0.02,
}  # fmt: skip


def samples(
    values: Mapping[tuple[str, str], float], count: int = 12, *, scrambled: bool = False
) -> list[SampleMeasures]:
    """Equal numbers on every image up to a little noise; each image's object lies elsewhere."""
    found = []
    for index in range(count):
        noise = 1 + 0.05 * np.random.default_rng(index).standard_normal()
        own = SampleMeasures(f"{index}", {name: value * noise for name, value in values.items()})
        if ("specificity", "car") in values:
            maps = np.zeros((2, 64, 64), np.float32)
            maps[0, 4 * index : 4 * index + 4] = maps[1, 4 * (index + 5 * scrambled) % 64 :][:4] = 1
            own.changes.append(NamedChange(own.key, *maps))
        found.append(own)
    return found


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (STILL, Verdict.NOTHING),
        (STILL | {("rms", "presence"): 0.9, ("rms", "meaning"): 0.9}, Verdict.NOTHING),
        (MOVED, Verdict.GLOBAL),
        (MOVED | {("mae", "paraphrase"): 5.0}, Verdict.WORDING),
        (MOVED | NAMED, Verdict.LOCAL),
        (STILL | NAMED, Verdict.LOCAL),
        (MOVED | NAMED | {("specificity over best", "car"): 0.0}, Verdict.GLOBAL),
        (MOVED | NAMED | {("specificity over best", "car"): -0.1}, Verdict.GLOBAL),
        (MOVED | NAMED | {("object movement", "car"): 0.9}, Verdict.GLOBAL),
        (
            MOVED | NAMED | {(f"{m} gain over best", "car"): 0.0 for m in ("contrast", "gradient", "information")},
            Verdict.UNDIRECTED,
        ),
        (
            MOVED | NAMED | {(f"{m} floor", "car"): 9.0 for m in ("contrast", "gradient", "information")},
            Verdict.UNDIRECTED,
        ),
        (
            MOVED | NAMED | {("contrast gain over best", "car"): -4.0, ("gradient gain over best", "car"): 0.0},
            Verdict.LOCAL,
        ),
    ],
    ids=[
        "still", "below the floor", "moved", "by wording", "local", "local only", "no specificity",
        "less than by other words", "object below the floor", "as prominent by other words", "prominent as noise is",
        "information alone rises",
    ],
)  # fmt: skip
def test_verdicts(values: dict[tuple[str, str], float], verdict: Verdict) -> None:
    result = judge(samples(values))
    assert result.verdict is verdict
    assert result.reasons


def test_masks_that_are_not_where_the_change_is_take_locality_away() -> None:
    result = judge(samples(MOVED | NAMED, scrambled=True))
    assert result.verdict is Verdict.GLOBAL
    assert (result.estimates["energy share above area"].p or 0) > 0.01


def test_nine_images_are_too_few_and_ten_suffice() -> None:
    assert judge(samples(MOVED | NAMED, 9)).verdict is Verdict.UNDECIDED
    assert judge(samples(MOVED | NAMED, 10)).verdict is Verdict.LOCAL


@pytest.mark.parametrize(
    ("values", "text_use", "remark"),
    [
        (STILL, "train", "unmoved as expected"),
        (MOVED, "train", "UNEXPECTED"),
        (MOVED, "test", "no labelled object is named"),
        (
            MOVED | NAMED | {("specificity over best", "car"): 0.0},
            "test",
            "favours labelled objects, whatever is named",
        ),
        (STILL, "test", "no labelled object is named"),
        (MOVED | {("mae", "nonsense response"): 6.0}, "test", "answers nonsense as strongly as sense"),
        (MOVED | {("mae", "repeat"): 0.3}, "test", "not deterministic"),
        (
            MOVED | {("PSNR gain", "right over none"): 2.0, ("PSNR gain", "right over wrong"): 3.0},
            "test",
            "follows instructions: ",
        ),
        (
            MOVED | {("PSNR gain", "right over none"): 2.0, ("PSNR gain", "right over wrong"): 0.0},
            "test",
            "not shown to follow",
        ),
    ],
)
def test_remarks(values: dict[tuple[str, str], float], text_use: str, remark: str) -> None:
    assert any(remark in said for said in judge(samples(values), text_use).remarks)


def content(result: Audit, name: str, **identity: Any) -> dict[str, Any]:
    """What ``audit.json`` holds, as far as reports read it."""
    own = {
        "dataset": "d", "split": "test", "images": 12, "fingerprint": "f" * 64, "seed": 0, "masks": "none",
        "method": name, "weights": "w|1", "prompts_origin": "generated", **identity,
    }  # fmt: skip
    estimates = {
        statistic: {name: None if number is None or np.isnan(number) else number for name, number in asdict(e).items()}
        for statistic, e in result.estimates.items()
    }
    stored = {**asdict(result), "verdict": result.verdict.value, "estimates": estimates, "left_out": 0}
    return {"id": name, "identity": own, "weights_origin": "project", "result": stored}


def test_reports_name_every_method_its_verdict_and_its_reasons_whatever_the_order() -> None:
    contents = [
        content(judge(samples(values)), name)
        for name, values in (("still", STILL), ("named", MOVED | NAMED), ("moved", MOVED))
    ]
    contents.append({**content(judge(samples(STILL)), "begun"), "result": None})
    page, table = render_markdown(contents), render_csv(contents)
    assert page == render_markdown(contents[::-1])
    assert table == render_csv(contents[::-1])
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [*dict.fromkeys(row["method"] for row in rows)] == ["named", "moved", "still"]
    assert {row["verdict"] for row in rows if row["method"] == "named"} == {Verdict.LOCAL.value}
    assert all(row["value"] for row in rows if row["statistic"] == "meaning / floor")
    for name in ("still", "named", "moved"):
        assert f"**{name}@w\\|1**" in page
    assert "project-trained" in page
    assert "begun" not in page


def test_audits_of_one_name_are_told_apart_by_what_differs() -> None:
    result = judge(samples(STILL))
    members = [
        content(result, "a", options={"gain": 1, "size": 2}, prompts="0" * 64),
        content(result, "b", options={"gain": 1, "size": 2}, prompts="0" * 64),
        content(result, "b", options={"gain": 3, "size": 2}, prompts="1" * 64),
    ]
    assert labels_of(members) == [
        "a@w|1",
        "b@w|1 (gain=1, prompts=000000000000)",
        "b@w|1 (gain=3, prompts=111111111111)",
    ]
    assert "gain=3" in render_markdown(members)


def test_one_image_has_no_interval_and_is_not_several() -> None:
    page = render_markdown([content(judge(samples(MOVED | NAMED, 1)), "one", images=1)])
    assert "1 image," in page
    assert "1 image; at least 10 are needed" in page
    (row,) = (line for line in page.splitlines() if line.startswith("| one"))
    assert "[" not in row
    table = list(csv.DictReader(io.StringIO(render_csv([content(judge(samples(MOVED, 1)), "one")]))))
    assert {(row["low"], row["high"]) for row in table} == {("", "")}


def test_methods_on_other_images_are_reported_apart() -> None:
    result = judge(samples(STILL))
    groups = groups_of([content(result, "a"), content(result, "b", fingerprint="e" * 64), content(result, "c", seed=1)])
    assert [len(members) for members in groups.values()] == [1, 1, 1]


def test_confidences_that_fit_their_images_beat_shuffled_ones() -> None:
    found = samples(STILL)
    for index, sample in enumerate(found):
        sample.values |= {("attention original", "matching"): 0.3, ("confidence", "matching"): index / 12}
        sample.values["attention improved", "matching"] = 0.3 + 0.02 * (index - 5.5)
    fits = judge(found).estimates
    gain = np.array([0.02 * (index - 5.5) for index in range(12)])
    confidence = np.arange(12) / 12
    assert fits["text attention, matching confidence"].value == pytest.approx(0.3 + (confidence * gain).mean())
    # Against every exchange of two confidences at once: the mean over all ordered pairs of different images.
    exchanged = np.mean([confidence[j] * gain[i] for i in range(12) for j in range(12) if i != j])
    assert fits["text attention, shuffled confidence"].value == pytest.approx(0.3 + exchanged)
    assert (fits["text attention, matching over shuffled"].p or 1) <= 0.01
