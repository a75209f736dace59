"""Caption sidecars."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgfbench.datasets.base import Texts
from tgfbench.datasets.sidecar import MAX_LINE_BYTES, SidecarEntry, merge_sidecars, read_sidecar, write_sidecar


def test_real_sidecars_survive_a_rewrite(shared: Path, tmp_path: Path) -> None:
    for path in sorted((shared / "data" / "captions").glob("*.jsonl")):
        entries, problems = read_sidecar(path)
        assert problems == []
        assert len(entries) == len(path.read_text().splitlines())
        write_sidecar(tmp_path / "copy.jsonl", entries)
        assert read_sidecar(tmp_path / "copy.jsonl") == (dict(sorted(entries.items())), [])


def test_texts_are_stripped_and_a_degradation_gives_an_instruction() -> None:
    entry = SidecarEntry.model_validate(
        {"key": "a", "captions": [" A road. ", ""], "focus": None, "degradation": "Haze"}
    )
    assert entry.texts() == Texts(captions=("A road.",), instruction=("Correct the haze in this pair.",))
    assert SidecarEntry(key="a", degradation="haze", instruction=("Clear it.",)).texts().instruction == ("Clear it.",)
    assert SidecarEntry(key="a", degradation="none").texts().instruction == ()


def test_fields_of_other_programs_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"key": "a", "model": "blip", "boxes": [{"label": "car", "xyxy": [1, 2, 3, 4], "score": 0.5}]}')
    write_sidecar(path, read_sidecar(path)[0])
    kept = json.loads(path.read_text())
    assert (kept["model"], kept["boxes"][0]["score"]) == ("blip", 0.5)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"key": "a", "captions": ["x"', "JSON"),
        (b'["a"]', "object"),
        (b'{"captions": ["x"]}', "key"),
        (b'{"key": ""}', "key"),
        (b'{"key": 7}', "key"),
        (b'{"key": "a", "captions": [1]}', "captions"),
        (b'{"key": "a", "boxes": [{"label": "car", "xyxy": [1, 2, 3]}]}', "boxes"),
        (b'{"key": "a", "boxes": [{"label": "car", "xyxy": [1, 2, 3, NaN]}]}', "boxes"),
        (b'{"key": "\xff"}', "JSON"),
        (b"[" * 5000, "JSON"),
        (b'{"key": "first"}', "comes again"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_served(line: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"key": "first", "captions": ["One."]}\r\n\n' + line + b'\n{"key": "last"}\n')
    entries, problems = read_sidecar(path)
    assert sorted(entries) == ["first", "last"]
    assert entries["first"].captions == ("One.",)
    assert [(problem.kind, problem.item) for problem in problems] == [("text", f"{path}:3")]
    assert reason in problems[0].detail


PHRASES = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=3).map(tuple)


@settings(max_examples=15, derandomize=True, deadline=None)
@given(key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), captions=PHRASES, focus=PHRASES)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, key: str, captions: tuple[str, ...], focus: tuple[str, ...]
) -> None:
    path = tmp_path_factory.mktemp("sidecar") / "s.jsonl"
    entry = SidecarEntry(key=key, captions=captions, focus=focus)
    write_sidecar(path, [entry])
    assert read_sidecar(path) == ({key: entry}, [])


def test_merging_unites_phrases_and_keeps_what_the_first_says() -> None:
    first = SidecarEntry.model_validate({"key": "a", "captions": ["x", "y"], "lighting": "day", "model": "m"})
    second = SidecarEntry.model_validate(
        {"key": "a", "captions": ["y", "z"], "focus": ["f"], "lighting": "night", "nouns": "n", "model": "o", "more": 1}
    )
    merged = merge_sidecars({"a": first, "b": SidecarEntry(key="b")}, {"a": second, "c": SidecarEntry(key="c")})
    assert list(merged) == ["a", "b", "c"]
    assert merged["a"].model_dump(exclude_defaults=True) == {
        "key": "a", "captions": ("x", "y", "z"), "focus": ("f",), "lighting": "day", "nouns": ("n",),
        "model": "m", "more": 1,
    }  # fmt: skip
    assert merge_sidecars(merged, merged) == merged


def test_an_endless_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(b'{"key": "a"}\n' + b"x" * (MAX_LINE_BYTES + 5) + b'\n{"key": "b"}\n')
    entries, problems = read_sidecar(path)
    assert list(entries) == ["a"]
    assert [problem.item for problem in problems] == [f"{path}:2"]


def test_a_misspelt_field_is_named_once_and_other_programs_fields_are_not(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    lines = [
        {"key": "a", "caption": ["a road"]},
        {"key": "b", "caption": ["a field"], "model": "blip", "score": 0.5},
        {"key": "c", "captions": ["a car"], "caption": "what another program wrote"},
        {"key": "d", "visible-only": "the sky"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    entries, problems = read_sidecar(path)
    assert list(entries) == ["a", "b", "c", "d"]
    assert [problem.item for problem in problems] == [f"{path}:1", f"{path}:4"]
    assert "'caption' is not read" in problems[0].detail
    assert "captions" in problems[0].detail.replace("'caption'", "")
    assert "visible_only" in problems[1].detail
