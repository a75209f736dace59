"""What ``tgfbench audit`` does from request to terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.markup import escape

from tgfbench.benchmark.audit.controls import Control
from tgfbench.benchmark.audit.plan import AuditRequest, Scenes, plan_audits
from tgfbench.benchmark.audit.runner import AuditReport, audit
from tgfbench.benchmark.audit.store import FOLDER, find_audits
from tgfbench.benchmark.compat import keep_freed_memory
from tgfbench.benchmark.errors import UsageError, counted
from tgfbench.benchmark.images import write_atomically, write_text
from tgfbench.benchmark.plan import MethodRequest, Overwrite
from tgfbench.benchmark.records import FAILURES
from tgfbench.benchmark.session import UNUSABLE, console, print_failures, print_left_out, print_problems, progress_bar
from tgfbench.metrics.audit.prompts import write_prompts
from tgfbench.metrics.audit.report import groups_of, labels_of, render_csv, render_markdown, title_of


def audit_all(
    methods: Sequence[MethodRequest],
    request: AuditRequest,
    root: Path,
    left_out: Mapping[str, str],
    *,
    controls: bool,
    overwrite: Overwrite,
) -> bool:
    """Audit methods, print their verdicts, and rebuild the report.

    Args:
        methods: what to audit.
        request: on what.
        root: folder of the store.
        left_out: reason by name of methods a group name left out.
        controls: also audit the methods of known behaviour and check their verdicts.
        overwrite: see ``audit.audit``.

    Returns:
        True if every pair could be used, every sample measured, and every control got its verdict.
    """
    if not methods and not controls:
        raise UsageError("planning an audit", found="no method that can run here", hint="tgfbench doctor")
    print_left_out(left_out)
    keep_freed_memory()
    audits = plan_audits(methods, request, root, controls=controls)
    problems = audits[0].planned.dataset.problems
    print_problems(problems)
    fine = True
    for planned in audits:
        with progress_bar(planned.planned.title) as progress:
            report = audit(planned, overwrite=overwrite, progress=progress)
        method = planned.planned.method
        method.close()
        _print(report)
        if isinstance(method, Control) and report.audit is not None:
            right = report.audit.verdict is method.expected
            console.print(f"  control: expected {method.expected.value!r}: {'right' if right else '[red]WRONG[/]'}")
            fine &= right
        fine &= not report.failures and report.audit is not None
    paths = write_report(root)
    console.print("written: " + ", ".join(str(path) for path in paths))
    unusable = {problem.item for problem in problems if problem.kind in UNUSABLE}
    if unusable:
        console.print(f"{counted(len(unusable), 'pair')} could not be used, see above; the audits are without them.")
    return fine and not unusable


def write_report(root: Path) -> list[Path]:
    """Rebuild ``audits/audit.csv``, ``audit.md`` and a summary picture per set of images; returns their paths."""
    from tgfbench.metrics.audit.pictures import summary

    contents = [{**folder.read_json(), "id": folder.folder.name} for folder in find_audits(root)]
    written = []
    for name, render in (("audit.csv", render_csv), ("audit.md", render_markdown)):
        path = root / FOLDER / name
        write_text(path, render(contents))
        written.append(path)
    for group, members in groups_of(contents).items():
        path = root / FOLDER / f"{group}.png"
        drawn = summary(title_of(members[0]), members, labels_of(members))
        write_atomically(path, lambda file, drawn=drawn: file.write(drawn))  # type: ignore[misc]
        written.append(path)
    return written


def write_prompt_file(method: str, request: AuditRequest, path: Path) -> None:
    """Generate the prompts for a method and write them, to be edited and handed back."""
    from tgfbench.methods import METHODS

    info = METHODS.load(method).info
    prompts = Scenes(request.dataset.open()).prompts(info, request.seed)
    write_prompts(path, prompts)
    console.print(f"{len(prompts)} prompts of the role {info.text_role} → {escape(str(path))}")


def _print(report: AuditReport) -> None:
    kept = report.samples - report.measured - len(report.failures)
    did = f"fused {counted(report.fused)}, measured {counted(report.measured, 'sample')}, already there {kept}"
    console.print(f"{escape(report.title)}: {did} ({report.seconds:.1f} s) → {escape(str(report.store.folder))}")
    for text in report.warnings:
        console.print(f"  note: {escape(text)}")
    print_failures(report.failures, report.store.folder / FAILURES)
    if report.audit is None:
        return
    console.print(f"  [bold]{escape(report.audit.verdict.value)}[/]")
    for text in report.audit.reasons:
        console.print(f"  - {escape(text)}")
    for text in report.audit.remarks:
        console.print(f"  - note: {escape(text)}")
