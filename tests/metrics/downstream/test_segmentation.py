"""Training and testing segmenters, tiny ones."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.metrics.downstream.base import LabelledImage, LabelledSet
from tgfbench.metrics.downstream.segmentation import Segmentation

MSRS = ("unlabelled", "car", "person", "bike", "curve", "car_stop", "guardrail", "color_cone", "bump")
PALETTE = tuple((20 * i, 255 - 20 * i, 7 * i) for i in range(len(MSRS)))
WIDTH, HEIGHT = 80, 64
OVERRIDES = {
    "model": "deeplabv3plus-r18-slim",
    "image_size": WIDTH,
    "crop": (64, 64),
    "epochs": 2,
    "batch": 2,
    "warmup": 2,
    "train_images": None,
}


def quick(**changed: Any) -> Any:
    return Segmentation.recipe("quick", {**OVERRIDES, **changed})


def silent(done: int, steps: int) -> None:
    del done, steps


def labelled_set(folder: Path, count: int = 4, classes: tuple[str, ...] = MSRS, **fields: Any) -> LabelledSet:
    """Images whose grey level tells the class: a band of each of three classes."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for i in range(count):
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        top = int(random.integers(8, 24))
        ids[top : top + 16], ids[top + 24 : top + 36] = 1, 2
        grey = (ids * 100 + random.integers(0, 20, ids.shape)).astype(np.uint8)
        paths = folder / f"{i}-image.png", folder / f"{i}-label.png"
        Image.fromarray(np.stack([grey] * 3, -1)).save(paths[0])
        Image.fromarray(ids).save(paths[1])
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        images.append(LabelledImage(f"scene-{i}", paths[0], (WIDTH, HEIGHT), *none, paths[1]))
    return LabelledSet(tuple(images), (), classes, PALETTE[: len(classes)], **fields)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    return labelled_set(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def trained(images: LabelledSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Segmentation().train(images, quick(), 0, tmp_path_factory.mktemp("trained"), "cpu", silent)


def tensors(weights: Path) -> dict[str, torch.Tensor]:
    return torch.load(weights, weights_only=True)["state_dict"]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_scores_are_those_of_the_stored_predictions(trained: Path, images: LabelledSet, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = Segmentation().test(trained, images, quick(), tmp_path, "cpu", lambda *step: steps.append(step))
    assert steps == [(i + 1, 4) for i in range(4)]
    matrix = np.zeros((9, 9), np.int64)
    for image in images.images:
        with Image.open(tmp_path / "predictions" / "segmentation" / f"{image.key}.png") as stored:
            assert (stored.mode, stored.size) == ("P", image.size)
            assert stored.getpalette()[: 3 * 9] == [value for colour in PALETTE for value in colour]
            assert image.segmentation is not None
            np.add.at(matrix, (np.array(Image.open(image.segmentation)), np.array(stored)), 1)
    with np.errstate(invalid="ignore"):
        iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    iou[matrix.sum(1) == 0] = np.nan
    assert found.values["mIoU"] == np.nanmean(iou)
    assert found.counts == {"images": 4, "labelled pixels": 4 * WIDTH * HEIGHT, "classes with labels": 3}
    assert {info.name for info in Segmentation.metrics} == set(found.values)


def test_images_without_a_label_map_are_left_out_and_counted(
    trained: Path, images: LabelledSet, tmp_path: Path
) -> None:
    some = replace(images, images=(replace(images.images[0], segmentation=None), *images.images[1:]))
    found = Segmentation().test(trained, some, quick(), tmp_path, "cpu", silent)
    assert (found.counts["images"], found.counts["images without a label map"]) == (3, 1)


def test_learns_what_can_be_learnt(images: LabelledSet, tmp_path: Path) -> None:
    recipe = quick(epochs=30, distortion=False, learning_rate=0.003)
    weights = Segmentation().train(images, recipe, 0, tmp_path / "training", "cpu", silent)
    found = Segmentation().test(weights, images, recipe, tmp_path, "cpu", silent)
    assert found.values["mIoU"] > 0.5


def test_an_interrupted_training_continues_to_the_same_weights(
    trained: Path, images: LabelledSet, tmp_path: Path
) -> None:
    seen: list[int] = []

    def interrupt(done: int, steps: int) -> None:
        assert steps == 4
        seen.append(done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Segmentation().train(images, quick(), 0, tmp_path, "cpu", interrupt)
    assert not (tmp_path / "segmenter.pth").exists()
    weights = Segmentation().train(images, quick(), 0, tmp_path, "cpu", interrupt)
    assert seen == [1, 2, 3, 3, 4]  # two steps an epoch; the second epoch anew
    assert equal(tensors(weights), tensors(trained))
    assert {path.name for path in tmp_path.iterdir()} <= {"segmenter.pth", "training.log", "matplotlib"}
    assert Segmentation().train(images, quick(), 0, tmp_path, "cpu", interrupt) == weights
    assert len(seen) == 5


def test_another_seed_gives_another_training(trained: Path, images: LabelledSet, tmp_path: Path) -> None:
    assert not equal(tensors(Segmentation().train(images, quick(), 1, tmp_path, "cpu", silent)), tensors(trained))


def test_nothing_is_printed_and_the_process_is_left_as_it_was(
    images: LabelledSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import cv2

    torch.manual_seed(7)
    np.random.seed(7)
    cv2.setNumThreads(2)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    weights = Segmentation().train(images, quick(epochs=1), 0, tmp_path, "cpu", silent)
    Segmentation().test(weights, images, quick(), tmp_path, "cpu", silent)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert cv2.getNumThreads() == 2
    assert capfd.readouterr() == ("", "")


def test_an_ignored_class_is_neither_learnt_nor_predicted_nor_scored(tmp_path: Path) -> None:
    images = labelled_set(tmp_path / "images", classes=MSRS[:3], ignored_segmentation_class=0)
    weights = Segmentation().train(images, quick(), 0, tmp_path / "training", "cpu", silent)
    assert torch.load(weights, weights_only=True)["classes"] == ["car", "person"]
    found = Segmentation().test(weights, images, quick(), tmp_path, "cpu", silent)
    assert np.isnan(found.per_class["unlabelled", "IoU"])
    assert found.values["mIoU"] == found.values["mIoU-fg"]
    labels = [np.array(Image.open(image.segmentation)) for image in images.images if image.segmentation]
    assert found.counts["labelled pixels"] == sum(int((ids != 0).sum()) for ids in labels)
    predicted = [np.array(Image.open(path)) for path in (tmp_path / "predictions" / "segmentation").iterdir()]
    assert len(predicted) == 4
    assert min(ids.min() for ids in predicted) >= 1


def test_frozen_weights_match_classes_by_name(trained: Path, images: LabelledSet, tmp_path: Path) -> None:
    content = torch.load(trained, weights_only=True)
    content["classes"] = [name.upper().replace("_", " ") for name in reversed(content["classes"])]
    torch.save(content, tmp_path / "renamed.pth")
    own = Segmentation().test(trained, images, quick(), tmp_path / "own", "cpu", silent)
    reversed_ids = Segmentation().test(tmp_path / "renamed.pth", images, quick(), tmp_path / "back", "cpu", silent)
    assert own.counts == reversed_ids.counts
    for image in images.images:
        name = f"predictions/segmentation/{image.key}.png"
        ours, theirs = (np.array(Image.open(tmp_path / folder / name)) for folder in ("own", "back"))
        assert (theirs == 8 - ours).all()


@pytest.mark.parametrize(
    ("classes", "said"), [(MSRS[:4], r"without|which the dataset has not"), ((*MSRS[:8], "hump"), "without hump")]
)
def test_frozen_weights_of_other_classes_are_refused(
    classes: tuple[str, ...], said: str, trained: Path, images: LabelledSet, tmp_path: Path
) -> None:
    other = replace(images, segmentation_classes=classes)
    with pytest.raises(WeightsError, match=said):
        Segmentation().test(trained, other, quick(), tmp_path, "cpu", silent)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Harmful(), "refuses"),
        ({"state_dict": {}}, "without recipe and class names"),
        (None, "no such file"),
        (b"PK damaged", "damaged.pth"),
    ],
    ids=["pickle", "foreign", "absent", "damaged"],
)
def test_unusable_weights_are_named(content: Any, said: str, images: LabelledSet, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=r"damaged\.pth") as caught:
        Segmentation().test(path, images, quick(), tmp_path, "cpu", silent)
    assert said in str(caught.value)


def test_a_start_gives_the_backbone_and_the_heads_that_fit(trained: Path, images: LabelledSet, tmp_path: Path) -> None:
    recipe = quick(start=trained, epochs=1, learning_rate=1e-12)
    content = torch.load(trained, weights_only=True)
    started = tensors(Segmentation().train(images, recipe, 0, tmp_path / "whole", "cpu", silent))
    weight = "backbone.stem.0.weight"
    assert torch.allclose(started[weight], content["state_dict"][weight], atol=1e-6)
    assert torch.allclose(
        started["decode_head.conv_seg.weight"], content["state_dict"]["decode_head.conv_seg.weight"], atol=1e-6
    )
    fewer = replace(images, segmentation_classes=MSRS[:3])
    backbone = {k.removeprefix("backbone."): v for k, v in content["state_dict"].items() if k.startswith("backbone.")}
    torch.save(backbone, tmp_path / "backbone.pth")
    recipe = quick(start=tmp_path / "backbone.pth", epochs=1, learning_rate=1e-12)
    partly = tensors(Segmentation().train(fewer, recipe, 0, tmp_path / "backbone", "cpu", silent))
    assert torch.allclose(partly[weight], content["state_dict"][weight], atol=1e-6)
    assert len(partly["decode_head.conv_seg.weight"]) == 3
    torch.save({"state_dict": {"backbone.stem": torch.zeros(3)}}, tmp_path / "foreign.pth")
    with pytest.raises(WeightsError, match=r"foreign\.pth"):
        Segmentation().train(images, quick(start=tmp_path / "foreign.pth"), 0, tmp_path / "bad", "cpu", silent)


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SegFormer of transformers with random weights; its classes in another order than the dataset's."""
    from tgfbench.metrics.downstream.mmseg_library import import_mmseg

    folder = tmp_path_factory.mktemp("segformer")
    import_mmseg(folder)
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=16,
        id2label=dict(enumerate(reversed(MSRS))),
        label2id={name: i for i, name in enumerate(reversed(MSRS))},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def test_a_segformer_of_transformers_is_tested_frozen(segformer: Path, images: LabelledSet, tmp_path: Path) -> None:
    from transformers import SegformerForSemanticSegmentation

    Segmentation().test(segformer, images, quick(), tmp_path, "cpu", silent)
    network = SegformerForSemanticSegmentation.from_pretrained(segformer).eval()
    image = images.images[0]
    rgb = torch.from_numpy(np.array(Image.open(image.path))).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    with torch.inference_mode():
        logits = network(pixel_values=(rgb - mean) / std).logits
        expected = 8 - torch.nn.functional.interpolate(logits, (HEIGHT, WIDTH), mode="bilinear").argmax(1)[0]
    stored = np.array(Image.open(tmp_path / "predictions" / "segmentation" / f"{image.key}.png"))
    assert (stored == expected.numpy()).mean() > 0.999
    with pytest.raises(WeightsError, match=r"9 classes"):
        Segmentation().test(segformer, replace(images, segmentation_classes=MSRS[:8]), quick(), tmp_path, "cpu", silent)


def test_a_segformer_of_transformers_is_retrained(segformer: Path, images: LabelledSet, tmp_path: Path) -> None:
    fewer = replace(images, segmentation_classes=MSRS[:3], palette=PALETTE[:3])
    recipe = quick(model=f"hf:{segformer}")
    weights = Segmentation().train(fewer, recipe, 0, tmp_path / "training", "cpu", silent)
    assert len(tensors(weights)["network.decode_head.classifier.weight"]) == 3
    found = Segmentation().test(weights, fewer, recipe, tmp_path, "cpu", silent)
    assert 0 <= found.values["aAcc"] <= 1


@pytest.mark.parametrize("name", ["someone/segformer-nowhere", "no such folder"])
def test_a_segformer_that_is_not_here_is_not_downloaded(name: str, images: LabelledSet, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nothing is downloaded"):
        Segmentation().train(images, quick(model=f"hf:{name}"), 0, tmp_path, "cpu", silent)


def test_labels_that_cannot_be_used_are_named(images: LabelledSet, tmp_path: Path) -> None:
    task = Segmentation()
    with pytest.raises(DataError, match="no segmentation classes"):
        task.check(replace(images, segmentation_classes=()))
    with pytest.raises(DataError, match="no label map for any of 4 images"):
        task.check(replace(images, images=tuple(replace(image, segmentation=None) for image in images.images)))
    task.check(replace(images, images=(replace(images.images[0], segmentation=None), *images.images[1:])))
    small = tmp_path / "small.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(small)
    with pytest.raises(DataError, match=r"small\.png(.|\n)*8x8(.|\n)*80x64"):
        task.check(replace(images, images=(replace(images.images[0], segmentation=small),)))
    foreign = tmp_path / "foreign.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 11, np.uint8)).save(foreign)
    bad = replace(images, images=(replace(images.images[0], segmentation=foreign), *images.images[1:]))
    with pytest.raises(DataError, match=r"foreign\.png(.|\n)*class ids 11(.|\n)*0 to 8"):
        task.train(bad, quick(), 0, tmp_path / "training", "cpu", silent)


@pytest.mark.parametrize("size", [(40, 32), (64, 80), (100, 90)])
def test_crops_around_objects(size: tuple[int, int], tmp_path: Path) -> None:
    from tgfbench.metrics.downstream.mmseg_library import import_mmseg

    import_mmseg(tmp_path)
    from tgfbench.metrics.downstream.segmentation_data import Crop, drawing_from

    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[3, 70], ids[60:64, 2:30] = 2, 1
    crop = Crop(size, largest_class=1.0, centred=1.0)
    held: list[set[int]] = []
    for seed in range(40):
        with drawing_from(seed):
            found = crop.transform({"img": ids.copy(), "gt_seg_map": ids, "seg_fields": ["gt_seg_map"]})
        assert found["gt_seg_map"].shape == (min(size[0], HEIGHT), min(size[1], WIDTH))
        held.append(set(np.unique(found["gt_seg_map"]).tolist()))
    assert all(one & {1, 2} for one in held)
    assert sum(2 in one for one in held) >= 10  # as often as the larger class


def test_one_image_is_too_little_for_a_network_that_pools_it_to_a_point(images: LabelledSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two"):
        Segmentation().train(replace(images, images=images.images[:1]), quick(), 0, tmp_path, "cpu", silent)


def test_nothing_leaves_the_given_folder(images: LabelledSet, tmp_path: Path) -> None:
    """In a process of its own, with an empty home and no network."""
    home = tmp_path / "home"
    home.mkdir()
    program = """
        import socket, sys
        from pathlib import Path
        def refuse(*_): raise OSError("the network was asked for")
        socket.socket.connect = socket.getaddrinfo = refuse
        import numpy as np
        from tgfbench.metrics.downstream.base import LabelledImage, LabelledSet
        from tgfbench.metrics.downstream.segmentation import Segmentation
        folder, work = map(Path, sys.argv[1:3])
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        images = [LabelledImage(str(i), folder / f"{i}-image.png", (80, 64), *none, folder / f"{i}-label.png")
                  for i in range(2)]
        images = LabelledSet(tuple(images), (), tuple("abc"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
        recipe = Segmentation.recipe("quick", {"crop": (64, 64), "image_size": 80, "epochs": 1})
        weights = Segmentation().train(images, recipe, 0, work / "training", "cpu", lambda *_: None)
        Segmentation().test(weights, images, recipe, work, "cpu", lambda *_: None)
        import transformers
    """
    path = images.images[0].path
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "HF_", "TGFBENCH", "MPL", "TORCH"))}
    here = tmp_path / "here"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path.parent), str(tmp_path / "work")],
        env={**environment, "HOME": str(home)},
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.rglob("*")) == []
    assert list(here.iterdir()) == []
    written = {p.relative_to(tmp_path / "work").parts[0] for p in (tmp_path / "work").rglob("*")}
    assert written == {"training", "predictions", "test.log"}


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Segmentation, "packages", ("mmseg", "no_such_package"))
    with pytest.raises(UsageError, match=r"no_such_package(.|\n)*tgfbench\[downstream\]"):
        Segmentation.require()
