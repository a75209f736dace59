"""Plan, execute, store: nothing done twice, nothing lost, everything named."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tgfbench.benchmark.engines import Outcome, Work
from tgfbench.benchmark.errors import DataError, MetricError, PluginError, UsageError
from tgfbench.benchmark.images import read_visible, write_png
from tgfbench.benchmark.plan import (
    DatasetRequest,
    MethodRequest,
    PlannedRun,
    ProtocolRequest,
    RunSpec,
    expand_methods,
    plan_runs,
)
from tgfbench.benchmark.runner import RunReport, code_of, execute
from tgfbench.benchmark.store import Run, find_runs
from tgfbench.methods import METHODS
from tgfbench.metrics.detail import AG

HERE = Path(__file__).resolve().parent
PLUGINS = "methods:stub-mean=stubs:Mean,methods:stub-shrinks=stubs:Shrinks,datasets:stub-pairs=stubs:Pairs"


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the stubs; registries are read anew in every test."""
    from tgfbench.benchmark.registry import Registry
    from tgfbench.datasets import DATASETS
    from tgfbench.methods import METHODS

    monkeypatch.setenv("TGFBENCH_PLUGINS", PLUGINS)
    monkeypatch.syspath_prepend(str(HERE))
    for registry in (METHODS, DATASETS):
        fresh: Registry[Any] = Registry(registry.kind)
        monkeypatch.setattr(registry, "_entries", fresh._entries, raising=False)


Go = Callable[..., RunReport]


@pytest.fixture
def go(tmp_path: Path) -> Go:
    """Plan and execute one run of the stub method on the stub pairs."""

    def run(
        *, overwrite: str = "only-missing", metrics: str = "EN,SD", text: str = "dataset", limit: int | None = None,
        method: str = "stub-mean", data: dict[str, Any] | None = None, **options: Any,
    ) -> RunReport:  # fmt: skip
        dataset = DatasetRequest("stub-pairs", limit=limit, options=data or {})
        protocol = ProtocolRequest("correct", tuple(metrics.split(",")))
        spec = RunSpec(dataset, MethodRequest(method, device="cpu", options=options), (protocol,), text)
        return execute(plan_runs([spec], tmp_path)[0], overwrite=overwrite)  # type: ignore[arg-type]

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but ``run.json``, whose times differ from run to run."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in ("run.json", ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_run_stores_what_the_contract_says(go: Go) -> None:
    report = go()
    assert (report.fused, report.measured, report.failures) == (6, 12, {})
    files = contents(report.folder)
    assert sorted(files) == [*(f"fused/p{i:02d}.png" for i in range(6)), "images.csv", "per_image.csv"]
    lines = files["per_image.csv"].decode().splitlines()
    assert lines[0] == "key,metric,protocol,value"
    assert [line.split(",")[:3] for line in lines[1:3]] == [["p00", "EN", "correct"], ["p00", "SD", "correct"]]
    assert report.folder.parent.name == "stub-mean@none"
    content = json.loads((report.folder / "run.json").read_text())
    assert content["identity"]["fingerprint"]
    assert content["metrics"]["correct"].keys() == {"EN", "SD"}
    assert content["provenance"]["packages"]["torch"]
    assert content["finished_at"]


class Slow:
    """An engine that needs long for its first image, as methods do that load something then."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds

    def process(self, planned: PlannedRun, works: Sequence[Work]) -> Iterator[Outcome]:
        yield from (Outcome(work.key, seconds=took) for work, took in zip(works, self.seconds, strict=False))


@pytest.mark.parametrize(("seconds", "typical"), [((16.0, 0.5), 0.5), ((16.0, 0.5, 0.6), 0.6), ((16.0,), 16.0)])
def test_the_first_image_does_not_decide_the_time_per_image(
    tmp_path: Path, seconds: tuple[float, ...], typical: float
) -> None:
    protocol = ProtocolRequest("correct", ("EN",))
    spec = RunSpec(DatasetRequest("stub-pairs"), MethodRequest("stub-mean", device="cpu"), (protocol,))
    report = execute(plan_runs([spec], tmp_path)[0], engine=Slow(*seconds))
    assert json.loads((report.folder / "run.json").read_text())["fuse_seconds"] == typical


def test_the_second_call_computes_nothing_and_changes_nothing(go: Go) -> None:
    first = go()
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.png")}
    finished = json.loads((first.folder / "run.json").read_text())["finished_at"]
    second = go()
    assert (second.folder, second.fused, second.measured) == (first.folder, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.png")} == stamps
    assert json.loads((first.folder / "run.json").read_text())["finished_at"] == finished


def test_another_metric_measures_without_fusing(go: Go) -> None:
    go()
    report = go(metrics="EN,SD,AG")
    assert (report.fused, report.measured) == (0, 6)


@pytest.mark.parametrize(
    "change",
    [{"text": "none"}, {"text": "a literal prompt"}, {"limit": 3}, {"data": {"version": 1}}],
    ids=["no-text", "literal", "limit", "content"],
)
def test_whatever_decides_the_images_gives_another_run(go: Go, change: dict[str, Any]) -> None:
    assert go().folder != go(**change).folder


def test_metrics_compare_with_the_clean_pair_where_it_is_known() -> None:
    """Darkening the inputs must not look like better fusion."""
    from tgfbench.benchmark.engines import measure
    from tgfbench.datasets import load_dataset
    from tgfbench.metrics import load_protocol

    sample = load_dataset("sample+low-light:4", count=1, width=96, height=64).load("test-0000")
    assert sample.clean is not None
    protocol = load_protocol("correct").select(["PSNR"])
    images = (sample.visible, sample.clean.visible, sample.clean.infrared)
    assert measure(protocol, sample.visible, sample)[0] == protocol.evaluate(*images)
    assert (
        measure(protocol, sample.visible, sample)[0]["PSNR"]
        < protocol.evaluate(sample.visible, sample.visible, sample.infrared)["PSNR"]
    )


def test_prompts_follow_the_policy_and_are_stored(go: Go) -> None:
    for policy, prompt in [
        ("dataset", "caption of p01"),
        ("default", "default words"),
        ("none", ""),
        ("", ""),
        ("Default", "default words"),
        ("hi", "hi"),
    ]:
        assert Run(go(text=policy).folder).load().images["p01"].text == prompt


def test_a_missing_or_changed_image_is_made_again(go: Go) -> None:
    report = go()
    before = contents(report.folder)
    (report.folder / "fused" / "p02.png").unlink()
    write_png(report.folder / "fused" / "p04.png", np.zeros((40, 56, 3), np.uint8))
    again = go()
    assert (again.fused, again.measured) == (2, 4)
    assert "p02, p04" in again.warnings[0]
    assert contents(report.folder) == before


def test_overwrite_modes(go: Go) -> None:
    report = go(limit=4)
    (report.folder / "fused" / "p01.png").unlink()
    left = go(limit=4, overwrite="never")
    assert left.skipped
    assert not (report.folder / "fused" / "p01.png").exists()
    assert go(limit=4, overwrite="always").fused == 4
    assert go(limit=2, overwrite="never").fused == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nan_on": "p03"}, "non-finite values"),
        ({"raise_on": "p03"}, "ZeroDivisionError: on purpose"),
        ({"raise_on": "p03"}, "stubs.py, line "),
        ({"exit_on": "p03"}, "SystemExit: on purpose"),
    ],
    ids=["nan", "raises", "where", "exits"],
)
def test_a_failing_image_is_named_and_the_rest_is_stored(go: Go, options: dict[str, str], message: str) -> None:
    report = go(**options)
    assert list(report.failures) == ["p03"]
    assert message in report.failures["p03"]
    assert (report.fused, report.measured) == (5, 10)
    assert "p03" in (report.folder / "failures.csv").read_text()
    assert not (report.folder / "fused" / "p03.png").exists()


def test_a_wrong_shape_is_refused(go: Go) -> None:
    report = go(method="stub-shrinks", limit=1)
    assert "(1, 3, 40, 55)" in report.failures["p00"]
    assert "(1, 3, 40, 56)" in report.failures["p00"]


def test_a_metric_is_undefined_on_images_too_small_for_it_and_the_others_stay(go: Go) -> None:
    """MS-SSIM needs larger images than the stubs."""
    report = go(metrics="EN,MS-SSIM", limit=2)
    assert (report.fused, report.measured, report.failures) == (2, 2, {})
    assert report.warnings == ["MS-SSIM (correct) takes at least 161 x 161 pixels: undefined on 2 images"]
    scores = Run(report.folder).load().scores
    assert all(math.isnan(value) == (metric == "MS-SSIM") for (_, metric, _), value in scores.items())
    again = go(metrics="EN,MS-SSIM", limit=2)
    assert (again.measured, again.failures, again.warnings) == (0, {}, [])


def test_a_metric_that_refuses_an_image_keeps_image_and_other_metrics(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: AG, inputs: object) -> None:
        raise MetricError("computing AG", found="a bad day")

    monkeypatch.setattr(AG, "compute", refuse)
    report = go(metrics="EN,AG", limit=2)
    assert (report.fused, report.measured) == (2, 2)
    assert [*report.failures.values()] == ["computing AG; found: a bad day"] * 2


def test_a_second_process_is_kept_out(go: Go) -> None:
    report = go()
    with Run(report.folder).locked(), pytest.raises(UsageError, match="another process"):
        go()


def test_a_torn_journal_line_loses_only_its_image(go: Go) -> None:
    report = go()
    before = contents(report.folder)
    run = Run(report.folder).load()
    for table in ("images", "per_image"):
        (report.folder / f"{table}.csv").unlink()
    for key, image in list(run.images.items())[:3]:
        run.add_image(key, image)
    with (report.folder / "images.journal").open("a") as file:
        file.write('[["p03", "caption of p03", "ab')
    again = go()
    assert again.fused == 0, "the PNGs carry their run's id, so that whole images are taken in again"
    assert contents(report.folder) == before


def test_a_damaged_store_file_is_named(go: Go) -> None:
    report = go()
    (report.folder / "per_image.csv").write_text("key,metric\np00,EN\n")
    with pytest.raises(DataError, match=r"per_image\.csv"):
        go()
    (report.folder / "per_image.csv").unlink()
    assert go().measured == 12
    (report.folder / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json"):
        go()


def test_killed_and_continued_equals_uninterrupted(tmp_path: Path) -> None:
    """kill -9 in the middle: no image is made twice, and the results are byte for byte those of an untroubled run."""
    command = [sys.executable, "-m", "tgfbench.benchmark.cli", "run", "-m", "stub-mean", "-d", "stub-pairs",
               "-D", "count=16", "--metrics", "EN,SD"]  # fmt: skip
    environment = {**os.environ, "TGFBENCH_PLUGINS": PLUGINS, "PYTHONPATH": str(HERE)}
    slow = [*command, "-O", "delay=0.15"]

    def finish(out: Path) -> Path:
        subprocess.run([*slow, "--out", str(out)], env=environment, cwd=tmp_path, check=True, capture_output=True)
        (run,) = find_runs(out)
        return run.folder

    process = subprocess.Popen([*slow, "--out", "killed"], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").rglob("*.png"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("*.png")}
    assert 5 <= len(done) < 16
    continued, untroubled = finish(tmp_path / "killed"), finish(tmp_path / "untroubled")
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert contents(continued) == contents(untroubled)


def test_groups_expand_and_say_what_they_leave_out() -> None:
    names, _ = expand_methods(["stub-mean", "baselines", "stub_mean"])
    assert names[0] == "stub-mean"
    assert names.count("stub-mean") == 1
    assert {"average", "maximum"} <= set(names)
    assert "precomputed" not in expand_methods(["all"])[0]
    with pytest.raises(UsageError, match="did you mean average"):
        expand_methods(["averag"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("film:authors", "try: -m film --weights authors"),
        ("Film@project", "try: -m film --weights project"),
        ("tesg:authors", "no weights 'authors' of tesg.*expected: project.*-m tesg --weights NAME, or the PATH"),
        ("average:authors", "a method without weights.*try: -m average"),
        ("avrage:authors", "did you mean average"),
    ],
)
def test_weights_named_with_the_method_are_refused_with_what_to_do(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        expand_methods([name])
    with pytest.raises(UsageError, match=f"(?s){said}"):
        MethodRequest(name).load()


def test_what_cannot_work_is_refused_before_anything_runs(tmp_path: Path) -> None:
    pairs = DatasetRequest("stub-pairs")
    for spec, message in [
        (RunSpec(DatasetRequest("stub-pears"), MethodRequest("average")), "stub-pairs"),
        (RunSpec(pairs, MethodRequest("average", weights="x.pt")), "no parameters"),
        (RunSpec(pairs, MethodRequest("stub-mean", options={"colour": "red"})), "colour"),
        (RunSpec(pairs, MethodRequest("average"), (ProtocolRequest("correct", ("ENN",)),)), "EN"),
        (RunSpec(pairs, MethodRequest("average"), (ProtocolRequest("corect"),)), "correct"),
        (RunSpec(DatasetRequest("stub-pairs", limit=0), MethodRequest("average")), "--limit"),
        (RunSpec(DatasetRequest("stub-pairs", options={"count": 0}), MethodRequest("average")), "no usable pair"),
    ]:
        with pytest.raises(Exception, match=message) as caught:
            plan_runs([spec], tmp_path)
        assert type(caught.value).__module__ == "tgfbench.benchmark.errors"
    assert not list(tmp_path.iterdir())


def test_fused_pixels_are_the_methods_own(go: Go) -> None:
    """No colour conversion or rounding but the last one happens between method and file."""
    report = go(text="none", limit=1)
    from stubs import Pairs

    sample = Pairs().load("p00")
    mean = (sample.visible / np.float32(255) + sample.infrared[..., None] / np.float32(255)) / 2
    np.testing.assert_array_equal(
        read_visible(report.folder / "fused" / "p00.png"), np.rint(mean * 255).astype(np.uint8)
    )


BROKEN = """
from typing import ClassVar
from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo


class Raises(FusionMethod):
    info: ClassVar[MethodInfo] = MethodInfo(name="raises", title="Raises")

    def __init__(self, **common: object) -> None:
        raise KeyError("no such layer")

    def fuse(self, batch):
        return batch.visible


class Abstract(FusionMethod):
    info: ClassVar[MethodInfo] = MethodInfo(name="abstract", title="Abstract")


class Bare(FusionMethod):
    def fuse(self, batch):
        return batch.visible


class Pretends(FusionMethod):
    info: ClassVar[MethodInfo] = MethodInfo(name="tesg", title="Pretends")

    def fuse(self, batch):
        return batch.visible
"""


@pytest.mark.parametrize(
    ("name", "cls", "messages"),
    [
        ("raises", "Raises", ["KeyError", "no such layer", "broken.py, line 10"]),
        ("abstract", "Abstract", ["TypeError", "fuse"]),
        ("bare", "Bare", ["Bare", "no card", "MethodInfo"]),
        ("pretends", "Pretends", ["'tesg'", "tgfbench 0.1.0"]),
    ],
)
def test_a_plugin_that_cannot_be_made_is_named(
    name: str, cls: str, messages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    METHODS.register(name, f"broken:{cls}", "a plugin")
    with pytest.raises(PluginError, match=name) as caught:
        plan_runs([RunSpec(DatasetRequest("stub-pairs"), MethodRequest(name))], tmp_path / "runs")
    for message in messages:
        assert message in str(caught.value)


def test_changed_code_of_a_plugin_is_noticed_until_its_images_are_made_again(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(**options: Any) -> bool:
        return any("--overwrite always" in warning for warning in go(limit=2, **options).warnings)

    assert not warned()
    assert not warned()
    monkeypatch.setattr("tgfbench.benchmark.runner.code_of", lambda cls: "other")
    assert warned()
    assert warned()
    assert not warned(overwrite="always")
    assert not warned()


def test_code_is_that_of_the_plugin_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tgfbench.methods.baselines import Average

    assert code_of(Average) == ""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "net_of_two_files").mkdir()
    (tmp_path / "net_of_two_files" / "__init__.py").write_text("class Net:\n    pass\n")
    (tmp_path / "net_of_two_files" / "layers.py").write_text("")
    from net_of_two_files import Net

    before = code_of(Net)
    (tmp_path / "net_of_two_files" / "layers.py").write_text("width = 8\n")
    assert len(before) == 64
    assert code_of(Net) != before
