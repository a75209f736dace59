"""Runs the text-guidance audit: fuses every sample under its counterfactual prompts, measures, judges, stores.

What is measured is in ``tgfbench.metrics.audit``; here is what makes it resumable and cheap: every distinct text of a
sample is fused once, the images are encoded once where the network allows (``reuse``), the text encoders remember
every text, and measuring runs beside fusing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tgfbench.benchmark.audit.plan import PlannedAudit, Scenes
from tgfbench.benchmark.audit.reuse import Fuse, Reuse
from tgfbench.benchmark.audit.store import AuditFolder
from tgfbench.benchmark.engines import compute_alone, message_of
from tgfbench.benchmark.errors import MethodError
from tgfbench.benchmark.plan import Overwrite
from tgfbench.benchmark.runner import Progress, note_code, provenance
from tgfbench.metrics.audit.measures import Evidence, SampleMeasures, measure_sample
from tgfbench.metrics.audit.movement import jittered
from tgfbench.metrics.audit.prompts import Prompt, by_key, write_prompts
from tgfbench.metrics.audit.verdict import Audit, judge

if TYPE_CHECKING:
    from tgfbench.datasets.base import Sample

REPEAT, JITTER = "+repeat", "+jitter"
"""Names of the two outputs that give the noise floor; no prompt can be called so."""


@dataclass
class AuditReport:
    """What happened to the audit of one method.

    Attributes:
        title: method and weights.
        store: its folder.
        samples: number of samples asked for.
        fused: images fused now.
        measured: samples measured now.
        failures: message by key.
        warnings: things worth a look that failed nothing.
        audit: statistics and verdict, None where no sample could be measured.
        seconds: wall time.
    """

    title: str
    store: AuditFolder
    samples: int
    fused: int = 0
    measured: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    audit: Audit | None = None
    seconds: float = 0.0


def audit(
    planned: PlannedAudit,
    *,
    overwrite: Overwrite = "only-missing",
    progress: Progress = lambda done, total: None,
) -> AuditReport:
    """Bring one audit to completion and judge it.

    Args:
        planned: the audit.
        overwrite: ``only-missing`` does what is not there, ``always`` starts anew, ``never`` only judges what is there.
        progress: called after every sample.

    Returns:
        The report; samples that failed are named in it and left out of the statistics.

    Raises:
        WeightsError: the image-text model cannot be used.
    """
    store, keys = planned.store, list(planned.planned.dataset.keys)
    report = AuditReport(planned.planned.title, store, len(keys))
    started = time.perf_counter()
    with store.locked():
        if overwrite == "always":
            store.forget()
        content = {**store.read_json(), "identity": planned.identity, **planned.planned.facts}
        done = store.load(keys)
        report.warnings += note_code(planned.planned.method, content, "it was audited" if done else None)
        undrawn = [key for key in _pictured(planned) if not store.picture_path(key).is_file()]
        missing = [key for key in keys if key not in done or key in undrawn] if overwrite != "never" else []
        if missing and planned.request.model is not None:
            planned.request.model.load()  # a file that is none is told before anything is fused
        if missing or "provenance" not in content:
            # Without a result until it is judged again: what lies there now may not be what was judged.
            content |= {"provenance": provenance(planned.planned), "result": None}
            store.write_json(content)
            write_prompts(store.prompts_path, planned.prompts)
        try:
            done |= _measure(planned, missing, report, progress)
        finally:
            # Also after Ctrl-C: the journal alone would do, a tidy file is better.
            store.save(keys)
        if overwrite != "never":
            store.save_failures(report.failures)
        if missing:
            _draw(planned, [key for key in _pictured(planned) if key in done and key in missing])
        samples = [done[key] for key in keys if key in done]
        if samples:
            report.audit = judge(samples, planned.planned.method.info.text_use)
            result = _as_json(report.audit, len(keys) - len(samples))
            if content.get("result") != result:
                store.write_json({**content, "result": result})
    report.seconds = time.perf_counter() - started
    return report


def _measure(
    planned: PlannedAudit, keys: Sequence[str], report: AuditReport, progress: Progress
) -> dict[str, SampleMeasures]:
    """Fuse and measure samples, one after the other; loading the next and measuring the last go on meanwhile."""
    measured: dict[str, SampleMeasures] = {}
    pictured = _pictured(planned)
    own = by_key(planned.prompts, planned.planned.dataset.keys)
    reuse = Reuse(planned.planned.method)
    progress(0, len(keys))
    measuring = ThreadPoolExecutor(1, "measure", initializer=compute_alone)
    with ThreadPoolExecutor(1, "load") as loader, measuring as measurer:
        waiting: tuple[str, Future[SampleMeasures]] | None = None

        def measure(evidence: Evidence) -> SampleMeasures:
            if evidence.key in pictured:
                planned.store.keep_images(evidence.key, _outputs(evidence))
            return measure_sample(evidence)

        def settle() -> None:
            if waiting is None:
                return
            key, future = waiting
            try:
                measured[key] = future.result()
            # Any failure of one sample is that sample's: the others go on.
            except Exception as error:
                report.failures[key] = message_of(error)
                return
            planned.store.add(measured[key])
            report.measured += 1
            if key not in pictured:
                planned.store.drop_images(key)

        for number, (key, loading) in enumerate(_ahead(loader, planned.scenes, keys)):
            try:
                evidence = _gather(planned, reuse, loading.result(), own[key], report)
            # As above.
            except Exception as error:
                report.failures[key] = message_of(error)
                evidence = None
            settle()
            waiting = (key, measurer.submit(measure, evidence)) if evidence else None
            progress(number, len(keys))
        settle()
        progress(len(keys), len(keys))
    return measured


def _ahead(loader: ThreadPoolExecutor, scenes: Scenes, keys: Sequence[str]) -> Iterator[tuple[str, Future[Sample]]]:
    """Yield every key with its sample; the next one is being loaded meanwhile."""
    rest = iter(keys)
    waiting = deque((key, loader.submit(scenes.sample, key)) for key in islice(rest, 2))
    while waiting:
        yield waiting.popleft()
        waiting.extend((key, loader.submit(scenes.sample, key)) for key in islice(rest, 1))


def _gather(
    planned: PlannedAudit, reuse: Reuse, sample: Sample, own: Sequence[Prompt], report: AuditReport
) -> Evidence:
    """Fuse a sample under all its prompts, each distinct text once; outputs of an earlier attempt are taken over."""
    store, key = planned.store, sample.key
    mask = _mask(sample) if planned.request.masks == "labels" else None

    def output(name: str, text: str, fuse: Fuse) -> np.ndarray:
        found = store.read_output(key, name, text)
        if found is None:
            try:
                found = fuse(text)
            except MethodError as error:
                doing = f"{error.doing} under the prompt {name!r}"
                raise MethodError(doing, found=error.found, expected=error.expected, hint=error.hint) from error
            store.write_output(key, name, found)
            report.fused += 1
        return found

    first = _first_of_text(own)
    with reuse.pair(sample, tuple(first), mask) as remembering:
        fused = {text: output(name, text, remembering) for text, name in first.items()}
    matching = next(prompt.text for prompt in own if prompt.kind == "matching")
    generator = _generator(planned.request.seed, key)
    disturbed = dataclasses.replace(
        sample, visible=jittered(sample.visible, generator), infrared=jittered(sample.infrared, generator)
    )
    return Evidence(
        key=key,
        prompts=own,
        fused=fused,
        repeated=output(REPEAT, matching, lambda text: reuse.fuse(sample, text, mask)),
        jittered=output(JITTER, matching, lambda text: reuse.fuse(disturbed, text, mask)),
        visible=sample.visible,
        infrared=sample.infrared,
        targets=planned.scenes.targets(key),
        reference=sample.reference,
        model=planned.request.model,
    )


def _first_of_text(own: Sequence[Prompt]) -> dict[str, str]:
    """Return by text the id under which its output is stored: that of the first prompt that says it."""
    first: dict[str, str] = {}
    for prompt in own:
        first.setdefault(prompt.text, prompt.id)
    return first


def _outputs(evidence: Evidence) -> dict[str, tuple[str, np.ndarray]]:
    """Return text and pixels of all outputs of a sample by the name under which they are stored."""
    named = {name: (text, evidence.fused[text]) for text, name in _first_of_text(evidence.prompts).items()}
    matching = evidence.of_kind("matching")[0].text
    return named | {REPEAT: (matching, evidence.repeated), JITTER: (matching, evidence.jittered)}


def _pictured(planned: PlannedAudit) -> tuple[str, ...]:
    return tuple(planned.planned.dataset.keys[: planned.request.pictures])


def _mask(sample: Sample) -> np.ndarray | None:
    from tgfbench.datasets.labels import rasterise

    return None if sample.labels is None else rasterise(sample.labels, sample.infrared.shape)


def _generator(seed: int, key: str) -> np.random.Generator:
    digest = hashlib.sha256(f"jitter:{seed}:{key}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _as_json(result: Audit, left_out: int) -> dict[str, Any]:
    """Return a result as JSON; numbers that do not exist are null."""

    def number(value: float | None) -> float | None:
        return None if value is None or not np.isfinite(value) else value

    return {
        "verdict": result.verdict.value,
        "reasons": list(result.reasons),
        "remarks": list(result.remarks),
        "images": result.images,
        "objects": result.objects,
        "left_out": left_out,
        "estimates": {
            name: {
                "value": number(found.value), "low": number(found.low), "high": number(found.high),
                "images": found.images, "p": found.p,
            }
            for name, found in result.estimates.items()
        },
    }  # fmt: skip


def _draw(planned: PlannedAudit, keys: Sequence[str]) -> None:
    """Draw a sheet for every sample of these, whose outputs are kept."""
    from tgfbench.metrics.audit.pictures import sheet

    own = by_key(planned.prompts, planned.planned.dataset.keys)
    for key in keys:
        by_text = {text: planned.store.read_output(key, name, text) for text, name in _first_of_text(own[key]).items()}
        outputs = {prompt.id: found for prompt in own[key] if (found := by_text[prompt.text]) is not None}
        drawn = sheet(f"{planned.planned.title}, {key}", own[key], outputs, planned.scenes.targets(key))
        planned.store.write_picture(key, drawn)
