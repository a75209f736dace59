"""Counterfactual prompts: what a method is told about a sample, truthfully and otherwise.

Every prompt of a sample differs from the matching one in one respect, so that a difference between two fused images can
be laid to that respect. Generation is deterministic; the result is a JSON Lines file that can be edited by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tgfbench.benchmark.errors import DataError
from tgfbench.benchmark.images import write_text
from tgfbench.metrics.audit.wording import ABSENT, CONTRADICTIONS, FRAMES, PLURALS, SYLLABLES, SYNONYMS

VERSION = 1
"""Raised whenever the same subjects give other prompts."""

Role = Literal["caption", "focus", "instruction"]
Kind = Literal[
    "matching", "empty", "paraphrase", "other", "contradictory", "shuffled", "nonsense", "focus", "absent",
    "right", "wrong",
]  # fmt: skip
"""``focus`` names one labelled object and ``absent`` an object that is not there, both in the same few words; ``right``
and ``wrong`` are instructions to mend the sample's degradation and another one."""

PARAPHRASES = 3


class Prompt(BaseModel):
    """One prompt of one sample: a line of the prompt file.

    Attributes:
        key: the sample.
        id: unique among the prompts of the sample, e.g. ``"paraphrase-2"`` or ``"focus-person"``.
        kind: in which respect it differs from the matching prompt.
        text: what the method is told.
        names: the labelled object that a ``focus`` prompt names, "" for all other kinds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(min_length=1)
    id: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    kind: Kind
    text: str
    names: str = ""

    @model_validator(mode="after")
    def _names_an_object(self) -> Self:
        if bool(self.names) != (self.kind == "focus"):
            raise ValueError("names: a focus prompt names a labelled object here, and no other prompt does")
        return self


@dataclass(frozen=True)
class Subject:
    """What prompts are made from: the texts and labels of one sample.

    Attributes:
        key: the sample.
        matching: the prompt that fits the sample, as an ordinary run would choose it.
        objects: names of the labelled objects, singular, e.g. ``("person", "car")``.
        texts: everything that is said about the sample, in which an absent object must not occur.
        same: other texts of the same meaning, where the data has them (instructions have): used as paraphrases.
        right: an instruction to mend what degrades the sample, "" where nothing does.
        wrong: an instruction to mend something else, "" where nothing degrades the sample.
    """

    key: str
    matching: str
    objects: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    right: str = ""
    wrong: str = ""


def counterfactual_prompts(subjects: Sequence[Subject], role: Role, seed: int = 0) -> list[Prompt]:
    """Return the prompts of every sample.

    A kind that cannot be made is left out: no other text without a second sample that says something else, no shuffled
    words where there is only one.

    Args:
        subjects: the samples.
        role: what kind of text the method reads.
        seed: of every choice.
    """
    prompts: list[Prompt] = []
    for subject in subjects:
        chance = _generator(seed, subject.key)
        noun = _absent(subject, chance)
        made: list[tuple[str, Kind, str, str]] = [
            ("matching", "matching", subject.matching, ""),
            ("empty", "empty", "", ""),
        ]
        for number, text in enumerate(_paraphrases(subject, role), start=1):
            made.append((f"paraphrase-{number}", "paraphrase", text, ""))
        if role == "instruction" and subject.wrong:
            made.append(("contradictory", "contradictory", subject.wrong, ""))
        else:
            said = CONTRADICTIONS[role].format(noun=noun, plural=ABSENT[noun])
            made.append(("contradictory", "contradictory", said, ""))
        made.append(("other", "other", _other(subject, subjects, seed), ""))
        made.append(("shuffled", "shuffled", _shuffled(subject.matching, chance), ""))
        made.append(("nonsense", "nonsense", _nonsense(subject.matching, chance), ""))
        for name in subject.objects:
            made.append((f"focus-{_slug(name)}", "focus", f"the {plural(name)}", name))
        made.append(("focus-absent", "absent", f"the {ABSENT[noun]}", ""))
        made.append(("instruction-right", "right", subject.right, ""))
        made.append(("instruction-wrong", "wrong", subject.wrong, ""))
        prompts += [
            Prompt(key=subject.key, id=name, kind=kind, text=text, names=names)
            for name, kind, text, names in made
            if text or kind in ("matching", "empty")
        ]
    return prompts


def plural(noun: str) -> str:
    """Return the plural of an object's name: cars, buses, people, lorries."""
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou") else f"{noun}s"


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    """Write a prompt file, one JSON object a line."""
    write_text(path, "".join(json.dumps(prompt.model_dump(), ensure_ascii=False) + "\n" for prompt in prompts))


def read_prompts(
    path: Path,
    keys: Sequence[str] | None = None,
    objects: Callable[[str], Sequence[str] | None] = lambda key: None,
) -> list[Prompt]:
    """Read a prompt file.

    Args:
        path: the file, perhaps edited by hand.
        keys: the samples asked for; lines of others are skipped. All that the file names by default.
        objects: returns the labelled objects of a sample that is asked for, by key; None where they are not known.

    Raises:
        DataError: the file cannot be read, a line is no prompt or names an object that the sample does not have, an id
            occurs twice in a sample, or a sample has no matching or empty prompt, or several; names file, line and
            sample.
    """
    doing = f"reading the prompts {path}"
    try:
        # Not splitlines, which breaks texts at rarer separators; editors may add a mark at the beginning.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            doing, found=str(error), hint="write one with `tgfbench audit … --write-prompts FILE`"
        ) from error
    found: dict[tuple[str, str], Prompt] = {}
    wanted = None if keys is None else set(keys)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompt = Prompt.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise DataError(
                f"{doing}, line {number}", found=f"{where}: {first['msg']}", expected="key, id, kind, text and names"
            ) from error
        if (prompt.key, prompt.id) in found:
            raise DataError(f"{doing}, line {number}", found=f"{prompt.id!r} of {prompt.key!r} for the second time")
        found[prompt.key, prompt.id] = prompt
        known = objects(prompt.key) if prompt.names and (wanted is None or prompt.key in wanted) else None
        if known is not None and prompt.names not in known:
            raise DataError(
                f"{doing}, line {number}",
                found=f"names: {prompt.names!r}",
                expected=f"a labelled object of {prompt.key!r}: {', '.join(known) or 'it has none'}",
                hint="the kind absent is for what is not labelled",
            )
    keys = list(dict.fromkeys(key for key, _ in found)) if keys is None else keys
    prompts = [prompt for prompt in found.values() if wanted is None or prompt.key in wanted]
    for key, own in by_key(prompts, keys).items():
        for kind in ("matching", "empty"):
            count = sum(prompt.kind == kind for prompt in own)
            if count != 1:
                raise DataError(doing, found=f"{count or 'no'} {kind} prompt for {key!r}", expected="one of this kind")
    return prompts


def by_key(prompts: Iterable[Prompt], keys: Sequence[str]) -> dict[str, list[Prompt]]:
    """Return the prompts of every key, in the order of the keys."""
    found: dict[str, list[Prompt]] = {key: [] for key in keys}
    for prompt in prompts:
        if prompt.key in found:
            found[prompt.key].append(prompt)
    return found


def _paraphrases(subject: Subject, role: Role) -> list[str]:
    """At least three other ways to say the matching prompt; none where there is nothing to say."""
    if not subject.matching.strip():
        return []
    said = [text for text in subject.same if text != subject.matching][:PARAPHRASES]
    for number in range(len(said), PARAPHRASES):
        worded = _reworded(subject.matching, number)
        frame = FRAMES[role][number]
        # A text in which no phrase is known is only set differently, which still changes every token's context.
        framed = frame.format(text=worded if frame.startswith("{text}") else _lower_first(worded))
        said.append(worded if worded not in (subject.matching, *said) and number != 1 else framed)
    return list(dict.fromkeys(said))


def _reworded(text: str, number: int) -> str:
    """Replace known phrases by their synonym of that number; capitals at the beginning stay."""
    phrases = sorted(SYNONYMS, key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, phrases))})\b", re.IGNORECASE)

    def synonym(match: re.Match[str]) -> str:
        other = SYNONYMS[match[0].lower()][number]
        return other[0].upper() + other[1:] if match[0][0].isupper() else other

    return pattern.sub(synonym, text)


def _lower_first(text: str) -> str:
    """Start in lower case, unless the text starts with a name in capitals ("CCTV …") or with "I"."""
    starts_a_word = text[1:2].islower() or text[:2] == "A "
    return text[:1].lower() + text[1:] if starts_a_word else text


def _other(subject: Subject, subjects: Sequence[Subject], seed: int) -> str:
    """The text of another sample, if possible one that shows other objects; "" where all say the same."""
    others = [
        other
        for other in subjects
        if other.key != subject.key and other.matching and other.matching not in (subject.matching, *subject.same)
    ]
    unlike = [other for other in others if set(other.objects) != set(subject.objects)]
    chosen = sorted(unlike or others, key=lambda other: _digest(seed, subject.key, other.key))
    return chosen[0].matching if chosen else ""


def _absent(subject: Subject, chance: np.random.Generator) -> str:
    said = " ".join((subject.matching, *subject.texts, *subject.objects)).lower()
    free = [noun for noun in ABSENT if noun not in said]
    return str(chance.choice(free or list(ABSENT)))


def _shuffled(text: str, chance: np.random.Generator) -> str:
    """The same words in another order, without punctuation and capitals; "" where there is no other order."""
    words = re.findall(r"[\w'-]+", text.lower())
    if len(set(words)) < 2:
        return ""
    mixed = words
    while mixed == words:
        mixed = [words[index] for index in chance.permutation(len(words))]
    return " ".join(mixed)


def _nonsense(text: str, chance: np.random.Generator) -> str:
    """As many invented words as the text has words."""
    count = len(text.split()) or 4
    return " ".join("".join(chance.choice(SYLLABLES, 2)) for _ in range(count))


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(":".join(map(str, parts)).encode()).digest()


def _generator(*parts: object) -> np.random.Generator:
    return np.random.default_rng(np.frombuffer(_digest(VERSION, *parts), np.uint32))


def prompts_hash(prompts: Iterable[Prompt]) -> str:
    """Return a hash of prompts, independent of how a file lays them out."""
    lines = sorted(json.dumps(prompt.model_dump(), sort_keys=True) for prompt in prompts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
