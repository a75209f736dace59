"""The audit judged by methods of known behaviour, on rendered and on real pairs; and that it resumes."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tgfbench.benchmark.audit.controls import CONTROLS, BoostsNamed, Control, IgnoresText
from tgfbench.benchmark.audit.plan import AuditRequest, PlannedAudit, Scenes
from tgfbench.benchmark.audit.results import picture_frame
from tgfbench.benchmark.audit.runner import audit
from tgfbench.benchmark.audit.store import find_audits
from tgfbench.benchmark.cli import main
from tgfbench.benchmark.errors import DataError, WeightsError
from tgfbench.benchmark.images import write_png
from tgfbench.benchmark.plan import DatasetRequest, MethodRequest, PlannedRun, RunSpec
from tgfbench.benchmark.results import image_frame, store_frames
from tgfbench.datasets.base import Dataset, Labels, Sample
from tgfbench.datasets.labels import mentioned
from tgfbench.datasets.msrs import MSRS
from tgfbench.datasets.sample import SampleDataset
from tgfbench.leaderboards.board import build_boards
from tgfbench.leaderboards.site import build_site
from tgfbench.methods.base import FusionBatch, MethodInfo
from tgfbench.metrics.audit.directed import ring
from tgfbench.metrics.audit.measures import Target
from tgfbench.metrics.audit.prompts import write_prompts
from tgfbench.metrics.audit.verdict import Verdict

SEEDS = range(5)


class Noisy(Control):
    """Adds new noise at every call and ignores the text."""

    info = MethodInfo(name="toy-noisy", title="Noisy", text_use="test")
    generator = torch.Generator().manual_seed(0)

    def fuse(self, batch: FusionBatch) -> Tensor:
        average = (batch.visible + batch.infrared) / 2
        return (average + 0.05 * torch.randn(average.shape, generator=self.generator)).clamp(0, 1)


class FavoursHot(Control):
    """Brightens what is hot, the more or less by a hash of the text: moves objects, but not because they are named."""

    info = MethodInfo(name="toy-hot", title="Hot", text_use="test")

    def guide(self, average: Tensor, batch: FusionBatch, row: int) -> Tensor:
        amount = int.from_bytes(hashlib.sha256(batch.texts[row].encode()).digest()[:2], "big") / 2**16
        hot = batch.infrared[row] > batch.infrared[row].mean() + batch.infrared[row].std()
        return average + 0.2 * amount * hot


class BoostsOnNonsense(BoostsNamed):
    """Boosts what is named, and everything on words it does not know."""

    info = MethodInfo(name="toy-boosts-on-nonsense", title="Boosts on nonsense", text_use="test")

    def guide(self, average: Tensor, batch: FusionBatch, row: int) -> Tensor:
        if "the " in batch.texts[row].lower() or " a" in batch.texts[row].lower():
            return super().guide(average, batch, row)
        return super().guide(average, dataclasses.replace(batch, texts=["person car bicycle"]), row)


class HidesNamed(BoostsNamed):
    """Paints what is named in the colour of its surroundings: in the right place, and the wrong direction."""

    info = MethodInfo(name="toy-hides-named", title="Hides", text_use="test")

    def guide(self, average: Tensor, batch: FusionBatch, row: int) -> Tensor:
        targets = list(self.targets(batch.keys[row]))
        hidden = average.clone()
        for index in mentioned(batch.texts[row], [target.name for target in targets]):
            mask = targets[index].mask
            hidden[:, mask] = average[:, ring(mask)].mean(dim=1, keepdim=True)
        return hidden


class Shrunk(Dataset):
    """Every fourth pixel of a dataset, boxes and all: real scenes at the cost of small ones."""

    def __init__(self, whole: Dataset, count: int) -> None:
        self.whole, self.info, self.split = whole, whole.info, whole.split  # type: ignore[misc]
        labelled = (key for key in whole.keys if (labels := whole.load(key).labels) and len(labels.boxes))
        self.keys = tuple(islice(labelled, count))

    def load(self, key: str) -> Sample:
        whole = self.whole.load(key)
        assert whole.labels is not None
        labels = Labels(whole.labels.boxes / 4, whole.labels.classes)
        small = np.ascontiguousarray(whole.visible[::4, ::4]), np.ascontiguousarray(whole.infrared[::4, ::4])
        return Sample(key, *small, whole.texts, labels)

    def fingerprint(self, keys: tuple[str, ...] | None = None) -> str:
        return self.whole.fingerprint(self.keys) + "/4"


class Scrambled(Scenes):
    """Scenes whose masks are those of other samples: what the audit must not call local."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def targets(self, key: str) -> list[Target]:
        keys = list(self.dataset.keys)
        others = [t for k in keys if k != key for t in super(Scrambled, self).targets(k)]
        generator = np.random.default_rng((self.seed, keys.index(key)))
        names = [target.name for target in super().targets(key)]
        return [Target(name, others[generator.integers(len(others))].mask) for name in names]


@lru_cache
def rendered() -> Scenes:
    return Scenes(SampleDataset(count=13, width=128, height=96))


@lru_cache
def real(folder: Path) -> Scenes:
    return Scenes(Shrunk(MSRS(folder, split="test"), 16))


def plan(
    method: type[Control],
    scenes: Scenes,
    out: Path,
    seed: int = 0,
    targets: Callable[[str], Sequence[Target]] | None = None,
    **asked: object,
) -> PlannedAudit:
    request = AuditRequest(DatasetRequest("sample"), seed, **asked)  # type: ignore[arg-type]
    spec = RunSpec(request.dataset, MethodRequest(method.info.name), (), "dataset", seed)
    run = PlannedRun(spec, scenes.dataset, method(targets or scenes.targets), (), out)
    return PlannedAudit(run, request, scenes, out)


def verdict_of(planned: PlannedAudit) -> Verdict:
    report = audit(planned)
    assert not report.failures
    assert report.audit is not None
    return report.audit.verdict


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.info.name)
def test_controls_get_their_verdicts_on_rendered_scenes(control: type[Control], seed: int, tmp_path: Path) -> None:
    assert verdict_of(plan(control, rendered(), tmp_path, seed, pictures=0)) is control.expected


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.info.name)
def test_controls_get_their_verdicts_on_real_pairs_with_boxes(
    control: type[Control], shared: Path, tmp_path: Path
) -> None:
    assert verdict_of(plan(control, real(shared / "data"), tmp_path, pictures=0)) is control.expected


@pytest.mark.parametrize("seed", range(2))
def test_masks_of_other_samples_make_locality_insignificant(seed: int, tmp_path: Path) -> None:
    assert_not_local_with_scrambled_masks(rendered(), seed, tmp_path)


def test_masks_of_other_real_pairs_make_locality_insignificant(shared: Path, tmp_path: Path) -> None:
    assert_not_local_with_scrambled_masks(real(shared / "data"), 0, tmp_path)


def assert_not_local_with_scrambled_masks(true: Scenes, seed: int, out: Path) -> None:
    scrambled = Scrambled(true.dataset, seed)
    result = audit(plan(BoostsNamed, scrambled, out, seed, targets=true.targets, pictures=0)).audit
    assert result is not None
    assert result.verdict is not Verdict.LOCAL
    p = result.estimates["energy share above area"].p
    assert p is not None
    assert p > 0.01


@pytest.mark.parametrize(
    ("toy", "allowed"),
    [
        (Noisy, {Verdict.NOTHING}),
        (FavoursHot, {Verdict.WORDING, Verdict.GLOBAL}),
        (BoostsOnNonsense, {Verdict.UNDIRECTED}),
        (HidesNamed, {Verdict.UNDIRECTED}),
    ],
    ids=lambda value: value.info.name if isinstance(value, type) else "",
)
def test_toys_that_only_seem_to_be_guided_are_not_called_so(
    toy: type[Control], allowed: set[Verdict], tmp_path: Path
) -> None:
    assert verdict_of(plan(toy, rendered(), tmp_path, pictures=0)) in allowed


def test_noise_of_its_own_is_remarked(tmp_path: Path) -> None:
    result = audit(plan(Noisy, rendered(), tmp_path)).audit
    assert result is not None
    assert any("not deterministic" in remark for remark in result.remarks)


def test_few_images_are_not_judged(tmp_path: Path) -> None:
    scenes = Scenes(SampleDataset(count=4, width=96, height=72))
    assert verdict_of(plan(BoostsNamed, scenes, tmp_path)) is Verdict.UNDECIDED


class Stops(BoostsNamed):
    """Is interrupted after some fusions."""

    info = BoostsNamed.info
    left = 0

    def fuse(self, batch: FusionBatch) -> Tensor:
        type(self).left -= 1
        if type(self).left < 0:
            raise KeyboardInterrupt
        return super().fuse(batch)


def test_an_interrupted_audit_goes_on_and_loses_no_image(tmp_path: Path) -> None:
    scenes = Scenes(SampleDataset(count=3, width=96, height=72))
    whole = audit(plan(BoostsNamed, scenes, tmp_path / "whole"))
    Stops.left = whole.fused // 2
    stopped = plan(Stops, scenes, tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        audit(stopped)
    Stops.left = 1000
    resumed = audit(stopped)
    assert resumed.fused == whole.fused - whole.fused // 2
    again = audit(stopped)
    assert (again.fused, again.measured) == (0, 0)
    for name in ("per_image.csv", "prompts.jsonl"):
        assert (stopped.store.folder / name).read_bytes() == (whole.store.folder / name).read_bytes()
    assert resumed.audit == again.audit == whole.audit


def test_a_lost_map_and_a_cut_journal_are_measured_again(tmp_path: Path) -> None:
    scenes = Scenes(SampleDataset(count=3, width=96, height=72))
    planned = plan(BoostsNamed, scenes, tmp_path)
    first = audit(planned).audit
    (planned.store.folder / "maps" / "test-0001.npz").write_bytes(b"PK")
    (planned.store.folder / "per_image.journal").write_text('[["test-0002", "rms"')
    again = audit(planned)
    assert again.measured == 1
    assert again.audit == first


def test_a_lost_number_is_measured_again_and_a_damaged_one_named(tmp_path: Path) -> None:
    planned = plan(IgnoresText, Scenes(SampleDataset(count=3, width=96, height=72)), tmp_path, pictures=0)
    audit(planned)
    table = planned.store.folder / "per_image.csv"
    whole = table.read_text()
    lines = whole.splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith("test-0001,rms,floor")) + "\n")
    judged = planned.store.read_json()["result"]
    assert audit(planned).measured == 1
    assert table.read_text() == whole
    assert planned.store.read_json()["result"] == judged
    table.write_text(whole.replace(lines[4], lines[4].rsplit(",", 1)[0] + ",0.0.1"))
    with pytest.raises(DataError, match=r"per_image\.csv.*\n.*line 5"):
        audit(planned)


def test_a_lost_or_further_sheet_is_drawn_from_new_outputs(tmp_path: Path) -> None:
    scenes = Scenes(SampleDataset(count=3, width=96, height=72))
    one = audit(plan(BoostsNamed, scenes, tmp_path, pictures=1))
    sheet = one.store.picture_path("test-0000")
    drawn = sheet.read_bytes()
    two = audit(plan(BoostsNamed, scenes, tmp_path, pictures=2))
    assert (two.store.folder, two.measured) == (one.store.folder, 1)
    assert two.store.picture_path("test-0001").is_file()
    sheet.unlink()
    again = audit(plan(BoostsNamed, scenes, tmp_path, pictures=1))
    assert (again.fused, again.measured) == (0, 1)
    assert sheet.read_bytes() == drawn


class Fails(BoostsNamed):
    """Fails on one sample."""

    info = BoostsNamed.info

    def fuse(self, batch: FusionBatch) -> Tensor:
        if batch.keys == ["test-0001"]:
            raise ZeroDivisionError("on purpose")
        return super().fuse(batch)


def test_a_sample_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    scenes = Scenes(SampleDataset(count=3, width=96, height=72))
    report = audit(plan(Fails, scenes, tmp_path))
    assert set(report.failures) == {"test-0001"}
    failures = report.store.folder / "failures.csv"
    assert "on purpose" in failures.read_text()
    assert report.measured == 2
    judged = report.store.read_json()["result"]
    assert judged["left_out"] == 1
    audit(plan(Fails, scenes, tmp_path), overwrite="never")
    assert failures.is_file(), "who only judges forgets no failure"
    assert report.store.read_json()["result"] == judged


def test_the_prompt_on_which_a_method_fails_is_named(tmp_path: Path) -> None:
    class FailsOnNothing(BoostsNamed):
        info = BoostsNamed.info

        def fuse(self, batch: FusionBatch) -> Tensor:
            return super().fuse(batch) * (1 if batch.texts[0] else np.nan)

    report = audit(plan(FailsOnNothing, Scenes(SampleDataset(count=1, width=96, height=72)), tmp_path))
    assert "under the prompt 'empty'" in report.failures["test-0000"]


class Torn(SampleDataset):
    """One of its images cannot be read."""

    def load(self, key: str) -> Sample:
        if key == "test-0001":
            raise DataError(f"reading {key}", found="half an image")
        return super().load(key)


def test_an_image_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    report = audit(plan(IgnoresText, Scenes(Torn(count=4, width=96, height=72)), tmp_path, pictures=0))
    assert report.failures == {"test-0001": "reading test-0001; found: half an image"}
    assert report.measured == 3


class Rewritten(IgnoresText):
    """A plugin: its code is not that of tgfbench."""

    info = IgnoresText.info
    revision = 1


def test_a_plugin_whose_code_has_changed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(Rewritten, Scenes(SampleDataset(count=1, width=96, height=72)), tmp_path, pictures=0)
    monkeypatch.setattr("tgfbench.benchmark.runner.code_of", lambda cls: f"code {cls.revision}")
    assert audit(planned).warnings == []
    assert audit(planned).warnings == []
    Rewritten.revision = 2
    assert ["the code of control-ignores-text has changed" in said for said in audit(planned).warnings] == [True]
    assert audit(planned, overwrite="always").warnings == []
    assert audit(planned).warnings == []


class Unreadable:
    """An image-text model whose weights are none."""

    identity = "unreadable"

    def load(self) -> None:
        raise WeightsError("loading", found="no weights")


def test_an_image_text_model_that_cannot_be_read_is_told_before_anything_is_fused(tmp_path: Path) -> None:
    planned = plan(IgnoresText, Scenes(SampleDataset(count=2, width=96, height=72)), tmp_path, model=Unreadable())
    with pytest.raises(WeightsError, match="no weights"):
        audit(planned)
    assert not find_audits(tmp_path)


def test_prompts_of_a_file_decide_the_audit(tmp_path: Path) -> None:
    scenes = Scenes(SampleDataset(count=2, width=96, height=72))
    generated = plan(BoostsNamed, scenes, tmp_path)
    path = tmp_path / "prompts.jsonl"
    edited = [prompt for prompt in generated.prompts if prompt.kind != "shuffled"]
    write_prompts(path, edited)
    own = plan(BoostsNamed, scenes, tmp_path, prompts=path)
    assert own.store.folder != generated.store.folder
    result = audit(own).audit
    assert result is not None
    assert "shuffled mae" not in result.estimates


def test_only_pictured_samples_keep_their_images(tmp_path: Path) -> None:
    scenes = Scenes(SampleDataset(count=3, width=96, height=72))
    planned = plan(IgnoresText, scenes, tmp_path, pictures=1)
    audit(planned)
    assert [path.name for path in (planned.store.folder / "images").iterdir()] == ["test-0000"]


def command(*words: object) -> int:
    """Run ``tgfbench audit`` in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", ["tgfbench", "audit", *map(str, words)])
        main()
    return int(end.value.code or 0)


SMALL = ("-d", "sample", "-D", "width=96", "-D", "height=72", "--pictures", 1)


def test_the_command_writes_report_and_pictures_and_finds_them_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-m", "average,maximum", *SMALL, "--limit", 10, "--out", tmp_path)
    assert command(*words) == 0
    first = {path: path.read_bytes() for path in (tmp_path / "audits").rglob("*") if path.is_file()}
    assert {"audit.csv", "audit.md", "test-0000.png"} <= {path.name for path in first}
    assert capsys.readouterr().out.count(Verdict.NOTHING.value) == 2
    assert command(*words) == 0
    assert "fused 0 images, measured 0 samples, already there 10" in capsys.readouterr().out
    assert first == {path: path.read_bytes() for path in first}


def test_pairs_that_cannot_be_used_are_named_and_fail_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = SampleDataset(count=2, width=96, height=72)
    for key in dataset.keys:
        sample = dataset.load(key)
        write_png(tmp_path / "ir" / f"{key}.png", sample.infrared)
        write_png(tmp_path / "vi" / f"{key}.png", sample.visible[:, : -8 if key == "test-0001" else None])
    write_png(tmp_path / "vi" / "lonely.png", dataset.load("test-0000").visible)
    folders = ("--visible", tmp_path / "vi", "--infrared", tmp_path / "ir")
    assert command("-m", "average", "-d", "folder", *folders, "--out", tmp_path / "runs") == 1
    said = capsys.readouterr().out
    assert "size-mismatch: test-0001" in said
    assert "lonely" in said
    assert "1 pair could not be used" in said


def test_the_command_fails_where_a_control_gets_another_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two images are too few for any verdict.
    assert command("--controls", *SMALL, "--limit", 2, "--out", tmp_path) == 1
    assert capsys.readouterr().out.count("WRONG") == 4


def test_prompts_are_written_edited_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    words = ("-m", "average", *SMALL, "--limit", 2, "--out", tmp_path)
    assert command(*words, "--write-prompts", path) == 0
    assert not (tmp_path / "audits").exists()
    path.write_text(path.read_text().replace("the elephants", "the walruses"))
    assert command(*words, "--prompts", path) == 0
    (stored,) = (tmp_path / "audits").rglob("prompts.jsonl")
    assert stored.read_text() == path.read_text()


def test_a_prompt_that_names_no_labelled_object_is_refused(tmp_path: Path) -> None:
    scenes = Scenes(Torn(count=2, width=96, height=72))
    path = tmp_path / "prompts.jsonl"
    lines = [*plan(IgnoresText, Scenes(SampleDataset(count=2, width=96, height=72)), tmp_path).prompts]
    write_prompts(path, lines)
    assert plan(IgnoresText, scenes, tmp_path, prompts=path).prompts == lines, "who cannot be read is not asked"
    path.write_text(path.read_text().replace('"names": "person"', '"names": "persn"'))
    with pytest.raises(DataError, match=r"line .*\n.*'persn'"):
        plan(IgnoresText, scenes, tmp_path, prompts=path).prompts  # noqa: B018


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "average", "-d", "sample,sample"), "one per audit"),
        (("-m", "average", "--pictures", -1), "0 or more"),
        (("-m", ""), "--method"),
        (("-m", "average,maximum", "--write-prompts", "p.jsonl"), "whose role"),
        (("-m", "average", "--prompts", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_wrong_use_is_refused_with_what_to_do(
    words: tuple[object, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words, "--out", tmp_path) == 2
    assert said in capsys.readouterr().err


def test_sheets_and_summary_are_shown_on_the_methods_page_of_the_site(tmp_path: Path) -> None:
    assert command("-m", "average", *SMALL, "--limit", 2, "--out", tmp_path) == 0
    pages = build_site(
        *store_frames(tmp_path), image_frame(tmp_path), tmp_path / "site", pictures=picture_frame(tmp_path)
    )
    (page,) = (path for path in pages if path.name == "method-average.html")
    links = re.findall(r'<img loading="lazy" src="([^"]+)"', page.read_text())
    (audited,) = find_audits(tmp_path)
    (summary,) = (tmp_path / "audits").glob("*.png")
    drawn = [(page.parent / link).read_bytes() for link in links]
    assert drawn == [audited.picture_path("test-0000").read_bytes(), summary.read_bytes()]


def test_audits_are_rows_of_a_board_of_their_own_and_controls_are_not(tmp_path: Path) -> None:
    assert command("-m", "average", *SMALL, "--limit", 3, "--out", tmp_path) == 0
    scenes = Scenes(SampleDataset(count=3, width=96, height=72))
    for method in (BoostsNamed, Noisy):
        audit(plan(method, scenes, tmp_path))
    runs, scores, metrics = store_frames(tmp_path)
    assert set(runs["method"]) == {"average", "toy-noisy"}
    boards = build_boards(runs, scores, metrics)
    assert {board.protocol for board in boards} == {"audit"}
    means = boards[0].means.loc[runs.set_index("method").loc["average", "run_id"]]
    assert means["Text moves"] == means["Specificity"] == 0
    assert means["Noise floor"] > 0
    assert boards[0].metrics.loc["Text moves", "higher_is_better"] is None
    assert boards[0].metrics.loc["Specificity", "higher_is_better"] is True
