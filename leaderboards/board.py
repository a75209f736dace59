"""Boards: one dataset, split, image set, protocol and set of metric versions each, with means and ranks.

Rules, in one place:

* **Means** are per-image means over exactly the same images for every row. An image on which a metric came out
  undefined (not finite; also on images too small for it) and has a value for *no* row says nothing about any of them
  and leaves that metric's mean for all rows at once; a row without a finite value on any other image shows n/a, because
  a mean over the images that happened to work would flatter it. Both cases are written under the board with their
  counts.
* **Ranks** are taken per metric with a direction, equal means sharing the average of their ranks, and averaged over
  metrics. A metric counts when more than half of the rows have a value, so that a measure taken for a few rows only
  does not decide; a row without a value in a metric that counts is listed unranked. The source images themselves
  (tag ``source``) are listed last and never ranked: a copy of a source wins any metric that compares with that source;
  on boards of trainings they are rows like any other.
  With fewer than two comparable rows nothing is ranked.
* **Seeds**: where a key stands for a training with its test (``seed N``), seeds take the place of images, and rows
  may have different ones. Each mean is over the row's own seeds. Ranks, marks and tests are over the *compared* seeds,
  those that more than half of the rows have; a row that lacks one of them is listed unranked. So, while most rows have
  several seeds, a row with one neither gains from a lucky one nor takes the tests from the others.
* **Order**: by average rank, then label; unranked rows; source rows. It does not depend on the order of the input.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tgfbench.benchmark.errors import MAX_NAMED, counted, listed
from tgfbench.leaderboards.evidence import Evidence, gather_evidence
from tgfbench.leaderboards.frames import clean_metrics, clean_runs, clean_scores
from tgfbench.leaderboards.grouping import Group, group_runs, unit_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Board:
    """One table of comparable runs.

    Attributes:
        dataset, split, protocol: what was measured and how.
        fingerprint: content of the images asked for.
        keys: the images every mean is taken over, sorted; on boards of trainings the seeds that any row has.
        compared: the keys that ranks and tests are taken over; all of them but on boards of trainings.
        asked: number of images the runs were asked for; larger than ``len(keys)`` where some have no score.
        rows: index run id, in the order of the table. The columns of the ``runs`` frame and ``label`` (unique),
            ``source``, ``ranked`` and ``average_rank`` (NaN where not ranked).
        metrics: index metric, in the order of the columns: ``title``, ``higher_is_better`` (True, False or None),
            ``version`` and ``counts`` (part of the average rank).
        means: float64, index run id, columns metric; NaN stands for n/a.
        compared_means: the same over the compared keys; NaN in rows that lack one of these.
        scores: float64 (rows, metrics, images), the per-image values behind the means; NaN where there is none.
        owned: bool (rows, images), whether a row has scores there; all True but on boards of trainings.
        differences: what separates this board from the main one of its dataset, split and protocol.
        notes: what a reader must know about rows and values that are absent.
    """

    dataset: str
    split: str
    protocol: str
    fingerprint: str
    keys: tuple[str, ...]
    compared: tuple[str, ...]
    asked: int
    rows: pd.DataFrame
    metrics: pd.DataFrame
    means: pd.DataFrame
    compared_means: pd.DataFrame
    scores: np.ndarray
    owned: np.ndarray
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def images(self) -> int:
        """Number of keys: images, or seeds of any row."""
        return len(self.keys)

    @property
    def unit(self) -> str:
        """What a key stands for: ``image``; ``seed`` or ``model`` where it is a test of a training."""
        return unit_of(self.keys)

    @property
    def counted(self) -> str:
        """The number of units of a row in words, such as "21 images" or "1 to 3 seeds"."""
        least, most = (int(end) for end in (self.units.min(), self.units.max()))
        return counted(most, self.unit) if least == most else f"{least} to {counted(most, self.unit)}"

    @property
    def units(self) -> np.ndarray:
        """int (rows,): the number of images, or of its own seeds, that a row has scores for."""
        return self.owned.sum(axis=1)

    @property
    def deviations(self) -> np.ndarray:
        """float64 (rows, metrics): standard deviation over a row's seeds (n − 1); NaN for one, and where n/a."""
        several = np.isfinite(self.means.to_numpy()) & (np.isfinite(self.scores).sum(axis=2) > 1)
        found = np.full(several.shape, np.nan)
        found[several] = np.nanstd(self.scores[several], axis=1, ddof=1)
        return found

    @property
    def mean_intervals(self) -> np.ndarray:
        """float64 (2, rows, metrics): 95 % intervals of the means; NaN for a row with more seeds than are compared."""
        return np.where(self.units[:, None] == len(self.compared), self.evidence.intervals.mean, np.nan)

    @property
    def compared_scores(self) -> np.ndarray:
        """``scores`` over the compared keys."""
        if self.compared == self.keys:
            return self.scores
        return self.scores[:, :, [self.keys.index(key) for key in self.compared]]

    @cached_property
    def evidence(self) -> Evidence:
        """Intervals and tests, computed when first asked for."""
        return gather_evidence(self.compared_scores, self.compared_means, self.metrics, self.rows)

    def per_image(self, metric: str) -> pd.DataFrame:
        """Return one metric's values, index key, one column per run in the order of the table."""
        column = self.metrics.index.get_loc(metric)
        return pd.DataFrame(self.scores[:, column].T, index=pd.Index(self.keys, name="key"), columns=self.rows.index)


def build_boards(runs: pd.DataFrame, scores: pd.DataFrame, metrics: pd.DataFrame) -> list[Board]:
    """Build every board of a store: by dataset, split and protocol in alphabetical order, each time the main one first.

    Args:
        runs: one row per run.
        scores: one row per run, image, protocol and metric.
        metrics: one row per protocol and metric. All three as ``tgfbench.leaderboards.frames`` describes.

    Raises:
        UsageError: the store holds no run or no score.
        DataError: the frames contradict themselves; names the run.
    """
    runs = clean_runs(runs)
    scores = clean_scores(scores, runs.index)
    metrics = clean_metrics(metrics)
    boards: list[Board] = []
    for (dataset, split), part in runs.groupby(["dataset", "split"], sort=True):
        here = scores[scores["run_id"].isin(part.index)]
        if here.empty:
            logger.warning("%s (%s): %s without any score", dataset, split, counted(len(part), "run"))
            continue
        pairs = here[["run_id", "key"]].drop_duplicates().astype(str)
        pairs["fingerprint"] = pairs["run_id"].map(part["fingerprint"])
        pairs = pairs[["fingerprint", "key"]].drop_duplicates()
        expected = {str(name): tuple(sorted(keys)) for name, keys in pairs.groupby("fingerprint")["key"]}
        for protocol, of_protocol in here.groupby("protocol", observed=True, sort=True):
            elsewhere = part.index.isin(here["run_id"]) & ~part.index.isin(of_protocol["run_id"])
            for group in group_runs(part[~elsewhere], of_protocol, expected):
                boards.append(_board((str(dataset), str(split), str(protocol)), group, runs, of_protocol, metrics))
    return boards


def _board(
    place: tuple[str, str, str], group: Group, runs: pd.DataFrame, scores: pd.DataFrame, metrics: pd.DataFrame
) -> Board:
    dataset, split, protocol = place
    columns, notes = _columns(protocol, group.versions, metrics)
    run_ids = sorted(group.labels)
    scores = scores[scores["run_id"].isin(run_ids)]
    at = tuple(
        pd.Index(names).get_indexer(scores[column].cat.categories)[scores[column].cat.codes]
        for column, names in (("run_id", run_ids), ("metric", columns.index), ("key", group.keys))
    )
    values = np.full((len(run_ids), len(columns), len(group.keys)), np.nan)
    # Infinite is undefined as well.
    values[at] = scores["value"].where(np.isfinite(scores["value"]), np.nan).to_numpy()
    stored = np.zeros(values.shape, dtype=bool)
    stored[at] = True
    labels = [group.labels[run] for run in run_ids]

    titles = list(columns["title"])
    means, more = _means(values, stored, group.keys, labels, titles)
    notes += more
    owned = np.asarray(stored.any(axis=1))
    compared, comparable, more = _comparable(owned, group.keys, labels)
    notes += more
    compared_means = means
    if len(compared) < len(group.keys):
        at_compared = np.array([key in compared for key in group.keys], dtype=bool)
        part = np.ix_(comparable, np.ones(len(columns), dtype=bool), at_compared)
        named = [label for label, kept in zip(labels, comparable, strict=True) if kept]
        compared_means = np.full(means.shape, np.nan)
        compared_means[comparable], _ = _means(values[part], stored[part], compared, named, titles)
    elif not comparable.all():
        compared_means = np.where(comparable[:, None], means, np.nan)
    rows = runs.loc[run_ids].drop(columns="finished")
    rows.insert(0, "label", labels)
    # A detector that sees one source alone is a rival like any other: no metric compares with the sources there.
    of_images = unit_of(group.keys) == "image"
    rows["source"] = [of_images and any(tag.strip() == "source" for tag in tags.split(",")) for tags in rows["tags"]]
    columns["counts"], rows["ranked"], rows["average_rank"], more = _ranks(compared_means, comparable, columns, rows)
    notes += more

    records = rows.to_dict("records")
    order = sorted(range(len(rows)), key=lambda i: _place_in_table(records[i]))
    index = pd.Index([run_ids[i] for i in order], name="run_id")
    return Board(
        dataset=dataset,
        split=split,
        protocol=protocol,
        fingerprint=group.fingerprint,
        keys=group.keys,
        compared=compared,
        asked=group.asked,
        rows=rows.iloc[order].set_axis(index),
        metrics=columns,
        means=pd.DataFrame(means[order], index=index, columns=columns.index),
        compared_means=pd.DataFrame(compared_means[order], index=index, columns=columns.index),
        scores=values[order],
        owned=owned[order],
        differences=tuple(group.differences),
        notes=(*group.notes, *notes),
    )


def _columns(protocol: str, versions: dict[str, int], metrics: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the board's metrics in their order; one that is no longer registered comes last, without a direction."""
    records: list[tuple[float, str, str, bool | None]] = []
    unknown = []
    cards: dict[Any, dict[Any, Any]] = metrics.to_dict("index")
    for metric in sorted(versions):
        card = cards.get((protocol, metric))
        if card is not None:
            records.append((card["order"], metric, str(card["title"]), card["higher_is_better"]))
        else:
            unknown.append(metric)
            records.append((np.inf, metric, metric, None))
    records.sort(key=lambda record: record[:2])
    columns = pd.DataFrame(
        {
            "title": [record[2] for record in records],
            "higher_is_better": pd.Series([record[3] for record in records], dtype="object"),
            "version": [versions[record[1]] for record in records],
        }
    ).set_axis(pd.Index([record[1] for record in records], name="metric"))
    notes = [f"not registered here, so without a direction: {listed(unknown)}"] if unknown else []
    return columns, notes


def _comparable(
    owned: np.ndarray, keys: tuple[str, ...], labels: list[str]
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """Return the keys that ranks and tests are taken over, which rows have all of them, and what to say about it."""
    often = 2 * owned.sum(axis=0) > len(owned)
    compared = tuple(key for key, kept in zip(keys, often, strict=True) if kept)
    comparable = owned[:, often].all(axis=1) & often.any()
    if owned.all():
        return compared, comparable, []
    if not compared:
        return compared, comparable, ["nothing is ranked: more than half of the rows have no seed in common"]
    notes = []
    if len(compared) < len(keys):
        notes.append(
            f"ranks, marks and tests are over {listed(compared)}, which more than half of the rows have; "
            "means are over each row's own seeds"
        )
    fewer = []
    for row in sorted(np.flatnonzero(~owned.all(axis=1)), key=lambda r: labels[r]):
        own = [key for key, has in zip(keys, owned[row], strict=True) if has]
        lacking = [key for key in compared if key not in own]
        if lacking:
            words = f"{len(own)} of {counted(len(keys), 'seed')} ({listed(own)}), without {listed(lacking)}"
            notes.append(f"not ranked: {labels[row]}: {words}")
        else:
            fewer.append(f"{labels[row]} ({listed(own)})")
    notes += [f"fewer seeds than other rows: {listed(fewer)}"] if fewer else []
    return compared, comparable, notes


def _means(
    values: np.ndarray, stored: np.ndarray, keys: tuple[str, ...], labels: list[str], titles: list[str]
) -> tuple[np.ndarray, list[str]]:
    """Average (rows, metrics, images) over images, and say where and why there is no mean."""
    means = np.full(values.shape[:2], np.nan)
    measured = np.asarray(stored.any(axis=2))
    finite = np.isfinite(values)
    owned = np.asarray(stored.any(axis=1))
    undefined = stored & ~finite
    names, unit = np.asarray(keys, dtype=object), unit_of(keys)
    notes: list[str] = []
    for column, title in enumerate(titles):
        rows = np.flatnonzero(measured[:, column])
        kept = finite[rows, column].any(axis=0) | ~undefined[rows, column].any(axis=0)
        dropped = f"{int((~kept).sum())} of {counted(len(keys), unit)}"
        if not kept.any():
            notes.append(f"{title}: n/a for every row, undefined on {dropped}")
        elif not kept.all():
            notes.append(
                f"{title}: undefined on {dropped} for every row ({listed(names[~kept], MAX_NAMED)}), "
                f"the mean is over the other {int(kept.sum())}"
            )
        absent = sorted(labels[row] for row in range(len(labels)) if not measured[row, column])
        if absent:
            notes.append(f"{title}: n/a for {listed(absent)}, not measured")
        if not kept.any():
            continue
        for row in sorted(rows, key=lambda r: labels[r]):
            own = kept & owned[row]
            lacking = own & ~finite[row, column]
            if lacking.any() or not own.any():
                bad = f"{int(lacking.sum())} of {counted(int(owned[row].sum()), unit)}"
                which = "" if lacking.all() else f" ({listed(names[lacking], MAX_NAMED)})"
                notes.append(f"{title}: n/a for {labels[row]}, no finite value on {bad}{which}")
            else:
                # One contiguous sum per row: its last bit does not depend on which other rows are on the board.
                means[row, column] = np.ascontiguousarray(values[row, column, own]).mean()
    return means, notes


def _ranks(
    means: np.ndarray, comparable: np.ndarray, columns: pd.DataFrame, rows: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return which metrics count, which rows are ranked, the average ranks and what to say about exceptions."""
    directed = np.array([direction is not None for direction in columns["higher_is_better"]], dtype=bool)
    contender = comparable & ~rows["source"].to_numpy(dtype=bool)
    known = np.isfinite(means)
    counts = directed & (2 * known[contender].sum(axis=0) > contender.sum())
    ranked = contender & known[:, counts].all(axis=1)
    average = np.full(len(rows), np.nan)
    if not counts.any() or ranked.sum() < 2:
        return counts, np.zeros(len(rows), dtype=bool), average, []
    signed = means[ranked][:, counts] * np.where(columns["higher_is_better"][counts].astype(bool), -1.0, 1.0)
    average[ranked] = pd.DataFrame(signed).rank(method="average").mean(axis=1)
    notes = []
    titles = columns["title"].to_numpy()
    left_out = [
        f"{titles[i]} (a value in {known[contender, i].sum()} of {counted(int(contender.sum()), 'row')})"
        for i in np.flatnonzero(directed & ~counts)
    ]
    if left_out:
        notes.append(f"not part of the average rank: {listed(left_out)}")
    for row in sorted(np.flatnonzero(contender & ~ranked), key=lambda r: rows["label"].iloc[r]):
        lacking = listed(titles[counts & ~known[row]])
        notes.append(f"not ranked: {rows['label'].iloc[row]}: no value for {lacking}")
    return counts, ranked, average, notes


def _place_in_table(row: Mapping[Any, Any]) -> tuple[bool, bool, float, str, str]:
    rank = float(row["average_rank"]) if row["ranked"] else 0.0
    return bool(row["source"]), not row["ranked"], rank, row["label"].casefold(), row["label"]
