"""Movement, prominence and instruction measures of one sample, on images whose answers are known by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tgfbench.benchmark.errors import WeightsError
from tgfbench.metrics.audit.agreement import OpenCLIP, agreement
from tgfbench.metrics.audit.attention import attention_parts
from tgfbench.metrics.audit.directed import mutual_information, prominence, ring, showing_source
from tgfbench.metrics.audit.measures import Evidence, Target, measure_sample
from tgfbench.metrics.audit.movement import jittered, luma_of, movement, psnr, rms, ssim
from tgfbench.metrics.audit.prompts import Prompt, Subject, counterfactual_prompts

SHAPE = (48, 64)


def grey(level: int) -> np.ndarray:
    return np.full((*SHAPE, 3), level, np.uint8)


def textured(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 190, (*SHAPE, 3), np.uint8)


def disc(x: int) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (rows - 24) ** 2 + (columns - x) ** 2 < 64


def test_movement_of_a_constant_shift() -> None:
    found = movement(textured(), textured() + np.uint8(4))
    assert found["mae"] == found["rms"] == 4
    assert 0 < found["1-ssim"] < 0.01
    assert movement(textured(), textured())["1-ssim"] == 0


def test_rms_within_a_mask_and_psnr() -> None:
    image = grey(10)
    image[disc(20)] = 14
    assert rms(grey(10), image, disc(20)) == pytest.approx(4)
    assert rms(grey(10), image, ~disc(20)) == 0
    assert psnr(grey(10), grey(10)) == 100
    assert psnr(grey(0), grey(255)) == pytest.approx(0)


def test_ssim_is_that_of_the_metrics_room_and_undefined_on_tiny_images() -> None:
    from skimage.metrics import structural_similarity

    first, second = luma_of(textured(1)), luma_of(textured(2))
    # scikit-image averages the map without a border of 5 pixels, which is what full windows are.
    expected = structural_similarity(
        first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert ssim(textured(1), textured(2)) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(ssim(grey(1)[:8], grey(2)[:8]))


def test_jitter_is_one_grey_level_up_or_down() -> None:
    generator = np.random.default_rng(0)
    steps = jittered(grey(100), generator).astype(int) - 100
    assert set(np.unique(steps)) == {-1, 1}
    assert abs(steps.mean()) < 0.05
    assert jittered(grey(0), generator).max() == 1


def test_prominence_of_a_disc_that_only_infrared_shows() -> None:
    mask = disc(30)
    around = ring(mask)
    assert not (around & mask).any()
    visible, infrared = np.full(SHAPE, 90, np.uint8), np.where(mask, 200, 50).astype(np.uint8)
    source = showing_source(visible, infrared, mask, around)
    assert source is infrared
    faint, clear = (np.where(mask, level, 60).astype(np.uint8) for level in (70, 190))
    less, more = (prominence(image, source, mask, around) for image in (faint, clear))
    assert less.contrast == pytest.approx(10)
    assert more.contrast == pytest.approx(130)
    assert more.gradient > less.gradient
    # Both images tell inside from outside without fail, which is all that two levels can tell.
    ratio = mask.sum() / (mask | around).sum()
    entropy = -ratio * np.log2(ratio) - (1 - ratio) * np.log2(1 - ratio)
    assert more.information == pytest.approx(entropy)
    assert prominence(visible, source, mask, around).information == 0


def test_a_ring_is_what_lies_within_its_width_of_the_object() -> None:
    mask = disc(30)
    rows, columns = np.nonzero(mask)
    grid = np.indices(SHAPE)
    away = np.sqrt((grid[0][..., None] - rows) ** 2 + (grid[1][..., None] - columns) ** 2).min(axis=2)
    width = round(0.25 * np.sqrt(mask.sum()))
    assert width == 3
    assert np.array_equal(ring(mask), (away > 0) & (away <= 3))
    assert not ring(np.ones(SHAPE, bool)).any()
    assert not ring(np.zeros(SHAPE, bool)).any()


def test_mutual_information_of_a_list_with_itself_is_its_entropy() -> None:
    values = np.repeat(np.arange(0, 256, 16, dtype=np.uint8), 5)
    assert mutual_information(values, values) == pytest.approx(4)


def evidence(answers: dict[str, np.ndarray], reference: np.ndarray | None = None) -> Evidence:
    """A sample with a car on the left and a person on the right; prompts without an answer leave the image as it is."""
    subject = Subject("k", "a car and people", ("car", "person"), right="clear it", wrong="blur it")
    prompts = [*counterfactual_prompts([subject], "caption"), Prompt(key="k", id="other", kind="other", text="rain")]
    plain = textured()
    return Evidence(
        key="k",
        prompts=prompts,
        fused={prompt.text: answers.get(prompt.id, plain) for prompt in prompts},
        repeated=plain,
        jittered=jittered(plain, np.random.default_rng(1)),
        visible=plain,
        infrared=plain[..., 0],
        targets=(Target("car", disc(16)), Target("person", disc(48))),
        reference=reference,
    )


def lit(mask: np.ndarray) -> np.ndarray:
    image = textured()
    image[mask] += 40
    return image


def test_naming_an_object_that_lights_up_is_all_local() -> None:
    found = measure_sample(evidence({"focus-car": lit(disc(16)), "focus-person": lit(disc(48))}))
    assert found.about("energy share", "car") == 1
    assert found.about("pointing", "person") == 1
    # The absent object and nonsense change nothing and so have the share of the area; the person has none.
    assert found.about("specificity", "car") == pytest.approx(1 - disc(16).mean() * 2 / 3)
    assert found.about("specificity over best", "car") == pytest.approx(1 - disc(16).mean())
    assert found.about("contrast gain", "car") == pytest.approx(40, abs=8)
    assert found.about("object movement", "car") == 40
    assert len(found.changes) == 2


def test_naming_that_lights_the_other_object_is_not() -> None:
    found = measure_sample(evidence({"focus-car": lit(disc(48)), "focus-person": lit(disc(16))}))
    assert found.about("energy share", "car") == 0
    assert found.mean("specificity") < 0
    assert found.mean("contrast gain") < 0


def test_the_floor_of_a_gain_is_what_one_grey_level_of_noise_does_to_it() -> None:
    given = evidence({"focus-car": lit(disc(16))})
    mask = disc(16)
    around = ring(mask)
    source = showing_source(luma_of(given.visible), given.infrared, mask, around)
    still, shaken = (
        prominence(luma_of(image), source, mask, around) for image in (given.under("matching"), given.jittered)
    )
    found = measure_sample(given)
    for name, before, after in zip(still._fields, still, shaken, strict=True):
        assert found.about(f"{name} floor", "car") == pytest.approx(abs(after - before))
    assert found.about("gradient floor", "car") > 0


def test_another_prompt_that_names_the_same_object_is_no_control() -> None:
    plain = evidence({"focus-car": lit(disc(16))})
    again = Prompt(key="k", id="focus-car-2", kind="focus", text="every car", names="car")
    twice = dataclasses.replace(
        plain, prompts=[*plain.prompts, again], fused={**plain.fused, again.text: lit(disc(16))}
    )
    assert measure_sample(twice).about("specificity", "car") == measure_sample(plain).about("specificity", "car")
    assert measure_sample(twice).about("object movement", "car") == 40


def test_a_gain_that_one_other_word_gives_as_well_is_none_over_the_best_control() -> None:
    found = measure_sample(evidence({"focus-car": lit(disc(16)), "nonsense": lit(disc(16))}))
    assert found.about("contrast gain", "car") > 10
    assert found.about("contrast gain over best", "car") == 0
    assert found.about("specificity over best", "car") == 0


def test_paraphrase_meaning_and_floor_are_averaged_over_their_prompts() -> None:
    shift = {"paraphrase-1": 3, "other": 8, "contradictory": 2, "empty": 6, "nonsense": 9}
    found = measure_sample(evidence({name: textured() + np.uint8(by) for name, by in shift.items()}))
    assert found.about("mae", "paraphrase") == pytest.approx(1)
    assert found.about("mae", "meaning") == pytest.approx(5)
    assert found.about("mae", "presence") == pytest.approx(6)
    assert found.about("mae", "nonsense response") == pytest.approx(3)
    assert found.about("rms", "floor") == found.about("rms", "jitter") == pytest.approx(1)
    assert found.about("mae", "repeat") == 0


def test_instruction_gains_compare_with_the_clean_reference() -> None:
    clean = grey(100)
    answers = {"instruction-right": grey(101), "empty": grey(110), "instruction-wrong": grey(120)}
    found = measure_sample(evidence(answers, clean))
    assert found.about("PSNR gain", "right over none") == pytest.approx(20)
    assert found.about("PSNR gain", "right over wrong") == pytest.approx(20 * np.log10(20))
    assert ("PSNR gain", "right over none") not in measure_sample(evidence(answers)).values


class Levels:
    """Embeds an image by its brightness and a text by the word it starts with."""

    identity = "levels"

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([[image.mean() / 255, 1 - image.mean() / 255] for image in images])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if text.startswith("bright") else [0.0, 1.0] for text in texts])


def test_agreement_is_the_step_along_the_direction_of_the_texts() -> None:
    bright, dark = ("bright day", grey(255)), ("dark night", grey(0))
    assert agreement(Levels(), bright, [dark]) == pytest.approx(1)
    assert agreement(Levels(), ("bright day", grey(0)), [("dark night", grey(255))]) == pytest.approx(-1)
    assert agreement(Levels(), bright, [("dark night", grey(255))]) == 0, "an output that does not move"
    assert agreement(Levels(), bright, [("bright too", grey(0))]) == 0, "texts that say the same"
    assert agreement(Levels(), bright, [dark, ("bright too", grey(0))]) == pytest.approx(0.5)


def test_a_missing_checkpoint_is_refused_by_name() -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pt"):
        OpenCLIP(Path("nowhere.pt"))


@pytest.mark.parametrize("architecture", ["ViT-B-23", "ViT-S-32", "roberta-ViT-B-32"])
def test_a_file_that_is_no_checkpoint_is_refused_off_the_network(tmp_path: Path, architecture: str) -> None:
    (tmp_path / "clip.pt").write_bytes(b"no checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("the network was asked for"))
        with pytest.raises(WeightsError, match=rf"clip\.pt into {architecture}"):
            OpenCLIP(tmp_path / "clip.pt", architecture).load()


def test_text_attention_rises_from_both_sources_to_the_reference() -> None:
    rows, columns = np.mgrid[:96, :96]
    mask = (rows - 48) ** 2 + (columns - 48) ** 2 < 400
    infrared = np.where(mask, 200, 40 + columns // 4).astype(np.uint8)
    visible = np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8)
    shown, hidden = (
        attention_parts(fused, visible, infrared, "the people", [Target("person", mask)])
        for fused in (np.where(mask, infrared, visible // 2 + infrared // 2).astype(np.uint8), visible)
    )
    assert shown["confidence"] == hidden["confidence"] > 0
    assert shown["attention improved"] > hidden["attention improved"]
    assert attention_parts(visible, visible, infrared, "the people", []) == {}


def test_confidence_is_high_for_texts_on_what_is_labelled_and_low_for_others() -> None:
    rows, columns = np.mgrid[:96, :96]
    targets = [Target("person", columns < 20), Target("car", columns > 80)]
    image = (rows * 2).astype(np.uint8)

    def confidence(text: str) -> float:
        return attention_parts(image, image, image, text, targets)["confidence"]

    assert confidence("a person and a car") > 2 * confidence("quantum chromodynamics") >= 0
    assert confidence("a person and a car") < 1


def test_text_attention_needs_room() -> None:
    rows, columns = np.mgrid[:96, :96]
    mask = (rows - 48) ** 2 + (columns - 48) ** 2 < 400
    visible = np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8)
    assert attention_parts(visible[:40], visible[:40], visible[:40], "x", [Target("person", mask[:40])]) == {}
