"""The command line as a user types it: exit codes, messages, no tracebacks."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tgfbench.benchmark import train as training
from tgfbench.benchmark.cli import main
from tgfbench.benchmark.images import write_png

SIZE = (48, 64)


@dataclass
class Done:
    """What a command left on the terminal."""

    returncode: int
    stdout: str
    stderr: str


def tgfbench(*arguments: object, cwd: Path, **environment: str) -> Done:
    """Run a command; in a process of its own where it needs another environment, because registries are read once."""
    words = [*map(str, arguments)]
    if environment:
        command = [sys.executable, "-m", "tgfbench.benchmark.cli", *words]
        variables = {**os.environ, "COLUMNS": "200", **environment}
        done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.raises(SystemExit) as end,
    ):
        patch.setattr(sys, "argv", ["tgfbench", *words])
        patch.setenv("COLUMNS", "200")
        patch.chdir(cwd)
        main()
    return Done(int(end.value.code or 0), stdout.getvalue(), stderr.getvalue())


def pairs(folder: Path, stems: str = "abcd", size: tuple[int, int] = SIZE) -> Path:
    """Two folders of noise pairs."""
    for i, stem in enumerate(stems):
        rng = np.random.default_rng(i)
        write_png(folder / "vi" / f"{stem}.png", rng.integers(0, 256, (*size, 3), np.uint8))
        write_png(folder / "ir" / f"{stem}.png", rng.integers(0, 256, size, np.uint8))
    return folder


def on_folder(folder: Path) -> list[object]:
    return ["-d", "folder", "--visible", folder / "vi", "--infrared", folder / "ir", "--metrics", "EN,SD,PSNR"]


def test_run_leaves_scores_and_boards(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "data")
    first = tgfbench("run", "-m", "average,maximum", *on_folder(folder), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "4 pairs" in first.stdout
    assert (tmp_path / "runs" / "leaderboard.csv").is_file()
    board = (tmp_path / "runs" / "leaderboard.md").read_bytes()
    assert b"average" in board
    assert b"maximum" in board
    second = tgfbench("run", "-m", "average,maximum", *on_folder(folder), cwd=tmp_path)
    assert second.returncode == 0
    assert "Nothing was computed" in second.stdout
    assert (tmp_path / "runs" / "leaderboard.md").read_bytes() == board
    rebuilt = tgfbench("leaderboard", cwd=tmp_path)
    assert rebuilt.returncode == 0
    assert "protocol correct" in rebuilt.stdout


def test_evaluate_names_every_bad_file_and_scores_the_rest(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "data")
    fused = tmp_path / "fused"
    write_png(fused / "a.png", np.full((*SIZE, 3), 90, np.uint8))
    write_png(fused / "b.png", np.full((48, 60, 3), 90, np.uint8))
    (fused / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n but no image")
    write_png(fused / "zebra.png", np.full((*SIZE, 3), 90, np.uint8))
    done = tgfbench("evaluate", "--fused", fused, "--name", "My Net", *on_folder(folder), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    for part in ("b.png", "60x48", "64x48", "c.png", "d.png", "zebra.png"):
        assert part in done.stdout, part
    (scores,) = (tmp_path / "runs").rglob("per_image.csv")
    assert {line.split(",")[0] for line in scores.read_text().splitlines()[1:]} == {"a"}
    assert scores.parent.parent.name == "My-Net@precomputed"


def test_of_many_failures_the_first_are_printed_and_the_file_names_all(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "data", "abcdefghijkl")
    for stem in "mnopqrs":
        write_png(folder / "vi" / f"{stem}.png", np.zeros((*SIZE, 3), np.uint8))
    write_png(tmp_path / "fused" / "a.png", np.full((*SIZE, 3), 90, np.uint8))
    done = tgfbench("evaluate", "--fused", "fused", "--name", "net", *on_folder(folder), cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert sum("failed" in line and "the fused image of" in line for line in lines) == 5
    (table,) = (tmp_path / "runs").rglob("failures.csv")
    assert f"  … 11 in all, see {table.relative_to(tmp_path)}" in lines
    assert len(table.read_text().splitlines()) == 1 + 11
    assert sum("unpaired" in line for line in lines) == 5, "once, and not again with every method"
    assert f"  … 7 in all, see {table.with_name('run.json').relative_to(tmp_path)}" in lines


def test_one_of_a_kind_is_not_spoken_of_as_many(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "data", "a")
    for stem in "ab":
        write_png(tmp_path / "fused" / f"{stem}.png", np.full((*SIZE, 3), 90, np.uint8))
    said = ""
    for words in (
        ("run", "-m", "average", *on_folder(folder)[:-1], "EN"),
        ("run", "-m", "average", *on_folder(folder)[:-1], "EN"),
        ("evaluate", "--fused", "fused", "--name", "net", *on_folder(folder)),
        ("fuse", "-m", "average", "--visible", folder / "vi", "--infrared", folder / "ir", "-o", "made"),
        ("site", "--out", "runs"),
    ):
        done = tgfbench(*words, cwd=tmp_path)
        said += done.stdout + done.stderr
    for what in (
        "1 pair of",
        "1 value",
        "1 image already",
        "1 file matches no pair",
        "1 of 1 run;",
        "1 of 1 pair fused",
    ):
        assert what in said, what
    assert not re.findall(r"\b1 [a-z]+s\b", said)


def test_an_image_too_small_for_a_metric_leaves_its_mean_for_every_row(tmp_path: Path) -> None:
    folder = pairs(pairs(tmp_path / "data", "abc"), "d", (8, 9))
    words = ("-d", "folder", "--visible", folder / "vi", "--infrared", folder / "ir", "--metrics", "EN,SSIM")
    done = tgfbench("run", "-m", "average,maximum", *words, cwd=tmp_path)
    assert done.returncode == 0
    note = "SSIM: undefined on 1 of 4 images for every row (d), the mean is over the other 3"
    assert note in done.stdout and "n/a" not in done.stdout
    assert done.stdout.count("note: SSIM (correct) takes at least 11 x 11 pixels: undefined on 1 image") == 2


def test_a_corrupt_pair_is_named_and_the_rest_is_run(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "data")
    whole = (folder / "vi" / "b.png").read_bytes()
    (folder / "vi" / "b.png").write_bytes(whole[: len(whole) // 2])
    write_png(folder / "ir" / "c.png", np.zeros((48, 66), np.uint8))
    done = tgfbench("run", "-m", "average", *on_folder(folder), cwd=tmp_path)
    assert done.returncode == 1
    assert "b.png" in done.stdout
    assert "size-mismatch" in done.stdout
    (scores,) = (tmp_path / "runs").rglob("per_image.csv")
    assert {line.split(",")[0] for line in scores.read_text().splitlines()[1:]} == {"a", "d"}


def test_a_pair_of_two_sizes_costs_exit_code_1_an_unpaired_file_does_not(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "data")
    (folder / "ir" / "d.png").unlink()
    alone = tgfbench("run", "-m", "average", *on_folder(folder), cwd=tmp_path)
    assert alone.returncode == 0
    assert "unpaired" in alone.stdout
    write_png(folder / "ir" / "c.png", np.zeros((48, 66), np.uint8))
    mismatch = tgfbench("run", "-m", "average", *on_folder(folder), cwd=tmp_path)
    assert mismatch.returncode == 1
    assert "66x48" in mismatch.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "-m", "avarage"], "did you mean average"),
        (["run", "-m", "average", "-d", "nowhere"], "available: "),
        (["run", "-m", "average", "-d", "tno", "--data-root", "absent"], "absent"),
        (["run", "-m", "average", "-d", "folder", "--visible", "empty", "--infrared", "empty"], "empty"),
        (["run", "-m", "average", "-d", "folder", "--visible", "empty"], "only one of the two"),
        (["run", "-m", "average", "--protocol", "corect"], "correct"),
        (["run", "-m", "average", "--metrics", "ENN"], "EN"),
        (["run", "-m", "average", "--weights", "x.pt"], "--weights"),
        (["run", "-m", "average", "--device", "cuda:99"], "cuda:99"),
        (["run", "-m", "average", "--engine", "slurm"], "local or ray"),
        (["run", "-m", "laplacian-pyramid", "-O", "levels=many"], "levels"),
        (["run", "-m", "average", "-O", "nonsense"], "key=value"),
        (["run", "-m", "average", "--limit", "0"], "--limit"),
        (["run", "-m", "tesg", "--weights", "absent.pt"], "absent.pt"),
        (["evaluate", "--fused", "absent", "--name", "x"], "absent"),
        (["leaderboard", "--out", "absent"], "tgfbench run -m tesg,baselines -d sample --out absent\n"),
        (["info", "nothing"], "available: "),
        (["new-method", "My Net", "--dir", "x"], "lower case"),
        (["new-method", "average", "--dir", "x"], "belongs to tgfbench"),
        (["fuse", "-m", "average", "--visible", "a.png", "--infrared", "b.png", "-o", "c.png"], "a.png"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_explained_with_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    done = tgfbench(*arguments, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert message in said
    assert "Traceback" not in said
    assert done.returncode == (1 if arguments[0] == "fuse" else 2)
    assert not list(tmp_path.rglob("run.json"))


def test_fuse_makes_one_image_or_a_folder(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "data", size=(37, 53))
    one = tgfbench("fuse", "-m", "average", "--visible", folder / "vi" / "a.png", "--infrared", folder / "ir" / "a.png",
                   "-o", "one.png", cwd=tmp_path)  # fmt: skip
    assert one.returncode == 0, one.stderr
    assert (tmp_path / "one.png").is_file()
    all_of_them = tgfbench("fuse", "-m", "average", "--visible", folder / "vi", "--infrared", folder / "ir",
                           "-o", "many", cwd=tmp_path)  # fmt: skip
    assert all_of_them.returncode == 0
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == ["a.png", "b.png", "c.png", "d.png"]


@pytest.mark.parametrize("modality", ["vi", "ir"])
@pytest.mark.parametrize("many", [False, True], ids=["one pair", "two folders"])
def test_fuse_never_writes_over_a_source(tmp_path: Path, modality: str, many: bool) -> None:
    folder = pairs(tmp_path / "data")
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    visible, infrared = (folder / name if many else folder / name / "a.png" for name in ("vi", "ir"))
    (tmp_path / "link").symlink_to(folder)
    target = tmp_path / "link" / modality / ("" if many else "a.png")
    done = tgfbench("fuse", "-m", "average", "--visible", visible, "--infrared", infrared, "-o", target, cwd=tmp_path)
    assert done.returncode == 2
    assert "would replace the source" in done.stderr
    assert before == {path: path.read_bytes() for path in folder.rglob("*.png")}


def test_a_new_method_works_as_written(tmp_path: Path) -> None:
    """The generated project runs through the plugin variable, without being installed."""
    made = tgfbench("new-method", "my-net", "--dir", "plugin", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    environment = {
        "TGFBENCH_PLUGINS": "methods:my-net=tgfbench_my_net:MyNet",
        "PYTHONPATH": str(tmp_path / "plugin"),
    }
    listed = tgfbench("list", "methods", cwd=tmp_path, **environment)
    assert "my-net" in listed.stdout
    data = on_folder(pairs(tmp_path / "data"))
    done = tgfbench("run", "-m", "my_net", *data, "-O", "weight=0.7", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "plugin/tests"],
        cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 passed" in tests.stdout, tests.stdout


def test_a_broken_plugin_is_reported_and_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken_net.py").write_text("raise ImportError('libfancy is not here')\n")
    environment = {"TGFBENCH_PLUGINS": "methods:broken-net=broken_net:Net", "PYTHONPATH": str(tmp_path)}
    assert tgfbench("list", "methods", cwd=tmp_path, **environment).returncode == 0
    checked = tgfbench("list", "methods", "--check", cwd=tmp_path, **environment)
    assert checked.returncode == 1
    assert "libfancy is not here" in checked.stdout
    named = tgfbench("run", "-m", "broken-net", *on_folder(pairs(tmp_path / "data")), cwd=tmp_path, **environment)
    assert named.returncode == 2
    assert "libfancy is not here" in named.stderr
    others = tgfbench("run", "-m", "baselines", *on_folder(tmp_path / "data"), cwd=tmp_path, **environment)
    assert others.returncode == 0, others.stderr


def test_profile_prints_a_row_per_method(tmp_path: Path) -> None:
    done = tgfbench("profile", "-m", "average,dwt", "--size", "64x48", "--repeats", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["average", "dwt"]
    published = tgfbench(
        "profile", "-m", "ldfusion", "--authors-size", "--size", "64x48", "--repeats", "1", cwd=tmp_path
    )
    assert published.returncode == 0, published.stderr
    name, _, _, parameters, flops, _ = published.stdout.splitlines()[-1].split()
    assert (name, parameters) == ("ldfusion@random", "5,776,977")
    assert float(flops) > 0
    none = tgfbench("profile", "-m", "average", "--authors-size", cwd=tmp_path)
    assert none.returncode == 1
    assert "one of the published networks" in none.stdout.replace("\n", " ")
    wrong = tgfbench("profile", "-m", "average", "--size", "64", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "640x480" in wrong.stderr


def test_explain_names_the_convention_behind_a_gap(tmp_path: Path) -> None:
    for name in ("fused", "visible", "infrared"):
        write_png(tmp_path / f"{name}.png", np.random.default_rng(len(name)).integers(0, 256, (64, 80, 3), np.uint8))
    images = ["--fused", "fused.png", "--visible", "visible.png", "--infrared", "infrared.png"]
    done = tgfbench("explain", "SSIM", "--protocols", "film,cddfuse", *images, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the gap comes from peak: 255 → 2" in done.stdout
    guessed = tgfbench("explain", "--value", 63.27, "--metric", "PSNR", cwd=tmp_path)
    assert guessed.stdout.startswith("tang")
    for wrong in (["SSIM"], ["SSIM", "--protocols", "film", *images], ["Nonsense", "--value", 1]):
        assert tgfbench("explain", *wrong, cwd=tmp_path).returncode == 2


def test_captions_from_labels_are_written_and_used(tmp_path: Path) -> None:
    done = tgfbench("datasets", "caption", "sample", "--limit", 2, "--out", "captions.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "captions.jsonl").read_text().splitlines()) == 2
    assert (
        "2 left as they were"
        in tgfbench("datasets", "caption", "sample", "--limit", 2, "--out", "captions.jsonl", cwd=tmp_path).stdout
    )
    assert tgfbench("datasets", "caption", "sample+haze:3", "--out", "x.jsonl", cwd=tmp_path).returncode == 2
    assert tgfbench("datasets", "caption", "sample", cwd=tmp_path, TGFBENCH_DATA="").returncode == 2


def test_weights_say_where_they_lie_or_how_to_get_them(tmp_path: Path) -> None:
    shipped = tgfbench("weights", "download", "tesg", cwd=tmp_path)
    assert shipped.returncode == 0
    assert "tesg.safetensors" in shipped.stdout
    absent = tgfbench("weights", "download", "film", cwd=tmp_path)
    assert absent.returncode == 1
    assert "IVF.pth" in absent.stdout
    assert "--weights PATH" in absent.stdout
    assert "no parameters" in tgfbench("weights", "download", "average", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "-m", "average", "-d", "folder", "--visible", "data/vi", "--infrared", "data/ir", "--out", "taken"],
        ["fuse", "-m", "average", "--visible", "data/vi", "--infrared", "data/ir", "-o", "taken"],
        ["new-method", "my-net", "--dir", "taken/my-net"],
        ["train", "tesg", "--steps", "1", "--out", "taken"],
        ["datasets", "references", "sample", "--limit", "1", "--out", "taken"],
    ],
    ids=lambda words: words[0],
)
def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, arguments: list[str]) -> None:
    pairs(tmp_path / "data", "a")
    (tmp_path / "taken").write_text("a file where a folder should be")
    done = tgfbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "taken" in done.stderr
    assert "try: " in done.stderr
    assert "Traceback" not in done.stderr


def test_training_says_what_ctrl_c_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlike all other commands it starts anew, or needs an option to go on."""

    def interrupted(request: training.TrainRequest) -> training.TrainResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    early = tgfbench("train", "tesg", "--out", "weights", cwd=tmp_path)
    assert early.returncode == 130
    assert "before the first checkpoint" in early.stderr
    assert "the same command goes on from there" not in early.stderr
    (tmp_path / "weights" / "checkpoint.pt").touch()
    late = tgfbench("train", "tesg", "--out", "weights", cwd=tmp_path)
    assert late.returncode == 130
    assert "checkpoint.pt" in late.stderr
    assert "--resume" in late.stderr


def test_a_run_may_be_named_by_its_folder(tmp_path: Path) -> None:
    done = tgfbench("run", "-m", "average", *on_folder(pairs(tmp_path / "data", "a")), cwd=tmp_path)
    folder = done.stdout.split(" → ")[1].split()[0]
    assert tgfbench("submit", folder, "-o", "average.json", cwd=tmp_path).returncode == 0
    assert tgfbench("validate", folder + "/", "--data-root", "data", cwd=tmp_path).returncode == 0
    wrong = tgfbench("submit", "runs/folder", cwd=tmp_path)
    assert wrong.returncode == 2
