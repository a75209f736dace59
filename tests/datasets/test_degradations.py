"""Degradations: names, arithmetic, instructions, and the wrapper around a dataset."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgfbench.benchmark.errors import UsageError
from tgfbench.datasets import load_dataset
from tgfbench.datasets.base import Dataset, DatasetInfo, Labels, Sample, Texts
from tgfbench.datasets.degradations.dataset import DegradedDataset
from tgfbench.datasets.degradations.grammar import (
    KINDS,
    SEVERITIES,
    Degradation,
    Modality,
    degraded_name,
    parse_entry,
    parse_name,
    usual_modality,
)
from tgfbench.datasets.degradations.instructions import INSTRUCTIONS, instructions_for
from tgfbench.datasets.degradations.operators import OPERATORS, degrade_pair

MODALITIES: tuple[Modality, Modality] = ("visible", "infrared")
EVERY = [(kind, modality) for kind in KINDS for modality in MODALITIES]


def scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A pair with smooth shading, edges and fine texture."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    shade = 70 + 60 * np.sin(rows / 9) * np.cos(columns / 13) + 50 * ((columns // 8 + rows // 12) % 2)
    visible = shade[..., None] * np.array([0.9, 1.0, 0.8]) + random.normal(0, 6, (height, width, 3))
    infrared = np.where((columns - width / 2) ** 2 + (rows - height / 2) ** 2 < (height / 5) ** 2, 230, 60 + rows / 4)
    return tuple(np.clip(image, 0, 255).astype(np.uint8) for image in (visible, infrared))  # type: ignore[return-value]


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    error = float(np.mean((image.astype(float) - clean) ** 2))
    return 10 * np.log10(255**2 / error) if error else np.inf


class OnePair(Dataset):
    """A dataset of two keys that share one pair."""

    info = DatasetInfo(name="one", title="One", source="a test", licence="none", classes=("car",))
    split = "test"
    keys = ("a", "b")

    def load(self, key: str) -> Sample:
        texts = Texts(("A road.",), ("the road",), ("Correct the blur in this pair.",))
        labels = Labels(np.array([[0, 0, 3, 3]], np.float32), np.array([0]))
        return Sample(key, *scene(50, 67), texts, labels)

    def fingerprint(self, keys: tuple[str, ...] | None = None) -> str:
        return "-".join(self.keys if keys is None else keys)


# names


def test_the_grammar_forgives_and_the_canonical_name_opens_the_same() -> None:
    haze = Degradation("haze", 3)
    for name in ("msrs+haze:3", "msrs + Haze", "msrs+HAZE-3", "msrs+haze3", "msrs+fog_3", "msrs+haze:3@vi"):
        assert parse_name(name) == ("msrs", (haze,), 0)
    assert degraded_name("msrs", (haze,), 0) == "msrs+haze-3"
    chain = (
        Degradation("low-light", 4),
        Degradation("noise", 2, "infrared"),
        Degradation("stripe-noise", 1, "infrared"),
    )
    for name in ("x+lowlight:4+noise:2@infrared+stripe:1+seed:7", "x+Low_Light:4+gaussian noise@IR:2+stripes-1+SEED:7"):
        assert parse_name(name) == ("x", chain, 7)
    assert degraded_name("x", chain, 7) == "x+low-light-4+noise-2@infrared+stripe-noise-1+seed-7"
    assert parse_name("my-set_2") == ("my-set_2", (), 0)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(KINDS), st.sampled_from(MODALITIES), st.sampled_from(SEVERITIES)),
        min_size=1,
        max_size=4,
        unique_by=lambda step: step[:2],
    ),
    seed=st.integers(0, 999_999_999),
)
def test_every_canonical_name_is_read_back_and_safe_in_paths(steps: list[tuple[str, Modality, int]], seed: int) -> None:
    chain = tuple(Degradation(kind, severity, modality) for kind, modality, severity in steps)
    name = degraded_name("m3fd", chain, seed)
    assert parse_name(name) == ("m3fd", chain, seed)
    assert re.fullmatch(r"[a-z0-9+@-]+", name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("msrs+", "nothing after"),
        ("msrs+hase:3", "did you mean haze.*low-contrast"),
        ("msrs+haze:9", "severity 9 of haze"),
        ("msrs+haze:0", "1 .slight. to 5"),
        ("msrs+haze:", "KIND"),
        ("msrs+haze:three", "whole number"),
        ("msrs+haze:2.5", "whole number"),
        ("msrs+haze3:2", "KIND"),
        ("msrs+haze:3@sonar", "modality 'sonar'"),
        ("msrs+haze:3@ir@vi", "KIND"),
        ("msrs+haze:3+fog:2", "twice"),
        ("msrs+seed:3", "no degradation"),
        ("msrs+haze+seed", "seed:N"),
        ("msrs+haze+seed:1+seed:2", "seed:N once"),
        ("msrs+haze+seed:-1", "KIND|whole number"),
        ("msrs+@ir", "KIND"),
        ("msrs+3", "KIND"),
    ],
)
def test_a_wrong_name_says_what_exists(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){message}"):
        load_dataset(name, "nowhere")


def test_an_unknown_dataset_is_named_without_its_degradations() -> None:
    with pytest.raises(UsageError, match="msrs"):
        load_dataset("msrx+haze:3")


@pytest.mark.parametrize("values", [("mist", 3, "visible"), ("haze", 6, "visible"), ("haze", 3, "depth")])
def test_a_degradation_checks_itself(values: tuple[str, int, Modality]) -> None:
    with pytest.raises(UsageError, match="choosing a degradation"):
        Degradation(*values)


# arithmetic


def test_every_kind_has_an_operator_and_a_usual_modality() -> None:
    assert set(OPERATORS) == set(KINDS) == set(INSTRUCTIONS)
    assert [kind for kind in KINDS if usual_modality(kind) == "infrared"] == ["stripe-noise"]


@pytest.mark.parametrize(("kind", "modality"), EVERY)
def test_each_severity_is_further_from_the_clean_image(kind: str, modality: Modality) -> None:
    pair = dict(zip(MODALITIES, scene(121, 161), strict=True))
    values = []
    for severity in SEVERITIES:
        degraded = degrade_pair(pair["visible"], pair["infrared"], (Degradation(kind, severity, modality),), "k")
        after = dict(zip(MODALITIES, degraded, strict=True))
        other = MODALITIES[modality == "visible"]
        assert after[other] is pair[other]
        assert (after[modality].shape, after[modality].dtype) == (pair[modality].shape, np.uint8)
        values.append(psnr(after[modality], pair[modality]))
    assert 12 < values[0] < 55
    assert all(worse < better - 0.3 for better, worse in pairwise(values)), values


@pytest.mark.parametrize(("kind", "modality"), EVERY)
def test_patterns_follow_key_and_seed_alone(kind: str, modality: Modality) -> None:
    visible, infrared = scene(60, 81)
    before = visible.copy(), infrared.copy()
    chain = (Degradation(kind, 4, modality),)

    def made(key: str, seed: int) -> np.ndarray:
        return degrade_pair(visible, infrared, chain, key, seed)[modality == "infrared"]

    assert np.array_equal(made("a", 0), made("a", 0))
    random = kind not in ("over-exposure", "blur", "low-contrast", "down-sampling")
    assert np.array_equal(made("a", 0), made("b", 0)) != random
    assert np.array_equal(made("a", 0), made("a", 1)) != random
    assert all(np.array_equal(image, kept) for image, kept in zip((visible, infrared), before, strict=True))


@settings(max_examples=12, derandomize=True, deadline=None)
@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), level=st.sampled_from([None, 0, 255]))
def test_any_size_and_flat_images_are_served(size: tuple[int, int], level: int | None) -> None:
    visible, infrared = scene(*size)
    if level is not None:
        visible[:], infrared[:] = level, level
    for kind, modality in EVERY:
        after = degrade_pair(visible, infrared, (Degradation(kind, 5, modality),), "k")
        assert [image.shape for image in after] == [visible.shape, infrared.shape]
        assert all(image.dtype == np.uint8 for image in after)


def flat(level: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((240, 320, 3), level, np.uint8), np.full((240, 320), level, np.uint8)


def applied(
    kind: str, severity: int, pair: tuple[np.ndarray, np.ndarray], modality: Modality = "visible"
) -> np.ndarray:
    return degrade_pair(*pair, (Degradation(kind, severity, modality),), "k")[modality == "infrared"].astype(float)


def test_noise_is_gaussian_and_white() -> None:
    found = applied("noise", 3, flat(128)) - 128
    assert abs(found.mean()) < 0.2
    assert found.std() == pytest.approx(25, rel=0.02)
    assert np.mean(np.abs(found) < 25) == pytest.approx(0.683, abs=0.02)
    for a, b in ((found[1:], found[:-1]), (found[:, 1:], found[:, :-1]), (found[..., 0], found[..., 1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_low_light_follows_exposure_and_noise_model() -> None:
    for level in (60, 128, 220):
        linear = (applied("low-light", 3, flat(level)) / 255) ** 2.2
        exposed = 2**-3.5 * (level / 255) ** 2.2
        # Rounding to 8 bits adds its own, small share.
        assert linear.mean() == pytest.approx(exposed, rel=0.03)
        assert linear.std() == pytest.approx(np.sqrt(2e-4 * exposed + 1e-6), rel=0.12)


def test_over_exposure_follows_the_stops_below_saturation() -> None:
    assert applied("over-exposure", 3, flat(100)).mean() == pytest.approx(100 * 2 ** (1.3 / 2.2), abs=0.6)
    assert applied("over-exposure", 5, flat(200)).min() == 255
    visible, infrared = flat(40)
    visible[100:140, 150:170] = 255
    glare = applied("over-exposure", 4, (visible, infrared))
    assert glare[120, 175].mean() > glare[5, 5].mean()


def test_haze_hides_the_top_and_the_cold_more() -> None:
    visible, infrared = flat(30)
    infrared[:, :160] = 90
    hazy = applied("haze", 3, (visible, infrared))
    assert hazy[20].mean() > hazy[220].mean() + 5
    assert hazy[:, 200:].mean() > hazy[:, :120].mean() + 5
    thermal = applied("haze", 3, (visible, infrared), "infrared")
    assert np.ptp(thermal[40]) < np.ptp(infrared[40].astype(float))


def test_rain_is_made_of_steep_streaks_brighter_than_a_dark_ground() -> None:
    rainy = applied("rain", 4, flat(40))
    assert rainy.min() > 40
    grey = rainy.mean(axis=2).astype(np.float32)
    gradients = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    assert gradients[1] > 2 * gradients[0]


def test_stripes_are_constant_along_columns() -> None:
    striped = applied("stripe-noise", 3, flat(120), "infrared")
    assert np.all(striped == striped[0])
    assert 8 < striped[0].std() < 26


def test_blur_low_contrast_and_down_sampling_do_what_they_say() -> None:
    visible, infrared = flat(100)
    visible[:, 160:] = 200
    pair = (visible, infrared)
    expected = cv2.GaussianBlur(visible, (0, 0), 2.5 * 0.5).astype(float)
    np.testing.assert_allclose(applied("blur", 3, pair), expected)
    np.testing.assert_allclose(np.unique(applied("low-contrast", 3, pair)), [133, 167])
    coarse = np.kron(np.arange(60).reshape(6, 10) * 4, np.ones((4, 4))).astype(np.uint8)
    found = applied("down-sampling", 4, (np.repeat(coarse[..., None], 3, 2), coarse), "infrared")
    np.testing.assert_allclose(cv2.resize(found, (10, 6), interpolation=cv2.INTER_AREA), coarse[::4, ::4], atol=12)


# instructions


@pytest.mark.parametrize("kind", KINDS)
def test_ten_or_more_distinct_sentences_name_the_image_that_suffers(kind: str) -> None:
    for modality in MODALITIES:
        sentences = instructions_for(kind, modality)
        assert len(sentences) == len(set(sentences)) >= 10
        assert all(f"{modality} image" in sentence and "{" not in sentence for sentence in sentences)
        assert all(sentence.strip() == sentence and sentence.endswith(".") for sentence in sentences)


def test_no_sentence_serves_two_kinds() -> None:
    sentences = [sentence for kind in KINDS for sentence in INSTRUCTIONS[kind]]
    assert len(sentences) == len(set(sentences))


# the wrapper


def test_a_degraded_sample_has_instruction_reference_and_everything_else_as_it_was() -> None:
    clean = OnePair().load("a")
    for modality in MODALITIES:
        dataset = DegradedDataset(OnePair(), (Degradation("noise", 2, modality),))
        sample = dataset["a"]
        assert np.array_equal(sample.visible, clean.visible) == (modality == "infrared")
        assert np.array_equal(sample.infrared, clean.infrared) == (modality == "visible")
        assert sample.reference is not None
        assert np.array_equal(sample.reference, clean.visible)
        assert (sample.texts.captions, sample.texts.focus) == (clean.texts.captions, clean.texts.focus)
        assert sample.texts.instruction == instructions_for("noise", modality)
        assert sample.labels is not None
        assert np.array_equal(dataset.clean("a").visible, clean.visible)
        assert not np.array_equal(dataset["a"].visible, dataset["b"].visible) or modality == "infrared"


def test_instructions_of_several_degradations_ask_for_all_of_them() -> None:
    dataset = DegradedDataset(OnePair(), (Degradation("haze", 2), Degradation("noise", 2, "infrared")))
    sentences = dataset["a"].texts.instruction
    assert len(sentences) >= 10
    assert sentences[0] == f"{instructions_for('haze', 'visible')[0]} {instructions_for('noise', 'infrared')[0]}"


def test_name_and_fingerprint_say_what_was_done() -> None:
    def opened(name: str) -> DegradedDataset:
        _, chain, seed = parse_name(name)
        return DegradedDataset(OnePair(), chain, seed)

    names = ["one+haze-3", "one+haze-4", "one+rain-3", "one+haze-3@infrared", "one+haze-3+seed-1", "one+haze-3+rain-3"]
    datasets = [opened(name) for name in names]
    assert [dataset.info.name for dataset in datasets] == names
    assert len({dataset.fingerprint() for dataset in datasets} | {OnePair().fingerprint()}) == len(names) + 1
    assert datasets[0].fingerprint() == opened("one+Haze:3").fingerprint()
    assert datasets[0].fingerprint(("a",)) != datasets[0].fingerprint()
    datasets[0].keys = ("a",)
    assert datasets[0].fingerprint() == datasets[0].fingerprint(("a",))
    assert "not a recording" in datasets[0].info.known_problems[-1]
    assert OnePair.info.name == "one"


def test_a_degraded_dataset_survives_pickling_and_refuses_nonsense() -> None:
    dataset = DegradedDataset(OnePair(), (Degradation("rain", 5),), seed=3)
    copy = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(copy["a"].visible, dataset["a"].visible)
    with pytest.raises(UsageError, match=re.escape("one+rain-5+seed-3")):
        dataset["c"]
    for chain, seed in (((), 0), (dataset.chain, -1)):
        with pytest.raises(UsageError, match="degrading the dataset one"):
            DegradedDataset(OnePair(), chain, seed)


def test_options_and_split_reach_the_source() -> None:
    dataset = load_dataset("sample+low-light:2", split="val", count=2, width=96, height=64, seed=5)
    plain = load_dataset("sample", split="val", count=2, width=96, height=64, seed=5)
    assert (dataset.split, dataset.keys) == ("val", plain.keys)
    sample = dataset[dataset.keys[0]]
    assert sample.reference is not None
    assert np.array_equal(sample.reference, plain[plain.keys[0]].visible)
    assert sample.visible.mean() < sample.reference.mean()


@pytest.mark.parametrize(
    "name", ["msrs+lowlight:3", "roadscene+haze:2", "tno+noise:4@infrared", "llvip+rain", "m3fd+blur:1"]
)
def test_real_pairs_are_degraded(name: str, shared: Path) -> None:
    dataset = load_dataset(name, shared / "data")
    plain = load_dataset(name.partition("+")[0], shared / "data")
    assert dataset.keys == plain.keys
    assert dataset.problems == plain.problems
    sample, clean = dataset[dataset.keys[0]], plain[plain.keys[0]]
    assert sample.visible.shape == clean.visible.shape
    assert sample.infrared.shape == clean.infrared.shape
    assert np.array_equal(sample.visible, clean.visible) == name.endswith("infrared")
    assert sample.reference is not None
    assert np.array_equal(sample.reference, clean.visible)


def test_the_grammar_needs_neither_numpy_nor_cv2() -> None:
    code = "import sys, tgfbench.datasets.degradations; sys.exit(bool({'numpy', 'cv2', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("msrs", ("msrs", None)),
        (" msrs:train ", ("msrs", "train")),
        ("x:2017", ("x", "2017")),
        ("msrs+haze:3", ("msrs+haze:3", None)),
        ("msrs+haze:3:train", ("msrs+haze:3", "train")),
        ("msrs:train+haze-3@ir", ("msrs+haze-3@ir", "train")),
        ("msrs+haze@ir:2:test_day", ("msrs+haze@ir:2", "test_day")),
    ],
)
def test_a_split_is_told_from_a_severity(entry: str, expected: tuple[str, str | None]) -> None:
    assert parse_entry(entry) == expected
