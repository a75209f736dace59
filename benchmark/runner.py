"""Executes planned runs: finds what is missing, has an engine do it, and keeps the store true at every moment."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgfbench.benchmark.engines import Engine, LocalEngine, Outcome, Work
from tgfbench.benchmark.errors import MAX_NAMED, counted, listed
from tgfbench.benchmark.plan import Overwrite, PlannedRun
from tgfbench.benchmark.registry import installed_version
from tgfbench.benchmark.store import Run

if TYPE_CHECKING:
    from tgfbench.methods.base import FusionMethod

RECORDED_PACKAGES = ("tgfbench", "torch", "numpy", "opencv-python-headless", "scipy", "pillow", "transformers")


@dataclass
class RunReport:
    """What happened to one run.

    Attributes:
        title: method and weights.
        folder: of the run.
        images: number of samples asked for.
        fused: images computed now; ``images - fused - failed`` were there already.
        measured: numbers computed now.
        failures: message by key.
        warnings: things worth a look that failed nothing (unpaired files, changed images).
        skipped: True where ``never`` left an existing run alone.
        seconds: wall time.
    """

    title: str
    folder: Path
    images: int
    fused: int = 0
    measured: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: bool = False
    seconds: float = 0.0


Progress = Callable[[int, int], None]
"""Called with (items done, items to do)."""


def execute(
    planned: PlannedRun,
    *,
    overwrite: Overwrite = "only-missing",
    engine: Engine | None = None,
    progress: Progress = lambda done, total: None,
    only: Collection[str] | None = None,
) -> RunReport:
    """Bring one run to completion.

    Args:
        planned: the run.
        overwrite: ``only-missing`` does what is not there; ``always`` starts anew; ``never`` leaves a run that was
            begun, complete or not, exactly as it is.
        engine: who computes; default: this process.
        progress: called after every image.
        only: the samples to work on, all of them by default; the rest of the run stays as it is.

    Returns:
        The report; images that failed are named in it and everything else is stored.
    """
    run, keys = planned.run, list(planned.dataset.keys)
    report = RunReport(planned.title, run.folder, len(keys if only is None else only))
    if overwrite == "never" and run.exists():
        report.skipped = True
        return report
    started = time.perf_counter()
    with run.locked():
        versions = _prepare(planned, overwrite, report)
        works = [work for work in _missing(planned, run) if only is None or work.key in only]
        content = {**run.read_json(), "identity": planned.identity, **planned.facts}
        content["metrics"] = {**content.get("metrics", {}), **versions}
        report.warnings += note_code(planned.method, content, "these images were made" if planned.run.images else None)
        if planned.text_references_hash:
            content["text_references"] = planned.text_references_hash
        orders = {name: list(metrics) for name, metrics in content["metrics"].items()}
        if works or not run.exists():
            content["provenance"] = provenance(planned)
            run.write_json({**content, "finished_at": None})
        try:
            seconds = _work(planned, run, works, engine or LocalEngine(), report, progress)
        finally:
            # Also after Ctrl-C: the journals alone would do, tidy files are better.
            run.save(keys, orders)
        run.save_failures(report.failures)
        if works or not content.get("finished_at"):
            if seconds:
                content["fuse_seconds"] = seconds
            run.write_json({**content, "finished_at": now()})
    report.seconds = time.perf_counter() - started
    return report


def _prepare(planned: PlannedRun, overwrite: Overwrite, report: RunReport) -> dict[str, dict[str, int]]:
    """Load what the run holds, forget what no longer counts, and return metric versions by protocol."""
    run = planned.run.load()
    run.adopt_images(planned.dataset.keys)
    changed = run.drop_changed_images()
    if changed:
        gone = f"{counted(len(changed), 'fused image')} changed or vanished since"
        report.warnings.append(f"{gone}; made again: {listed(changed, MAX_NAMED)}")
    if overwrite == "always":
        run.forget(planned.dataset.keys)
    content = run.read_json()
    stored = content.get("metrics", {})
    versions = {}
    for protocol in planned.protocols:
        versions[protocol.name] = {**stored.get(protocol.name, {}), **protocol.versions()}
        outdated = [m for m, v in protocol.versions().items() if stored.get(protocol.name, {}).get(m, v) != v]
        if outdated:
            renewed = listed(outdated, MAX_NAMED)
            report.warnings.append(f"new version of {renewed} ({protocol.name}): measured again")
            run.forget_scores(protocol.name, outdated)
        compared = [m for m in protocol.metrics if "confidence" in protocol.info(m).needs]
        if compared and content.get("text_references", "") != planned.text_references_hash:
            run.forget_scores(protocol.name, compared)
    report.warnings += map(str, planned.dataset.problems)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.save(planned.dataset.keys, {p.name: list(p.metrics) for p in planned.protocols})
    return versions


def note_code(method: FusionMethod, content: dict[str, Any], since: str | None) -> list[str]:
    """Keep what code a plugin's results were made with, and warn where it has changed since.

    It is no part of the identity: a comment changes the code and not the images, and only the author knows which.

    Args:
        method: the plugin, or a method of this package, which has a version instead.
        content: of ``run.json`` or ``audit.json``; the code is kept in it.
        since: what was done with the code that is kept, None if nothing.

    Returns:
        The warnings.
    """
    code = code_of(type(method))
    if since and content.get("code", code) != code:
        return [
            f"the code of {method.info.name} has changed since {since}: --overwrite always starts anew, another "
            "`version` in its card gives new results beside the old"
        ]
    if code:
        content["code"] = code
    return []


def code_of(cls: type) -> str:
    """Return the SHA-256 of the Python files of a plugin's module or package, "" for what comes with tgfbench."""
    top = cls.__module__.partition(".")[0]
    module = sys.modules.get(top)
    if top == __package__.partition(".")[0] or module is None:
        return ""
    files = [path for folder in getattr(module, "__path__", ()) for path in Path(folder).rglob("*.py")]
    if not files and module.__file__:
        files = [Path(module.__file__)]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _missing(planned: PlannedRun, run: Run) -> list[Work]:
    works = []
    for key in planned.dataset.keys:
        fuse = key not in run.images
        metrics = {
            p.name: tuple(m for m in p.metrics if fuse or (key, m, p.name) not in run.scores) for p in planned.protocols
        }
        wanted = {name: missing for name, missing in metrics.items() if missing}
        if fuse or wanted:
            works.append(Work(key, fuse, wanted))
    return works


def _work(
    planned: PlannedRun, run: Run, works: Sequence[Work], engine: Engine, report: RunReport, progress: Progress
) -> float:
    """Have the works done and note every outcome at once; returns the median seconds of a fusion, 0 if none ran."""
    seconds = []
    too_small: Counter[str] = Counter()
    progress(0, len(works))
    for done, outcome in enumerate(engine.process(planned, works), start=1):
        _note(run, outcome, report)
        too_small.update(outcome.too_small)
        if outcome.seconds:
            seconds.append(outcome.seconds)
        progress(done, len(works))
    report.warnings += [f"{reason}: undefined on {counted(images)}" for reason, images in too_small.items()]
    # Of two the smaller: while fusing the first image many methods still load something.
    return statistics.median_low(seconds) if seconds else 0.0


def _note(run: Run, outcome: Outcome, report: RunReport) -> None:
    if outcome.image is not None:
        run.add_image(outcome.key, outcome.image)
        report.fused += 1
    for protocol, values in outcome.scores.items():
        run.add_scores(outcome.key, protocol, values)
        report.measured += len(values)
    report.measured -= len(outcome.too_small)
    if outcome.error:
        report.failures[outcome.key] = outcome.error


def provenance(planned: PlannedRun) -> dict[str, Any]:
    """Return how and where the run was made: for readers of ``run.json``, not part of its identity."""
    return {
        "started_at": now(),
        "packages": {name: installed_version(name) or "not installed" for name in RECORDED_PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "device": _device_name(planned),
        "git_revision": _git_revision(),
        "card": planned.method.info.model_dump(mode="json", exclude={"weights"}),
    }


def _device_name(planned: PlannedRun) -> str:
    device = planned.method.device
    if device.type != "cuda":
        return str(device)
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def _git_revision() -> str:
    """Return the revision of the checkout this code runs from, "" for an installed package."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return ""
    try:
        asked = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()


def now() -> str:
    """Return the time of day in ISO form, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
