"""The embedded dataset: rendered scenes, their labels and texts."""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import numpy as np
import pytest

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets.base import Labels, Sample
from tgfbench.datasets.sample import SampleDataset
from tgfbench.datasets.sample.captions import HARD_TO_SEE, conspicuity, describe
from tgfbench.datasets.sample.degrade import DEGRADATIONS, degrade
from tgfbench.datasets.sample.rendering import render_scene
from tgfbench.datasets.sample.scene import LIGHTINGS, Building, Cone, Fence, Guardrail, Lamp, Sign, Tree

SMALL = {"width": 160, "height": 120}
SEGMENT_OF_CLASS = {0: 2, 1: 3, 2: 1}
"""Segmentation id (person, bike, car) of each detection class (person, bicycle, car)."""


@functools.cache
def opened(split: str = "test", *, degraded: bool = False, seed: int = 0) -> SampleDataset:
    return SampleDataset(split=split, seed=seed, degraded=degraded, **SMALL)


@functools.cache
def rendered(key: str, *, degraded: bool = False) -> Sample:
    return opened(degraded=degraded)[key]


def labels_of(sample: Sample) -> tuple[Labels, np.ndarray]:
    assert sample.labels is not None
    assert sample.labels.segmentation is not None
    return sample.labels, sample.labels.segmentation


def inside(box: np.ndarray) -> tuple[slice, slice]:
    left, top, right, bottom = box.astype(int)
    return slice(top, bottom), slice(left, right)


def content(sample: Sample) -> tuple[object, ...]:
    labels, segmentation = labels_of(sample)
    arrays = (sample.visible, sample.infrared, labels.boxes, labels.classes, segmentation)
    return (*(array.tobytes() for array in arrays), sample.texts)


KEYS = opened().keys


@pytest.mark.parametrize("degraded", [False, True])
def test_two_instances_give_the_same_bytes_in_any_order(degraded: bool) -> None:
    first, second = (SampleDataset(width=97, height=71, degraded=degraded) for _ in range(2))
    keys = first.keys[:5]
    forwards = {key: content(first[key]) for key in keys}
    backwards = {key: content(second[key]) for key in reversed(keys)}
    assert forwards == backwards


def test_content_does_not_depend_on_how_many_are_served() -> None:
    few = SampleDataset(count=3, **SMALL)
    assert few.keys == ("test-0000", "test-0001", "test-0002")
    assert content(few["test-0002"]) == content(rendered("test-0002"))


def test_seeds_and_splits_share_no_scene() -> None:
    seen = [
        dataset[key].visible.tobytes()
        for dataset in (
            *(SampleDataset(split=split, count=8, width=64, height=48) for split in ("train", "val", "test")),
            SampleDataset(count=8, seed=1, width=64, height=48),
        )
        for key in dataset.keys
    ]
    assert len(set(seen)) == len(seen)


def test_default_sizes_of_the_splits() -> None:
    assert {split: len(SampleDataset(split=split)) for split in SampleDataset.info.splits} == {
        "test": 24,
        "train": 200,
        "val": 24,
    }
    assert rendered(KEYS[0]).visible.shape == (120, 160, 3)
    assert SampleDataset(count=1)["test-0000"].visible.shape == (480, 640, 3)


def test_every_lighting_appears_in_each_six_scenes() -> None:
    for first in range(0, 24, 6):
        assert {opened().scene(key).lighting for key in KEYS[first : first + 6]} == set(LIGHTINGS)


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (101, 303), (641, 113)])
def test_any_size(size: tuple[int, int]) -> None:
    width, height = size
    for sample in SampleDataset(width=width, height=height, count=6, seed=2):
        labels, segmentation = labels_of(sample)
        assert (sample.visible.shape, sample.visible.dtype) == ((height, width, 3), np.uint8)
        assert (sample.infrared.shape, sample.infrared.dtype) == ((height, width), np.uint8)
        assert segmentation.shape == (height, width)
        assert np.all(labels.boxes[:, :2] >= 0)
        assert np.all(labels.boxes[:, :2] < labels.boxes[:, 2:])
        assert np.all(labels.boxes[:, 2:] <= (width, height))


def test_size_changes_only_the_resolution() -> None:
    small, large = SampleDataset(width=160, height=120), SampleDataset(width=320, height=240)
    for key in KEYS[:6]:
        a, b = small[key].visible.astype(float), large[key].visible.astype(float)
        b = b.reshape(120, 2, 160, 2, 3).mean(axis=(1, 3))
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.85
        assert abs(a.mean() - b.mean()) < 4


@pytest.mark.parametrize("key", KEYS)
def test_boxes_are_tight_and_agree_with_the_segmentation(key: str) -> None:
    labels, segmentation = labels_of(rendered(key))
    covered = {segment: np.zeros(segmentation.shape, bool) for segment in SEGMENT_OF_CLASS.values()}
    for box, label in zip(labels.boxes, labels.classes, strict=True):
        segment = SEGMENT_OF_CLASS[int(label)]
        patch = segmentation[inside(box)] == segment
        covered[segment][inside(box)] = True
        for edge in (patch[0], patch[-1], patch[:, 0], patch[:, -1]):
            assert edge.any(), f"the box {box} of class {label} is wider than what it surrounds"
        assert patch.sum() >= 12
    for segment, mask in covered.items():
        assert not np.any((segmentation == segment) & ~mask), f"pixels of segment {segment} lie outside all boxes"
    assert segmentation.max() < len(SampleDataset.info.segmentation_classes)


def test_every_class_occurs() -> None:
    classes = np.concatenate([labels_of(rendered(key))[0].classes for key in KEYS])
    assert set(classes) == {0, 1, 2}
    segments = np.unique(np.concatenate([np.unique(labels_of(rendered(key))[1]) for key in KEYS]))
    assert {0, 1, 2, 3, 4, 6} <= set(segments.tolist())


def people(sample: Sample) -> list[np.ndarray]:
    """One mask for each box of a person."""
    labels, segmentation = labels_of(sample)
    masks = []
    for index in np.flatnonzero(labels.classes == 0):
        mask = np.zeros(segmentation.shape, bool)
        mask[inside(labels.boxes[index])] = segmentation[inside(labels.boxes[index])] == 2
        masks.append(mask)
    return masks


def test_infrared_shows_people_brighter_than_what_surrounds_them() -> None:
    differences = []
    for sample in map(rendered, KEYS):
        for mask in people(sample):
            rows, columns = np.nonzero(mask)
            ring = np.zeros_like(mask)
            ring[max(0, rows.min() - 3) : rows.max() + 4, max(0, columns.min() - 3) : columns.max() + 4] = True
            differences.append(
                float(sample.infrared[mask].mean()) - float(sample.infrared[ring & (labels_of(sample)[1] == 0)].mean())
            )
    assert len(differences) > 40
    assert np.mean(differences) > 60
    assert min(differences) > 0


@pytest.mark.parametrize(("lighting", "few", "many"), [("daylight", 0.0, 0.2), ("night", 0.5, 1.0), ("fog", 0.4, 1.0)])
def test_light_decides_who_is_hard_to_see(lighting: str, few: float, many: float) -> None:
    hidden = [
        conspicuity(rendered(key).visible, mask) < HARD_TO_SEE
        for key in KEYS
        if opened().scene(key).lighting == lighting
        for mask in people(rendered(key))
    ]
    assert few <= np.mean(hidden) <= many


def test_visible_shows_road_markings_that_infrared_does_not() -> None:
    contrasts = []
    for key in KEYS:
        scene, sample = opened().scene(key), rendered(key)
        if scene.lighting == "daylight" and scene.road.paved:
            bottom = slice(100, 120)
            contrasts.append(
                [float(np.ptp(np.percentile(image[bottom], (5, 99)))) for image in (sample.visible, sample.infrared)]
            )
    visible, infrared = np.mean(contrasts, axis=0)
    assert visible > 2 * infrared


WORDS_OF_THINGS = {
    r"pedestrian|cyclist": 0,
    r"cyclist|bicycle": 1,
    r"\b(?:car|cars|van|vans|traffic)\b(?! cone)": 2,
}
WORDS_OF_SURROUNDINGS = {
    r"building|house": Building,
    r"street lamp": Lamp,
    r"\bsign": Sign,
    r"guardrail": Guardrail,
    r"traffic cone": Cone,
    r"fence": Fence,
    r"\btree": Tree,
}


@pytest.mark.parametrize("key", KEYS)
def test_texts_are_whole_and_name_only_what_is_there(key: str) -> None:
    sample, scene = rendered(key), opened().scene(key)
    texts, (labels, _) = sample.texts, labels_of(sample)
    assert len(texts.captions) == len(set(texts.captions)) == 5
    assert texts.focus
    assert texts.instruction == ()
    for sentence in texts.captions:
        assert re.fullmatch(r"[A-Z].*[a-z]\.", sentence), sentence
        assert "  " not in sentence
    said = " ".join((*texts.captions, *texts.focus)).lower()
    for pattern, label in WORDS_OF_THINGS.items():
        if re.search(pattern.replace("cyclist|", "") if label == 1 else pattern, said):
            assert label in labels.classes, f"no box of class {label}, yet: {said}"
    for pattern, kind in WORDS_OF_SURROUNDINGS.items():
        if re.search(pattern, said):
            assert any(isinstance(thing, kind) for thing in scene.things), said


@pytest.mark.parametrize("key", KEYS[:6])
def test_texts_of_an_empty_scene_name_nothing(key: str) -> None:
    empty = render_scene(replace(opened().scene(key), things=(), lights=()), 160, 120, np.random.SeedSequence(0))
    captions, focus = describe(empty, np.random.default_rng(0))
    assert len(set(captions)) == 5
    assert focus
    for pattern in (*WORDS_OF_THINGS, *WORDS_OF_SURROUNDINGS):
        assert not re.search(pattern, " ".join((*captions, *focus)).lower())


def test_texts_call_hard_to_see_what_is() -> None:
    said = {lighting: 0.0 for lighting in LIGHTINGS}
    for key in KEYS:
        captions = rendered(key).texts.captions[:3]
        said[opened().scene(key).lighting] += np.mean(["hard to see" in caption for caption in captions]) / 4
    assert said["daylight"] < 0.1
    assert said["fog"] > 0.4
    assert said["night"] / 2 > 0.4


@pytest.mark.parametrize("key", KEYS)
def test_focus_phrases_say_where_and_how_many(key: str) -> None:
    labels, _ = labels_of(rendered(key))
    centres = labels.boxes[:, [0, 2]].mean(axis=1) / 160
    places = {
        "on the left": centres < 0.37,
        "in the middle": np.abs(centres - 0.5) <= 0.13,
        "on the right": centres > 0.63,
    }
    numbers = {word: number for number, word in enumerate(("the", "two", "three", "four", "five", "six"), start=1)}
    counted = 0
    for phrase in rendered(key).texts.focus:
        found = re.fullmatch(r"the (two|three|four|five|six)?.*?(pedestrian|cyclist)s? (.*)", phrase)
        if found:
            counted += numbers[found[1] or "the"]
            assert np.sum(places[found[3]] & (labels.classes == 0)) >= numbers[found[1] or "the"]
    assert counted == np.sum(labels.classes == 0)


@pytest.mark.parametrize("key", KEYS[:12])
def test_degraded_variants_bring_an_instruction_and_the_clean_image(key: str) -> None:
    clean, degraded = rendered(key), rendered(key, degraded=True)
    assert clean.reference is None
    assert degraded.reference is not None
    np.testing.assert_array_equal(degraded.reference, clean.visible)
    np.testing.assert_array_equal(degraded.infrared, clean.infrared)
    assert np.abs(degraded.visible.astype(float) - clean.visible).mean() > 1
    assert len(degraded.texts.instruction) >= 2
    assert degraded.texts.captions == clean.texts.captions


def test_each_degradation_does_what_its_instruction_says() -> None:
    sample = rendered(next(key for key in KEYS if opened().scene(key).lighting == "daylight"))
    image = sample.visible
    by_complaint = {}
    for seed in range(60):
        worse, instruction = degrade(image, sample.infrared, "daylight", np.random.default_rng(seed))
        by_complaint[instruction[0]] = worse.astype(float)
    assert len(by_complaint) == len(DEGRADATIONS["daylight"]) == 6

    def after(word: str) -> np.ndarray:
        return next(worse for complaint, worse in by_complaint.items() if word in complaint)

    def roughness(of: np.ndarray) -> float:
        return float(np.abs(np.diff(of.astype(float), axis=1)).mean())

    assert after("too dark").mean() < 0.5 * image.mean()
    assert (after("over-exposed") == 255).mean() > (image == 255).mean() + 0.1
    assert after("contrast").std() < 0.5 * image.std()
    assert after("Haze")[:40].std() < 0.6 * image[:40].std()
    assert roughness(after("noisy")) > 1.5 * roughness(image)
    assert roughness(after("blurred")) < 0.8 * roughness(image)
    assert after("blurred").std() > 0.8 * image.std()


def test_fingerprint_follows_what_changes_the_content() -> None:
    base = opened().fingerprint()
    assert base == SampleDataset(**SMALL).fingerprint()
    others = [
        opened("val").fingerprint(),
        opened(seed=1).fingerprint(),
        opened(degraded=True).fingerprint(),
        opened().fingerprint(KEYS[:3]),
        SampleDataset(width=161, height=120).fingerprint(),
        SampleDataset(width=160, height=121).fingerprint(),
    ]
    assert len({base, *others}) == 1 + len(others)
    assert SampleDataset(count=3, **SMALL).fingerprint() == opened().fingerprint(KEYS[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trial"}, "test, train, val"),
        ({"width": 63}, "width=63"),
        ({"height": 47}, "height=47"),
        ({"count": 0}, "count=0"),
        ({"seed": -1}, "seed=-1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_rendered_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SampleDataset(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["test-0024", "train-0000", "test-00", "test-0000 "])
def test_unknown_keys_are_refused_everywhere(key: str) -> None:
    dataset = opened()
    for call in (dataset.load, dataset.__getitem__, dataset.scene, lambda name: dataset.fingerprint((name,))):
        with pytest.raises(UsageError, match="no such key"):
            call(key)
