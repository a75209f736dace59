"""What ``tgfbench downstream`` does from request to terminal: plan, fuse, train, test, report, rebuild boards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tgfbench.benchmark.downstream.parallel import perform_all
from tgfbench.benchmark.downstream.plan import DownstreamRequest, Evaluation, PlannedMethod, plan_evaluation
from tgfbench.benchmark.downstream.report import Row, report
from tgfbench.benchmark.downstream.runner import THREADS, fuse_missing, prepare
from tgfbench.benchmark.downstream.store import Work
from tgfbench.benchmark.errors import MAX_NAMED, UsageError, counted, listed
from tgfbench.benchmark.plan import RunSpec
from tgfbench.benchmark.session import console, print_left_out, progress_bar, write_boards
from tgfbench.methods import resolve_device

MAX_WIDTH = 1000

Todo = list[tuple[PlannedMethod, int | None]]


def evaluate(
    request: DownstreamRequest,
    specs: Sequence[RunSpec],
    root: Path,
    left_out: Mapping[str, str],
    *,
    device: str = "auto",
    workers: int = 2,
    jobs: int | None = None,
) -> bool:
    """Bring an evaluation to completion, print its tables and rebuild the leaderboards.

    Args:
        request: what is asked for.
        specs: one per method; their dataset is the request's.
        root: folder of the store.
        left_out: reason by name of methods a group name left out.
        device: of the task.
        workers: decoding threads.
        jobs: works at a time; None takes as many as there are cores, where the recipe says how many one work needs.

    Returns:
        True if every method was tested with every seed.
    """
    if not specs:
        raise UsageError("planning", found="no method that can run here", hint="tgfbench doctor")
    print_left_out(left_out)
    place = str(resolve_device(device))
    with progress_bar("labels") as progress:
        evaluation = plan_evaluation(request, specs, root, progress)
    _print_plan(evaluation)
    unfinished = [method for method in evaluation.methods if not _finished(evaluation, method)]
    failures = _fuse(evaluation, unfinished, workers)
    for method in evaluation.methods:
        method.method.close()
    todo: Todo = [
        (method, seed)
        for method in unfinished
        if method.title not in failures
        for seed in evaluation.seeds
        if not _is_done(evaluation, method, seed)
    ]
    failures |= _work(evaluation, todo, place, jobs or _at_a_time(evaluation, place))
    rows = _rows(evaluation)
    for part in report(rows) if rows else ():
        # A number that is cut off says nothing: a narrow terminal gets long lines.
        needed = console.measure(part, options=console.options.update(width=MAX_WIDTH)).maximum
        wide = Console(file=console.file, width=max(console.width, needed), highlight=False, soft_wrap=True)
        wide.print(part)
    for title, reason in failures.items():
        console.print(f"[red]failed[/] {escape(title)}: {escape(reason)}")
    if not unfinished:
        console.print("Nothing was computed: everything asked for was in the store.")
    if rows:
        write_boards(root, ("csv", "md"), quiet=True)
    return not failures


def _print_plan(evaluation: Evaluation) -> None:
    recipe, sets = evaluation.recipe, evaluation.sets
    console.print(
        f"{escape(evaluation.task.title)}, recipe {escape(recipe.name)}: {escape(recipe.model)}, "
        f"{counted(recipe.epochs_over(len(sets.train.keys)), 'epoch')}, image size {recipe.image_size}"
        if sets.train
        else f"{escape(evaluation.task.title)} with {escape(str(evaluation.request.model))}"
    )
    told = [(sets.train, "training image"), (sets.test, "test image")]
    parts = [f"{counted(len(found.keys), what)} of split {found.dataset.split}" for found, what in told if found]
    console.print(f"{sets.test.dataset.info.name}: {', '.join(parts)}")


def _fuse(evaluation: Evaluation, methods: Sequence[PlannedMethod], workers: int) -> dict[str, str]:
    """Fuse what is missing; returns why by title for methods that cannot be compared."""
    failures = {}
    for method in methods:
        with progress_bar(f"{method.title}: fusing") as progress:
            reports = fuse_missing(evaluation, method, workers, progress)
        fused = sum(found.fused for found in reports)
        if fused:
            seconds = sum(found.seconds for found in reports)
            console.print(f"{escape(method.title)}: fused {counted(fused)} ({seconds:.0f} s)")
        failed = {key: why for found in reports for key, why in found.failures.items()}
        if failed:
            named = listed((f"{key}: {why}" for key, why in failed.items()), MAX_NAMED, "; ")
            failures[method.title] = f"{counted(len(failed))} could not be fused ({named})"
    return failures


def _work(evaluation: Evaluation, todo: Todo, device: str, jobs: int) -> dict[str, str]:
    failures: dict[str, str] = {}
    prepared = [prepare(evaluation, method, seed, device, max(1, THREADS // jobs)) for method, seed in todo]
    shares = [0.0] * len(prepared)
    begun: dict[int, float] = {}
    with _overall_bar(len(prepared)) as progress:

        def told(number: int, doing: str, share: float) -> None:
            begun.setdefault(number, time.perf_counter())
            shares[number] = share
            progress(f"{prepared[number].title}: {doing}", sum(shares))

        def ended(number: int, reason: str) -> None:
            shares[number] = 1.0
            if reason:
                failures[prepared[number].title] = reason
                return
            seconds = time.perf_counter() - begun.get(number, time.perf_counter())
            done = sum(share == 1 for share in shares)
            console.print(f"{escape(prepared[number].title)}: done, {done} of {len(prepared)} ({seconds:.0f} s)")

        perform_all(prepared, jobs, told, ended)
    return failures


def _at_a_time(evaluation: Evaluation, device: str) -> int:
    """Return how many works to do at a time: as many as have cores of their own."""
    threads = evaluation.recipe.cpu_threads
    return max(1, THREADS // threads) if device == "cpu" and threads else 1


@contextlib.contextmanager
def _overall_bar(total: int) -> Iterator[Callable[[str, float], None]]:
    """Yield a callback (description, works done); the bar shows on terminals only, with the time that remains."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeElapsedColumn(),
    )
    hidden = not console.is_terminal or not total
    remaining = TimeRemainingColumn(elapsed_when_finished=True)
    # The speed of the last two minutes: steps of training and of testing take different times.
    with Progress(
        *columns, remaining, console=console, transient=True, disable=hidden, speed_estimate_period=120
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda doing, done: bar.update(task, completed=done, description=escape(doing))


def _is_done(evaluation: Evaluation, method: PlannedMethod, seed: int | None) -> bool:
    work = evaluation.work(method, seed)
    return work is not None and work.finished()


def _finished(evaluation: Evaluation, method: PlannedMethod) -> bool:
    return all(_is_done(evaluation, method, seed) for seed in evaluation.seeds)


def _rows(evaluation: Evaluation) -> list[Row]:
    rows = []
    for method in evaluation.methods:
        works = [evaluation.work(method, seed) for seed in evaluation.seeds]
        done: list[Work] = [work for work in works if work is not None and work.finished()]
        if done:
            rows.append(Row.of(method.title, done))
    return rows
