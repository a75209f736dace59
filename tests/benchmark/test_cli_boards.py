"""The commands that read the store, on a store of scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tgfbench.benchmark.cli import app
from tgfbench.benchmark.errors import UsageError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two datasets, three methods, four metrics, twelve images."""
    folder = tmp_path_factory.mktemp("scores")
    rng = np.random.default_rng(0)
    for dataset in ("tno", "roadscene"):
        lines = [
            f"k{image},m{method},{metric},{rng.normal(method, 0.5)!r}"
            for image in range(12)
            for method in range(3)
            for metric in ("EN", "SD", "VIF", "MSE")
        ]
        file = folder / f"{dataset}.csv"
        file.write_text("\n".join(["key,method,metric,value", *lines]) + "\n", encoding="utf-8")
        done = _run("evaluate", "--scores", file, "-d", dataset, "--out", folder / "runs")
        assert done.exit_code == 0, done.output
    return folder / "runs"


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_leaderboard_writes_every_format_twice_alike(store):
    arguments = ("leaderboard", "--out", store, "--format", "csv,md,tex,json,svg", "--quiet")
    assert _run(*arguments).exit_code == 0
    files = [*store.glob("leaderboard.*"), *store.glob("critical-difference/*.svg")]
    assert len(files) == 6
    before = {path: path.read_bytes() for path in files}
    assert _run(*arguments).exit_code == 0
    assert {path: path.read_bytes() for path in files} == before


def test_compare_prints_tables_and_json(store):
    done = _run("compare", "m2", "m0", "-d", "tno", "--out", store)
    assert (done.exit_code, "A is better" in done.output) == (0, True)
    (found,) = json.loads(_run("compare", "m2", "m0", "-d", "tno", "--json", "--out", store).output)
    assert (found["a"]["label"], found["b"]["label"]) == ("m2@precomputed", "m0@precomputed")
    assert [metric["better"] for metric in found["metrics"]] == ["a", "a", "b", "a"]


def test_a_preset_is_a_board_of_its_own_and_an_unknown_one_an_error(store):
    done = _run("leaderboard", "--preset", "ivif-core", "--out", store, "--format", "md")
    assert done.exit_code == 0
    assert "Incomplete: this store holds no run on msrs, llvip, m3fd." in done.output
    assert "Overall, quality: 2 datasets" in (store / "leaderboard-ivif-core.md").read_text(encoding="utf-8")
    assert isinstance(_run("leaderboard", "--preset", "x", "--out", store).exception, UsageError)


def test_meta_analysis_and_site_write_their_files(store):
    assert _run("meta-analysis", "--out", store).exit_code == 0
    assert "Most opposed" in (store / "meta-analysis.md").read_text(encoding="utf-8")
    done = _run("site", "--out", store)
    assert (done.exit_code, "pages written" in done.output) == (0, True)
    assert (store / "site" / "index.html").is_file()


def test_evaluate_wants_images_or_scores(store):
    for arguments in ((), ("--fused", store, "--scores", store)):
        done = _run("evaluate", "--name", "x", *arguments)
        assert isinstance(done.exception, UsageError)
