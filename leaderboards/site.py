"""The static web page: boards, methods, metrics and a gallery, in a folder that opens from any disk or host."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from operator import methodcaller
from pathlib import Path
from typing import Any

import pandas as pd

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.images import write_atomically, write_text
from tgfbench.leaderboards.board import Board, build_boards
from tgfbench.leaderboards.frames import options_of
from tgfbench.leaderboards.gallery import Gallery, build_gallery
from tgfbench.leaderboards.layout import LEGEND, READING, lay_out
from tgfbench.leaderboards.overall import overall_boards
from tgfbench.leaderboards.overlays import read_overlays
from tgfbench.leaderboards.plots import difference_plot, no_pareto_plot, pareto_plot, rank_plot
from tgfbench.leaderboards.render import board_slugs
from tgfbench.leaderboards.reported import card_rows
from tgfbench.leaderboards.text import visible_text

MARKER = ".tgfbench-site"
"""File that tells a folder this module wrote; only such a folder is replaced."""
STATIC = ("site.css", "boards.js", "gallery.js", "datatables.min.js", "datatables-license.txt")
PICTURE_COLUMNS = ("run_id", "caption", "path")
_CARD_TITLES = {
    "title": "Title", "paper": "Paper", "venue": "Venue", "year": "Year", "arxiv": "arXiv", "licence": "Licence",
    "repository": "Repository", "text_use": "Use of text", "text_role": "Text it wants",
    "default_text": "Default prompt", "reconstruction": "Reconstruction",
    "trained_on": "Trained on by the authors", "weights_card": "About the weights",
    "verdict": "Verdict of the text audit", "version": "Version",
}  # fmt: skip


def build_site(
    runs: pd.DataFrame,
    scores: pd.DataFrame,
    metrics: pd.DataFrame,
    images: pd.DataFrame,
    folder: Path,
    most_images: int = 24,
    predictions: pd.DataFrame | None = None,
    pictures: pd.DataFrame | None = None,
) -> list[Path]:
    """Write the site; the same store gives the same bytes.

    Args:
        runs, scores, metrics: the store's frames, see ``tgfbench.leaderboards.frames``; ``metrics`` may have a column
            ``card`` (JSON, what the page about metrics shows).
        images: fused images, see ``tgfbench.leaderboards.gallery``; those shown are linked or copied into the site.
        folder: where to write; replaced where it is a site already.
        most_images: per board.
        predictions: what was found in the fused images, and labels, see ``tgfbench.leaderboards.overlays``; the gallery
            shows them.
        pictures: drawn PNG files to show with a run (``PICTURE_COLUMNS``), such as the sheets of an audit.

    Returns:
        The pages.

    Raises:
        UsageError: the folder holds something else, jinja2 is missing, or the store holds no score.
    """
    pages_of = _templates()
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise UsageError(
            f"writing the site into {folder}", found="a folder with other files", hint="give an empty folder"
        )
    boards = build_boards(runs, scores, metrics)
    slugs = board_slugs(boards)
    overlays = [] if predictions is None else read_overlays(predictions)
    galleries = {
        slug: gallery
        for slug, board in zip(slugs, boards, strict=True)
        if (gallery := build_gallery(board, images, most_images, overlays))
    }
    methods = _method_pages(boards, _pictures_by_run(pictures))
    entries: list[dict[str, Any]] = [
        {"slug": slug, "layout": lay_out(board), "board": board, "gallery": slug in galleries}
        for slug, board in zip(slugs, boards, strict=True)
    ]
    common = {
        "boards": entries,
        "overall": overall_boards(boards),
        "reading": READING,
        "legend": LEGEND,
        "method_pages": {run: page["slug"] for page in methods for run in page["runs"]},
    }
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    texts = {"index.html": pages_of("index.html", **common)}
    texts["metrics.html"] = pages_of("metrics.html", **common, metrics=_metric_cards(boards, metrics))
    for entry in entries:
        plots = {"rank": rank_plot(entry["board"]), "pareto": pareto_plot(entry["board"]),
                 "difference": difference_plot(entry["board"]),
                 "no_pareto": visible_text(no_pareto_plot(entry["board"]))}  # fmt: skip
        texts[f"board-{entry['slug']}.html"] = pages_of("board.html", **common, entry=entry, plots=plots)
    for page in methods:
        texts[f"method-{page['slug']}.html"] = pages_of("method.html", **common, page=page)
        _link_pictures(page, fresh)
    for slug, gallery in galleries.items():
        entry = next(e for e in entries if e["slug"] == slug)
        texts[f"gallery-{slug}.html"] = pages_of("gallery.html", **common, entry=entry, data=gallery.data())
        _link_images(gallery, fresh / "images")
        _write_masks(gallery, fresh / "masks")
    for name, text in texts.items():
        write_text(fresh / name, text)
    static = resources.files("tgfbench.leaderboards") / "web" / "static"
    for name in STATIC:
        write_text(fresh / "assets" / name, (static / name).read_text(encoding="utf-8"))
    write_text(fresh / MARKER, "Written by `tgfbench site`, which replaces this folder.\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return [folder / name for name in texts]


def _templates() -> Any:
    """Return a function that renders a page by name."""
    try:
        import jinja2
    except ImportError:
        raise UsageError(
            "building the site", found="jinja2 is not installed", hint="pip install 'tgfbench[site]'"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tgfbench.leaderboards", "web/templates"),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["plain"] = lambda value: visible_text(str(value))
    return lambda name, **values: environment.get_template(name).render(**values)


def _method_pages(boards: Sequence[Board], pictures: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one page per method and weights, in alphabetical order; pictures come with their run's first."""
    pages: dict[tuple[str, str], dict[str, Any]] = {}
    for board, slug in zip(boards, board_slugs(boards), strict=True):
        layout = lay_out(board)
        for number, (run, row) in enumerate(board.rows.iterrows()):
            name = (str(row["method"]), str(row["weights"]))
            page = pages.setdefault(name, {"runs": [], "results": [], "card": _card(str(row["card"])), "row": row})
            page["reported"] = card_rows((options_of(str(row["card"])) or {}).get("reported"))
            shown = [] if run in page["runs"] else pictures.get(str(run), [])
            if run not in page["runs"]:
                page["runs"].append(run)
            result = {"board": slug, "layout": layout, "row": layout.rows[number], "facts": _facts(row)}
            page["results"].append({**result, "pictures": shown})
    used: set[str] = set()
    for (method, weights), page in sorted(pages.items()):
        title = f"{method}@{weights}" if weights else method
        stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "method"
        slug = next(s for i in range(len(pages) + 1) if (s := f"{stem}-{i}" if i else stem) not in used)
        used.add(slug)
        page |= {"slug": slug, "name": visible_text(title)}
    return [pages[name] for name in sorted(pages)]


def _pictures_by_run(pictures: pd.DataFrame | None) -> dict[str, list[dict[str, Any]]]:
    """Return caption, path, and link within the site, by run."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in [] if pictures is None else pictures.to_dict("records"):
        own = found.setdefault(str(row["run_id"]), [])
        link = f"pictures/{row['run_id']}/{len(own)}.png"
        own.append({"caption": visible_text(str(row["caption"])), "path": Path(row["path"]), "link": link})
    return found


def _card(text: str) -> list[tuple[str, str]]:
    card = options_of(text) or {}
    shown = []
    for key, title in _CARD_TITLES.items():
        value = card.get(key)
        if value not in (None, "", [], "none"):
            words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            shown.append((title, visible_text({"True": "yes", "False": "no"}.get(words, words))))
    return shown


def _facts(row: pd.Series) -> list[tuple[str, str]]:
    facts = {
        "Run": row.name, "Weights by": row["weights_origin"], "Text": row["text_policy"], "Options": row["options"],
        "Images seen in training": row["seen_in_training"], "Device": row["device"],
        "Seconds per image (median)": f"{row['seconds']:.3g}" if row["seconds"] > 0 else "",
        "Imported": "yes" if row["imported"] else "",
    }  # fmt: skip
    return [(title, visible_text(str(value))) for title, value in facts.items() if str(value) not in ("", "{}")]


def _metric_cards(boards: Sequence[Board], metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the metrics of all boards by protocol, each with what its card says."""
    cards: Mapping[tuple[str, str], str] = (
        dict(zip(zip(metrics["protocol"], metrics["metric"], strict=True), metrics["card"], strict=True))
        if "card" in metrics
        else {}
    )
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for board in boards:
        for metric, row in board.metrics.iterrows():
            card = options_of(cards.get((board.protocol, str(metric)), "{}")) or {}
            # Infinite ends are null in JSON.
            card["range"] = " to ".join("unbounded" if end is None else f"{end:g}" for end in card.get("range", []))
            found.setdefault(
                (board.protocol, str(metric)),
                {"protocol": board.protocol, "title": row["title"], "up": row["higher_is_better"], "card": card,
                 "version": row["version"]},
            )  # fmt: skip
    return list(found.values())


def _link_images(gallery: Gallery, folder: Path) -> None:
    for (run, key), path in sorted(gallery.paths.items()):
        _link(path, folder / run / f"{key}.png")


def _link_pictures(page: Mapping[str, Any], folder: Path) -> None:
    for result in page["results"]:
        for picture in result["pictures"]:
            _link(picture["path"], folder / picture["link"])


def _link(path: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(path, target)


def _write_masks(gallery: Gallery, folder: Path) -> None:
    for overlay, run, key in gallery.masks():
        target = folder / str(overlay.number) / run / f"{key}.png"
        if not target.exists():
            write_atomically(target, methodcaller("write", overlay.mask(run, key)))
