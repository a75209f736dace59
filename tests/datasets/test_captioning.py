"""Writing caption sidecars, with templates and with a tiny image-to-text model that knows nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.datasets import captioning, load_dataset
from tgfbench.datasets.base import Dataset, DatasetInfo, Labels, Sample, Texts
from tgfbench.datasets.captioning import caption
from tgfbench.datasets.sidecar import SidecarEntry, read_sidecar, write_sidecar


class Street(Dataset):
    """Five pairs: ``bad`` cannot be read, ``bare`` has no labels, each other one shows one car."""

    info = DatasetInfo(name="street", title="Street", source="a test", licence="none", classes=("car",))
    split = "test"
    keys = ("a", "b", "bad", "bare", "c")

    def load(self, key: str) -> Sample:
        if key == "bad":
            raise DataError("reading the image bad.png", found="half a file")
        labels = None if key == "bare" else Labels(np.array([[0, 0, 9, 9]], np.float32), np.array([0]))
        place = self.keys.index(key)
        visible, infrared = np.zeros((41, 57, 3), np.uint8), np.zeros((41, 57), np.uint8)
        visible[..., place % 3] = 255
        infrared[:, 10 * place : 10 * place + 10] = 255
        return Sample(key, visible, infrared, labels=labels)

    def fingerprint(self, keys: tuple[str, ...] | None = None) -> str:
        return "street"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder with a BLIP of random weights and a vocabulary of ten words."""
    from tgfbench.benchmark.compat import ensure_torchvision

    ensure_torchvision()
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    folder = tmp_path_factory.mktemp("models") / "tiny-blip"
    folder.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[DEC]",
        "a",
        "the",
        "street",
        "car",
        "person",
        "at",
        "night",
    ]
    (folder / "vocab.txt").write_text("\n".join(words))
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 5, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3}
    text = {"vocab_size": len(words), "encoder_hidden_size": 16, "max_position_embeddings": 80}
    config = BlipConfig(
        text_config={**text, **small, **special}, vision_config={"image_size": 32, "patch_size": 8, **small}
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(2)
    network = BlipForConditionalGeneration(config)
    for matrix in (parameter for parameter in network.parameters() if parameter.ndim > 1):
        # Fresh weights are so small that every picture would be called the same.
        torch.nn.init.normal_(matrix, std=0.5)
    network.save_pretrained(folder)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    yield str(folder)
    torch.set_num_threads(threads)


def captions_in(out: Path) -> dict[str, tuple[str, ...]]:
    return {key: entry.captions for key, entry in read_sidecar(out)[0].items()}


def test_templates_need_no_model_and_name_what_failed(tmp_path: Path) -> None:
    out = tmp_path / "captions" / "street.jsonl"
    steps: list[tuple[int, int]] = []
    report = caption(Street(), "labels", out, progress=lambda done, total: steps.append((done, total)))
    assert (report.written, report.kept, report.out) == (3, 0, out)
    assert report.failed["bad"].endswith("half a file")
    assert "no labels" in report.failed["bare"]
    assert steps == [(done, 5) for done in range(6)]
    entries, problems = read_sidecar(out)
    assert problems == []
    assert list(entries) == ["a", "b", "c"]
    assert entries["a"].captions[0] == "A street with 1 car."
    assert (entries["a"].focus, entries["a"].captioned_by) == (("the car",), ("labels",))


def test_lighting_of_the_sidecar_is_used_and_its_other_fields_stay(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    out.write_text('{"key": "a", "lighting": "night", "score": 4}\n{"key": "z", "captions": ["Elsewhere."]}\n')
    caption(Street(), "labels", out)
    first, last = (json.loads(line) for line in (out.read_text().splitlines()[i] for i in (0, -1)))
    assert first["captions"][0] == "A night street with 1 car."
    assert (first["lighting"], first["score"]) == ("night", 4)
    assert last == {"key": "z", "captions": ["Elsewhere."]}


@pytest.mark.parametrize(
    ("existing", "captions", "authors"),
    [
        ("keep", 1, ()),
        ("append", 4, ("labels",)),
        ("replace", 3, ("labels",)),
    ],
)
def test_existing_captions_are_kept_extended_or_replaced(
    existing: captioning.Existing, captions: int, authors: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "s.jsonl"
    write_sidecar(out, [SidecarEntry(key="a", captions=("By hand.",), focus=("the lamp",))])
    first = caption(Street(), "labels", out, existing=existing)
    assert first.written == (2 if existing == "keep" else 3)
    entry = read_sidecar(out)[0]["a"]
    assert (len(entry.captions), entry.captioned_by) == (captions, authors)
    assert ("By hand." in entry.captions) == (existing != "replace")
    assert entry.focus[0] == "the lamp"
    content = out.read_bytes()
    again = caption(Street(), "labels", out, existing=existing)
    assert (again.written, again.kept) == (0, 3)
    assert out.read_bytes() == content


def test_a_model_describes_each_image_and_goes_on_after_an_interruption(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    report = caption(Street(), model, whole, device="cpu", max_tokens=8)
    assert "Loading" not in capfd.readouterr().err, "no bar of the library"
    assert (report.written, list(report.failed)) == (4, ["bad"])
    said = captions_in(whole)
    assert list(said) == ["a", "b", "bare", "c"]
    assert len(set(said.values())) > 1
    assert read_sidecar(whole)[0]["a"].captioned_by == ("tiny-blip",)

    load = Street.load

    def stop(self: Street, key: str) -> Sample:
        if key == "bare":
            raise KeyboardInterrupt
        return load(self, key)

    monkeypatch.setattr(Street, "load", stop)
    with pytest.raises(KeyboardInterrupt):
        caption(Street(), model, parts, device="cpu", max_tokens=8)
    assert list(captions_in(parts)) == ["a", "b"]
    monkeypatch.undo()
    report = caption(Street(), model, parts, device="cpu", max_tokens=8, batch=2)
    assert (report.written, report.kept) == (2, 2)
    assert parts.read_bytes() == whole.read_bytes()


def test_image_and_prompt_are_part_of_who_said_it(model: str, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    for options in ({}, {"image": "infrared"}, {"prompt": "a street", "batch": 4}):
        caption(Street(), model, out, existing="append", device="cpu", max_tokens=8, **options)  # type: ignore[arg-type]
    entry = read_sidecar(out)[0]["c"]
    assert entry.captioned_by == ("tiny-blip", "tiny-blip (infrared)", "tiny-blip [a street]")
    assert 2 <= len(entry.captions) <= 3
    assert any("a street" in text for text in entry.captions)


def test_what_a_kill_would_lose_is_saved_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioning, "SAVE_SECONDS", -1.0)
    out = tmp_path / "s.jsonl"
    seen: list[int] = []
    caption(Street(), "labels", out, progress=lambda done, total: seen.append(len(captions_in(out)) if done else 0))
    assert seen == [0, 1, 2, 2, 2, 3]


def test_a_model_that_says_nothing_is_a_failure(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(self: object, samples: list[Sample], lighting: list[str]) -> list[Texts]:
        return [Texts() for _ in samples]

    monkeypatch.setattr(captioning.ModelCaptioner, "describe", silent)
    report = caption(Street(), model, tmp_path / "s.jsonl", device="cpu")
    assert report.written == 0
    assert report.failed["a"] == "no caption: the model said nothing"
    assert not (tmp_path / "s.jsonl").exists()


def test_a_damaged_sidecar_is_not_rewritten(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    out.write_text('{"key": "a"}\n{"key": \n')
    with pytest.raises(DataError, match=r"s\.jsonl:2"):
        caption(Street(), "labels", out)
    assert out.read_text() == '{"key": "a"}\n{"key": \n'


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "a b"])
def test_a_missing_model_says_what_to_give(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such folder"):
        caption(Street(), name, tmp_path / "s.jsonl")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="image-to-text model that transformers can load"):
        caption(Street(), str(tmp_path), tmp_path / "s.jsonl", device="cpu")


@pytest.mark.parametrize("options", [{"existing": "merge"}, {"image": "both"}, {"batch": 0}, {"max_tokens": 0}])
def test_wrong_options_are_refused(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        caption(Street(), "labels", tmp_path / "s.jsonl", **options)  # type: ignore[arg-type]


def test_the_written_sidecar_is_what_the_dataset_reads(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "msrs.jsonl"
    source = load_dataset("msrs", shared / "data", "train")
    caption(source, "labels", out)
    again = load_dataset("msrs", shared / "data", "train", captions=out)
    assert again.problems == ()
    captioned = captions_in(out)
    assert captioned
    assert all(again[key].texts.captions == captions for key, captions in captioned.items())
