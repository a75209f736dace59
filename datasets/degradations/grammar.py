"""Names of degraded datasets: ``NAME+KIND[:SEVERITY][@MODALITY]…[+seed:N]``.

``msrs+haze:3`` degrades the visible images of MSRS, ``msrs+noise:2@infrared`` the infrared ones, and
``msrs+low-light:4+noise:2@infrared+seed:7`` both, in this order, with other random patterns. Capitals, ``-``, ``_`` and
spaces do not matter, ``-`` may stand for ``:``, so the name a degraded dataset carries opens it again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.benchmark.registry import normalise
from tgfbench.datasets.degradations.instructions import INSTRUCTIONS

Modality = Literal["visible", "infrared"]

KINDS = tuple(INSTRUCTIONS)
SEVERITIES = (1, 2, 3, 4, 5)
DEFAULT_SEVERITY = 3
SEED = "seed"
FORM = "NAME+KIND[:SEVERITY][@MODALITY], e.g. msrs+haze:3 or msrs+noise:2@infrared; +seed:N sets the random patterns"

ALIASES = {
    "gaussian-noise": "noise",
    "stripe": "stripe-noise",
    "stripes": "stripe-noise",
    "fog": "haze",
    "contrast": "low-contrast",
    "downsample": "down-sampling",
    "low-resolution": "down-sampling",
}
"""Other names of the kinds."""

_KINDS = {normalise(kind): kind for kind in KINDS} | {normalise(alias): kind for alias, kind in ALIASES.items()}
_MODALITIES: dict[str, Modality] = {
    **dict.fromkeys(("visible", "vis", "vi", "rgb"), "visible"),
    **dict.fromkeys(("infrared", "ir", "thermal"), "infrared"),
}


@dataclass(frozen=True)
class Degradation:
    """One degradation of one of the two images.

    Attributes:
        kind: one of ``KINDS``.
        severity: 1 (slight) to 5 (severe).
        modality: the image that is degraded.

    Raises:
        UsageError: no such kind, severity or modality.
    """

    kind: str
    severity: int = DEFAULT_SEVERITY
    modality: Modality = "visible"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("kind", self.kind, KINDS),
            ("severity", self.severity, SEVERITIES),
            ("modality", self.modality, ("visible", "infrared")),
        ):
            if value not in known:
                expected = f"one of {', '.join(map(str, known))}"
                raise UsageError("choosing a degradation", found=f"{name}={value!r}", expected=expected)

    def __str__(self) -> str:
        """The canonical form, safe in paths: ``haze-3``, ``noise-2@infrared``; the usual modality is left out."""
        usual = self.modality == usual_modality(self.kind)
        return f"{self.kind}-{self.severity}" + ("" if usual else f"@{self.modality}")


def usual_modality(kind: str) -> Modality:
    """Return the modality that is meant where none is named: infrared for stripe noise, visible for all others."""
    return "infrared" if kind == "stripe-noise" else "visible"


def parse_name(name: str) -> tuple[str, tuple[Degradation, ...], int]:
    """Take the name of a degraded dataset apart.

    Returns:
        The name of the undegraded dataset, the degradations in the order they are applied (none for a plain name), and
        the seed (0 where none is named).

    Raises:
        UsageError: an unknown kind or modality, a severity out of range, or a part that comes twice.
    """
    base, *parts = (part.strip() for part in name.split("+"))
    doing = f"reading the dataset name {name!r}"
    chain: list[Degradation] = []
    seed: int | None = None
    for part in parts:
        kind, number, modality = _fields(doing, part)
        if normalise(kind) == SEED:
            if seed is not None or modality is not None or number is None:
                raise UsageError(doing, found=repr(part), expected="+seed:N once, N a whole number")
            seed = number
            continue
        found = _degradation(doing, kind, number, modality)
        if any((found.kind, found.modality) == (other.kind, other.modality) for other in chain):
            twice = f"{found.kind} of the {found.modality} image twice"
            raise UsageError(doing, found=twice, expected="each kind at most once per modality")
        chain.append(found)
    if seed is not None and not chain:
        raise UsageError(doing, found="a seed and no degradation", expected=FORM)
    return base, tuple(chain), seed or 0


def parse_entry(entry: str, reading: str = "the dataset") -> tuple[str, str | None]:
    """Take a dataset with a split apart: ``NAME[:SPLIT]``, where NAME may be degraded.

    The split may stand behind the dataset or at the end: ``msrs:train+haze:3`` is ``msrs+haze:3:train``. A number
    behind a degradation is always its severity and a word always the split, so that neither can be taken for the other.

    Args:
        entry: what the user wrote.
        reading: what it stands for, for messages.

    Returns:
        The name as ``load_dataset`` takes it, and the split (None where none is named).

    Raises:
        UsageError: not of this form, or no such degradation.
    """
    doing = f"reading {reading} {entry!r}"
    form = "NAME[:SPLIT], where NAME may be degraded, e.g. msrs:train or msrs+haze:3:train"
    base, plus, degradations = entry.strip().partition("+")
    match = re.fullmatch(r"([\w-]+)(?::([\w-]+))?", base.strip())
    behind = re.search(r":\s*([A-Za-z_][\w-]*)\s*$", degradations)
    if match is None or (behind and match[2]):
        raise UsageError(doing, found="two splits" if match else repr(base), expected=form)
    if behind:
        degradations = degradations[: behind.start()]
    name = match[1] + plus + degradations
    parse_name(name)
    return name, behind[1] if behind else match[2]


def degraded_name(base: str, chain: tuple[Degradation, ...], seed: int) -> str:
    """Return the canonical name, safe in paths; ``parse_name`` reads it."""
    return "+".join([base, *map(str, chain), *([f"{SEED}-{seed}"] if seed else [])])


def _fields(doing: str, part: str) -> tuple[str, int | None, str | None]:
    """Return kind, number and modality of ``KIND[:N][@MODALITY]``, ``KIND-N[@MODALITY]`` or ``KIND[@MODALITY][:N]``."""
    match = re.fullmatch(
        r"(?P<kind>[^:@]*?[^:@\d\s_-])(?:[\s_-]*(?P<close>\d+))?(?::(?P<first>[^:@]+))?(?:@(?P<modality>[^:@]+))?"
        r"(?::(?P<last>[^:@]+))?",
        part,
    )
    numbers = [] if match is None else [text.strip() for text in match.group("close", "first", "last") if text]
    if match is None or len(numbers) > 1:
        raise UsageError(doing, found=repr(part) if part else "nothing after a '+'", expected=FORM)
    if numbers and not re.fullmatch(r"\d{1,9}", numbers[0]):
        raise UsageError(doing, found=f"{numbers[0]!r} in {part!r}", expected="a whole number after ':'", hint=FORM)
    return match["kind"], int(numbers[0]) if numbers else None, match["modality"]


def _degradation(doing: str, kind: str, severity: int | None, modality: str | None) -> Degradation:
    known = _KINDS.get(_plain(kind))
    if known is None:
        raise UsageError(doing, found=f"no degradation is called {kind!r}", hint=suggest(kind, KINDS))
    severity = DEFAULT_SEVERITY if severity is None else severity
    if severity not in SEVERITIES:
        raise UsageError(doing, found=f"severity {severity} of {known}", expected="1 (slight) to 5 (severe)")
    if modality is None:
        return Degradation(known, severity, usual_modality(known))
    which = _MODALITIES.get(_plain(modality))
    if which is None:
        raise UsageError(doing, found=f"modality {modality!r}", expected="@visible (@vi) or @infrared (@ir)")
    return Degradation(known, severity, which)


def _plain(word: str) -> str:
    return normalise(word).replace(" ", "")
