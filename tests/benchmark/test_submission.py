"""Submitting, validating and importing runs."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from tgfbench.benchmark import plan, runner
from tgfbench.benchmark.cli import app
from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.results import store_frames
from tgfbench.benchmark.store import Run
from tgfbench.benchmark.submission import find_run, import_submission, pack, read_submission, validate, write_submission
from tgfbench.leaderboards import build_boards


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with one run of ``average`` on three samples."""
    root = tmp_path_factory.mktemp("store")
    protocol = plan.ProtocolRequest("correct", ("EN", "SD", "SCD"))
    specs = plan.specs_for(["average", "visible"], [plan.DatasetRequest("sample", limit=3)], [protocol])
    for planned in plan.plan_runs(specs, root):
        runner.execute(planned)
    return root


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


@pytest.fixture
def file(store, tmp_path):
    return write_submission(pack(find_run(store, "average")), tmp_path / "average.tgfbench.json")


def _changed(file, change, rehash=True):
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    submission = read_submission(file)
    if rehash:
        submission.sha256 = submission.digest()
    return submission


def test_a_run_travels_to_another_store_unchanged(store, file, tmp_path):
    submission = read_submission(file)
    run = import_submission(submission, tmp_path / "other", file.name)
    original = find_run(store, "average")
    assert run.folder.relative_to(tmp_path / "other") == original.folder.relative_to(store)
    for name in ("per_image.csv", "images.csv"):
        assert (run.folder / name).read_bytes() == (original.folder / name).read_bytes()
    (theirs,) = build_boards(*store_frames(tmp_path / "other"))
    ours = next(b for b in build_boards(*store_frames(store)) if run.folder.name in b.rows.index)
    assert (theirs.means.loc[run.folder.name] == ours.means.loc[run.folder.name]).all()
    assert theirs.fingerprint == ours.fingerprint
    assert theirs.rows["imported"].all()
    assert not ours.rows["imported"].any()
    import_submission(submission, tmp_path / "other", file.name)


def test_images_give_the_same_scores_again(store, file):
    fused = find_run(store, "average").image_path("x").parent
    found = validate(read_submission(file), fused)
    assert (found.problems, found.notes, found.recomputed) == ([], [], 9)
    assert "not recomputed" in validate(read_submission(file)).notes[0]


def test_an_imported_run_is_valid_without_its_images_and_says_what_was_not_checked(file, tmp_path):
    run = import_submission(read_submission(file), tmp_path / "other", file.name)
    found = validate(pack(run), run.image_path("x").parent)
    assert (found.problems, found.recomputed) == ([], 0)
    assert "an imported run has no images here" in found.notes[0]
    assert validate(read_submission(file), tmp_path / "misspelt").problems


def test_sources_whose_metric_is_undefined_recompute_to_undefined(store):
    run = find_run(store, "visible")
    found = validate(pack(run), run.image_path("x").parent)
    assert (found.problems, found.recomputed) == ([], 9)


def test_a_score_that_was_changed_is_found_by_hash_and_by_recomputing(store, file):
    def better(content):
        content["scores"][0][3] = "7.9"

    assert "hash" in validate(_changed(file, better, rehash=False)).problems[0]
    submission = _changed(file, better)
    assert validate(submission).problems == []
    fused = find_run(store, "average").image_path("x").parent
    (problem,) = validate(submission, fused).problems
    assert "submitted 7.9" in problem


def test_other_images_than_those_scored_are_found(store, file):
    fused = find_run(store, "average").image_path("x").parent
    first, second, third = sorted(fused.iterdir())
    shutil.copy(first, second)
    third.unlink()
    problems = validate(read_submission(file), fused).problems
    assert [("not the one" in p, "missing" in p) for p in problems] == [(True, False), (False, True)]
    with pytest.raises(DataError, match=f"{second.name} changed"):
        pack(find_run(store, "average"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["run"]["identity"].update(method="better"), "run id"),
        (lambda c: c["run"]["identity"].pop("fingerprint"), "run.json: identity.fingerprint"),
        (lambda c: c["run"].update(schema=99), "schema 99"),
        (lambda c: c["run"].pop("metrics"), "run.json: metrics"),
        (lambda c: c["run"].update(tags=5), "run.json: tags"),
        (lambda c: c["run"]["provenance"].update(card="x"), "run.json: provenance.card"),
        (lambda c: c["scores"].append(c["scores"][0]), "twice"),
        (lambda c: c["scores"].append(["other", "EN", "correct", "1.0"]), "not listed: other"),
        (lambda c: c["scores"][0].__setitem__(3, "high"), "no number: 'high'"),
        (lambda c: c["scores"][0].__setitem__(1, "Nonsense"), "Nonsense"),
        (lambda c: c["images"][0].__setitem__(0, "../../evil"), "no file names: '../../evil'"),
    ],
    ids=["run id", "identity", "schema", "metrics", "tags", "card", "twice", "unlisted", "number", "metric", "path"],
)
def test_an_inconsistent_submission_is_named_and_not_imported(file, tmp_path, change, words):
    submission = _changed(file, change)
    assert words in "; ".join(validate(submission).problems)
    with pytest.raises(DataError, match="importing"):
        import_submission(submission, tmp_path / "other", "x")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"format": "tgfbench-submission"}', '{"format": "other"}', "\x00"])
def test_a_file_that_is_no_submission_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_submission(tmp_path / "x.json")


def test_a_run_made_here_is_never_replaced_by_an_import(store, file):
    with pytest.raises(UsageError, match="made here"):
        import_submission(read_submission(file), store, file.name)


def test_unknown_and_unfinished_runs_are_refused(store):
    with pytest.raises(UsageError, match="0 runs"):
        find_run(store, "averge")
    run = find_run(store, "average")
    content = run.read_json()
    run.write_json({**content, "finished_at": None})
    with pytest.raises(UsageError, match="unfinished"):
        pack(Run(run.folder))


def test_the_commands_say_what_they_did(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = CliRunner()
    done = command.invoke(app, ["submit", "average", "--out", str(store), "-o", "a.json"])
    assert done.exit_code == 0, done.output
    valid = command.invoke(app, ["validate", "average", "--out", str(store)])
    assert (valid.exit_code, "valid, 9 scores recomputed" in valid.output) == (0, True)
    assert command.invoke(app, ["import", "a.json", "--out", "other"]).exit_code == 0
    bad = (tmp_path / "a.json").read_text(encoding="utf-8").replace('"average"', '"better"')
    (tmp_path / "a.json").write_text(bad, encoding="utf-8")
    refused = command.invoke(app, ["validate", "a.json"])
    assert (refused.exit_code, "not valid" in refused.output) == (1, True)
