"""What an audit is asked for, and what it needs before it can start: samples, prompts, a method, a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tgfbench.benchmark.audit.store import AuditFolder
from tgfbench.benchmark.audit.subjects import subject_of, targets_of
from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.benchmark.plan import DatasetRequest, MethodRequest, PlannedRun, RunSpec, plan_runs
from tgfbench.metrics.audit import measures, prompts
from tgfbench.metrics.audit.agreement import ImageTextModel
from tgfbench.metrics.audit.measures import Target
from tgfbench.metrics.audit.movement import lpips_installed
from tgfbench.metrics.audit.prompts import Prompt, counterfactual_prompts, prompts_hash, read_prompts

if TYPE_CHECKING:
    from tgfbench.datasets.base import Dataset, Sample
    from tgfbench.methods.base import MethodInfo

KEPT_SAMPLES = 48
"""So many samples stay decoded for the next method: 100 MiB at 640 x 480."""


@dataclass(frozen=True)
class AuditRequest:
    """What to audit, besides the methods.

    Attributes:
        dataset: the samples.
        seed: of the choice among several texts, of the generated prompts and of the jitter.
        prompts: a prompt file, or None to generate the prompts.
        masks: ``labels`` hands the dataset's own labels to the method with every prompt, ``none`` does not.
        pictures: of how many samples the outputs are kept and pictured.
        model: an image-text model for language-image agreement, or None.
    """

    dataset: DatasetRequest
    seed: int = 0
    prompts: Path | None = None
    masks: str = "none"
    pictures: int = 3
    model: ImageTextModel | None = None


class Scenes:
    """The samples of a dataset with their objects, the last ones kept decoded; shared by all methods.

    Args:
        dataset: opened dataset.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._load = lru_cache(maxsize=KEPT_SAMPLES)(self._decode)

    def _decode(self, key: str) -> tuple[Sample, list[Target]]:
        sample = self.dataset.load(key)
        return sample, targets_of(sample, self.dataset.info)

    def sample(self, key: str) -> Sample:
        """Return a sample."""
        return self._load(key)[0]

    def targets(self, key: str) -> list[Target]:
        """Return the labelled objects of a sample."""
        return self._load(key)[1]

    def objects(self, key: str) -> list[str] | None:
        """Return the names of the labelled objects of a sample, None where it cannot be read."""
        try:
            return [target.name for target in self.targets(key)]
        except DataError:
            # It fails again, by name, when its turn comes.
            return None

    def prompts(self, info: MethodInfo, seed: int) -> list[Prompt]:
        """Generate the prompts for methods of this card; samples that cannot be read are left out."""
        subjects = []
        for key in self.dataset.keys:
            try:
                sample, targets = self._load(key)
            except DataError:
                # It fails again, by name, when its turn comes.
                continue
            subjects.append(subject_of(sample, targets, info, seed))
        return counterfactual_prompts(subjects, info.text_role, seed)


@dataclass
class PlannedAudit:
    """An audit that can start.

    Attributes:
        planned: method and dataset, loaded and checked.
        request: how it was asked for.
        scenes: the samples.
        root: folder of the store.
    """

    planned: PlannedRun
    request: AuditRequest
    scenes: Scenes
    root: Path

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The prompts, generated or read."""
        if self.request.prompts is not None:
            return read_prompts(self.request.prompts, self.planned.dataset.keys, self.scenes.objects)
        return self.scenes.prompts(self.planned.method.info, self.request.seed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the numbers."""
        return {
            **self.planned.identity,
            "seed": self.request.seed,
            "prompts": prompts_hash(self.prompts),
            "prompts_origin": "file" if self.request.prompts else f"generated, version {prompts.VERSION}",
            "measures": measures.VERSION,
            "lpips": lpips_installed(),
            "image_text_model": self.request.model.identity if self.request.model else "",
        }

    @cached_property
    def store(self) -> AuditFolder:
        """Where the audit lies."""
        return AuditFolder.of(self.root, self.identity)


def plan_audits(
    methods: Sequence[MethodRequest], request: AuditRequest, root: Path, *, controls: bool = False
) -> list[PlannedAudit]:
    """Open the dataset, load the methods, and refuse what cannot work.

    Args:
        methods: what to audit.
        request: on what.
        root: folder of the store.
        controls: also audit the four methods of known behaviour, first.

    Raises:
        UsageError, DataError, WeightsError, PluginError: with the name, file and remedy.
    """
    if request.pictures < 0:
        raise UsageError("reading --pictures", found=str(request.pictures), expected="0 or more")
    masks: Any = request.masks
    specs = [RunSpec(request.dataset, method, (), "dataset", request.seed, masks) for method in methods]
    planned = plan_runs(specs, root)
    dataset = planned[0].dataset if planned else request.dataset.open()
    if not dataset.keys:
        raise UsageError(f"auditing on {dataset.info.name}", found="no usable pair", hint=dataset.info.layout)
    scenes = Scenes(dataset)
    if controls:
        from tgfbench.benchmark.audit.controls import CONTROLS

        planned = [
            PlannedRun(
                RunSpec(request.dataset, MethodRequest(control.info.name), (), "dataset", request.seed, masks),
                dataset, control(scenes.targets), (), root,
            )
            for control in CONTROLS
        ] + planned  # fmt: skip
    return [PlannedAudit(run, request, scenes, root) for run in planned]
