"""Which runs may share a board, and in plain words what keeps the others apart.

Two runs share a board only if they saw the same images (data fingerprint and scored keys), under one protocol, with
the same version of every metric that both have. A run that lacks a metric altogether stays on the board and shows n/a.
Where seeds take the place of images, rows with other seeds share a board: all were tested on the same images.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from tgfbench.benchmark.errors import MAX_NAMED, counted, listed
from tgfbench.leaderboards.frames import options_of

_SEED = re.compile(r"seed \d+")

DISTINGUISHING = {"text_policy": "text", "weights_origin": "weights by"}
"""Columns that may tell two runs of one method and checkpoint apart, with the word the label uses; options besides."""


@dataclass(eq=False)
class Group:
    """Runs that may share a board.

    Attributes:
        fingerprint: content of the images the runs were asked for.
        asked: number of image pairs the runs were asked for.
        expected: every key that any run on this fingerprint has scored, sorted.
        keys: the keys that every run of this group has scored, sorted; of seeds, those that any run has.
        labels: row label by run id.
        versions: version by metric.
        generation: 0 for the newest metric versions on this fingerprint.
        finished: when the newest of the runs ended.
        notes: sentences about runs that are not shown.
        differences: sentences about what separates this group from the main one.
    """

    fingerprint: str
    asked: int
    expected: tuple[str, ...]
    keys: tuple[str, ...]
    labels: dict[str, str]
    versions: dict[str, int]
    generation: int
    finished: pd.Timestamp
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def group_runs(runs: pd.DataFrame, scores: pd.DataFrame, expected: dict[str, tuple[str, ...]]) -> list[Group]:
    """Divide the runs of one dataset, split and protocol into groups, the main one first.

    The main group has the most images; among equals the fewest missing, then the newest metric versions, then the most
    runs, then the newest.

    Args:
        runs: cleaned runs of one dataset and split, those without any score included.
        scores: cleaned scores of one protocol for these runs.
        expected: keys known for every data fingerprint.
    """
    pairs = scores[["run_id", "key"]].drop_duplicates()
    keys = {str(run): frozenset(part) for run, part in pairs.groupby("run_id", observed=True)["key"]}
    versions: dict[str, dict[str, int]] = {run: {} for run in keys}
    newest = scores.groupby(["run_id", "metric"], observed=True)["metric_version"].max().reset_index()
    columns = (newest[column].tolist() for column in ("run_id", "metric", "metric_version"))
    for run, metric, version in zip(*columns, strict=True):
        versions[str(run)][str(metric)] = int(version)
    groups: list[Group] = []
    for fingerprint, part in runs.groupby("fingerprint", sort=True):
        scored = part[part.index.isin(list(keys))]
        for generation, run_ids in enumerate(_by_versions(scored.index, versions)):
            groups += _by_images(scored.loc[run_ids], keys, versions, expected[str(fingerprint)], generation)
        fullest = next((group for group in groups if group.fingerprint == fingerprint), None)
        if fullest is not None:
            for run in part.index.difference(scored.index):
                row = part.loc[run]
                fullest.notes.append(
                    f"not ranked: {plain_label(row)} (run {run}): {row['images']} of "
                    f"{counted(int(row['images']), unit_of(fullest.expected))} missing"
                )
    groups.sort(key=lambda g: (-len(g.keys), g.asked, g.generation, -len(g.labels), -g.finished.value, g.fingerprint))
    for group in groups:
        # The main group differs from nothing; what it lacks is a remark about it.
        (group.notes if group is groups[0] else group.differences).extend(_differences(group, groups[0]))
    return groups


def plain_label(row: pd.Series) -> str:
    """Return ``method@weights``, or the method alone where it has no weights."""
    return f"{row['method']}@{row['weights']}" if row["weights"] else str(row["method"])


def unit_of(keys: Iterable[str]) -> str:
    """Return what a key stands for: ``seed`` (``seed N``, a training), ``model`` (``given weights``) or ``image``."""
    every = set(keys)
    if every == {"given weights"}:
        return "model"
    return "seed" if every and all(map(_SEED.fullmatch, every)) else "image"


def _by_versions(run_ids: Iterable[str], versions: dict[str, dict[str, int]]) -> list[list[str]]:
    """Peel off the runs that have the newest version of all their metrics, then the next newest, and so on."""
    left, generations = list(run_ids), []
    while left:
        newest: dict[str, int] = {}
        for run in left:
            for metric, version in versions[run].items():
                newest[metric] = max(version, newest.get(metric, version))
        current = [run for run in left if all(newest[m] == v for m, v in versions[run].items())]
        # Runs that are each ahead in one metric and behind in another: the first in line opens a board.
        if not current:
            current = [run for run in left if versions[run] == versions[left[0]]]
        generations.append(current)
        left = [run for run in left if run not in current]
    return generations


def _by_images(
    runs: pd.DataFrame,
    keys: dict[str, frozenset[str]],
    versions: dict[str, dict[str, int]],
    expected: tuple[str, ...],
    generation: int,
) -> list[Group]:
    """Split runs of one fingerprint and metric generation by the images they have scores for, the fullest first."""
    kept, superseded = _newest_runs(runs, keys)
    labels = _labels(runs.loc[kept])
    by_keys: dict[frozenset[str], list[str]] = {}
    seeds: frozenset[str] = frozenset().union(*(keys[run] for run in kept))
    if unit_of(seeds) == "seed":
        by_keys[seeds], expected = kept, tuple(sorted(seeds))
        often = Counter(labels.values())
        labels = {run: f"{label} [run {run}]" if often[label] > 1 else label for run, label in labels.items()}
    else:
        for run in kept:
            by_keys.setdefault(keys[run], []).append(run)
    groups = []
    for image_set, members in sorted(by_keys.items(), key=lambda item: (-len(item[0]), -len(item[1]), sorted(item[0]))):
        part = runs.loc[members]
        group = Group(
            fingerprint=str(part["fingerprint"].iloc[0]),
            asked=max(int(part["images"].max()), len(expected)),
            expected=expected,
            keys=tuple(sorted(image_set)),
            labels={run: labels[run] for run in members},
            versions={m: v for run in members for m, v in versions[run].items()},
            generation=generation,
            finished=part["finished"].max(),
        )
        for run in members:
            if superseded[run]:
                group.notes.append(
                    f"{labels[run]}: the newest of {len(superseded[run]) + 1} runs alike is shown (run {run}), "
                    f"not {listed(f'run {old}' for old in superseded[run])}"
                )
        groups.append(group)
    for other in groups[1:]:
        for run, label in other.labels.items():
            twin = f" (run {run})" if label in groups[0].labels.values() else ""
            number, names = _missing(other)
            named = f" ({names})" if names else ""
            missing = f"{number} of {counted(other.asked, unit_of(expected))} missing"
            groups[0].notes.append(f"not ranked: {label}{twin}: {missing}{named}")
    return groups


def _newest_runs(runs: pd.DataFrame, keys: dict[str, frozenset[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Drop every run for which a newer one, alike in all that a label can show, has scored at least its images."""
    alike = ["method", "weights", *DISTINGUISHING, "options"]
    kept: list[str] = []
    superseded: dict[str, list[str]] = {}
    for _, part in runs.groupby(alike, sort=True, dropna=False):
        newest_first = part.reset_index().sort_values(["finished", "run_id"], ascending=False)["run_id"]
        shown: list[str] = []
        for run in newest_first:
            newer = next((other for other in shown if keys[run] <= keys[other]), None)
            if newer is None:
                shown.append(run)
                superseded[run] = []
            else:
                superseded[newer].append(run)
        kept += shown
    return sorted(kept), superseded


def _labels(runs: pd.DataFrame) -> dict[str, str]:
    """Return a label per run; runs of one method and checkpoint show what differs between them."""
    labels: dict[str, str] = {}
    plain = runs.apply(plain_label, axis=1)
    for label, part in runs.groupby(plain, sort=True):
        columns = [column for column in DISTINGUISHING if part[column].nunique() > 1]
        options = {str(run): options_of(text) for run, text in part["options"].items()}
        names = sorted({name for found in options.values() for name in found or {}})
        shown = [name for name in names if len({_option(found, name) for found in options.values()}) > 1]
        for run in part.index:
            facts = [f"{DISTINGUISHING[c]}: {_short(part.loc[run, c]) or 'unknown'}" for c in columns]
            if options[run] is None:
                facts.append(f"options: {_short(part.loc[run, 'options'])}")
            else:
                facts += [_option(options[run], name) for name in shown]
            labels[run] = f"{label} ({'; '.join(facts)})" if facts else str(label)
    # Long prompts are shortened, which can make two labels equal again.
    often = {label for label, times in Counter(labels.values()).items() if times > 1 and label.endswith(")")}
    return {run: f"{label} [run {run}]" if label in often else label for run, label in labels.items()}


def _option(options: dict[str, object] | None, name: str) -> str:
    if options is None or name not in options:
        return f"{name} unset"
    return f"{name}={_short(json.dumps(options[name], sort_keys=True, ensure_ascii=False))}"


def _short(text: str) -> str:
    return textwrap.shorten(str(text), 48, placeholder="…") if len(str(text)) > 48 else str(text)


def _missing(group: Group) -> tuple[int, str]:
    """Return how many asked images have no score, and the names that other runs reveal."""
    number = group.asked - len(group.keys)
    names = sorted(set(group.expected) - set(group.keys))
    unnamed = number - len(names)
    parts = [listed(names, MAX_NAMED)] if names else []
    parts += [f"{unnamed} that no run has scored"] if unnamed > 0 else []
    return number, " and ".join(parts)


def _differences(group: Group, main: Group) -> list[str]:
    found = []
    mine, others = set(group.expected), set(main.expected)
    unit = unit_of(mine)
    if group.fingerprint != main.fingerprint:
        if mine == others and group.asked != main.asked:
            found.append(f"asked for {counted(group.asked, unit)} instead of {main.asked}")
        elif mine == others:
            found.append(
                "other image content under the same names: "
                f"data fingerprint {group.fingerprint[:12]} instead of {main.fingerprint[:12]}"
            )
        elif mine < others and group.asked < main.asked:
            found.append(f"{group.asked} of {counted(main.asked, unit)} (as run with --limit {group.asked})")
        else:
            shared = "none" if not mine & others else str(len(mine & others))
            found.append(f"other {unit}s: {len(mine)}, of which {shared} are also among the main board's {len(others)}")
    number, names = _missing(group)
    if number:
        found.append(f"missing scores for {counted(number, unit)}: {names}")
    for metric, version in sorted(group.versions.items()):
        if main.versions.get(metric, version) != version:
            found.append(f"metric {metric} version {version} instead of {main.versions[metric]}")
    return found
