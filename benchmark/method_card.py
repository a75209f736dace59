"""The card of a method as a reader sees it: the paper, the text's part, options, weights and published numbers."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterable

from tgfbench.benchmark.options import option_parameters
from tgfbench.benchmark.weights import WeightsInfo, folder_of
from tgfbench.methods.base import FusionMethod, MethodInfo

Row = tuple[str, str]

TEXT_USES = {
    "test": "the prompt steers the output",
    "train": "used in training only: no prompt is read",
    "none": "none",
}
ROLES = {
    "caption": "what the scene shows (caption)",
    "focus": "the objects to favour (focus)",
    "instruction": "the flaw to mend (instruction)",
}


def card_rows(cls: type[FusionMethod]) -> list[Row]:
    """Return the labelled lines of a method's card; a field of several lines has its label on the first."""
    info = cls.info
    prompt = [f"{ROLES[info.text_role]}; default: {info.default_text!r}"] if info.text_use == "test" else []
    fields: list[tuple[str, Iterable[str]]] = [
        ("title", [info.title]),
        ("paper", [info.paper]),
        (
            "published",
            [_published(info)],
        ),
        ("authors' code", [info.repository]),
        ("its licence", [info.licence]),
        ("reconstruction", ["from the paper's words: no authors' code is public"] if info.reconstruction else []),
        ("text", [TEXT_USES[info.text_use]]),
        ("prompt", prompt),
        ("authors' training", [", ".join(info.trained_on)]),
        ("weights", [line for weights in info.weights for line in _weights(cls, weights)]),
        ("options", _options(cls)),
        ("training", [f"tgfbench train {info.name}"] if hasattr(cls, "objective") else []),
        ("published numbers", _reported(info)),
        ("tags", [", ".join(info.tags)]),
        ("version", [str(info.version)]),
    ]
    rows: list[Row] = []
    for label, lines in fields:
        shown = [line for line in lines if line]
        rows += [(label if number == 0 else "", line) for number, line in enumerate(shown)]
    return rows


def whereabouts(cls: type[FusionMethod], weights: WeightsInfo) -> str:
    """Return whether a checkpoint of a method comes with tgfbench, or the command that says how to get it."""
    if not weights.file:
        return f"not shipped: see `tgfbench weights download {cls.info.name}`"
    path = folder_of(cls) / weights.file
    return f"shipped, {path.stat().st_size / 2**20:.1f} MiB" if path.is_file() else "missing: reinstall tgfbench"


def _published(info: MethodInfo) -> str:
    where = " ".join(filter(None, (info.venue, str(info.year or ""))))
    return ", ".join(filter(None, (where, info.arxiv and f"arXiv:{info.arxiv}")))


def _weights(cls: type[FusionMethod], weights: WeightsInfo) -> list[str]:
    more = {"trained on": ", ".join(weights.trained_on), "licence": weights.licence, "sha256": weights.sha256}
    card = [f"  {weights.card}"] if weights.card else []
    return [
        f"{weights.name} ({weights.origin}): {whereabouts(cls, weights)}",
        *card,
        *(f"  {title} {text}" for title, text in more.items() if text),
    ]


def _options(cls: type[FusionMethod]) -> list[str]:
    # As constructors do, classes explain what they add to the class above.
    explained = {name: text for owner in reversed(cls.__mro__) for name, text in _arguments(owner.__doc__).items()}
    lines = []
    for name, option in option_parameters(cls, ("checkpoint", "device")).items():
        lines.append(f"-O {name}={_values(option.annotation)} ({_default(option.default)})")
        lines += [f"  {explained[name]}"] if name in explained else []
    return lines


def _arguments(docstring: str | None) -> dict[str, str]:
    """Return what the section ``Args`` of a Google-style docstring says, by argument."""
    section = re.search(r"^Args:\n((?: .*\n?|\n)*)", inspect.cleandoc(docstring or ""), re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): ((?:.*)(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.replace("``", "").split()) for name, text in entries}


def _values(annotation: object) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    members = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return "|".join(str(getattr(member, "__name__", member)).upper() for member in members if member is not type(None))


def _default(value: object) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    return "default: none" if value is None or value == "" else f"default: {value}"


def _reported(info: MethodInfo) -> list[str]:
    """Return the published numbers, a line per source and dataset."""
    lines: dict[tuple[str, str], list[str]] = {}
    for number in info.reported:
        lines.setdefault((number.dataset, number.source), []).append(f"{number.metric} {number.value:g}")
    return [f"{dataset}: {', '.join(values)} ({source})" for (dataset, source), values in lines.items()]
