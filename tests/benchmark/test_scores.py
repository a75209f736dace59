"""Scores from elsewhere in the store."""

from __future__ import annotations

import pandas as pd
import pytest

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.results import store_frames
from tgfbench.benchmark.scores import store_scores
from tgfbench.leaderboards import build_boards
from tgfbench.leaderboards.layout import lay_out
from tgfbench.metrics import load_protocol


def _store(tmp_path, text: str, **options):
    file = tmp_path / "scores.csv"
    file.write_text(text, encoding="utf-8")
    given = {"dataset": "d", "split": "test", "protocol": load_protocol("vifb"), **options}
    return store_scores(file, tmp_path / "runs", **given)


def test_published_scores_make_a_board_on_which_few_neighbours_differ(shared, tmp_path):
    file = shared / "vifb" / "published_scores.csv"
    runs = store_scores(file, tmp_path, dataset="vifb", split="test", protocol=load_protocol("vifb"))
    assert len(runs) == 12
    (board,) = build_boards(*store_frames(tmp_path))
    assert (board.protocol, board.images, board.scores.shape) == ("vifb", 21, (12, 13, 21))
    published = pd.read_csv(file).pivot_table(index="method", columns="metric", values="value", aggfunc="mean")
    means = board.means.set_index(board.rows["method"])
    for theirs, ours in (("Variance", "SD"), ("Avg_gradient", "AG"), ("Qcb", "Qcb")):
        pd.testing.assert_series_equal(means[ours].sort_index(), published[theirs].sort_index(), check_names=False)
    assert board.evidence.separated_neighbours == (143, 48, 3)
    assert board.rows["imported"].all()
    assert lay_out(board).rows[0].marks == "UI"


def test_the_same_file_is_stored_once_and_a_changed_one_takes_its_place(tmp_path):
    text = "key,method,metric,value\na,m,EN,1.5\nb,m,EN,\na,n,entropy,2\nb,n,en,3\n"
    first, second = _store(tmp_path, text), _store(tmp_path, text)
    assert [run.folder for run in first] == [run.folder for run in second]
    _store(tmp_path, text.replace("1.5", "1.75"))
    (board,) = build_boards(*store_frames(tmp_path / "runs"))
    assert len(board.rows) == 2


def test_a_file_without_methods_needs_a_name(tmp_path):
    text = "key,metric,value\na,EN,1\n"
    with pytest.raises(UsageError, match="--name"):
        _store(tmp_path, text)
    (run,) = _store(tmp_path, text, name="mine")
    assert run.load().scores == {("a", "EN", "vifb"): 1.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("key,method,value\na,m,1\n", "no column metric"),
        ("key,method,metric,value\n", "no line"),
        ("key,method,metric,value\na,m,EN,high\n", "line 2: 'high'"),
        ("key,method,metric,value\na,m,EN,1\na,m,entropy,1\n", "line 3: a a second time"),
        ("key,method,metric,value\na,m,Nonsense,1\n", "Nonsense"),
        ("", "CSV file"),
        ("a,b\nc,d\ne,f,g\n", "saw 3\n  expected: a CSV file"),
    ],
)
def test_a_bad_table_is_refused_and_stores_nothing(tmp_path, text, words):
    with pytest.raises((DataError, UsageError), match=words):
        _store(tmp_path, text)
    assert not (tmp_path / "runs").exists()
