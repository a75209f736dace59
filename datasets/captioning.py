"""Writing caption sidecars with an image-to-text model, or offline from labels."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from tgfbench.benchmark.errors import DataError, TgfbenchError, UsageError, WeightsError, counted
from tgfbench.datasets.base import Dataset, DatasetInfo, Sample, Texts
from tgfbench.datasets.sidecar import SidecarEntry, merge_entries, read_sidecar, write_sidecar
from tgfbench.datasets.templates import texts_from_labels

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

LABELS = "labels"
"""The captioner that needs no model: templates filled from the dataset's labels."""

SAVE_SECONDS = 10.0
"""A kill costs at most the captions of this time."""

Existing = Literal["keep", "append", "replace"]
Image = Literal["visible", "infrared"]


@dataclass
class CaptionReport:
    """What was done.

    Attributes:
        out: the sidecar.
        written: pairs that got captions now.
        kept: pairs left as they were.
        failed: message by key, for pairs that cannot be read or of which the captioner had nothing to say.
    """

    out: Path
    written: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)


class Captioner(Protocol):
    """What writes captions.

    Attributes:
        name: noted as ``captioned_by``.
    """

    name: str

    def describe(self, samples: Sequence[Sample], lighting: Sequence[str]) -> list[Texts]:
        """Return the texts of each pair; ``lighting`` is what the sidecar knows of it, "" for nothing."""


class LabelCaptioner:
    """Fills templates from labels; see ``tgfbench.datasets.templates``."""

    name = LABELS

    def __init__(self, info: DatasetInfo) -> None:
        self.info = info

    def describe(self, samples: Sequence[Sample], lighting: Sequence[str]) -> list[Texts]:
        """See ``Captioner``."""
        return [texts_from_labels(sample, self.info, light) for sample, light in zip(samples, lighting, strict=True)]


class ModelCaptioner:
    """An image-to-text model of transformers (BLIP, BLIP-2, GIT, or a chat model that sees images).

    Decoding is greedy, so that the same model says the same.

    Args:
        model: a local folder, or a name on the Hugging Face hub.
        image: which image of a pair the model sees.
        prompt: the beginning of the caption or the question, as the model expects it; chat models need one.
        device: ``auto`` or what ``torch.device`` accepts; half precision on a GPU.
        max_tokens: longest caption.

    Raises:
        WeightsError: no such folder, or the model cannot be had or is no image-to-text model.
    """

    def __init__(
        self, model: str, image: Image = "visible", prompt: str = "", device: str = "auto", max_tokens: int = 60
    ) -> None:
        import torch

        self.image, self.prompt, self.max_tokens = image, prompt, max_tokens
        self.name = Path(model).name if Path(model).is_dir() else model
        # What is asked of which image is part of who said it.
        self.name += "" if image == "visible" else f" ({image})"
        self.name += f" [{prompt}]" if prompt else ""
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._device = torch.device(chosen)
        self._processor, self._model = _load(model, self._device)

    def describe(self, samples: Sequence[Sample], lighting: Sequence[str]) -> list[Texts]:
        """See ``Captioner``."""
        return [Texts((said,)) if said else Texts() for said in self._say([_picture(s, self.image) for s in samples])]

    def _say(self, images: list[Picture]) -> list[str]:
        import torch

        inputs = self._inputs(images).to(self._device, self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False)
        asked = inputs.get("input_ids")
        # Decoder-only models repeat the whole question in front of the answer.
        if asked is not None and asked.shape[1] < tokens.shape[1] and torch.equal(tokens[:, : asked.shape[1]], asked):
            tokens = tokens[:, asked.shape[1] :]
        said = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in said]

    def _inputs(self, images: list[Picture]) -> Any:
        if getattr(self._processor, "chat_template", None):
            question = self.prompt or "Describe this image in one sentence."
            message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
            text = self._processor.apply_chat_template(message, add_generation_prompt=True)
            nested = [[image] for image in images]
            return self._processor(images=nested, text=[text] * len(images), padding=True, return_tensors="pt")
        given = {"text": [self.prompt] * len(images), "padding": True} if self.prompt else {}
        return self._processor(images=images, return_tensors="pt", **given)


def caption(
    dataset: Dataset,
    model: str,
    out: Path,
    *,
    image: Image = "visible",
    prompt: str = "",
    existing: Existing = "keep",
    batch: int = 1,
    max_tokens: int = 60,
    device: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CaptionReport:
    """Write captions of a dataset into a sidecar; the same call again goes on where it stopped.

    Args:
        dataset: what to describe.
        model: ``"labels"`` for templates, a local folder of a transformers model, or its name on the hub.
        out: the sidecar, e.g. ``<data root>/captions/<dataset>.jsonl``; entries of other keys are kept.
        image: which image a model sees.
        prompt: what to ask a model.
        existing: of pairs that have captions: ``keep`` leaves them alone, ``append`` adds to them, ``replace`` puts the
            new ones in their place; a pair that this captioner has described is done in any case.
        batch: pairs at once.
        max_tokens: of a model's caption; longer ones are cut off.
        device: of a model.
        progress: called with (pairs done, pairs to do).

    Returns:
        What was written, kept, and why some pairs failed.

    Raises:
        UsageError: a wrong option.
        DataError: ``out`` has lines that cannot be read and would be lost.
        WeightsError: the model cannot be loaded.
    """
    for name, value, known in (("existing", existing, get_args(Existing)), ("image", image, get_args(Image))):
        if value not in known:
            raise UsageError(f"captioning {dataset.info.name}", found=f"{name}={value!r}", expected=" or ".join(known))
    for name, number in (("batch", batch), ("max_tokens", max_tokens)):
        if number < 1:
            raise UsageError(f"captioning {dataset.info.name}", found=f"{name}={number}", expected="at least 1")
    entries = _existing_entries(out)
    captioner: Captioner = (
        LabelCaptioner(dataset.info) if model == LABELS else ModelCaptioner(model, image, prompt, device, max_tokens)
    )
    wanted = [key for key in dataset.keys if not _done(entries.get(key), captioner.name, existing)]
    report = CaptionReport(out, kept=len(dataset.keys) - len(wanted))
    saved = time.monotonic()
    progress(0, len(wanted))
    try:
        for done, (key, texts) in enumerate(_texts(dataset, wanted, captioner, entries, batch, report), start=1):
            if texts.captions:
                entries[key] = _updated(entries.get(key), key, texts, captioner.name, existing)
                report.written += 1
            if time.monotonic() - saved > SAVE_SECONDS:
                write_sidecar(out, entries)
                saved = time.monotonic()
            progress(done, len(wanted))
    finally:
        # Also after Ctrl-C: what was said so far is kept.
        if report.written:
            write_sidecar(out, entries)
    return report


def _texts(
    dataset: Dataset,
    keys: Sequence[str],
    captioner: Captioner,
    entries: dict[str, SidecarEntry],
    batch: int,
    report: CaptionReport,
) -> Iterator[tuple[str, Texts]]:
    """Yield the texts of every key in order, empty ones for those that fail, which are noted in the report."""
    for start in range(0, len(keys), batch):
        group = keys[start : start + batch]
        samples: list[Sample] = []
        for key in group:
            try:
                samples.append(dataset.load(key))
            except TgfbenchError as error:
                report.failed[key] = error.one_line
        lighting = [entries[s.key].lighting if s.key in entries else "" for s in samples]
        said = dict(
            zip((s.key for s in samples), captioner.describe(samples, lighting) if samples else (), strict=True)
        )
        for key in group:
            if key in said and not said[key].captions:
                why = "the pair has no labels" if captioner.name == LABELS else "the model said nothing"
                report.failed[key] = f"no caption: {why}"
            yield key, said.get(key, Texts())


def _updated(old: SidecarEntry | None, key: str, texts: Texts, name: str, existing: Existing) -> SidecarEntry:
    new = SidecarEntry(key=key, captions=texts.captions, focus=texts.focus, captioned_by=(name,))
    if old is None:
        return new
    if existing == "replace":
        old = old.model_copy(update={"captions": (), "captioned_by": ()})
    return merge_entries(old, new)


def _done(entry: SidecarEntry | None, name: str, existing: Existing) -> bool:
    if entry is None or not any(text.strip() for text in entry.captions):
        return False
    if existing == "keep":
        return True
    return name in entry.captioned_by if existing == "append" else entry.captioned_by == (name,)


def _existing_entries(out: Path) -> dict[str, SidecarEntry]:
    if not out.is_file():
        return {}
    entries, problems = read_sidecar(out)
    if problems:
        raise DataError(
            f"adding captions to {out}",
            found=f"{counted(len(problems), 'line')} that cannot be used, the first: {problems[0]}",
            expected="a sidecar without errors: rewriting it would lose these lines",
            hint="repair the file, or write to another one",
        )
    return entries


def _load(model: str, device: Any) -> tuple[Any, Any]:
    """Return processor and model, in evaluation mode on the device."""
    import torch

    from tgfbench.benchmark.compat import ensure_torchvision, without_loading_bar

    ensure_torchvision()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    doing = f"loading the captioning model {model}"
    local = Path(model).is_dir()
    if not local and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        hint = "give a folder with a transformers model, a hub name such as Salesforce/blip2-opt-2.7b, or 'labels'"
        raise WeightsError(doing, found="no such folder", hint=hint)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    try:
        with without_loading_bar():
            processor = AutoProcessor.from_pretrained(model, local_files_only=local)
            network = AutoModelForImageTextToText.from_pretrained(model, local_files_only=local, dtype=dtype)
    # transformers reports absent, damaged and unsuitable models alike through these.
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise WeightsError(
            doing,
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",
            expected="an image-to-text model that transformers can load, with its processor",
            hint="without a network, download the model elsewhere and give its folder",
        ) from error
    return processor, network.to(device).eval()


def _picture(sample: Sample, image: Image) -> Picture:
    """Return one image of a pair in RGB, as what processors cannot mistake for another layout."""
    import PIL.Image

    return PIL.Image.fromarray(sample.visible if image == "visible" else sample.infrared).convert("RGB")
