"""The static site without a browser: complete, deterministic, harmless and free of the network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

from tgfbench.benchmark.errors import UsageError
from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.gallery import IMAGE_COLUMNS, build_gallery, disputes
from tgfbench.leaderboards.site import MARKER, STATIC, build_site

VOID = {"meta", "link", "img", "input", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects links and scripts, and insists on matching tags."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(name, value or "") for name, value in attrs]
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, self.getpos()


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pages_are_well_formed_link_only_what_exists_and_run_no_foreign_script(hostile_site_frames, tmp_path):
    pages = build_site(*hostile_site_frames, tmp_path / "site")
    assert {path.name for path in pages} >= {"index.html", "metrics.html", "gallery-roadscene-test-core.html"}
    assert sum(path.name.startswith("method-") for path in pages) == 4
    for path in pages:
        page = Page(path.read_text(encoding="utf-8"))
        assert not [name for name, _ in page.attributes if name.startswith("on")], path.name
        assert "\u202e" not in path.read_text(encoding="utf-8")
        for link in page.links:
            parts = urlsplit(link)
            assert parts.scheme in ("", "data"), link
            if parts.path and parts.scheme == "":
                assert (tmp_path / "site" / unquote(parts.path)).is_file(), link
        scripts = re.findall(r"<script([^>]*)>(.*?)</script>", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert all(not body.strip() or "application/json" in head for head, body in scripts)


def test_two_builds_write_the_same_bytes_and_replace_the_site(hostile_site_frames, hostile_predictions, tmp_path):
    build_site(*hostile_site_frames, tmp_path / "one", predictions=hostile_predictions)
    frames = (*hostile_site_frames, hostile_predictions)
    *shuffled, predictions = [frame.sample(frac=1, random_state=3) for frame in frames]
    build_site(*shuffled, tmp_path / "two", predictions=predictions)
    (tmp_path / "two" / "stale.html").write_text("old")
    build_site(*shuffled, tmp_path / "two", predictions=predictions)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert not list(tmp_path.glob("*.new"))


def test_a_folder_that_is_no_site_is_never_replaced(hostile_site_frames, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UsageError, match="other files"):
        build_site(*hostile_site_frames, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_the_gallery_holds_prompts_numbers_and_the_most_disputed_images_first(hostile_site_frames, tmp_path):
    build_site(*hostile_site_frames, tmp_path / "site", most_images=2)
    text = (tmp_path / "site" / "gallery-roadscene-test-core.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)[1])
    assert len(data["images"]) == 2
    found = [image["dispute"] for image in data["images"]]
    assert found == sorted(found, reverse=True)
    (board,) = build_boards(*hostile_site_frames[:3])
    assert found[0] == round(max(disputes(board).values()), 3)
    assert [row["source"] for row in data["rows"]] == [False, False, False, True]
    for image in data["images"]:
        for run, shown in image["shown"].items():
            assert "<b>prompt</b>" in shown["prompt"]
            assert "\\u202e" in shown["prompt"]
            assert len(shown["values"]) == len(data["metrics"])
            assert (tmp_path / "site" / "images" / run / f"{image['key']}.png").is_file()


def test_the_page_of_a_method_lists_all_that_its_card_reports(store, tmp_path):
    claims = [{"dataset": "elsewhere", "metric": "Q_x", "value": 0.75, "source": "paper, table 7"}]
    store.run("film", {"VIF": [1.0, 2.0]}, card=json.dumps({"reported": claims}), reported=json.dumps(claims))
    build_site(*store.frames, pd.DataFrame(columns=list(IMAGE_COLUMNS)), tmp_path / "site")
    page = (tmp_path / "site" / "method-film.html").read_text(encoding="utf-8")
    assert all(f"<bdi>{words}</bdi>" in page for words in ("elsewhere", "Q_x", "0.75", "paper, table 7"))
    assert "table 7" not in (tmp_path / "site" / "board-roadscene-test-core.html").read_text(encoding="utf-8")


def test_seconds_of_different_machines_are_not_drawn_and_the_page_says_why(store, tmp_path):
    for number, device in enumerate(("cpu", "one <b>GPU</b>")):
        store.run(f"m{number}", {"VIF": [0.1, 0.2 + number]}, seconds=0.5, device=device)
    build_site(*store.frames, pd.DataFrame(columns=list(IMAGE_COLUMNS)), tmp_path / "site")
    page = (tmp_path / "site" / "board-roadscene-test-core.html").read_text(encoding="utf-8")
    assert "Not drawn: seconds of different machines, cpu, one &lt;b&gt;GPU&lt;/b&gt;." in page
    assert 'aria-label="Average rank against' not in page
    assert 'role="img" aria-label="Average ranks with their intervals"' in page


def test_dispute_is_one_minus_kendalls_concordance(store):
    store.run("a", {"M1": [1.0, 1.0], "M2": [1.0, 3.0], "M3": [1.0, 2.0]})
    store.run("b", {"M1": [2.0, 2.0], "M2": [2.0, 2.0], "M3": [2.0, 3.0]})
    store.run("c", {"M1": [3.0, 3.0], "M2": [3.0, 1.0], "M3": [3.0, 1.0]})
    (board,) = build_boards(*store.frames)
    # Rank sums of the second image: 3 + 1 + 2, 2 + 2 + 1 and 1 + 3 + 3 (1 is best), so S = 2 and W = 12 S / (9 · 24).
    assert disputes(board) == pytest.approx({"test-0000": 0.0, "test-0001": 1 - 12 * 2 / (9 * 24)})


def test_equal_scores_and_single_metrics_are_no_dispute(store):
    for method in ("a", "b"):
        store.run(method, {"M1": [1.0, np.nan], "M2": [1.0, 2.0]})
    (board,) = build_boards(*store.frames)
    assert set(disputes(board).values()) == {0.0}


def test_a_store_without_pictures_has_boards_and_no_gallery(hostile_site_frames, tmp_path):
    runs, scores, metrics, _ = hostile_site_frames
    nothing = pd.DataFrame(columns=list(IMAGE_COLUMNS))
    pages = build_site(runs, scores, metrics, nothing, tmp_path / "site")
    assert not [path for path in pages if path.name.startswith("gallery")]
    (board,) = build_boards(runs, scores, metrics)
    assert build_gallery(board, nothing, 5) is None


def test_one_image_and_one_row_make_a_site(store, tmp_path):
    store.run("a", {"VIF": [1.0]})
    pages = build_site(*store.frames, pd.DataFrame(columns=list(IMAGE_COLUMNS)), tmp_path / "site")
    for path in pages:
        Page(path.read_text(encoding="utf-8"))
    assert (tmp_path / "site" / MARKER).is_file()


def test_templates_and_scripts_are_package_data():
    root = resources.files("tgfbench.leaderboards") / "web"
    assert all((root / "static" / name).is_file() for name in STATIC)
    assert (root / "templates" / "index.html").is_file()
    assert "MIT" in (root / "static" / "datatables-license.txt").read_text(encoding="utf-8")
