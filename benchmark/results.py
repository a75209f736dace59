"""The store as pandas frames: the only thing leaderboards and statistics ever see."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from tgfbench.benchmark.audit.results import PROTOCOL as AUDIT
from tgfbench.benchmark.audit.results import audit_metrics, audit_rows
from tgfbench.benchmark.downstream.ground_truth import GroundTruth
from tgfbench.benchmark.downstream.results import downstream_rows, row_id
from tgfbench.benchmark.downstream.store import Work, find_works
from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.records import read_journal, read_table
from tgfbench.benchmark.store import IMAGE_COLUMNS as FILE_IMAGE_COLUMNS
from tgfbench.benchmark.store import IMAGES, SCORES, Run, find_runs
from tgfbench.benchmark.store import SCORE_COLUMNS as FILE_COLUMNS

RUN_COLUMNS = (
    "run_id", "dataset", "split", "fingerprint", "images", "method", "title", "weights", "weights_origin",
    "reconstruction", "tags", "text_policy", "options", "seen_in_training", "finished_at",
    "reported", "seconds", "device", "imported", "card", "training_note",
)  # fmt: skip
SCORE_COLUMNS = ("run_id", "key", "protocol", "metric", "value", "metric_version")
METRIC_COLUMNS = ("protocol", "metric", "title", "higher_is_better", "order", "card")
_NAMES = ("run_id", "key", "protocol", "metric")
IMAGE_COLUMNS = ("run_id", "key", "text", "path")
PREDICTION_COLUMNS = ("run_id", "key", "task", "variant", "boxes", "mask", "classes", "palette")


def store_frames(root: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Read all runs of a store.

    Args:
        root: folder of the store.

    Returns:
        Three frames: runs (``RUN_COLUMNS``), scores (tidy, ``SCORE_COLUMNS``) and metrics (``METRIC_COLUMNS``).

    Raises:
        UsageError: the store holds no run.
        DataError: a file of the store is damaged; names it.
    """
    runs, (audits, audit_scores) = find_runs(root), audit_rows(root)
    works, work_scores, work_metrics = downstream_rows(root)
    if not runs and not audits and not works:
        hint = f"tgfbench run -m tesg,baselines -d sample --out {root}"
        raise UsageError(f"reading the store {root}", found="no run", hint=hint)
    run_rows, parts = audits + works, [_score_part(audit_scores), _score_part(work_scores)]
    for run in runs:
        content = run.read_json()
        if not content.get("metrics"):
            continue  # images that something else than scores was wanted for
        run_rows.append(_run_row(run, content))
        parts.append(_run_scores(run, content.get("metrics", {})))
    scores = _stack(parts)
    return pd.DataFrame(run_rows, columns=list(RUN_COLUMNS)), scores, _metric_frame(scores, work_metrics)


def _run_scores(run: Run, versions: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Return the scores of a run, ``SCORE_COLUMNS``."""
    path = run.folder / SCORES
    table = None if path.with_suffix(".journal").exists() else _read_scores(path)
    if table is None:
        # A second Run object, so that what it read is given back before the next one is read.
        loaded = Run(run.folder).load().scores
        table = pd.DataFrame([(*name, value) for name, value in loaded.items()], columns=list(FILE_COLUMNS))
    table = table.astype(dict.fromkeys(FILE_COLUMNS[:3], "category"))
    table["run_id"] = pd.Categorical([run.folder.name] * len(table))
    table["metric_version"] = 0
    for protocol, metrics in versions.items():
        here = table["protocol"] == protocol
        found = [metrics.get(metric, 0) for metric in table["metric"].cat.categories]
        table.loc[here, "metric_version"] = np.array(found, dtype=np.int64)[table.loc[here, "metric"].cat.codes]
    return table[list(SCORE_COLUMNS)]


def _read_scores(path: Path) -> pd.DataFrame | None:
    """Read a run's file of scores; None where it is absent or damaged, about which the store says more."""
    try:
        table = pd.read_csv(path, dtype=object, keep_default_na=False)
        if tuple(table.columns) != FILE_COLUMNS:
            return None
        # Not read as numbers by pandas, some versions of which miss the last bit.
        return table.assign(value=np.array(list(map(float, table["value"])), dtype=np.float64))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _score_part(rows: Iterable[tuple[Any, ...]]) -> pd.DataFrame:
    """Return scores with their names as categories: a store of millions of scores has few different names."""
    part = pd.DataFrame(rows, columns=list(SCORE_COLUMNS))
    return part.astype({**dict.fromkeys(_NAMES, "category"), "value": "float64", "metric_version": "int64"})


def _stack(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    parts = [part for part in parts if len(part)] or [parts[0]]
    names = {name: union_categoricals([part[name] for part in parts], sort_categories=True) for name in _NAMES}
    numbers = {name: np.concatenate([part[name] for part in parts]) for name in ("value", "metric_version")}
    return pd.DataFrame(names | numbers)[list(SCORE_COLUMNS)]


def image_frame(root: Path) -> pd.DataFrame:
    """Return all fused images of a store that are in place (``IMAGE_COLUMNS``).

    Test images of downstream works appear a second time, under the run id of the row of their board.
    """
    images = {run.folder.name: _images(run) for run in find_runs(root)}
    rows = [(run, key, *found) for run, here in images.items() for key, found in here.items()]
    tested: dict[tuple[str, str], tuple[str, str]] = {}
    for work in find_works(root):
        content = work.read_json()
        here = images.get(content.get("run_id", ""), {})
        tested |= {(row_id(content), key): here[key] for key in _predicted_keys(work) if key in here}
    rows += [(*name, *found) for name, found in tested.items()]
    return pd.DataFrame(rows, columns=list(IMAGE_COLUMNS))


def _images(run: Run) -> dict[str, tuple[str, str]]:
    """Return prompt and path of the images that are in place, by key."""
    path = run.folder / IMAGES
    rows = [*read_table(path, FILE_IMAGE_COLUMNS), *read_journal(path.with_suffix(".journal"))]
    return {key: (text, str(place)) for key, text, _ in rows if (place := run.image_path(key)).is_file()}


def prediction_frame(root: Path) -> pd.DataFrame:
    """Return what finished downstream works found in the fused images of a store (``PREDICTION_COLUMNS``).

    One row per work and image: ``run_id`` and ``key`` of the fused image, ``task``, ``variant`` (recipe, mode and
    seed), ``boxes`` (JSON, a list of ``[x1, y1, x2, y2, class, score]`` in pixels, "" for a segmentation), ``mask``
    (path of an indexed PNG of class ids, "" for boxes), ``classes`` (JSON, names) and ``palette`` (JSON, RGB colours).
    As in ``image_frame``, everything appears a second time under the run id of the row of its board. The labels that
    the works were tested against come last, as the task ``labels``, see ``downstream.ground_truth``.

    Raises:
        DataError: a file of the store is damaged; names it.
    """
    rows: list[dict[str, Any]] = []
    labels: dict[tuple[str, str, str], dict[str, Any]] = {}
    truth = GroundTruth(root)
    # Of two works alike in what a reader sees, the newest is shown.
    works = sorted(((work.read_json(), work) for work in find_works(root)), key=lambda found: found[0]["finished_at"])
    for content, work in works:
        try:
            found = _predictions(work, content)
        except (KeyError, TypeError, ValueError) as error:
            said = f"{type(error).__name__}: {error}"
            raise DataError(
                f"reading {work.folder}", found=said, expected="what tgfbench wrote", hint=Work.HINT
            ) from error
        runs = (content["run_id"], row_id(content))
        rows += [{**row, "run_id": run} for run in runs for row in found]
        told = truth.rows(content, (row["key"] for row in found))
        labels |= {(run, row["variant"], row["key"]): row for run in runs for row in told}
    rows += [{**row, "run_id": run} for (run, _, _), row in labels.items()]
    frame = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
    return frame.drop_duplicates(["run_id", "key", "task", "variant"], keep="last", ignore_index=True)


def _predictions(work: Work, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    identity = content["identity"]
    common = {
        "run_id": content["run_id"],
        "task": identity["task"],
        "variant": f"{identity['protocol'].removeprefix(identity['task']).strip()}, {content['unit']}",
        "boxes": "",
        "mask": "",
        "classes": json.dumps(content["classes"], ensure_ascii=False),
        "palette": json.dumps(content["palette"]),
    }
    rows = []
    for found in _box_lines(work):
        parts = zip(found["boxes"], found["classes"], found["scores"], strict=True)
        boxes = [[*map(float, box), int(number), float(score)] for box, number, score in parts]
        rows.append({**common, "key": str(found["key"]), "boxes": json.dumps(boxes)})
    return rows + [{**common, "key": mask.stem, "mask": str(mask)} for mask in _masks(work)]


def _predicted_keys(work: Work) -> list[str]:
    return [str(found["key"]) for found in _box_lines(work)] + [mask.stem for mask in _masks(work)]


def _box_lines(work: Work) -> list[dict[str, Any]]:
    path = work.predictions / "boxes.jsonl"
    if not path.is_file():
        return []
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise DataError(f"reading {path}", found=str(error), expected="a JSON object a line", hint=Work.HINT) from error


def _masks(work: Work) -> list[Path]:
    return sorted((work.predictions / "segmentation").glob("*.png"))


def _run_row(run: Run, content: Mapping[str, Any]) -> dict[str, Any]:
    identity = content["identity"]
    provenance = content.get("provenance", {})
    card = provenance.get("card", {})
    # What decides the images besides method, weights and policy, so that no such run passes for another.
    options = {**identity["options"], **({"masks": identity["masks"]} if identity["masks"] != "none" else {})}
    options |= {"text_seed": identity["text_seed"]} if identity.get("text_seed") else {}
    return {
        **{name: identity[name] for name in ("dataset", "split", "fingerprint", "images", "method", "weights")},
        **{name: content[name] for name in ("title", "weights_origin", "reconstruction", "seen_in_training")},
        "run_id": run.folder.name,
        "tags": ",".join(content["tags"]),
        "text_policy": identity["text_policy"],
        "options": json.dumps(options, sort_keys=True),
        "finished_at": content.get("finished_at") or "",
        # A paper speaks of its own weights: beside ours its numbers would be a comparison nobody made.
        "reported": json.dumps([] if content["weights_origin"] == "project" else card.get("reported", [])),
        "seconds": content.get("fuse_seconds"),
        "device": "; ".join(filter(None, (provenance.get("device"), provenance.get("machine")))),
        "imported": "imported" in content and not (run.folder / "fused").is_dir(),
        "training_note": content.get("training_note", ""),
        "card": json.dumps({**card, "weights_card": content.get("weights_card", "")}, sort_keys=True),
    }


def _metric_frame(scores: pd.DataFrame, more: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    from tgfbench.metrics import load_protocol

    rows: list[tuple[Any, ...]] = list(more)
    described = {row[0] for row in more}
    for name, group in scores.groupby("protocol", sort=True, observed=True):
        if name in described:
            continue
        if name == AUDIT:
            for order, (metric, (info, better)) in enumerate(audit_metrics().items()):
                rows.append((name, metric, metric, better, order, info.model_dump_json()))
            continue
        protocol = load_protocol(str(name)).select(group["metric"].unique())
        for order, metric in enumerate(protocol.metrics):
            info = protocol.info(metric)
            rows.append((name, metric, metric, info.higher_is_better, order, info.model_dump_json()))
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))
