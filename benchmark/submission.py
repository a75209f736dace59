"""A run in one file: submitted from one store, validated, imported into another.

The file is JSON: what ``run.json`` holds (identity, card, provenance), the prompt and hash of every fused image, every
score at full precision, and a hash over all of it. It holds no images; who has them can recompute the scores.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tgfbench.benchmark.engines import measure
from tgfbench.benchmark.errors import DataError, UsageError, counted, suggest
from tgfbench.benchmark.images import read_visible, write_text
from tgfbench.benchmark.plan import DatasetRequest
from tgfbench.benchmark.records import run_id, safe_name
from tgfbench.benchmark.registry import normalise
from tgfbench.benchmark.store import Image, Run, find_runs
from tgfbench.benchmark.weights import sha256_of

SUFFIX = ".tgfbench.json"
RELATIVE, ABSOLUTE = 1e-6, 1e-9
"""How far a recomputed score may lie from the stored one: other processors round differently."""


class Identity(BaseModel):
    """What a run id hashes; further entries are kept."""

    model_config = ConfigDict(extra="allow")

    method: str
    weights: str
    options: dict[str, Any]
    dataset: str
    split: str
    images: int
    fingerprint: str
    text_policy: str
    masks: str


class Provenance(BaseModel):
    """Where a run was made; further entries are kept."""

    model_config = ConfigDict(extra="allow")

    device: str = ""
    machine: str = ""
    card: dict[str, Any] = {}


class Facts(BaseModel):
    """What boards read from ``run.json``; further entries are kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    identity: Identity
    title: str
    weights_origin: Literal["authors", "project", "user", "none"]
    weights_card: str = ""
    reconstruction: bool
    tags: list[str]
    seen_in_training: int
    training_note: str = ""
    metrics: dict[str, dict[str, int]]
    finished_at: str
    fuse_seconds: float | None = None
    provenance: Provenance = Provenance()


class Submission(BaseModel):
    """The content of a submission.

    Attributes:
        run: what ``run.json`` holds.
        images: key, prompt and SHA-256 of the PNG; empty where the run has scores only.
        scores: key, metric, protocol, and the value as Python writes it.
        sha256: over the three above.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal["tgfbench-submission"] = "tgfbench-submission"
    schema_version: Literal[1] = 1
    run: dict[str, Any]
    images: list[tuple[str, str, str]]
    scores: list[tuple[str, str, str, str]]
    sha256: str = ""

    def digest(self) -> str:
        """Hash the content."""
        content = [self.run, self.images, self.scores]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def identity(self) -> Identity:
        """The run's identity."""
        return Identity.model_validate(self.run["identity"])

    @property
    def run_id(self) -> str:
        """The run id its identity gives."""
        return run_id(self.run["identity"])

    def values(self) -> dict[tuple[str, str, str], float]:
        """Return the scores by key, metric and protocol."""
        return {(key, metric, protocol): float(value) for key, metric, protocol, value in self.scores}


@dataclass
class Validation:
    """What a validation found.

    Attributes:
        problems: each a sentence; none for a valid submission.
        recomputed: number of scores recomputed from images.
        notes: what could not be checked, and why.
    """

    problems: list[str] = field(default_factory=list)
    recomputed: int = 0
    notes: list[str] = field(default_factory=list)


def find_run(root: Path, name: str) -> Run:
    """Return the run of a store that a run id, ``method@weights`` or method name means.

    Raises:
        UsageError: there is none, or several; lists them.
    """
    named = []
    for run in find_runs(root):
        identity = run.read_json()["identity"]
        label = f"{identity['method']}@{identity['weights']}" if identity["weights"] else identity["method"]
        title = f"{run.folder.name} ({label} on {identity['dataset']})"
        named.append((run, {normalise(run.folder.name), normalise(label), normalise(identity["method"])}, title))
    found = [(run, title) for run, names, title in named if normalise(name) in names]
    if len(found) != 1:
        titles = [title for _, title in found]
        raise UsageError(
            f"looking for the run {name} in {root}",
            found=counted(len(found), "run") + (f": {', '.join(titles[:20])}" if titles else ""),
            expected="one run",
            hint="give the run id" if found else suggest(name, [title for _, _, title in named]),
        )
    return found[0][0]


def pack(run: Run) -> Submission:
    """Return what a finished run submits.

    Raises:
        UsageError: the run is unfinished or holds no score.
        DataError: a fused image changed since it was scored.
    """
    content = run.read_json()
    run.load()
    doing = f"submitting {run.folder}"
    if not content.get("finished_at") or not run.scores:
        raise UsageError(doing, found="an unfinished run", expected="a run with scores", hint="finish it: tgfbench run")
    for key, image in run.images.items():
        path = run.image_path(key)
        if path.is_file() and sha256_of(path) != image.sha256:
            raise DataError(doing, found=f"{path} changed since it was scored", hint="run it again")
    submission = Submission(
        run=content,
        images=[(key, image.text, image.sha256) for key, image in run.images.items()],
        scores=[(*name, repr(value)) for name, value in run.scores.items()],
    )
    submission.sha256 = submission.digest()
    return submission


def write_submission(submission: Submission, out: Path | None = None) -> Path:
    """Write a submission; the file is named after method, dataset and run id where ``out`` is not given."""
    identity = submission.identity
    names = (identity.method, identity.weights or "none", identity.dataset, submission.run_id)
    path = out or Path("-".join(map(safe_name, names)) + SUFFIX)
    write_text(path, submission.model_dump_json(indent=1) + "\n")
    return path


def read_submission(path: Path) -> Submission:
    """Read a submission and check its form.

    Raises:
        DataError: no such file, no submission, or of a newer form; names what is wrong with it.
    """
    doing = f"reading the submission {path}"
    try:
        return Submission.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(doing, found=f"{type(error).__name__}: {error}", expected="a submission file") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(
            doing, found=f"{where}: {first['msg']}", expected="what `tgfbench submit` writes", hint="submit it again"
        ) from error


def validate(submission: Submission, fused: Path | None = None, data_root: Path | None = None) -> Validation:
    """Check hashes and consistency and, where images are at hand, that they give the same scores.

    Args:
        submission: to check.
        fused: folder of the fused images, ``<key>.png``; without it nothing is recomputed.
        data_root: folder of the datasets.
    """
    found = Validation()
    _check_content(submission, found)
    if found.problems:
        return found
    if fused is None:
        found.notes.append("scores not recomputed: give the folder of fused images")
    elif not submission.images:
        found.notes.append("scores not recomputed: the run was submitted without images")
    elif "imported" in submission.run and not fused.is_dir():
        found.notes.append(f"scores not recomputed: an imported run has no images here, and there is no folder {fused}")
    else:
        _recompute(submission, fused, data_root, found)
    return found


def _check_content(submission: Submission, found: Validation) -> None:
    if submission.digest() != submission.sha256:
        found.problems.append("the content does not give the hash noted in the file: it was changed after submission")
    try:
        identity = Facts.model_validate(submission.run).identity
    except ValidationError as error:
        for problem in error.errors()[:5]:
            found.problems.append(f"run.json: {'.'.join(map(str, problem['loc']))}: {problem['msg']}")
        return
    if submission.run.get("schema") not in range(1, Run.SCHEMA + 1):
        found.problems.append(f"the run is of schema {submission.run.get('schema')}, known is {Run.SCHEMA}")
    if submission.run.get("id") != submission.run_id:
        found.problems.append(f"the identity gives the run id {submission.run_id}, not {submission.run.get('id')}")
    keys = [key for key, _, _ in submission.images]
    scored = {key for key, _, _, _ in submission.scores}
    bad = sorted(key for key in {*keys, *scored} if not _path_safe(key))
    if bad:
        found.problems.append(f"names that are no file names: {', '.join(map(repr, bad[:5]))}")
    if len(set(keys)) != len(keys) or len({score[:3] for score in submission.scores}) != len(submission.scores):
        found.problems.append("an image or a score occurs twice")
    if keys and scored - set(keys):
        found.problems.append(f"scores of images that are not listed: {', '.join(sorted(scored - set(keys))[:5])}")
    if len(scored) > identity.images:
        found.problems.append(f"scores of {len(scored)} images, but {identity.images} were asked for")
    for key, metric, protocol, value in submission.scores:
        if not _is_number(value):
            found.problems.append(f"the score {metric} ({protocol}) of {key} is no number: {value!r}")
            break
    _check_metrics(submission, found)


def _check_metrics(submission: Submission, found: Validation) -> None:
    from tgfbench.metrics import load_protocol

    noted = submission.run.get("metrics", {})
    for protocol in sorted({score[2] for score in submission.scores}):
        metrics = sorted({score[1] for score in submission.scores if score[2] == protocol})
        try:
            versions = load_protocol(protocol).select(metrics).versions()
        except UsageError as error:
            found.problems.append(error.one_line)
            continue
        lacking = [metric for metric in metrics if metric not in noted.get(protocol, {})]
        if lacking:
            found.problems.append(f"no version noted for {', '.join(lacking)} ({protocol})")
        others = [m for m, version in versions.items() if noted.get(protocol, {}).get(m, version) != version]
        if others:
            found.notes.append(f"{', '.join(others)} ({protocol}): of another version than the one here")


def _path_safe(key: str) -> bool:
    parts = Path(key).parts
    return bool(key) and "\0" not in key and not Path(key).is_absolute() and ".." not in parts and "\\" not in key


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _recompute(submission: Submission, fused: Path, data_root: Path | None, found: Validation) -> None:
    identity = submission.identity
    dataset = DatasetRequest(identity.dataset, data_root, identity.split).open()
    if len(dataset.keys) > identity.images:
        dataset.keys = dataset.keys[: identity.images]
    if dataset.fingerprint() != identity.fingerprint:
        found.notes.append(f"scores not recomputed: {identity.dataset} here holds other images than those submitted")
        return
    stored = submission.values()
    images = {key: Image(text, sha256) for key, text, sha256 in submission.images}
    protocols = _protocols(submission, found)
    for sample in dataset:
        if sample.key not in images:
            continue
        path = fused / f"{sample.key}.png"
        if not path.is_file():
            found.problems.append(f"the fused image {path} is missing")
        elif sha256_of(path) != images[sample.key].sha256:
            found.problems.append(f"the fused image {path} is not the one that was scored")
        else:
            for protocol in protocols:
                values, _, _ = measure(protocol, read_visible(path), sample)
                _compare(sample.key, protocol.name, values, stored, found)


def _protocols(submission: Submission, found: Validation) -> list[Any]:
    from tgfbench.metrics import load_protocol

    protocols = []
    noted: Mapping[str, Mapping[str, int]] = submission.run["metrics"]
    for name in sorted({score[2] for score in submission.scores}):
        protocol = load_protocol(name).select(sorted({score[1] for score in submission.scores if score[2] == name}))
        versions = protocol.versions()
        fit = [
            metric
            for metric in protocol.metrics
            if versions[metric] == noted[name][metric] and "confidence" not in protocol.info(metric).needs
        ]
        left = [metric for metric in protocol.metrics if metric not in fit]
        if left:
            found.notes.append(f"not recomputed: {', '.join(left)} ({name})")
        protocols += [protocol.select(fit)] if fit else []
    return protocols


def _compare(
    key: str,
    protocol: str,
    values: Mapping[str, float],
    stored: Mapping[tuple[str, str, str], float],
    found: Validation,
) -> None:
    for metric, value in values.items():
        claimed = stored.get((key, metric, protocol))
        if claimed is None:
            continue
        found.recomputed += 1
        same = math.isclose(value, claimed, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        if not same and not (math.isnan(value) and math.isnan(claimed)):
            found.problems.append(f"{metric} ({protocol}) of {key}: submitted {claimed!r}, recomputed {value!r}")


def import_submission(submission: Submission, root: Path, source: str) -> Run:
    """Put a submission into a store, marked as imported.

    Args:
        submission: to import; it must be valid but for what needs images.
        root: folder of the store.
        source: name of the file, noted in ``run.json``.

    Raises:
        DataError: it is not valid; lists the problems.
        UsageError: the store holds this run, made here.
    """
    problems = validate(submission).problems
    if problems:
        raise DataError(f"importing {source}", found="; ".join(problems[:5]), expected="a valid submission")
    run = Run.of(root, submission.run["identity"])
    if run.exists() and "imported" not in run.read_json():
        raise UsageError(
            f"importing {source}", found=f"the run {run.folder}, made here", hint="compare the two: tgfbench validate"
        )
    with run.locked():
        run.images = {key: Image(text, sha256) for key, text, sha256 in submission.images}
        run.scores = submission.values()
        keys = dict.fromkeys([*run.images, *(score[0] for score in submission.scores)])
        run.save(list(keys), {p: list(metrics) for p, metrics in submission.run["metrics"].items()})
        content = {name: value for name, value in submission.run.items() if name not in ("schema", "id")}
        run.write_json({**content, "imported": {"file": source, "kind": "run", "sha256": submission.sha256}})
    return run
