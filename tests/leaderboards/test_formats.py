"""LaTeX, JSON and diagrams: well formed for any text, and saying the same as the board."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest

from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.diagrams import critical_difference_diagram
from tgfbench.leaderboards.latex import LONGEST, latex_text, render_latex
from tgfbench.leaderboards.machine import render_json
from tgfbench.leaderboards.render import board_slugs

HOSTILE = (
    "<script>alert(1)</script> a|b `c` & *d* _e_ [f] $h$ \\ 5 % #1 {} ^~ \"q\" 'r' --- é 行人 \n\u202e\u200f\x1b[31m"
)


@pytest.fixture
def hostile(store):
    rng = np.random.default_rng(0)
    claim = json.dumps([{"dataset": "roadscene", "metric": f"{HOSTILE}M", "value": -1, "source": HOSTILE}])
    for number in range(3):
        values = {f"{HOSTILE}M": rng.random(7).tolist(), "EN": [-1.0 - number] * 7}
        store.run(f"{HOSTILE}{number}", values, text_policy=f"{HOSTILE}{number}", reported=claim)
    return store


@pytest.fixture
def wide(store):
    rng = np.random.default_rng(1)
    for method in ("average", "dwt", "tesg"):
        store.run(method, {f"M{i}": rng.normal(i, 3, 12).tolist() for i in range(9)})
    store.run("visible", {"M1": [1.0] * 12, "M2": [math.nan] * 12}, tags="source")
    return store


def check_latex(text: str) -> None:
    """Structure that a compiler would insist on: balanced groups and environments, equal cells, no bare special."""
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == ["document"]  # ended by the primitive on the last line
    body = text.partition("\\begin{quote}")[2]
    assert not re.search(r"(?<!\\)[#^~]", body)
    assert not re.search(r"(?<!\\)%(?!\n)", body)
    bare = re.sub(r"\\[\\{}$&#%_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert "$" not in bare
    assert "_" not in re.sub(r"\\label\{[^}]*\}", "", bare.partition("\\begin{quote}")[2])
    assert all(ord(char) < 0x100 for char in text)
    for table in re.findall(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        columns, content = table
        rows = [row for row in re.split(r"\\\\\n", content) if "&" in re.sub(r"\\&", "", row)]
        assert rows
        for row in rows:
            assert re.sub(r"\\&", "", row).count("&") == len(columns) - 1, row


def test_latex_of_ordinary_and_hostile_boards_is_well_formed(wide, hostile):
    boards = build_boards(*hostile.frames)
    text = render_latex(boards)
    check_latex(text)
    assert text.count(r"\begin{table}") == len(boards) + 1, "one with the published numbers"
    assert "U+884C" in text
    assert r"\textless{}script\textgreater{}" in text


def test_latex_marks_best_second_ties_and_intervals(store):
    rng = np.random.default_rng(2)
    base = rng.random(30)
    store.run("best", {"VIF": (base + 1).tolist(), "MSE": (-base).tolist()})
    store.run("near", {"VIF": (base + 1 + rng.normal(-0.01, 0.1, 30)).tolist(), "MSE": (-base - 3).tolist()})
    store.run("far", {"VIF": base.tolist(), "MSE": (-base - 1).tolist()})
    text = render_latex(build_boards(*store.frames))
    assert len(re.findall(r"\\textbf\{", text)) == 2
    assert re.search(r"\\underline\{1\.\d+\}\\,\\\(\\approx\\\)", text)
    assert re.search(r"\\textbf\{-?\\?\(?-?\\?\)?", text)
    assert re.search(r"\\tiny \{\[\}1\.\d+, 1\.\d+\{\]\}", text)
    assert "protocol core" in text
    check_latex(text)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: the structural test stands for it")
def test_latex_compiles_alone_and_inside_a_paper(wide, hostile, tmp_path):
    (tmp_path / "leaderboard.tex").write_text(render_latex(build_boards(*hostile.frames)), encoding="utf-8")
    paper = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx}\\begin{document}x%\n"
    (tmp_path / "paper.tex").write_text(paper + "\\input{leaderboard}\\end{document}\n", encoding="utf-8")
    for name in ("leaderboard", "paper"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: nothing else knows the height of a table")
def test_a_long_board_with_many_published_numbers_fits_its_pages(store, tmp_path):
    claims = [{"dataset": "roadscene", "metric": "VIF", "value": n, "source": f"table {n}"} for n in range(9)]
    for number in range(30):
        store.run(f"m{number}", {"VIF": [1.0, 2.0 + number], "CC": [0.0, 1.0]}, reported=json.dumps(claims))
    text = render_latex(build_boards(*store.frames))
    assert text.count("Published elsewhere") == math.ceil(30 * 9 / LONGEST)
    check_latex(text)
    (tmp_path / "leaderboard.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "leaderboard.tex"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=120)
    assert not re.search("too large|Overfull", (tmp_path / "leaderboard.log").read_text(errors="replace"))


def test_latex_text_keeps_plain_words_and_escapes_the_rest():
    assert latex_text("Average rank 1.5 (é)") == "Average rank 1.5 (é)"
    assert latex_text("50 % & a_b") == r"50 \% \& a\_b"
    assert latex_text("a[1]*") == "a{[}1{]}{*}"
    assert latex_text("行") == r"\texttt{U+884C}"


def test_json_holds_the_board_at_full_precision(wide):
    (board,) = build_boards(*wide.frames)
    (found,) = json.loads(render_json([board]))["boards"]
    assert (found["dataset"], found["protocol"], found["images"], found["main"]) == ("roadscene", "core", 12, True)
    for number, row in enumerate(found["rows"]):
        assert row["label"] == board.rows["label"].iloc[number]
        for metric, value in row["values"].items():
            mean = board.means[metric].iloc[number]
            assert value["mean"] == (mean if math.isfinite(mean) else None)
    best = found["rows"][0]
    assert best["place_interval"] == board.evidence.intervals.place[:, 0].tolist()
    metric = found["metrics"][0]
    assert metric["tests"]["order"] == [board.rows.index[i] for i in board.evidence.metrics["M0"].rows]
    assert np.array(metric["tests"]["p_holm"]).shape == (3, 3)
    assert found["rank_per_image"]["friedman"]["images"] == 12


def test_json_of_a_hostile_store_is_strict_json(hostile):
    text = render_json(build_boards(*hostile.frames))
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["boards"][0]["rows"][0]["method"].startswith("<script>")


def test_diagrams_show_every_ranked_row_and_escape_their_names(hostile):
    hostile.run("visible", {"EN": [9.0] * 7}, tags="source")
    (board,) = build_boards(*hostile.frames)
    image = critical_difference_diagram(board, "svg")
    root = ElementTree.fromstring(image)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sum("<script>" in word for word in words) == 3
    assert not any("visible" in word for word in words)
    assert any("critical difference" in word for word in words)
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    assert critical_difference_diagram(board, "png")[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_board_without_a_comparison_has_no_diagram(store):
    store.run("a", {"VIF": [1.0, 2.0]})
    (board,) = build_boards(*store.frames)
    assert critical_difference_diagram(board, "svg") is None


def test_file_names_are_safe_and_differ(store):
    store.run("a", {"VIF": [1.0]}, dataset="../x y")
    store.run("a", {"VIF": [1.0]}, dataset="..?x y")
    assert board_slugs(build_boards(*store.frames)) == ["x-y-test-core", "x-y-test-core-2"]
