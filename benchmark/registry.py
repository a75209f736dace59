"""One registry for methods, metrics, datasets and tasks, filled from entry points.

Nothing is imported until a name is asked for, so listing is instant and a plugin that cannot be imported costs only
itself. Built-ins register through ``setup.cfg`` exactly as third-party distributions do.

A module can also be registered without installing it, through the environment variable ``TGFBENCH_PLUGINS``: a
comma-separated list of ``<registry>:<name>=<module>:<attribute>``, e.g.
``TGFBENCH_PLUGINS="methods:my-net=my_net.method:MyNet"`` (the module must be importable, e.g. through ``PYTHONPATH``).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from tgfbench.benchmark.errors import PluginError, UsageError, suggest

PLUGIN_VARIABLE = "TGFBENCH_PLUGINS"
KINDS = ("methods", "metrics", "datasets", "tasks")

T = TypeVar("T")


def normalise(name: str) -> str:
    """Return the form under which a name is compared: case, ``-`` and ``_`` do not matter."""
    return re.sub(r"[-_]", "", name.strip().lower())


@dataclass(frozen=True)
class Entry:
    """A registered name whose object has not necessarily been imported.

    Attributes:
        name: the registry name, lower case with hyphens.
        target: ``module:attribute``.
        owner: distribution and version (``"tgfbench 0.1.0"``), or the environment variable.
    """

    name: str
    target: str
    owner: str

    def load(self) -> object:
        """Import and return the object; any error of the plugin's own code passes through."""
        module, _, attribute = self.target.partition(":")
        found: object = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return found


class Registry(Generic[T]):
    """Names of one kind (``methods``, ``metrics``, …) and the objects behind them, imported on demand.

    Args:
        kind: the plural noun; the entry-point group is ``tgfbench.<kind>``.
        check: returns an error text when a loaded object is not what this registry holds, else ``None``.
    """

    def __init__(self, kind: str, check: Callable[[object], str | None] = lambda loaded: None) -> None:
        self.kind = kind
        self.failures: dict[str, str] = {}
        self._check = check
        self._loaded: dict[str, T] = {}

    @cached_property
    def _entries(self) -> dict[str, list[Entry]]:
        """All entries by normalised name; more than one entry under a name is a conflict, reported on use."""
        entries: dict[str, list[Entry]] = {}
        for entry in [*_entry_points(self.kind), *_environment_entries(self.kind)]:
            same = entries.setdefault(normalise(entry.name), [])
            if entry not in same:
                same.append(entry)
        return entries

    def names(self) -> list[str]:
        """Return all names in alphabetical order, without importing anything."""
        return sorted(found[0].name for found in self._entries.values())

    def conflicts(self) -> dict[str, list[str]]:
        """Return the names that several owners claim, with those owners."""
        return {found[0].name: [e.owner for e in found] for found in self._entries.values() if len(found) > 1}

    def entry(self, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            UsageError: no such name (the message suggests close ones).
            PluginError: several distributions register this name.
        """
        found = self._entries.get(normalise(name), [])
        if not found:
            raise UsageError(
                f"looking up {name!r} in the {self.kind} registry",
                found="no such name",
                hint=suggest(name, self.names()),
            )
        if len(found) > 1:
            claims = " and ".join(f"{e.owner} ({e.target})" for e in found)
            raise PluginError(
                f"looking up {found[0].name!r} in the {self.kind} registry",
                found=f"the name is registered by {claims}",
                expected="one owner per name",
                hint="uninstall one of them, or rename its entry point",
            )
        return found[0]

    def register(self, name: str, target: str, owner: str) -> None:
        """Add a name at run time; a second owner of a name is refused at once."""
        same = self._entries.setdefault(normalise(name), [])
        if same:
            raise PluginError(
                f"registering {name!r} in the {self.kind} registry for {owner}",
                found=f"the name already belongs to {same[0].owner} ({same[0].target})",
                hint="choose another name",
            )
        same.append(Entry(name, target, owner))

    def load(self, name: str) -> T:
        """Import and return the object registered under a name.

        Raises:
            UsageError: no such name.
            PluginError: several owners, an import error of the plugin, or an object of the wrong kind.
        """
        entry = self.entry(name)
        if entry.name in self._loaded:
            return self._loaded[entry.name]
        doing = f"importing {entry.name!r} of {entry.owner} from {entry.target}"
        try:
            loaded = entry.load()
        # A plugin is somebody else's code: whatever it raises at import must cost only that plugin.
        except Exception as error:
            self.failures[entry.name] = f"{type(error).__name__}: {error}"
            hint = "repair or uninstall it; all other names keep working"
            raise PluginError(doing, found=self.failures[entry.name], hint=hint) from error
        problem = self._check(loaded)
        if problem:
            self.failures[entry.name] = problem
            raise PluginError(doing, found=problem, hint="see docs/plugins.md for what to register")
        self._loaded[entry.name] = loaded  # type: ignore[assignment]  # what _check is for
        return self._loaded[entry.name]

    def load_all(self) -> dict[str, T]:
        """Import everything that can be imported; the rest is left in ``failures``, by name."""
        loaded: dict[str, T] = {}
        for name in self.names():
            try:
                loaded[name] = self.load(name)
            except PluginError as error:
                self.failures.setdefault(name, error.found)
        return loaded


def installed_version(package: str) -> str:
    """Return the version of an installed distribution, "" for one that is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def subclass_of(base: type) -> Callable[[object], str | None]:
    """Return a registry check that accepts only subclasses of ``base``."""

    def check(loaded: object) -> str | None:
        if isinstance(loaded, type) and issubclass(loaded, base):
            return None
        return f"{loaded!r} is not a subclass of {base.__module__}.{base.__qualname__}"

    return check


def _entry_points(kind: str) -> list[Entry]:
    entries = []
    for point in importlib.metadata.entry_points(group=f"tgfbench.{kind}"):
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
        entries.append(Entry(point.name, point.value, owner))
    return entries


def _environment_entries(kind: str) -> list[Entry]:
    entries = []
    for item in filter(None, (part.strip() for part in os.environ.get(PLUGIN_VARIABLE, "").split(","))):
        match = re.fullmatch(r"(\w+):([\w-]+)=([\w.]+:[\w.]+)", item)
        if not match or match[1] not in KINDS:
            raise UsageError(
                f"reading the environment variable {PLUGIN_VARIABLE}",
                found=repr(item),
                expected=f"<registry>:<name>=<module>:<attribute> with a registry of {', '.join(KINDS)}",
            )
        if match[1] == kind:
            entries.append(Entry(match[2], match[3], f"the environment variable {PLUGIN_VARIABLE}"))
    return entries
