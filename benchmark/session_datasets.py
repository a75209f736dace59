"""What the commands ``tgfbench datasets …`` do and print: download, verify, look for leaks, caption."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from tgfbench.benchmark.errors import MAX_LISTED, MAX_NAMED, DataError, UsageError, counted, listed
from tgfbench.benchmark.images import IMAGE_SUFFIXES
from tgfbench.benchmark.records import write_table
from tgfbench.benchmark.session import console, print_failures, progress_bar
from tgfbench.datasets import DATASETS, load_dataset
from tgfbench.datasets.degradations.grammar import parse_entry
from tgfbench.datasets.roots import ROOT_VARIABLE, make_folder

WIDE = 1000

if TYPE_CHECKING:
    from tgfbench.benchmark.plan import DatasetRequest
    from tgfbench.datasets.base import DatasetInfo, Sample
    from tgfbench.datasets.transfer import Progress as Bytes
    from tgfbench.datasets.verify import Report
    from tgfbench.metrics.association import Association


def download_dataset(name: str, root: Path | None, archive: Path | None, accept_terms: bool) -> None:
    """Fetch a dataset, or print the steps that lead to it."""
    from tgfbench.datasets.download import download

    info = card_of(name)
    data_root = root or _root_of_environment()
    if data_root is None:
        expected = "the folder that holds, or shall hold, your datasets"
        hint = f"--data-root DIR, or set {ROOT_VARIABLE}"
        raise UsageError(f"downloading {info.name}", found="no data root", expected=expected, hint=hint)
    with _transfer_bar(info.title) as progress:
        outcome = download(info.name, data_root, archive=archive, accept_terms=accept_terms, progress=progress)
    for number, step in enumerate(outcome.steps, start=1):
        console.print(f"{number}. {escape(step)}")
    for file, digest in outcome.hashes:
        console.print(f"{escape(file)}: sha256 {digest} (its source publishes none to compare with)")
    if outcome.held:
        console.print(f"{info.title}: all {counted(outcome.held, 'pair')} in {escape(str(outcome.folder))} already")
    elif outcome.files:
        console.print(f"{info.title}: {counted(outcome.files, 'file')} in {escape(str(outcome.folder))}")
        console.print(f"licence: {'; '.join(filter(None, (info.licence, info.terms)))}")
        console.print(f"next: tgfbench datasets verify {info.name} --data-root {escape(str(data_root))}")


def verify_dataset(
    request: DatasetRequest, split: str | None, out: Path, *, complete: bool, workers: int | None
) -> bool:
    """Check a dataset, print the report and write it to a folder; returns True if there is no problem."""
    from tgfbench.datasets.verify import held_splits, verify

    info = card_of(request.name)
    dataset = replace(request, split=split or info.widest_split).open()
    splits = held_splits(info, lambda name: replace(request, split=name, limit=None).open())
    make_folder(out, f"writing the report on {info.name}")
    with progress_bar(f"verifying {dataset.info.name}") as progress:
        report = verify(dataset, splits=splits, complete=complete, workers=workers, progress=progress)
    _print_report(report)
    table, text = report.write(out)
    console.print(f"written: {escape(str(text))}, {escape(str(table))}")
    return report.ok


def find_leaks(
    entries: Sequence[str], root: Path | None, options: Mapping[str, Any], threshold: int, out: Path | None
) -> bool:
    """Compare datasets with each other by their images, print and write what they share; returns True for nothing.

    Args:
        entries: two or more ``name[:split]``, or one name whose training and test splits are compared.
        root: folder of the datasets.
        options: constructor arguments of all of them.
        threshold: largest distance that counts as the same.
        out: a CSV file to write, or None.
    """
    from tgfbench.datasets.hashing import near_duplicates
    from tgfbench.datasets.leakage import hash_dataset

    named = [parse_entry(entry) for entry in entries]
    if len(named) == 1:
        (name, split) = named[0]
        if split is not None or not {"train", "test"} <= set(card_of(name).splits):
            expected = "a second one to compare it with, or one dataset that has the splits train and test"
            raise UsageError("looking for leaks", found=f"{entries[0]!r} alone", expected=expected)
        named = [(name, "train"), (name, "test")]
    hashed = []
    for name, split in named:
        dataset = load_dataset(name, root, split or card_of(name).widest_split, **options)
        with progress_bar(f"hashing {dataset.info.name}") as progress:
            hashed.append(hash_dataset(dataset, progress=progress))
        lost = len(dataset) - len(hashed[-1].keys)
        unread = f", {lost} more cannot be read" if lost else ""
        console.print(f"{escape(hashed[-1].name)}: {counted(len(hashed[-1].keys), 'pair')}{unread}")
    rows = []
    for first, second in itertools.combinations(hashed, 2):
        matches = near_duplicates(first, second, threshold)
        rows += [(first.name, match.first, second.name, match.second, match.distance) for match in matches]
        counts = [len({getattr(match, side) for match in matches}) for side in ("first", "second")]
        console.print(
            f"{escape(first.name)} and {escape(second.name)}: "
            + (f"{counts[0]} and {counts[1]} pairs show the same" if matches else "no pair shows the same")
        )
        for match in matches[:MAX_LISTED]:
            console.print(f"  {escape(match.first)}  {escape(match.second)}  distance {match.distance}")
        if len(matches) > MAX_LISTED:
            console.print(f"  … and {len(matches) - MAX_LISTED} more" + ("" if out else "; --out FILE.csv lists all"))
    if out is not None:
        make_folder(out.parent, f"writing {out}")
        write_table(out, ("first", "first_key", "second", "second_key", "distance"), rows)
        console.print(f"written: {escape(str(out))}")
    return not rows


def caption_dataset(request: DatasetRequest, model: str, out: Path | None, options: Mapping[str, Any]) -> bool:
    """Write a caption sidecar; returns True if every pair was described."""
    from tgfbench.datasets.captioning import caption

    dataset = request.open()
    name = dataset.info.name
    root = request.root or _root_of_environment()
    if "+" in name or (out is None and root is None):
        raise UsageError(
            f"captioning {name}",
            found="a degraded dataset" if "+" in name else "nowhere to write to",
            expected="the clean dataset, whose captions serve both" if "+" in name else "--out or --data-root",
        )
    target = out or Path(str(root)) / "captions" / f"{name}.jsonl"
    make_folder(target.parent, f"captioning {name}")
    with progress_bar(f"captioning {name}") as progress:
        report = caption(dataset, model, target, progress=progress, **options)
    console.print(
        f"{counted(report.written, 'pair')} described, {report.kept} left as they were → {escape(str(report.out))}"
    )
    print_failures(report.failed)
    return not report.failed


def make_references(request: DatasetRequest, model: str, text: str, device: str, out: Path) -> bool:
    """Make text-guided reference images and confidences of a dataset; returns True if every pair got them.

    Raises:
        UsageError: there are other images in ``out``, which might be the dataset's own.
    """
    from tgfbench.metrics.association import LabelAssociation, load_association
    from tgfbench.metrics.text_reference import CONFIDENCES, make_text_reference, phrases, write_text_references

    if out.is_dir() and not (out / CONFIDENCES).is_file():
        others = [path.name for path in sorted(out.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
        if others:
            raise UsageError(
                "reading --out",
                found=f"a folder with other images ({listed(others, MAX_NAMED)}): {out}",
                expected=f"a new folder, or one of earlier references, with {CONFIDENCES}",
                hint="another --out",
            )
    dataset = request.open()
    classes = dataset.info.classes
    pretrained = None if model == "labels" else load_association(model, device)

    def association_of(sample: Sample) -> Association:
        if pretrained is not None:
            return pretrained
        if sample.labels is None:
            raise DataError(f"associating the text of {sample.key}", found="no labels", hint="--model DIR")
        return LabelAssociation(sample.labels.boxes, [classes[index] for index in sample.labels.classes])

    made, failed = {}, {}
    with progress_bar(f"references of {dataset.info.name}") as progress:
        for done, key in enumerate(dataset.keys, start=1):
            try:
                sample = dataset.load(key)
                wanted = (text,) if text else phrases(sample.texts.focus, sample.texts.captions)
                made[key] = make_text_reference(sample.infrared, sample.visible, association_of(sample), wanted)
            except DataError as error:
                failed[key] = error.one_line
            progress(done, len(dataset.keys))
    if made:
        write_text_references(out, made)
        found = sum(reference.confidence > 0 for reference in made.values())
        console.print(
            f"{counted(len(made), 'reference')}, {found} with a region of the text; made in tgfbench's own way"
        )
        console.print(f"next: --text-references {escape(str(out))} --confidences {escape(str(out / CONFIDENCES))}")
    print_failures(failed)
    return not failed


def card_of(name: str) -> DatasetInfo:
    """Return the card of a dataset, degraded or not."""
    return DATASETS.load(name.partition("+")[0]).info


def _root_of_environment() -> Path | None:
    return Path(os.environ[ROOT_VARIABLE]) if os.environ.get(ROOT_VARIABLE) else None


def _print_report(report: Report) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in report.summary():
        table.add_row(label, escape(value))
    # A terminal gets lines of its width, a pipe whole ones.
    printer = console if console.is_terminal else Console(width=WIDE, highlight=False)
    printer.print(table, soft_wrap=False)
    for problem in report.problems[:MAX_LISTED]:
        console.print(f"[red]{problem.kind}[/] {escape(problem.item)}: {escape(problem.detail)}")
    if len(report.problems) > MAX_LISTED:
        console.print(f"… and {len(report.problems) - MAX_LISTED} more, see the report")
    for note in report.notes:
        console.print(f"note: {escape(note)}")


@contextmanager
def _transfer_bar(title: str) -> Iterator[Bytes]:
    """Yield a progress callback for bytes; the bar shows on terminals only, and only while bytes are counted."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(title), total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total or None, visible=True)
