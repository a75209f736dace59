"""Caption sidecars: ``captions/<dataset>.jsonl``, one JSON object a line and pair.

Fields: ``key``; ``captions`` (three about one thing each, two of the whole scene); ``focus`` (noun phrases);
``instruction``; ``lighting``; ``visible_only`` and ``infrared_only`` (what one modality alone shows); ``nouns``;
``degradation`` (``"none"`` or e.g. ``"low light"``); ``boxes`` (``{"label": …, "xyxy": […]}`` in pixels); ``split``;
``captioned_by`` (the programs that wrote captions). Only ``key`` is required. Fields of other programs are kept when a
sidecar is rewritten.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import write_text
from tgfbench.datasets.base import Labels, Problem, Texts
from tgfbench.datasets.labels import as_labels, canonical, clip_box

MAX_LINE_BYTES = 1_000_000
"""No entry comes near; a longer line is no caption."""


def _several(value: object) -> object:
    """Accept one string where several are expected, and null for none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


Phrases = Annotated[tuple[str, ...], BeforeValidator(_several)]


class SidecarBox(BaseModel):
    """An object placed by hand: a word and xyxy in pixels."""

    model_config = ConfigDict(frozen=True, extra="allow")

    label: str
    xyxy: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class SidecarEntry(BaseModel):
    """What a sidecar says about one pair; see the module for the fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    key: str = Field(min_length=1)
    split: str | None = None
    captions: Phrases = ()
    focus: Phrases = ()
    instruction: Phrases = ()
    lighting: str = ""
    visible_only: str = ""
    infrared_only: str = ""
    nouns: Phrases = ()
    degradation: str = "none"
    boxes: tuple[SidecarBox, ...] = ()
    captioned_by: Phrases = ()

    def texts(self) -> Texts:
        """Return the texts, stripped, empty ones dropped; a named degradation without instruction gets a plain one."""
        instruction = _cleaned(self.instruction)
        degradation = self.degradation.strip().lower()
        if not instruction and degradation not in ("", "none"):
            instruction = (f"Correct the {degradation} in this pair.",)
        return Texts(_cleaned(self.captions), _cleaned(self.focus), instruction)

    def labels(self, shape: tuple[int, int], names: Sequence[str]) -> tuple[Labels | None, list[str]]:
        """Return the boxes whose word is one of the classes, clipped to the image, and one line per unusable box.

        Without any such box the labels are None: a sidecar does not say that an image holds no object.
        """
        ids = {canonical(name): index for index, name in enumerate(names)}
        boxes, classes, problems = [], [], []
        for box in self.boxes:
            try:
                clipped = clip_box(box.xyxy, shape)
            except ValueError as error:
                problems.append(f"{box.label}: {error}")
                continue
            if canonical(box.label) in ids:
                boxes.append(clipped)
                classes.append(ids[canonical(box.label)])
        return (as_labels(boxes, classes) if boxes else None), problems


def read_sidecar(path: Path) -> tuple[dict[str, SidecarEntry], list[Problem]]:
    """Read a sidecar.

    Returns:
        The entries by key, and a ``text`` problem with file and line number for each line that cannot be used, for
        each key that comes again (its first entry counts), and where a field first comes that looks misspelt.

    Raises:
        DataError: the file is missing or cannot be read at all.
    """
    entries: dict[str, SidecarEntry] = {}
    problems: list[Problem] = []
    misspelt: set[str] = set()
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
                if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
                    detail = f"a line of more than {MAX_LINE_BYTES} bytes; this and what follows is not read"
                    problems.append(Problem("text", f"{path}:{number}", detail))
                    break
                line = raw.removeprefix(b"\xef\xbb\xbf").strip()
                if not line:
                    continue
                try:
                    entry = SidecarEntry.model_validate_json(line)
                except ValidationError as error:
                    problems.append(Problem("text", f"{path}:{number}", _first_reason(error)))
                    continue
                if entry.key in entries:
                    detail = f"key {entry.key!r} comes again, expected one line a key; the first one is used"
                    problems.append(Problem("text", f"{path}:{number}", detail))
                entries.setdefault(entry.key, entry)
                for name in entry.model_extra or ():
                    meant = _known_field_like(name)
                    if meant and meant not in entry.model_fields_set and name not in misspelt:
                        misspelt.add(name)
                        detail = f"the field {name!r} is not read, here and below; did you mean {meant!r}?"
                        problems.append(Problem("text", f"{path}:{number}", detail))
    except OSError as error:
        raise DataError(
            f"reading the captions {path}",
            found=error.strerror or str(error),
            expected="a JSON Lines file, one object with a field 'key' a line",
            hint="check the path",
        ) from None
    return entries, problems


@cache
def _known_field_like(name: str) -> str:
    """Return the field that a name hardly differs from, "" for none."""
    close = difflib.get_close_matches(name.lower().replace("-", "_"), SidecarEntry.model_fields, n=1, cutoff=0.85)
    return close[0] if close else ""


def write_sidecar(path: Path, entries: Mapping[str, SidecarEntry] | Iterable[SidecarEntry]) -> None:
    """Write a sidecar in the order of its keys; the file appears whole or not at all."""
    listed = entries.values() if isinstance(entries, Mapping) else entries
    ordered = sorted(listed, key=lambda entry: entry.key)
    write_text(path, "".join(entry.model_dump_json(exclude_defaults=True) + "\n" for entry in ordered))


def merge_entries(first: SidecarEntry, second: SidecarEntry) -> SidecarEntry:
    """Return what two entries of one key say together: phrases of both without repetition, other fields of the first.

    A field that the first leaves empty is taken from the second.
    """
    content, other = first.model_dump(exclude_defaults=True), second.model_dump(exclude_defaults=True)
    phrases = {name for name, field in SidecarEntry.model_fields.items() if field.annotation == tuple[str, ...]}
    for name, value in other.items():
        mine = content.get(name)
        content[name] = tuple(dict.fromkeys((*mine, *value))) if name in phrases and mine else mine or value
    return SidecarEntry.model_validate(content)


def merge_sidecars(first: Mapping[str, SidecarEntry], second: Mapping[str, SidecarEntry]) -> dict[str, SidecarEntry]:
    """Return the entries of both, merged where both have a key; see ``merge_entries``."""
    merged = dict(first)
    for key, entry in second.items():
        merged[key] = merge_entries(merged[key], entry) if key in merged else entry
    return merged


def _cleaned(phrases: Iterable[str]) -> tuple[str, ...]:
    return tuple(filter(None, (phrase.strip() for phrase in phrases)))


def _first_reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]
