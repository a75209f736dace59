"""What is particular to one dataset: its channels, labels, texts and clean targets, on miniatures and real samples."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tgfbench.benchmark.errors import DataError, UsageError
from tgfbench.datasets import load_dataset
from tgfbench.datasets.base import Dataset, Labels
from tgfbench.datasets.ivt import IVT

Miniature = Callable[[str], tuple[Path, dict[str, tuple[str, ...]]]]


def labels_of(dataset: Dataset, key: str) -> Labels:
    labels = dataset[key].labels
    assert labels is not None
    return labels


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_tno_pairs_the_official_tree_by_its_table(miniature: Miniature) -> None:
    root, _ = miniature("tno")
    home = root / "TNO/TNO_Image_Fusion_Dataset"
    sample = load_dataset("tno", root)["Farm"]
    assert np.array_equal(sample.infrared, pixels(home / "Triclobs_images/Farm/Farm_IR.bmp"))
    assert np.array_equal(sample.visible[..., 0], pixels(home / "Triclobs_images/Farm/Farm_Vis.bmp"))
    (home / "tank/Vis.tif").unlink()
    dataset = load_dataset("tno", root)
    assert dataset.keys == ("Farm",)
    assert [(problem.kind, Path(problem.item).name) for problem in dataset.problems] == [("unpaired", "LWIR.tif")]
    assert dataset.complete_count() == 55


def test_tno_knows_no_count_of_a_flattened_copy(shared: Path) -> None:
    assert load_dataset("tno", shared / "data").complete_count() is None


def test_a_list_of_names_serves_those_and_names_absent_ones(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "pick.txt").write_text("\ufeff04.png\n\nsub/11.png\n99\n", encoding="utf-8")
    dataset = load_dataset("tno", shared / "data", names=tmp_path / "pick.txt")
    assert dataset.keys == ("04", "11")
    assert [(problem.kind, problem.item) for problem in dataset.problems] == [("unpaired", "99")]
    assert dataset.complete_count() is None


def test_msrs_detection_split_has_its_own_boxes(miniature: Miniature) -> None:
    root, _ = miniature("msrs")
    dataset = load_dataset("msrs", root, "detection")
    assert [len(labels_of(dataset, key).boxes) for key in dataset.keys] == [1, 0]


def test_mfnet_takes_four_channels_apart(miniature: Miniature) -> None:
    root, _ = miniature("mfnet")
    home = root / "MFNET/ir_seg_dataset"
    sample = load_dataset("mfnet", root)["00003N"]
    stored = pixels(home / "images/00003N.png")
    assert np.array_equal(np.dstack([sample.visible, sample.infrared]), stored)
    assert sample.labels is not None
    assert np.array_equal(sample.labels.segmentation, pixels(home / "labels/00003N.png"))


def test_mfnet_refuses_an_image_of_three_channels(miniature: Miniature) -> None:
    root, _ = miniature("mfnet")
    path = root / "MFNET/ir_seg_dataset/images/00003N.png"
    Image.fromarray(pixels(path)[..., :3]).save(path)
    dataset = load_dataset("mfnet", root)
    with pytest.raises(DataError, match=r"00003N\.png") as caught:
        dataset.load("00003N")
    assert "thermal" in caught.value.expected
    assert dataset.load("00006D").key == "00006D"


def test_mfnet_reads_separate_folders(miniature: Miniature) -> None:
    root, _ = miniature("mfnet")
    home = root / "MFNET/ir_seg_dataset"
    whole = load_dataset("mfnet", root)["00003N"]
    for path in (home / "images").iterdir():
        for folder, part in (("RGB", np.s_[..., :3]), ("Thermal", np.s_[..., 3])):
            (home / folder).mkdir(exist_ok=True)
            Image.fromarray(np.ascontiguousarray(pixels(path)[part])).save(home / folder / path.name)
    (home / "labels").rename(home / "Label")
    shutil.rmtree(home / "images")
    sample = load_dataset("mfnet", root)["00003N"]
    assert np.array_equal(sample.visible, whole.visible)
    assert np.array_equal(sample.infrared, whole.infrared)
    assert sample.labels is not None


def test_mfnet_without_a_list_says_where_it_belongs(miniature: Miniature) -> None:
    root, _ = miniature("mfnet")
    (root / "MFNET/ir_seg_dataset/val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt"):
        load_dataset("mfnet", root, "val")


def test_fmb_label_offset_wraps_unlabelled(miniature: Miniature) -> None:
    root, _ = miniature("fmb")
    path = root / "FMB/test/Label/00002.png"
    ids = pixels(path)
    Image.fromarray(np.repeat((ids - 1)[..., None], 3, axis=2)).save(path)  # three channels, unlabelled 255
    assert np.array_equal(labels_of(load_dataset("fmb", root, label_offset=1), "00002").segmentation, ids)
    with pytest.raises(DataError, match="255"):
        load_dataset("fmb", root).load("00002")


def test_flir_boxes_of_the_voc_layout_are_scaled(miniature: Miniature) -> None:
    root, _ = miniature("flir-aligned")
    labels = labels_of(load_dataset("flir-aligned", root), "FLIR_08865")
    assert labels.boxes.tolist() == [[2, 3, 10, 10]]
    assert labels.classes.tolist() == [2]


def test_flir_class_order_comes_from_the_copy_or_the_user(miniature: Miniature) -> None:
    root, _ = miniature("flir-aligned")
    home = root / "FLIR-ALIGNED"
    for modality, ending in (("visible", "_RGB.jpg"), ("infrared", "_PreviewData.jpeg")):
        (home / modality / "test").mkdir(parents=True)
        shutil.copy(home / f"JPEGImages/FLIR_00002{ending}", home / modality / "test/FLIR_00002.jpg")
    shutil.rmtree(home / "JPEGImages")
    (home / "labels/test").mkdir(parents=True)
    (home / "labels/test/FLIR_00002.txt").write_text("1 0.5 0.5 0.2 0.2")
    unknown = load_dataset("flir-aligned", root)
    assert unknown["FLIR_00002"].labels is None
    assert "class_order" in unknown.problems[0].detail
    (home / "copy.yaml").write_text("path: .\nnames: [person, car, bicycle]\n")
    assert labels_of(load_dataset("flir-aligned", root), "FLIR_00002").classes.tolist() == [1]
    given = load_dataset("flir-aligned", root, class_order="person,bicycle,car")
    assert labels_of(given, "FLIR_00002").classes.tolist() == [2]
    with pytest.raises(UsageError, match="order of classes"):
        load_dataset("flir-aligned", root, class_order="person,dog,car")


def test_kaist_keeps_its_four_classes_apart(miniature: Miniature) -> None:
    root, _ = miniature("kaist")
    labels = labels_of(load_dataset("kaist", root), "set06_V001_I00001")
    assert labels.classes.tolist() == [0, 1, 3]
    assert labels.boxes[0].tolist() == [2, 3, 10, 10]


def test_kaist_lists_name_frames_with_their_folders(miniature: Miniature, tmp_path: Path) -> None:
    root, _ = miniature("kaist")
    (tmp_path / "list.txt").write_text("set06/V001/I00001\nset00/V000/visible/I00001.jpg\n")
    dataset = load_dataset("kaist", root, "all", names=tmp_path / "list.txt")
    assert dataset.keys == ("set00_V000_I00001", "set06_V001_I00001")
    assert dataset.problems == ()


def test_ivt_has_five_captions_and_maps(miniature: Miniature) -> None:
    root, _ = miniature("ivt")
    dataset = load_dataset("ivt", root, "train")
    assert isinstance(dataset, IVT)
    assert dataset["train_1"].texts.captions == tuple(f"Sentence {index}." for index in range(1, 6))
    assert dataset["train_2"].texts.captions == ()
    shown = dataset.association("train_1", 1)
    assert shown is not None
    assert shown.min() == 255
    assert dataset.association("train_1", 0) is None
    with pytest.raises(UsageError, match="caption 5"):
        dataset.association("train_1", 5)


def test_ivt_serves_the_real_test_folder(shared: Path) -> None:
    dataset = load_dataset("ivt", shared / "data/captions/textfusion", "test_tno")
    assert dataset.keys == ("TNO_1", "TNO_2")
    assert dataset["TNO_1"].visible.ndim == 3


def test_ems_gives_prompts_and_the_clean_pair(miniature: Miniature) -> None:
    root, _ = miniature("ems-lite")
    dataset = load_dataset("ems-lite", root, "train")
    dark = dataset["Low_light_00001N"]
    assert dark.texts.instruction == ("Mend Low_light.", "Fuse, and mend Low_light.")
    assert dark.clean is not None
    assert dark.reference is not None
    assert np.array_equal(dark.visible, dark.reference // 2)
    assert np.array_equal(dark.clean.visible, dark.reference)
    assert np.array_equal(dark.clean.infrared, dark.infrared)
    noisy = dataset["IR_Noise_00001N"]
    assert noisy.clean is not None
    assert np.array_equal(noisy.infrared, noisy.clean.infrared // 2)
    assert noisy.reference is not None
    assert np.array_equal(noisy.visible, noisy.reference)


def test_ems_of_one_kind(miniature: Miniature) -> None:
    root, _ = miniature("ems-lite")
    assert load_dataset("ems-lite", root, "train", kind="ir_noise").keys == ("IR_Noise_00001N",)
    with pytest.raises(UsageError, match="no kind 'Low'"):
        load_dataset("ems-lite", root, kind="Low")


def test_ems_serves_the_real_evaluation_layout(shared: Path) -> None:
    dataset = load_dataset("ems-lite", shared / "data/textif_degraded")
    assert dataset.keys == ("00016N", "00036N", "010007", "FLIR_01932")


def test_vlf_serves_paragraphs_and_features(miniature: Miniature) -> None:
    root, _ = miniature("vlf")
    sample = load_dataset("vlf", root)["MSRS_00002N"]
    assert sample.texts.captions == ("A paragraph about 00002N.",)
    assert sample.text_features is not None
    assert sample.text_features.shape == (5, 768)
    assert load_dataset("vlf", root, subset="roadscene").keys == ("RoadScene_FLIR_2",)


@pytest.mark.parametrize("values", [np.ones((2, 5, 768)), np.ones(768), np.ones((1, 5, 768), np.int64)])
def test_vlf_names_features_that_cannot_be_used(values: np.ndarray, miniature: Miniature) -> None:
    root, _ = miniature("vlf")
    path = root / "VLF/VLFDataset/TextFeature/IVF/MSRS/00002N.npy"
    np.save(path, values)
    dataset = load_dataset("vlf", root)
    assert [(problem.kind, problem.item) for problem in dataset.problems] == [("text", str(path))]
    assert dataset["MSRS_00002N"].text_features is None


def test_vlf_h5_takes_the_file_itself(miniature: Miniature) -> None:
    root, _ = miniature("vlf-h5")
    dataset = load_dataset("vlf-h5", root / "VLF-H5/MSRS_train.h5", "train")
    sample = dataset["00001D"]
    assert sample.text_features is not None
    assert sample.text_features.shape == (5, 768)
    assert np.ptp(sample.visible.astype(int), axis=2).max() == 0
    (root / "VLF-H5/RoadScene_test.h5").write_bytes(b"x")
    with pytest.raises(UsageError, match="MSRS_test"):
        load_dataset("vlf-h5", root)
    with pytest.raises(DataError, match=r"RoadScene_test\.h5"):
        load_dataset("vlf-h5", root / "VLF-H5/RoadScene_test.h5")


def test_boxes_land_on_the_people_of_a_half_size_copy(shared: Path, tmp_path: Path) -> None:
    whole = labels_of(load_dataset("llvip", shared / "data"), "190001")
    for modality in ("visible", "infrared"):
        folder = tmp_path / "LLVIP" / modality / "test"
        folder.mkdir(parents=True)
        with Image.open(shared / "data/llvip/LLVIP" / modality / "test/190001.jpg") as image:
            image.resize((640, 512)).save(folder / "190001.jpg")
    (tmp_path / "LLVIP/Annotations").mkdir()
    shutil.copy(shared / "data/llvip/LLVIP/Annotations/190001.xml", tmp_path / "LLVIP/Annotations")
    half = load_dataset("llvip", tmp_path)
    found = labels_of(half, "190001")
    np.testing.assert_allclose(found.boxes, whole.boxes / 2)
    # People are warm: the boxes are brighter in infrared than the rest.
    infrared = half["190001"].infrared
    inside = np.zeros(infrared.shape, bool)
    for x1, y1, x2, y2 in found.boxes.round().astype(int):
        inside[y1:y2, x1:x2] = True
    assert infrared[inside].mean() > infrared[~inside].mean() + 20
