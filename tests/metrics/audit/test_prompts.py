"""Counterfactual prompts: complete, deterministic, each different in its one respect, and editable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgfbench.benchmark.errors import DataError
from tgfbench.metrics.audit.prompts import (
    Prompt,
    Role,
    Subject,
    by_key,
    counterfactual_prompts,
    plural,
    prompts_hash,
    read_prompts,
    write_prompts,
)
from tgfbench.metrics.audit.wording import ABSENT, SYNONYMS

SUBJECTS = (
    Subject("a", "At night, a pedestrian walks on the left while a car is parked.", ("person", "car")),
    Subject("b", "In daylight, two bicycles stand next to a boat.", ("bicycle",), ("a boat and camels",)),
    Subject("c", "In fog, a car drives in the distance.", ("car",)),
)
HAZY = Subject(
    "a", "Clear the haze.", ("car",), same=("Clear the haze.", "Dehaze it.", "Remove the fog."),
    right="Clear the haze.", wrong="Remove the noise.",
)  # fmt: skip


def prompts_of(key: str, subjects: tuple[Subject, ...] = SUBJECTS, role: Role = "caption") -> dict[str, Prompt]:
    return {prompt.id: prompt for prompt in counterfactual_prompts(subjects, role) if prompt.key == key}


def words(text: str) -> list[str]:
    return sorted(re.findall(r"[\w'-]+", text.lower()))


def test_every_kind_of_counterfactual_is_there() -> None:
    assert list(prompts_of("a")) == [
        "matching", "empty", "paraphrase-1", "paraphrase-2", "paraphrase-3", "contradictory", "other", "shuffled",
        "nonsense", "focus-person", "focus-car", "focus-absent",
    ]  # fmt: skip


def test_each_differs_in_its_one_respect() -> None:
    found = prompts_of("a")
    matching = found["matching"].text
    assert found["empty"].text == ""
    assert words(found["shuffled"].text) == words(matching)
    assert found["shuffled"].text.split() != matching.lower().replace(",", "").replace(".", "").split()
    assert len(found["nonsense"].text.split()) == len(matching.split())
    assert not set(words(found["nonsense"].text)) & set(words(matching))
    assert found["other"].text in {subject.matching for subject in SUBJECTS[1:]}
    assert found["focus-person"].text == "the people"
    assert found["focus-person"].names == "person"


def test_contradiction_and_absent_focus_name_one_object_that_no_text_of_the_sample_speaks_of() -> None:
    for seed in range(12):
        found = {p.id: p.text for p in counterfactual_prompts(SUBJECTS, "caption", seed) if p.key == "b"}
        named = [noun for noun, several in ABSENT.items() if f"the {several}" == found["focus-absent"]]
        assert len(named) == 1
        assert named[0] in found["contradictory"]
        assert named[0] not in ("boat", "camel")


@pytest.mark.parametrize("role", ["caption", "focus", "instruction"])
@settings(max_examples=30, derandomize=True, deadline=None)
@given(text=st.one_of(st.text(min_size=1, max_size=60), st.lists(st.sampled_from(sorted(SYNONYMS))).map(" ".join)))
def test_there_are_three_paraphrases_of_any_text_unlike_it_and_each_other(role: Role, text: str) -> None:
    said = [p.text for p in counterfactual_prompts([Subject("k", text)], role) if p.kind == "paraphrase"]
    assert len(said) == (3 if text.strip() else 0)
    assert len({text, *said}) == 1 + len(said)


def test_a_paraphrase_keeps_the_object_words() -> None:
    for prompt in prompts_of("a").values():
        if prompt.kind == "paraphrase":
            assert "car" in prompt.text
            assert re.search("pedestrian|person", prompt.text)


def test_instructions_of_one_meaning_are_the_paraphrases_and_another_remedy_the_contradiction() -> None:
    found = prompts_of("a", (HAZY, Subject("b", "Dehaze it.", same=HAZY.same)), "instruction")
    assert {found["paraphrase-1"].text, found["paraphrase-2"].text} == {"Dehaze it.", "Remove the fog."}
    assert found["contradictory"].text == found["instruction-wrong"].text == "Remove the noise."
    assert found["instruction-right"].text == "Clear the haze."
    assert "other" not in found, "the other sample says the same in other words"


def test_a_seed_fixes_every_prompt_and_another_one_changes_them() -> None:
    first, again, other = (counterfactual_prompts(SUBJECTS, "caption", seed) for seed in (3, 3, 4))
    assert prompts_hash(first) == prompts_hash(reversed(again))
    assert prompts_hash(first) != prompts_hash(other)


def test_a_prompt_file_comes_back_and_keeps_what_was_edited(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    made = counterfactual_prompts(SUBJECTS, "caption")
    write_prompts(path, made)
    assert read_prompts(path, ["a", "b", "c"]) == made
    extra = Prompt(key="a", id="paraphrase-4", kind="paraphrase", text="Night; a car, a walker.")
    path.write_text(path.read_text() + extra.model_dump_json() + "\n\n")
    assert by_key(read_prompts(path, ["a"]), ["a"])["a"][-1] == extra


def test_a_prompt_file_comes_back_whatever_its_texts_and_its_editor(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    made = counterfactual_prompts([Subject("k", "the car\u2028by\x85night")], "caption")
    write_prompts(path, made)
    assert read_prompts(path) == made
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_prompts(path) == made


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ('{"key": "a", "id": "x", "kind": "sideways", "text": ""}', "kind"),
        ('{"key": "a", "id": "matching", "kind": "matching", "text": "twice"}', "second time"),
        ('{"key": "a", "id": "../x", "kind": "other", "text": ""}', "id"),
        ('{"key": "a", "id": "x", "kind": "focus", "text": "the cars"}', "names"),
        ('{"key": "a", "id": "x", "kind": "other", "text": "the cars", "names": "car"}', "names"),
        (
            '{"key": "a", "id": "x", "kind": "focus", "text": "the cars", "names": "van"}',
            "line 2.*\n.*'van'.*\n.*car, person",
        ),
        ("", "no empty prompt for 'a'"),
        ('{"key": "a", "id": "more", "kind": "matching", "text": "u"}', "2 matching prompt for 'a'"),
    ],
)
def test_a_bad_prompt_file_is_refused_by_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"key": "a", "id": "matching", "kind": "matching", "text": "t"}}\n{line}\n')
    with pytest.raises(DataError, match=said) as caught:
        read_prompts(path, ["a"], {"a": ("car", "person")}.get)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("noun", "several"), [("person", "people"), ("bus", "buses"), ("car", "cars"), ("lorry", "lorries")]
)
def test_plurals(noun: str, several: str) -> None:
    assert plural(noun) == several
