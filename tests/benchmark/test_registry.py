"""The registry: lazy, forgiving of spelling, strict about owners, unharmed by broken plugins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tgfbench.benchmark.errors import PluginError, UsageError
from tgfbench.benchmark.registry import PLUGIN_VARIABLE, Entry, Registry, subclass_of


class Base:
    """What the test registry holds."""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable folder with a good, a broken and a wrong plugin module."""
    (tmp_path / "good_plugin.py").write_text("class Good(dict): pass\n")
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('no such codec')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("good_plugin", "broken_plugin"):
        sys.modules.pop(name, None)


def with_variable(monkeypatch: pytest.MonkeyPatch, value: str, **options: object) -> Registry:
    monkeypatch.setenv(PLUGIN_VARIABLE, value)
    return Registry("methods", **options)


def test_a_variable_registers_a_module_without_importing_it(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_variable(monkeypatch, "methods:good-one=good_plugin:Good")
    assert "good-one" in registry.names()
    assert "good_plugin" not in sys.modules
    assert registry.load("good-one").__name__ == "Good"


@pytest.mark.parametrize("spelling", ["good-one", "GOOD_ONE", "Good-One", "goodone"])
def test_spelling_is_forgiven(modules: Path, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    registry = with_variable(monkeypatch, "methods:good-one=good_plugin:Good")
    assert registry.entry(spelling).name == "good-one"


def test_an_unknown_name_suggests_close_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_variable(monkeypatch, "methods:laplacian-pyramid=a:B")
    with pytest.raises(UsageError, match="did you mean laplacian-pyramid"):
        registry.entry("laplacian-pyramide")


def test_a_broken_plugin_is_reported_and_the_rest_works(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_variable(monkeypatch, "methods:bad=broken_plugin:Bad,methods:good=good_plugin:Good")
    with pytest.raises(PluginError, match="no such codec"):
        registry.load("bad")
    assert registry.failures == {"bad": "RuntimeError: no such codec"}
    loaded = registry.load_all()
    assert "good" in loaded
    assert "bad" not in loaded


def test_a_missing_attribute_is_reported(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_variable(monkeypatch, "methods:gone=good_plugin:Gone")
    with pytest.raises(PluginError, match="Gone"):
        registry.load("gone")


def test_objects_of_the_wrong_kind_are_refused(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = with_variable(monkeypatch, "methods:good=good_plugin:Good", check=subclass_of(Base))
    with pytest.raises(PluginError, match="not a subclass of"):
        registry.load("good")


def test_two_owners_of_a_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that takes a built-in's name is refused on use, whatever its spelling, and nothing else suffers."""
    registry = with_variable(monkeypatch, "methods:AVERAGE=somewhere:Else")
    assert list(registry.conflicts()) == ["average"]
    with pytest.raises(PluginError, match=r"tgfbench 0.*and the environment variable"):
        registry.load("average")
    assert registry.entry("maximum").owner.startswith("tgfbench ")


def test_registering_a_taken_name_is_refused_at_once() -> None:
    registry: Registry = Registry("methods")
    with pytest.raises(PluginError, match=r"already belongs to tgfbench .*baselines:Average"):
        registry.register("Average", "x:Y", "someone 1.0")


@pytest.mark.parametrize("value", ["methods:x", "nothing", "methods:x=y", "colours:x=y:Z"])
def test_a_malformed_variable_is_explained(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    registry = with_variable(monkeypatch, value)
    with pytest.raises(UsageError, match="<registry>:<name>=<module>:<attribute>" if ":" in value else PLUGIN_VARIABLE):
        registry.names()


def test_entries_know_distribution_and_version() -> None:
    entry = Registry("methods").entry("average")
    assert entry == Entry("average", "tgfbench.methods.baselines:Average", entry.owner)
    assert entry.owner.startswith("tgfbench 0.")
