"""From what the user asked for to runs: which samples, which methods, which prompts, under which protocols.

Everything that can be refused is refused here, before anything is computed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tgfbench.benchmark.errors import MAX_LISTED, PluginError, TgfbenchError, UsageError, WeightsError, listed, raised
from tgfbench.benchmark.registry import normalise
from tgfbench.benchmark.store import Run

if TYPE_CHECKING:
    from tgfbench.datasets.base import Dataset, Texts
    from tgfbench.methods.base import FusionMethod, MethodInfo
    from tgfbench.metrics.evaluation import Protocol
    from tgfbench.metrics.text_attention import TextReference

Overwrite = Literal["only-missing", "always", "never"]

GROUPS = ("all", "baselines", "sources")
"""Names that ``-m`` understands besides methods: all usable offline, the classical baselines, the source rows."""

TEXT_POLICIES = ("dataset", "default", "none")


@dataclass(frozen=True)
class DatasetRequest:
    """Which samples.

    Attributes:
        name: registry name.
        root: folder of the data, None for datasets that need none.
        split: name of a split.
        limit: take only the first so many samples.
        options: constructor arguments of the dataset.
    """

    name: str
    root: Path | None = None
    split: str = "test"
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> Dataset:
        """Open the dataset, its keys cut to the limit."""
        from tgfbench.datasets import load_dataset

        dataset = load_dataset(self.name, root=self.root, split=self.split, **self.options)
        if self.limit is not None:
            if self.limit < 1:
                raise UsageError("reading --limit", found=str(self.limit), expected="a positive number")
            dataset.keys = dataset.keys[: self.limit]
        return dataset


@dataclass(frozen=True)
class MethodRequest:
    """Which method, with what.

    Attributes:
        name: registry name.
        weights: catalogue name, path, or None for the default.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``…
        options: constructor arguments of the method.
        label: the name under which results are stored, the registry name if empty.
    """

    name: str
    weights: str | None = None
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    def load(self) -> FusionMethod:
        """Load the method and its weights.

        Raises:
            UsageError, WeightsError: see ``methods.create_method``.
            PluginError: the constructor raises, or the card bears the name of another method.
        """
        from tgfbench.methods import METHODS, create_method

        name = registered_name(self.name)
        cls, entry = METHODS.load(name), METHODS.entry(name)
        doing = f"making {entry.name!r} of {entry.owner} from {entry.target}"
        if cls.info.name in METHODS.names() and METHODS.entry(cls.info.name).target != entry.target:
            owner = METHODS.entry(cls.info.name).owner
            found = f"a card with the name {cls.info.name!r}, which belongs to {owner}"
            raise PluginError(doing, found=found, expected="a name of its own", hint="change MethodInfo(name=…)")
        try:
            return create_method(cls, self.options, weights=self.weights, device=self.device)
        except TgfbenchError:
            raise
        # A method may be anybody's code: whatever its constructor raises is said in its name.
        except Exception as error:
            raise PluginError(
                doing,
                found=raised(error),
                expected="a constructor that works",
                hint="repair the method; all other names keep working",
            ) from error


@dataclass(frozen=True)
class ProtocolRequest:
    """Which metrics: a protocol, cut to some of its metrics where ``metrics`` is not empty."""

    name: str = "correct"
    metrics: tuple[str, ...] = ()

    def load(self) -> Protocol:
        """Load the protocol."""
        from tgfbench.metrics import load_protocol

        protocol = load_protocol(self.name)
        return protocol.select(self.metrics) if self.metrics else protocol


@dataclass(frozen=True)
class PromptRule:
    """Which text a method is given for a sample.

    Attributes:
        policy: ``dataset``, ``default``, ``none``, or the literal prompt itself.
        role: which of the sample's texts the method wants.
        default: the method's own prompt, used under ``default`` and where the dataset has none.
        seed: chooses among several texts of one sample.
    """

    policy: str
    role: Literal["caption", "focus", "instruction"]
    default: str
    seed: int = 0

    def choose(self, key: str, texts: Texts) -> str:
        """Return the prompt of a sample; the same key and seed always give the same one."""
        if self.policy == "none":
            return ""
        if self.policy == "default":
            return self.default
        if self.policy != "dataset":
            return self.policy
        offered = {"caption": texts.captions, "focus": texts.focus, "instruction": texts.instruction}[self.role]
        if not offered:
            return self.default
        digest = hashlib.sha256(f"{self.seed}:{self.role}:{key}".encode()).digest()
        return offered[int.from_bytes(digest[:4], "big") % len(offered)]


@dataclass(frozen=True)
class RunSpec:
    """One method on one dataset: picklable, so that any process can do a share of it.

    Attributes:
        dataset: the samples.
        method: the method.
        protocols: what to measure.
        text: text policy.
        seed: of the choice among several texts.
        masks: ``none``, or ``labels`` to hand the dataset's own labels to the method as masks.
        text_references: folder of text-guided reference images and file of confidences, for text attention metrics.
    """

    dataset: DatasetRequest
    method: MethodRequest
    protocols: tuple[ProtocolRequest, ...] = (ProtocolRequest(),)
    text: str = "dataset"
    seed: int = 0
    masks: Literal["none", "labels"] = "none"
    text_references: tuple[Path, Path] | None = None

    def prompt_rule(self, info: MethodInfo) -> PromptRule:
        """Return the rule that picks this method's prompts; a method that reads none at test time gets none."""
        policy = self.text if info.text_use == "test" and self.text.strip() else "none"
        if policy.strip().lower() in TEXT_POLICIES:
            policy = policy.strip().lower()
        return PromptRule(policy, info.text_role, info.default_text, self.seed)


@dataclass
class PlannedRun:
    """A run that can start: everything loaded and checked, nothing computed.

    Attributes:
        spec: how it was asked for.
        dataset: opened dataset.
        method: loaded method.
        protocols: loaded protocols.
        root: folder of the store.
    """

    spec: RunSpec
    dataset: Dataset
    method: FusionMethod
    protocols: Sequence[Protocol]
    root: Path

    @property
    def title(self) -> str:
        """Method and weights as tables show them."""
        name = self.identity["method"]
        return f"{name}@{self.identity['weights']}" if self.identity["weights"] else name

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the images of this run."""
        info, checkpoint = self.method.info, self.method.checkpoint
        rule = self.spec.prompt_rule(info)
        return {
            "method": self.spec.method.label or info.name,
            "algorithm": info.name,
            "method_version": info.version,
            "weights": "precomputed" if "precomputed" in info.tags else (checkpoint.name if checkpoint else ""),
            "weights_sha256": checkpoint.sha256 if checkpoint else "",
            "options": self.method.provenance(),
            "dataset": self.dataset.info.name,
            "split": self.dataset.split,
            "images": len(self.dataset),
            "fingerprint": self.dataset.fingerprint(),
            "text_policy": rule.policy,
            "text_seed": self.spec.seed if rule.policy == "dataset" else 0,
            "masks": self.spec.masks,
            "device": self.method.device.type,
        }

    @cached_property
    def text_references(self) -> dict[str, TextReference]:
        """What text attention metrics compare with, by key; empty where none was given."""
        if self.spec.text_references is None:
            return {}
        from tgfbench.metrics.text_attention import read_text_references

        return read_text_references(*self.spec.text_references, self.dataset.keys)

    @cached_property
    def text_references_hash(self) -> str:
        """Content of the text references, "" where there are none."""
        digest = hashlib.sha256()
        for key, given in self.text_references.items():
            digest.update(f"{key}:{given.reference.shape}:{given.confidence!r}:".encode() + given.reference.tobytes())
        return digest.hexdigest() if self.text_references else ""

    @cached_property
    def run(self) -> Run:
        """The folder in the store."""
        return Run.of(self.root, self.identity)

    @property
    def facts(self) -> dict[str, Any]:
        """What tables say about this run besides its identity."""
        from tgfbench.datasets.leakage import training_overlap

        info, checkpoint = self.method.info, self.method.checkpoint
        origin = checkpoint.origin if checkpoint else ("user" if "precomputed" in info.tags else "none")
        seen, note = 0, ""
        if checkpoint is not None:
            seen, note = training_overlap(info.name, origin, checkpoint.trained_keys, self.dataset)
        return {
            "title": self.spec.method.label or info.title,
            "weights_origin": origin,
            "weights_card": checkpoint.card if checkpoint else "",
            "reconstruction": info.reconstruction,
            "tags": list(info.tags),
            "seen_in_training": seen,
            "training_note": note,
            "problems": [*map(str, self.dataset.problems)],
        }


def registered_name(method: str) -> str:
    """Return the name of a method as the registry has it.

    Raises:
        UsageError: no such method. Lists of weights write ``method:weights``: of that, it says how to ask for it.
    """
    from tgfbench.methods import METHODS

    known = {normalise(name): name for name in METHODS.names()}
    name, weights = (*re.split("[:@]", method, maxsplit=1), "")[:2]
    if normalise(method) in known or not weights or normalise(name) not in known:
        return METHODS.entry(method).name
    name = known[normalise(name)]
    names = [info.name for info in METHODS.load(name).info.weights]
    doing = f"looking up the method {method!r}"
    if not names:
        raise UsageError(doing, found=f"weights of {name}, a method without weights", hint=f"-m {name}")
    if weights in names:
        raise UsageError(doing, found="weights named with the method", hint=f"-m {name} --weights {weights}")
    hint = f"-m {name} --weights NAME, or the PATH of a checkpoint"
    raise UsageError(doing, found=f"no weights {weights!r} of {name}", expected=listed(names), hint=hint)


def expand_methods(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Replace group names by their members.

    Args:
        names: registry names and group names; repetitions are dropped.

    Returns:
        The methods in order, and the reason by name for members of ``all`` that cannot run here.
    """
    from tgfbench.benchmark.weights import folder_of, resolve_checkpoint
    from tgfbench.methods import METHODS

    wanted: list[str] = []
    left_out: dict[str, str] = {}
    for name in names:
        if name not in GROUPS:
            wanted.append(registered_name(name))
            continue
        loaded = METHODS.load_all()
        left_out.update(METHODS.failures if name == "all" else {})
        for member, cls in sorted(loaded.items(), key=lambda item: ("source" in item[1].info.tags, item[0])):
            tags = cls.info.tags
            if "precomputed" in tags or (name != "all" and name.removesuffix("s") not in tags):
                continue
            try:
                resolve_checkpoint(member, cls.info.weights, folder_of(cls), None)
            except WeightsError as error:
                left_out[member] = error.one_line
                continue
            wanted.append(member)
    return list(dict.fromkeys(wanted)), left_out


def plan_runs(specs: Sequence[RunSpec], root: Path) -> list[PlannedRun]:
    """Open every dataset once, load every method, and refuse what cannot work.

    Args:
        specs: what to run.
        root: folder of the store.

    Raises:
        UsageError, DataError, WeightsError, PluginError: with the name, file and remedy.
    """
    datasets: dict[str, Dataset] = {}
    protocols: dict[ProtocolRequest, Protocol] = {}
    planned = []
    for spec in specs:
        if repr(spec.dataset) not in datasets:
            datasets[repr(spec.dataset)] = spec.dataset.open()
        dataset = datasets[repr(spec.dataset)]
        if not dataset.keys:
            raise UsageError(
                f"planning runs on {dataset.info.name}, split {dataset.split}",
                found="no usable pair" + "".join(f"\n    {problem}" for problem in dataset.problems[:MAX_LISTED]),
                expected="at least one pair",
                hint=dataset.info.layout,
            )
        for request in spec.protocols:
            if request not in protocols:
                protocols[request] = request.load()
        method = spec.method.load()
        run = PlannedRun(spec, dataset, method, [protocols[r] for r in spec.protocols], root)
        if spec.text_references is None:
            _refuse_text_attention(run.protocols)
        # Read now: a missing reference must be refused before anything is computed.
        _ = run.text_references_hash
        planned.append(run)
    return planned


def _refuse_text_attention(protocols: Sequence[Protocol]) -> None:
    """Refuse protocols that compare with text-guided references."""
    for protocol in protocols:
        if any("confidence" in protocol.info(metric).needs for metric in protocol.metrics):
            raise UsageError(
                f"planning runs under the protocol {protocol.name}",
                found="no text-guided reference images",
                expected="--text-references DIR and --confidences FILE",
                hint="`tgfbench datasets references` makes them for a dataset that comes without",
            )


def specs_for(
    methods: Sequence[str],
    datasets: Sequence[DatasetRequest],
    protocols: Sequence[ProtocolRequest],
    *,
    weights: str | None = None,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
    text: str = "dataset",
    seed: int = 0,
    masks: Literal["none", "labels"] = "none",
    text_references: tuple[Path, Path] | None = None,
) -> list[RunSpec]:
    """Return one spec per method and dataset; ``weights`` and ``options`` go to the one method that has such.

    Raises:
        UsageError: ``weights`` or ``options`` are given and several methods could be meant.
    """
    from tgfbench.methods import METHODS

    targets: list[str] = []
    if weights or options:
        trainable = [name for name in methods if METHODS.load(name).info.weights]
        # Baselines that run along have no parameters, so the method under test is the one that has.
        targets = trainable if weights or len(methods) > 1 else list(methods)
        if len(targets) != 1:
            raise UsageError(
                "giving --weights or an option to a method",
                found=f"{len(targets)} methods that could take it ({', '.join(targets) or 'none has parameters'})",
                expected="exactly one",
                hint="run that method in a command of its own",
            )
    specs = []
    for dataset in datasets:
        for name in methods:
            own = name in targets
            request = MethodRequest(name, weights if own else None, device, dict(options or {}) if own else {})
            specs.append(RunSpec(dataset, request, tuple(protocols), text, seed, masks, text_references))
    return specs
