"""Boards as files and on the terminal."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tgfbench.benchmark.errors import UsageError
from tgfbench.leaderboards import boards_to_console, build_boards, write_leaderboards
from tgfbench.leaderboards.layout import lay_out
from tgfbench.leaderboards.render import RENDERERS, markdown_text, render_csv, render_markdown
from tgfbench.leaderboards.text import decimals_for, visible_text

NAN = math.nan
HOSTILE = "<script>alert(1)</script> a|b `c` & *d* _e_ [f](g) $h$ \\ \n\u202e\x1b[31m"

REPORTED = [
    {"dataset": "RoadScene:test", "metric": "vif", "value": 0.75, "source": "paper, table 2"},
    {"dataset": "roadscene", "metric": "VIF", "value": 0.7, "source": "README"},
    {"dataset": "roadscene", "metric": "Q_x", "value": 1.0, "source": "paper, table 3"},
    {"dataset": "roadscene:train", "metric": "vif", "value": 0.2, "source": "paper, table 4"},
    {"dataset": "tno", "metric": "vif", "value": 0.3, "source": "paper, table 5"},
]
GOLDEN = """\
## roadscene (test, 3 images), protocol core

A: weights by the method's authors · P: weights trained by this project · R: reconstruction from the paper, no \
authors' code is public · S: some of these images were seen in training, see below · Text: dataset · Metric \
versions: VIF 2, all others 1 · Data fingerprint: ffffffffffff

| Method | Average rank ↓ | Place | VIF ↑ | mean squared error ↓ | EN | CC ↑ |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| tesg@tiny <sup>P R S</sup> | 1.50 | 1–2 | **0.900**<br><sub>[0.900, 0.900]</sub> | <u>12.0</u> ≈<br><sub>[11.0, \
13.0]</sub> | 7.000<br><sub>[7.000, 7.000]</sub> | **0.2500**<br><sub>[0.0000, 0.5000]</sub> |
| average | 1.67 | 1–2 | <u>0.500</u> ≈<br><sub>[0.500, 0.500]</sub> | **2.0**<br><sub>[1.0, 3.0]</sub> | 6.000<br>\
<sub>[6.000, 6.000]</sub> | **0.2500**<br><sub>[0.2500, 0.2500]</sub> |
| film@authors <sup>A</sup> | 2.83 | 3 | <u>0.500</u> ≈<br><sub>[0.500, 0.500]</sub> | 100.5 ≈<br><sub>[99.5, \
101.5]</sub> | 6.500<br><sub>[6.500, 6.500]</sub> | <u>0.1250</u> ≈<br><sub>[0.1250, 0.1250]</sub> |
| visible | – |  | 1.250<br><sub>[1.250, 1.250]</sub> | 0.0<br><sub>[-1.0, 1.0]</sub> | 7.500<br><sub>[7.500, \
7.500]</sub> | n/a |

| Method | Metric | Reported | Measured here | Gap | Source |
| --- | --- | ---: | ---: | ---: | --- |
| film@authors | VIF | 0.75 | 0.5 | -0.25 | paper, table 2 |
| film@authors | VIF | 0.7 | 0.5 | -0.2 | README |

- Of 6 pairs of neighbours over 3 metrics, 0 differ significantly (paired Wilcoxon, Holm) and 0 by Nemenyi's test.
- Rank per image, averaged over metrics: the rows do not differ significantly (Friedman, p = 0.097); two mean ranks \
must be 1.91 apart (Nemenyi, 3 images).
- 3 images are not enough to separate tesg@tiny and average, first and second by that rank; about 503 would be.
- reported numbers are as printed, by the code of their source and on its images: a gap holds that difference, too
- tesg@tiny: seen in training: 2 of 3 images
- not ranked: late: 1 of 3 images missing (test-0001)
- CC: n/a for visible, no finite value on 1 of 3 images (test-0002)

## roadscene (test, 2 of 3 images), protocol core

Differs from the main board: missing scores for 1 image: test-0001.
"""


@pytest.fixture
def example(store):
    """A store with a source row, ties, a metric without direction, n/a, a missing image and every mark."""
    store.metric("VIF")
    store.metric("MSE", higher=False, title="mean squared error")
    store.metric("EN", higher=None)
    store.metric("CC")

    def run(method: str, vif: float, mse: float, en: float, cc: list[float], **facts: object) -> None:
        values = {"VIF": [vif] * 3, "MSE": [mse - 1, mse, mse + 1], "EN": [en] * 3, "CC": cc}
        store.run(method, values, versions={"VIF": 2}, **facts)

    run("average", 0.5, 2, 6, [0.25] * 3)
    run("visible", 1.25, 0, 7.5, [1.0, 1.0, NAN], tags="source")
    run(
        "film", 0.5, 100.5, 6.5, [0.125] * 3, weights="authors", weights_origin="authors", reported=json.dumps(REPORTED)
    )
    marks = {"weights_origin": "project", "reconstruction": True, "seen_in_training": 2}
    run("tesg", 0.9, 12, 7, [0.0, 0.25, 0.5], weights="tiny", **marks)
    store.run("late", {"VIF": [0.7, None, 0.7]}, versions={"VIF": 2}, text_policy="none")
    return store


@pytest.fixture
def hostile(store):
    for number in range(2):
        store.run(HOSTILE, {f"{HOSTILE}M": [1.0 + number], "EN": [1.0]}, text_policy=f"{HOSTILE}{number}")
    return store


def test_markdown_equals_the_golden_text(example):
    text = render_markdown(build_boards(*example.frames))
    assert text.startswith("# Leaderboard\n\nEvery number is a mean over images")
    start = text.index("## ")
    assert text[start : start + len(GOLDEN)] == GOLDEN


def test_csv_holds_metadata_and_full_precision(example):
    text = render_csv(build_boards(*example.frames))
    frame = pd.read_csv(io.StringIO(text), keep_default_na=False)
    named = "dataset split protocol images unit method weights weights_origin reconstruction text_policy"
    extra = "seen_in_training options run_id differences average_rank VIF MSE EN CC"
    ends = [f"{name} {end}" for name in ("average_rank", "place", "VIF", "MSE", "EN", "CC") for end in ("low", "high")]
    assert list(frame.columns) == [*named.split(), *extra.split(), *ends, "VIF reported"]
    assert list(frame["MSE low"]) == ["11.0", "1.0", "99.5", "-1.0", ""]
    assert list(frame["place high"]) == ["2.0", "2.0", "3.0", "", ""]
    assert list(frame["VIF reported"]) == ["", "", "0.75", "", ""]
    assert list(frame["method"]) == ["tesg", "average", "film", "visible", "late"]
    assert list(frame["images"]) == [3, 3, 3, 3, 2]
    assert list(frame["average_rank"]) == ["1.5", repr((2.5 + 1 + 1.5) / 3), repr((2.5 + 3 + 3) / 3), "", ""]
    assert list(frame["CC"]) == ["0.25", "0.25", "0.125", "n/a", ""]
    assert list(frame["differences"]) == ["", "", "", "", "missing scores for 1 image: test-0001"]
    assert frame.loc[0, ["weights_origin", "reconstruction", "seen_in_training"]].tolist() == ["project", True, 2]


def test_csv_values_read_back_exactly(store):
    store.run("a", {"VIF": [0.1, 0.2, 0.7]})
    boards = build_boards(*store.frames)
    assert pd.read_csv(io.StringIO(render_csv(boards)))["VIF"][0] == boards[0].means.iloc[0, 0]


def test_two_builds_from_shuffled_frames_write_the_same_bytes(example, tmp_path):
    formats = (*RENDERERS, "svg", "png")
    first = write_leaderboards(*example.frames, tmp_path / "one", formats)
    shuffled = [frame.sample(frac=1, random_state=5) for frame in example.frames]
    second = write_leaderboards(*shuffled, tmp_path / "two", formats)
    assert [path.relative_to(tmp_path / "one").as_posix() for path in first] == [
        *(f"leaderboard.{name}" for name in RENDERERS),
        *(f"critical-difference/roadscene-test-core.{name}" for name in ("svg", "png")),
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"\r" not in first[0].read_bytes()


def test_writing_leaves_nothing_else_behind_and_each_format_once(example, tmp_path):
    written = write_leaderboards(*example.frames, tmp_path / "runs", formats=("md", "md"))
    assert written == [tmp_path / "runs" / "leaderboard.md"]
    assert list((tmp_path / "runs").iterdir()) == written


def test_an_unknown_format_writes_nothing_and_suggests(example, tmp_path):
    with pytest.raises(UsageError, match=r"(?s)unknown format 'cvs'.*did you mean csv") as raised:
        write_leaderboards(*example.frames, tmp_path / "runs", formats=("md", "cvs"))
    assert raised.value.exit_code == 2
    assert not (tmp_path / "runs").exists()


def test_an_empty_store_writes_nothing(store, tmp_path):
    store.metric("VIF")
    with pytest.raises(UsageError, match="tgfbench run"):
        write_leaderboards(*store.frames, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_hostile_names_do_not_break_the_markdown_table(hostile):
    text = render_markdown(build_boards(*hostile.frames))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert {line.replace("\\|", "").count("|") for line in table} == {6}
    assert "<script>" not in text
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_hostile_names_survive_csv(hostile):
    frame = pd.read_csv(io.StringIO(render_csv(build_boards(*hostile.frames))))
    assert list(frame["method"]) == [HOSTILE, HOSTILE]
    assert f"{HOSTILE}M" in frame.columns


def test_markdown_text_keeps_plain_names_readable():
    assert markdown_text("my_net-v2@tiny (text: none)") == "my_net-v2@tiny (text: none)"
    assert markdown_text("_a_ `b` a|b <&> $c$ \\") == "\\_a\\_ \\`b\\` a\\|b &lt;&amp;&gt; \\$c\\$ \\\\"


def test_invisible_characters_are_spelt_out():
    assert visible_text("a\nb\u202ec\u2028\x1b é 行人") == "a\\u000ab\\u202ec\\u2028\\u001b é 行人"


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([0.5, 0.25], 4), ([7.2, 6.9], 3), ([15.0], 2), ([123.4], 1), ([12345.0], 0), ([0.0], 3), ([0.002], 6)],
)
def test_four_significant_digits_of_the_largest_value_are_shown(values, decimals):
    assert decimals_for(values) == decimals


def test_tiny_values_use_exponents_and_negative_zero_is_zero(store):
    store.run("a", {"MSE": [1.25e-7], "CC": [-1e-9]})
    store.run("b", {"MSE": [1.5e-7], "CC": [0.5]})
    (board,) = build_boards(*store.frames)
    rows = {row.label: [cell.text for cell in row.cells] for row in lay_out(board).rows}
    assert rows == {"a": ["1.250e-07", "0.0000"], "b": ["1.500e-07", "0.5000"]}


def test_marks_go_by_exact_value_and_never_to_unranked_rows(store):
    store.run("a", {"EN": [1.00000001], "CC": [1.0]})
    store.run("b", {"EN": [1.00000002], "CC": [1.0]})
    store.run("c", {"EN": [1.0], "CC": [NAN]})
    store.run("visible", {"EN": [5.0], "CC": [5.0]}, tags="source")
    (board,) = build_boards(*store.frames)
    marks = {row.label: [cell.emphasis for cell in row.cells] for row in lay_out(board).rows}
    assert marks == {"a": ["second", "best"], "b": ["best", "best"], "c": ["", ""], "visible": ["", ""]}


def test_one_image_and_one_row_render(store):
    store.run("a", {"VIF": [0.5]})
    text = render_markdown(build_boards(*store.frames))
    assert "(test, 1 image)" in text
    assert "| a | – |  | 0.5000 |" in text


def test_differing_text_policies_are_listed(store):
    store.run("a", {"VIF": [0.5]}, text_policy="none")
    store.run("b", {"VIF": [0.5]})
    store.run("c", {"VIF": [0.5]}, text_policy="")
    (board,) = build_boards(*store.frames)
    assert "Text: dataset for b; none for a" in lay_out(board).facts


@pytest.mark.parametrize("width", [40, 80, 300])
def test_the_console_never_cuts_a_number(store, width):
    rng = np.random.default_rng(1)
    values = {f"Metric{i}": [float(rng.random())] for i in range(12)}
    for method in (HOSTILE, "short"):
        store.run(method, values)
    boards = build_boards(*store.frames)
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(boards_to_console(boards))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "\u202e" not in text
    for cell in lay_out(boards[0]).rows[0].cells:
        assert cell.text in text
    assert text.count("Rank ↓") == 1


def test_the_folder_imports_neither_torch_nor_rich_until_a_board_is_shown():
    code = (
        "import sys, tgfbench.leaderboards as l; assert 'pandas' not in sys.modules; "
        "l.write_leaderboards; print({'torch', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_the_weights_may_have_seen_is_a_footnote(store, tmp_path):
    store.run("film", {"VIF": [0.5, 0.6]}, weights="mine", training_note="trained on <vlf>, which shares images")
    write_leaderboards(*store.frames, folder=tmp_path, formats=("md",))
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "- film@mine: perhaps seen in training: trained on &lt;vlf&gt;, which shares images" in text
