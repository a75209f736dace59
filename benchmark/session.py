"""What a user's command does from request to terminal: plan, execute with a progress bar, report, rebuild boards."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tgfbench.benchmark.engines import fuse_sample, make_engine
from tgfbench.benchmark.errors import (
    MAX_LISTED,
    MAX_NAMED,
    DataError,
    TgfbenchError,
    UsageError,
    counted,
    listed,
    suggest,
)
from tgfbench.benchmark.images import images_by_stem, read_infrared, read_visible, write_png
from tgfbench.benchmark.plan import MethodRequest, Overwrite, PlannedRun, RunSpec, plan_runs
from tgfbench.benchmark.profile import profile
from tgfbench.benchmark.records import FAILURES
from tgfbench.benchmark.registry import normalise
from tgfbench.benchmark.results import store_frames
from tgfbench.benchmark.runner import RunReport, execute

if TYPE_CHECKING:
    import pandas as pd

    from tgfbench.benchmark.runner import Progress as ProgressCallback
    from tgfbench.datasets.base import Problem

UNUSABLE = ("size-mismatch", "unreadable")
"""Problems of a dataset that cost a pair; unpaired files and odd labels are worth a note only."""

console = Console(highlight=False, soft_wrap=True)


def run_all(
    specs: Sequence[RunSpec],
    root: Path,
    left_out: Mapping[str, str],
    *,
    overwrite: Overwrite,
    engine_name: str,
    workers: int,
) -> bool:
    """Plan and execute runs, print what happened, and rebuild the leaderboards.

    Args:
        specs: what to run.
        root: folder of the store.
        left_out: reason by name of methods a group name left out.
        overwrite: see ``runner.execute``.
        engine_name: ``local`` or ``ray``.
        workers: of the engine.

    Returns:
        True if every image of every run is there and measured.
    """
    if not specs:
        raise UsageError("planning", found="no method that can run here", hint="tgfbench doctor")
    print_left_out(left_out)
    engine = make_engine(engine_name, workers, specs[0].method.device)
    planned_runs = plan_runs(specs, root)
    _print_sizes(planned_runs)
    reports = []
    for planned in planned_runs:
        with progress_bar(planned.title) as progress:
            report = execute(planned, overwrite=overwrite, engine=engine, progress=progress)
        planned.method.close()
        _print_report(report, [*map(str, planned.dataset.problems)])
        extras = unmatched_files(planned)
        if extras:
            report.failures |= {name: "not the name of any pair" for name in extras}
            matching = f"{counted(len(extras), 'file')} {'matches' if len(extras) == 1 else 'match'} no pair"
            console.print(f"  {matching}: {escape(listed(extras, MAX_NAMED))}")
        reports.append(report)
    if any(run.run.images for run in planned_runs):
        write_boards(root, ("csv", "md"), quiet=False, datasets={p.run.folder for p in planned_runs})
    failed = [report for report in reports if report.failures]
    unusable = {p.item for run in planned_runs for p in run.dataset.problems if p.kind in UNUSABLE}
    if failed:
        count = sum(len(report.failures) for report in failed)
        runs = f"{len(failed)} of {counted(len(reports), 'run')}"
        console.print(f"{counted(count, 'item')} failed in {runs}; all others are stored.")
    elif not any(report.fused or report.measured for report in reports):
        console.print("Nothing was computed: everything asked for was in the store.")
    if unusable:
        console.print(f"{counted(len(unusable), 'pair')} could not be used, see above; the boards are without them.")
    return not failed and not unusable


def unmatched_files(planned: PlannedRun) -> list[str]:
    """Return the files of a folder of fused images that belong to no pair."""
    unmatched = getattr(planned.method, "unmatched", None)
    return list(unmatched(planned.dataset.keys)) if unmatched else []


def write_boards(
    root: Path,
    formats: Sequence[str],
    quiet: bool,
    datasets: set[Path] | None = None,
    protocol: str = "",
    preset: str = "",
) -> None:
    """Rebuild ``leaderboard.*`` from the store and print the boards.

    Args:
        root: folder of the store.
        formats: file formats.
        quiet: print only the paths.
        datasets: run folders; only boards holding one of them are printed, all of them by default.
        protocol: only boards of this protocol are made, "" for all.
        preset: only the boards fixed under this name, see ``leaderboards.presets``; files are named after it.

    Raises:
        UsageError: one board of several protocols is asked for, or the store has no score of the protocol.
    """
    from tgfbench.leaderboards import render
    from tgfbench.leaderboards.board import build_boards
    from tgfbench.leaderboards.presets import find_preset

    render.check_formats(formats)
    fixed = find_preset(preset) if preset else None
    frames = store_frames(root)
    if protocol:
        frames = _of_protocol(frames, protocol)
    introduction: tuple[str, ...] = ()
    stem = render.FILE_STEM
    if fixed:
        frames = fixed.select(*frames)
        introduction, stem = fixed.introduction(frames[0]), f"{stem}-{fixed.name}"
    boards = build_boards(*frames)
    paths = render.write_boards(boards, root, formats, introduction, stem)
    for line in introduction:
        console.print(escape(line))
    if not quiet:
        from tgfbench.leaderboards.console import boards_to_console

        ids = None if datasets is None else {folder.name for folder in datasets}
        console.print(boards_to_console([b for b in boards if ids is None or ids & set(b.rows.index)]))
    console.print("written: " + ", ".join(str(path) for path in paths))


def compare_rows(root: Path, first: str, second: str, *, dataset: str, protocol: str, as_json: bool) -> None:
    """Print a paired comparison of two rows for every board that holds both.

    Raises:
        UsageError: a row is unknown, or no board holds both; says what keeps them apart.
    """
    from tgfbench.leaderboards.board import build_boards
    from tgfbench.leaderboards.compare import compare

    frames = store_frames(root)
    found = compare(build_boards(*(_of_protocol(frames, protocol) if protocol else frames)), first, second, dataset)
    if as_json:
        from tgfbench.leaderboards.machine import comparisons_to_json

        print(comparisons_to_json(found), end="")
        return
    from tgfbench.leaderboards.console import comparisons_to_console

    console.print(comparisons_to_console(found))


def take_scores(file: Path, root: Path, *, dataset: str, split: str, protocol: str, name: str) -> None:
    """Store scores that were computed elsewhere and rebuild the boards they are on."""
    from tgfbench.benchmark.scores import store_scores
    from tgfbench.metrics import load_protocol

    runs = store_scores(file, root, dataset=dataset, split=split, protocol=load_protocol(protocol), name=name)
    scores = counted(sum(len(run.scores) for run in runs), "score")
    console.print(f"{counted(len(runs), 'method')} with {scores} stored, without images")
    write_boards(root, ("csv", "md"), quiet=False, datasets={run.folder for run in runs})


def write_meta_analysis(root: Path, protocol: str) -> None:
    """Write ``meta-analysis.md`` and print it."""
    from tgfbench.benchmark.images import write_text
    from tgfbench.leaderboards.board import build_boards
    from tgfbench.leaderboards.meta import render_meta

    frames = store_frames(root)
    text = render_meta(build_boards(*(_of_protocol(frames, protocol) if protocol else frames)))
    write_text(root / "meta-analysis.md", text)
    console.print(escape(text) + f"written: {escape(str(root / 'meta-analysis.md'))}")


def write_site(root: Path, folder: Path, most_images: int) -> None:
    """Write the static web page of a store and print where it is."""
    from tgfbench.benchmark.audit.results import picture_frame
    from tgfbench.benchmark.results import image_frame, prediction_frame
    from tgfbench.leaderboards.site import build_site

    drawn = prediction_frame(root), picture_frame(root)
    pages = build_site(*store_frames(root), image_frame(root), folder, most_images, *drawn)
    console.print(f"{counted(len(pages), 'page')} written, open {escape(str(pages[0]))}")


def _of_protocol(
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], protocol: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    runs, scores, metrics = frames
    names = [name.strip() for name in protocol.split(",") if name.strip()]
    stored = sorted(scores["protocol"].unique())
    if len(names) != 1:
        raise UsageError(
            f"making one board of the protocols {' and '.join(names)}",
            found="numbers under one name that follow different conventions",
            expected="one protocol per board",
            hint="a board each; `tgfbench explain METRIC --protocols A,B` shows what the difference does",
        )
    wanted = [name for name in stored if normalise(name) == normalise(names[0])]
    if not wanted:
        raise UsageError(f"making a board of the protocol {names[0]}", found="no score", hint=suggest(names[0], stored))
    scores = scores[scores["protocol"].isin(wanted)]
    kept = runs[runs["run_id"].isin(scores["run_id"])]
    return kept, scores, metrics[metrics["protocol"].isin(wanted)]


def fuse_files(request: MethodRequest, visible: Path, infrared: Path, text: str, out: Path) -> bool:
    """Fuse one pair or two folders of pairs; returns True if all of them worked."""
    pairs = list(_pairs(visible, infrared, out))
    sources = {path.resolve() for _, *paths, _ in pairs for path in paths}
    for *_, target in pairs:
        if target.resolve() in sources:
            found = f"an output that would replace the source {target}"
            raise UsageError("reading --out", found=found, expected="a place of its own", hint="another --out")
    method = request.load()
    prompt = text or method.info.default_text
    failures = {}
    with progress_bar(method.info.name) as progress:
        for done, (key, visible_path, infrared_path, target) in enumerate(pairs, start=1):
            try:
                write_png(target, fuse_sample(method, _read_pair(key, visible_path, infrared_path), prompt))
            except TgfbenchError as error:
                failures[key] = error.one_line
            progress(done, len(pairs))
    for key, message in failures.items():
        console.print(f"[red]failed[/] {escape(key)}: {escape(message)}")
    console.print(f"{len(pairs) - len(failures)} of {counted(len(pairs), 'pair')} fused into {escape(str(out))}")
    return not failures


def profile_methods(
    names: Sequence[str], left_out: Mapping[str, str], weights: str | None, options: Mapping[str, Any]
) -> bool:
    """Print what methods cost, a row each as soon as it is known; returns True if all of them ran."""
    print_left_out(left_out)
    width, height = options["size"]
    console.print(f"{width}x{height}, batch 1, {options['threads']} threads, median of {options['repeats']}")
    row = "{:32} {:>10} {:>10} {:>12} {:>10}  {}"
    console.print(row.format("method", "seconds", "peak MiB", "parameters", "GFLOPs", "device"))
    failed = 0
    for name in names:
        try:
            cost = profile(name, weights=weights, **options)
        except TgfbenchError as error:
            failed += 1
            console.print(f"[red]failed[/] {escape(name)}: {escape(error.one_line)}")
            continue
        label = f"{cost.method}@{cost.weights}" if cost.weights else cost.method
        numbers = (f"{cost.seconds:.3f}", f"{cost.peak_mib:.0f}", f"{cost.parameters:,}", f"{cost.gflops:.2f}")
        console.print(escape(row.format(label, *numbers, cost.device)))
        if cost.autocast:
            half = cost.autocast
            numbers = (f"{half.seconds:.3f}", f"{half.peak_mib:.0f}", "", "")
            note = f"float16 autocast, deviates by {half.deviation:.2g} of the range"
            console.print(row.format("", *numbers, note))
    return not failed


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback]:
    """Yield a progress callback; the bar shows on terminals only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(escape(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _pairs(visible: Path, infrared: Path, out: Path) -> Iterator[tuple[str, Path, Path, Path]]:
    if visible.is_dir() != infrared.is_dir():
        raise UsageError("reading --visible and --infrared", found="a folder and a file", expected="two of a kind")
    if not visible.is_dir():
        target = out / f"{visible.stem}.png" if out.is_dir() or not out.suffix else out
        if target.suffix.lower() != ".png":
            raise UsageError("reading --out", found=str(out), expected="a .png file or a folder (PNG is lossless)")
        yield visible.stem, visible, infrared, target
        return
    ours, theirs = images_by_stem(visible), images_by_stem(infrared)
    both = [stem for stem in ours if stem in theirs]
    alone = sorted(set(ours) ^ set(theirs))
    if not both:
        raise DataError(f"pairing {visible} with {infrared}", found="no common stem", expected="equal file names")
    if alone:
        console.print(f"left out, having no partner: {escape(listed(alone))}")
    for stem in both:
        yield stem, ours[stem], theirs[stem], out / f"{stem}.png"


def _read_pair(key: str, visible: Path, infrared: Path):  # type: ignore[no-untyped-def]  # Sample, imported late
    from tgfbench.datasets.base import Sample

    sample = Sample(key, read_visible(visible), read_infrared(infrared))
    if sample.visible.shape[:2] != sample.infrared.shape:
        sizes = [f"{w}x{h}" for h, w in (sample.visible.shape[:2], sample.infrared.shape)]
        raise DataError(
            f"pairing {visible} with {infrared}", found=f"{sizes[0]} and {sizes[1]} pixels", expected="equal sizes"
        )
    return sample


def _print_sizes(planned_runs: Sequence[PlannedRun]) -> None:
    seen = set()
    for planned in planned_runs:
        dataset = planned.dataset
        if id(dataset) in seen:
            continue
        seen.add(id(dataset))
        problems = f", {counted(len(dataset.problems), 'problem')}" if dataset.problems else ""
        console.print(f"{dataset.info.name}: {counted(len(dataset), 'pair')} of split {dataset.split}{problems}")
        print_problems(dataset.problems, planned.run.json_path)


def print_left_out(methods: Mapping[str, str]) -> None:
    """Print why methods of a group name do not take part, by name."""
    for name, reason in methods.items():
        console.print(f"left out {escape(name)}: {escape(reason)}")


def print_problems(problems: Iterable[Problem], everything: Path | None = None) -> None:
    """Print the problems of a dataset: those that cost a pair first, the rest is worth a note only."""
    _print_first((escape(str(p)) for p in sorted(problems, key=lambda p: p.kind not in UNUSABLE)), everything)


def print_failures(failures: Mapping[str, str], table: Path | None = None) -> None:
    """Print failures: the first few with their number where a file holds them all."""
    _print_first((f"[red]failed[/] {escape(key)}: {escape(failures[key])}" for key in sorted(failures)), table)


def _print_first(lines: Iterable[str], everything: Path | None) -> None:
    every, most = list(lines), MAX_NAMED if everything else MAX_LISTED
    for line in every[:most]:
        console.print(f"  {line}")
    if len(every) > most:
        console.print(f"  … {len(every)} in all" + (f", see {escape(str(everything))}" if everything else ""))


def _print_report(report: RunReport, told: Collection[str]) -> None:
    """Print what happened to a run, but for what was ``told`` of its dataset."""
    title = escape(report.title)
    if report.skipped:
        console.print(f"{title}: left as it is (overwrite never)")
        return
    kept = report.images - report.fused - sum(1 for key in report.failures if key)
    did = f"fused {report.fused}, already there {max(kept, 0)}, measured {counted(report.measured, 'value')}"
    if not (report.fused or report.measured or report.failures):
        did = f"{counted(report.images)} already there with all scores, nothing recomputed"
    console.print(f"{title}: {did} ({report.seconds:.1f} s) → {escape(str(report.folder))}")
    for warning in report.warnings:
        if warning not in told:
            console.print(f"  note: {escape(warning)}")
    print_failures(report.failures, report.folder / FAILURES)
