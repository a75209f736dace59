"""Audits as CSV and Markdown. The same audits give the same bytes: no dates, no machine, no order of execution."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tgfbench.benchmark.errors import counted
from tgfbench.metrics.audit.verdict import Verdict

COLUMNS = (
    "dataset", "split", "images", "fingerprint", "seed", "masks", "method", "weights", "weights_origin", "audit_id",
    "prompts_origin", "verdict", "statistic", "value", "low", "high", "n", "p",
)  # fmt: skip

LABELLED = 12
"""Characters of a value in a label: enough of a hash, and of most options."""

Content = Mapping[str, Any]
"""What ``audit.json`` holds."""

_TABLE = (
    ("text / none", "presence / floor", "how many noise floors the output moves when the prompt is taken away"),
    ("other meaning", "meaning / floor", "how many noise floors it moves under another meaning"),
    ("paraphrase", "paraphrase / meaning", "movement under a paraphrase as a share of that; 0 is ideal"),
    ("nonsense", "nonsense response / sense response", "answer to nonsense as a share of the answer to sense"),
    ("energy / area", "energy / area", "share of the change inside the named object over its area; 1 is chance"),
    ("specificity", "specificity", "that share, less the share when something else is named; 0 is chance"),
    ("contrast", "contrast gain", "gain of the named object's contrast over other words, grey levels"),
    ("CLIP agreement", "language-image agreement", "how much more outputs resemble their own text than each other's"),
    ("PSNR gain", "PSNR gain, right over wrong", "right over wrong instruction, dB"),
)
"""Columns of the Markdown table: heading, statistic, meaning."""

_ORDER = (Verdict.LOCAL, Verdict.UNDIRECTED, Verdict.GLOBAL, Verdict.WORDING, Verdict.NOTHING, Verdict.UNDECIDED)


def in_order(audits: Sequence[Content]) -> list[Content]:
    """Return the finished audits in the order of a report: dataset, images, verdict, name."""
    finished = [content for content in audits if content.get("result")]

    def place(content: Content) -> tuple[Any, ...]:
        verdict = _ORDER.index(Verdict(content["result"]["verdict"]))
        return (*_group(content), verdict, label_of(content), content["id"])

    return sorted(finished, key=place)


def label_of(content: Content) -> str:
    """Return ``method@weights``, or the method alone where it has no weights."""
    identity = content["identity"]
    return f"{identity['method']}@{identity['weights']}" if identity["weights"] else str(identity["method"])


def title_of(content: Content) -> str:
    """Return the images of an audit in words."""
    identity = content["identity"]
    return f"{identity['dataset']}, {identity['split']}: {counted(identity['images'])}, seed {identity['seed']}"


def labels_of(audits: Sequence[Content]) -> list[str]:
    """Return a name for each audit: that of ``label_of``, and what tells those apart that share it."""
    facts = [{**content["identity"], **content["identity"].get("options", {})} for content in audits]
    labels = []
    for content, own in zip(audits, facts, strict=True):
        label = label_of(content)
        alike = [other for member, other in zip(audits, facts, strict=True) if label_of(member) == label]
        telling = [
            f"{name}={str(value)[:LABELLED]}"
            for name, value in sorted(own.items())
            if name != "options" and any(other.get(name) != value for other in alike)
        ]
        labels.append(f"{label} ({', '.join(telling)})" if telling else label)
    return labels


def render_csv(audits: Sequence[Content]) -> str:
    """Render one line per method and statistic, full precision; what does not exist is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for content in in_order(audits):
        identity, result = content["identity"], content["result"]
        facts = [
            identity["dataset"], identity["split"], result["images"], identity["fingerprint"], identity["seed"],
            identity["masks"], identity["method"], identity["weights"], content["weights_origin"], content["id"],
            identity["prompts_origin"], result["verdict"],
        ]  # fmt: skip
        for statistic, found in result["estimates"].items():
            numbers = [found["value"], found["low"], found["high"], found["images"], found["p"]]
            writer.writerow([*facts, statistic, *("" if number is None else repr(number) for number in numbers)])
    return buffer.getvalue()


def render_markdown(audits: Sequence[Content]) -> str:
    """Render a table per set of images, and for every method what justifies its verdict."""
    lines = ["# Does the text do anything?", ""]
    groups: dict[tuple[Any, ...], list[Content]] = {}
    for content in in_order(audits):
        groups.setdefault(_group(content), []).append(content)
    for (*_, fingerprint, _, masks), members in groups.items():
        lines += [f"## {title_of(members[0])}", ""]
        lines += [f"Masks handed to the methods: {masks}. Data fingerprint: {fingerprint[:12]}.", ""]
        labels = [_escaped(label) for label in labels_of(members)]
        lines += _table(members, labels)
        for content, label in zip(members, labels, strict=True):
            lines += _justification(content, label)
    lines += ["Ratios and means are over images, with 95 % bootstrap intervals in brackets:", ""]
    lines += [f"- *{heading}*: {meaning}" for heading, _, meaning in _TABLE]
    return "\n".join(lines) + "\n"


def groups_of(audits: Sequence[Content]) -> dict[str, list[Content]]:
    """Return the finished audits by set of images and seed, under names that are safe as file names."""
    found: dict[str, list[Content]] = {}
    for content in in_order(audits):
        identity = content["identity"]
        masks = "" if identity["masks"] == "none" else f"-{identity['masks']}"
        name = f"{identity['dataset']}-{identity['split']}-{identity['fingerprint'][:8]}-seed{identity['seed']}{masks}"
        found.setdefault(re.sub(r"[^\w.+-]+", "-", name), []).append(content)
    return found


def _group(content: Content) -> tuple[Any, ...]:
    identity = content["identity"]
    return (
        identity["dataset"], identity["split"], identity["images"], identity["fingerprint"], identity["seed"],
        identity["masks"],
    )  # fmt: skip


def _table(members: Sequence[Content], labels: Sequence[str]) -> list[str]:
    shown = [
        (heading, statistic)
        for heading, statistic, _ in _TABLE
        if any(statistic in content["result"]["estimates"] for content in members)
    ]
    headings = ["method", "verdict", *(heading for heading, _ in shown)]
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    for content, label in zip(members, labels, strict=True):
        result = content["result"]
        cells = [_cell(result["estimates"].get(statistic)) for _, statistic in shown]
        lines.append(f"| {' | '.join([label, result['verdict'], *cells])} |")
    return [*lines, ""]


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "n/a"
    interval = "" if found["low"] is None else f" [{found['low']:.3g}, {found['high']:.3g}]"
    return f"{found['value']:.3g}{interval}"


def _justification(content: Content, label: str) -> list[str]:
    result = content["result"]
    head = f"**{label}** (audit {content['id']}"
    head += ", project-trained weights" if content["weights_origin"] == "project" else ""
    head += f"): {result['verdict']}."
    left_out = result.get("left_out", 0)
    failed = [f"- {counted(left_out, 'sample')} failed or not done, left out of these numbers"] if left_out else []
    said = [f"- {_escaped(text)}" for text in (*result["reasons"], *result["remarks"])]
    return [head, "", *said, *failed, ""]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
