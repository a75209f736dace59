"""The errors a user can meet.

Every message answers four questions in one order: what was being done (and on which file, image, method or
metric), what was found, what was expected, and what to try next.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable

MAX_LISTED = 20
MAX_NAMED = 5
"""Where there may be hundreds and a file names them all."""


class TgfbenchError(Exception):
    """Base of all expected errors; the command line prints it without a traceback.

    Args:
        doing: what was being done, naming the file, image, method or metric.
        found: what was found.
        expected: what was expected instead.
        hint: what to try next.
    """

    exit_code = 2

    def __init__(self, doing: str, *, found: str = "", expected: str = "", hint: str = "") -> None:
        self.doing, self.found, self.expected, self.hint = doing, found, expected, hint
        parts = [doing]
        parts += [f"  {label}: {text}" for label, text in (("found", found), ("expected", expected)) if text]
        if hint:
            parts.append(f"  try: {hint}")
        super().__init__("\n".join(parts))

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the four parts when the error crosses a process border."""
        fields = {"found": self.found, "expected": self.expected, "hint": self.hint}
        return _rebuild, (type(self), self.doing, fields)

    @property
    def one_line(self) -> str:
        """The message on one line, for logs and tables of failed items."""
        return "; ".join(part.strip() for part in str(self).splitlines())


def _rebuild(kind: type[TgfbenchError], doing: str, fields: dict[str, str]) -> TgfbenchError:
    return kind(doing, **fields)


class UsageError(TgfbenchError):
    """A wrong name, option or path on the command line or in a call."""


class DataError(TgfbenchError):
    """A file of a dataset, or a folder of images, is missing, unreadable or of the wrong shape."""


class WeightsError(TgfbenchError):
    """A checkpoint is absent, damaged or belongs to another network."""


class PluginError(TgfbenchError):
    """A registered method, metric, dataset or task cannot be imported or is registered twice."""


class MethodError(TgfbenchError):
    """A fusion method broke its contract on one image: raised, wrong shape or non-finite values."""


class MetricError(TgfbenchError):
    """A metric refuses its inputs: wrong shape or dtype, too small, non-finite."""


class TooSmallError(MetricError):
    """An image has fewer pixels than a metric takes: the metric is undefined there, whoever fused it."""


def raised(error: BaseException) -> str:
    """Return what somebody else's code raised, and the line of it that did."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"


def first_line(error: BaseException) -> str:
    """Return the first line of what a library's error says, its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def counted(number: int, noun: str = "image", plural: str = "") -> str:
    """Return a number with its noun in the right form; ``plural`` where that is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def listed(names: Iterable[str], most: int = MAX_LISTED, separator: str = ", ") -> str:
    """Join names; of more than ``most`` the first ones only, with the number of all."""
    every = list(names)
    rest = f"{separator}… ({len(every)} in all)" if len(every) > most else ""
    return separator.join(every[:most]) + rest


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the close and the available names for a name that is not known; case does not matter."""
    names = sorted(known)
    lowered: dict[str, list[str]] = {}
    for candidate in names:
        lowered.setdefault(candidate.lower(), []).append(candidate)
    close = [
        found for match in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5) for found in lowered[match]
    ]
    did_you_mean = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{did_you_mean}available: {listed(names) or 'none'}"
