"""Finished works as rows of leaderboards: one row per method, one unit per seed, a protocol per recipe and mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tgfbench.benchmark.downstream.store import Work, find_works
from tgfbench.benchmark.records import run_id

Rows = list[tuple[Any, ...]]


def downstream_rows(root: Path) -> tuple[list[dict[str, Any]], Rows, Rows]:
    """Return the finished works of a store as rows of runs, of scores and of metrics.

    The columns are those of ``tgfbench.benchmark.results``. The fingerprint of a row stands for everything that has to
    be equal for a comparison: labelled training and test images, recipe, mode and task version.

    Args:
        root: folder of the store.

    Raises:
        DataError: a file of the store is damaged; names it.
    """
    rows: dict[str, list[tuple[Work, dict[str, Any]]]] = {}
    newest: dict[tuple[str, str, str], tuple[str, str]] = {}
    for work in find_works(root):
        content = work.read_json()
        rows.setdefault(row_id(content), []).append((work, content))
        newest[_place(content)] = max(newest.get(_place(content), ("", "")), (content["finished_at"], content["board"]))
    runs: list[dict[str, Any]] = []
    scores: Rows = []
    metrics: dict[tuple[str, str], tuple[Any, ...]] = {}
    for run, works in rows.items():
        runs.append(_run_row(run, [content for _, content in works]))
        for work, content in works:
            protocol, version = content["identity"]["protocol"], content["identity"]["task_version"]
            if content["board"] != newest[_place(content)][1]:
                # Labels or a recipe file changed since: not the same test, whatever its name.
                protocol += f" [earlier {content['board'][:4]}]"
            values = work.read_metrics()
            for order, card in enumerate(content["metrics"]):
                name = card["name"]
                scores.append((run, content["unit"], protocol, name, values["", name], version))
                metrics[protocol, name] = (
                    protocol, name, name, card["higher_is_better"], order, json.dumps(card)
                )  # fmt: skip
    return runs, scores, list(metrics.values())


def _place(content: dict[str, Any]) -> tuple[str, str, str]:
    identity = content["identity"]
    return identity["dataset"], identity["split"], identity["protocol"]


def row_id(content: dict[str, Any]) -> str:
    """Return the run id of the row that a work belongs to: the hash that its seeds share."""
    return run_id({name: value for name, value in content["identity"].items() if name != "seed"})


def _run_row(run_name: str, contents: list[dict[str, Any]]) -> dict[str, Any]:
    content = max(contents, key=lambda found: found["finished_at"])
    identity, run, made = content["identity"], content["run_identity"], content["provenance"]
    options = {**run["options"], **content["data_options"]}
    options |= {"masks": run["masks"]} if run["masks"] != "none" else {}
    return {
        **{name: identity[name] for name in ("dataset", "split", "method", "weights")},
        **{name: content[name] for name in ("title", "weights_origin", "reconstruction", "seen_in_training")},
        "run_id": run_name,
        "fingerprint": content["board"],
        "images": len(contents),
        "tags": ",".join(content["tags"]),
        "text_policy": run["text_policy"],
        "options": json.dumps(options, sort_keys=True),
        "finished_at": content["finished_at"],
        "device": "; ".join(filter(None, (made.get("device"), made.get("machine")))),
        "imported": False,
        # As on boards of images: a paper speaks of its own weights.
        "reported": json.dumps([] if content["weights_origin"] == "project" else made["card"].get("reported", [])),
        "training_note": content.get("training_note", ""),
        "card": json.dumps({**made["card"], "weights_card": content.get("weights_card", "")}, sort_keys=True),
    }
