"""Miniatures of the official layouts: random pixels, real names, every kind of side file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = (13, 17)  # odd on purpose
YOLO = "0 0.5 0.5 0.2 0.2\n"
VOC = (
    "<annotation><size><width>34</width><height>26</height></size><object><name>{}</name>"
    "<bndbox><xmin>4</xmin><ymin>6</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
)
"""A box (2, 3, 10, 10) on the images, stated for a copy of twice the size."""


def noise(name: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(list(name.encode())).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def pairs(visible: Path, infrared: Path, names: Sequence[str], suffix: str = ".png") -> None:
    for name in names:
        save(visible / f"{name}{suffix}", noise(name, *SIZE, 3))
        save(infrared / f"{name}{suffix}", noise(f"ir {name}", *SIZE))


def label_map(path: Path, classes: int) -> None:
    save(path, np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE) % classes)


def folder(home: Path) -> None:
    pairs(home / "visible", home / "infrared", ["a", "b"])


def tno(home: Path) -> None:
    tree = home / "TNO_Image_Fusion_Dataset"
    triclobs, fire = tree / "Triclobs_images", tree / "DHV_images/Fire_sequence/part_1"
    save(tree / "tank/LWIR.tif", noise("a", *SIZE))
    save(tree / "tank/Vis.tif", noise("b", *SIZE))
    save(triclobs / "Farm/Farm_IR.bmp", noise("c", *SIZE))
    save(triclobs / "Farm/Farm_Vis.bmp", noise("d", *SIZE))
    save(triclobs / "Farm/Farm_II.bmp", noise("e", *SIZE))
    save(triclobs / "House/VIS.bmp", noise("f", *SIZE))
    save(triclobs / "House/NIR.bmp", noise("g", *SIZE))
    save(tree / "FEL_images/Tree_sequence/thermal/4900i.bmp", noise("h", *SIZE))
    save(tree / "FEL_images/Tree_sequence/visual/4900v.bmp", noise("i", *SIZE))
    save(fire / "thermal/RADhelin12.bmp", noise("j", *SIZE))
    save(fire / "dhv/DHVhelin12.bmp", noise("k", *SIZE))


def roadscene(home: Path) -> None:
    pairs(home / "crop_LR_visible", home / "cropinfrared", ["FLIR_00211", "FLIR_99999"], ".jpg")


def msrs(home: Path) -> None:
    for part, names in (("test", ["00002N"]), ("train", ["00001D", "00003N"])):
        pairs(home / part / "vi", home / part / "ir", names)
        for name in names:
            label_map(home / part / "Segmentation_labels" / f"{name}.png", 9)
            write(home / "detection_lele3/fusion" / part / f"{name}.txt", YOLO)
    pairs(home / "detection/vi", home / "detection/ir", ["1", "1489"])
    write(home / "detection/labels/1.txt", YOLO)
    write(home / "detection/labels/1489.txt", "")


def llvip(home: Path) -> None:
    for part, names in (("test", ["190001"]), ("train", ["010001"])):
        pairs(home / "LLVIP/visible" / part, home / "LLVIP/infrared" / part, names, ".jpg")
        for name in names:
            write(home / "LLVIP/Annotations" / f"{name}.xml", VOC.format("person"))


def m3fd(home: Path) -> None:
    pairs(home / "M3FD_Detection/Vis", home / "M3FD_Detection/Ir", ["00000", "00170"])
    write(home / "M3FD_Detection/Annotation/00170.xml", VOC.format("people"))
    write(home / "M3FD_Detection/labels/00170.txt", YOLO)
    pairs(home / "M3FD_Fusion/Vis", home / "M3FD_Fusion/Ir", ["00003"])


def mfnet(home: Path) -> None:
    home = home / "ir_seg_dataset"
    parts = {"train": ["00001D"], "val": ["00004D"], "test": ["00003N", "00006D"]}
    for part, names in parts.items():
        write(home / f"{part}.txt", "\n".join(names))
        for name in [*names, *([f"{names[0]}_flip"] if part == "train" else [])]:
            save(home / "images" / f"{name}.png", noise(name, *SIZE, 4))
            label_map(home / "labels" / f"{name}.png", 9)


def fmb(home: Path) -> None:
    for part, name in (("test", "00002"), ("train", "00001")):
        pairs(home / part / "Visible", home / part / "Infrared", [name])
        label_map(home / part / "Label" / f"{name}.png", 15)


def flir_aligned(home: Path) -> None:
    for name in ("FLIR_00002", "FLIR_08865"):
        save(home / "JPEGImages" / f"{name}_RGB.jpg", noise(name, *SIZE, 3))
        save(home / "JPEGImages" / f"{name}_PreviewData.jpeg", noise(f"ir {name}", *SIZE))
        write(home / "Annotations" / f"{name}_PreviewData.xml", VOC.format("bicycle"))
    write(home / "align_train.txt", "FLIR_00002_PreviewData\n")
    write(home / "align_validation.txt", "FLIR_08865_PreviewData\n")


def kaist(home: Path) -> None:
    for part in ("set00/V000", "set06/V001"):
        pairs(home / "images" / part / "visible", home / "images" / part / "lwir", ["I00001"], ".jpg")
        boxes = "% bbGt version=3\nperson 2 3 8 7 0 0 0 0 0 0 0\npeople 1 1 4 4 0 0 0 0 0 0 0\nperson? 2 2 3 3 0\n"
        write(home / "annotations" / part / "I00001.txt", boxes)


def ivt(home: Path) -> None:
    pairs(home / "IVT_train/vis", home / "IVT_train/ir", ["1", "2"])
    for index in range(1, 6):
        write(home / f"IVT_train/text/1_{index}.txt", f"Sentence {index}.")
    shown = home / "IVT_train/association/IVT_LLVIP_2000_imageIndex_1_textIndex_2"
    save(shown / "Final_Finetuned_BinaryInterestedMap.png", np.full(SIZE, 255, np.uint8))
    for name in ("LLVIP", "RoadScene", "TNO"):
        pairs(home / f"IVT_test_{name}/vis", home / f"IVT_test_{name}/ir", ["1"])


def ems_lite(home: Path) -> None:
    for kind, degraded, clean in (("Low_light", "Visible", "Visible_gt"), ("IR_Noise", "Infrared", "Infrared_gt")):
        part = home / "EMS_lite" / kind / "train"
        pairs(part / "Visible", part / "Infrared", ["00001N"])
        pairs(part / "Visible_gt", part / "Infrared_gt", ["00001N"])
        name = "00001N.png"
        save(part / degraded / name, np.array(Image.open(part / clean / name)) // 2)
        write(part / "text.txt", f"Mend {kind}.\n\nFuse, and mend {kind}.\n")
        pairs(home / "EMS_lite" / kind / "eval/Visible", home / "EMS_lite" / kind / "eval/Infrared", ["00036N"])


def ems_full(home: Path) -> None:
    ems_lite(home)
    (home / "EMS_lite").rename(home / "EMS_full")


def vlf(home: Path) -> None:
    home = home / "VLFDataset"
    for subset, train, test in (("MSRS", "00001D", "00002N"), ("RoadScene", "FLIR_1", "FLIR_2")):
        images = home / "Image/IVF" / subset
        pairs(images / "VI", images / "IR", [train, test])
        write(images / "train.txt", f"{train}.png\n")
        write(images / "test.txt", f"{test}.png\n")
        for name in (train, test):
            write(home / "Text/IVF" / subset / f"{name}.txt", f"A paragraph\nabout {name}.\n")
            features = home / "TextFeature/IVF" / subset / f"{name}.npy"
            features.parent.mkdir(parents=True, exist_ok=True)
            np.save(features, np.ones((1, 5, 768), np.float32))


def vlf_h5(home: Path) -> None:
    import h5py

    home.mkdir(parents=True, exist_ok=True)
    with h5py.File(home / "MSRS_test.h5", "w") as file, h5py.File(home / "MSRS_train.h5", "w") as train:
        for content, names in ((file, ("00002N", "00004N")), (train, ("00001D",))):
            for name in names:
                content[f"imageA/{name}"] = noise(f"ir {name}", 1, *SIZE) / 255
                content[f"imageB/{name}"] = noise(name, 1, *SIZE) / 255
                content[f"text/{name}"] = np.ones((1, 5, 768), np.float32)


MINIATURES: dict[str, tuple[Callable[[Path], None], dict[str, tuple[str, ...]]]] = {
    "folder": (folder, {"test": ("a", "b")}),
    "tno": (tno, {
        "test": ("Farm", "tank"),
        "sequences": ("Fire_sequence_part_1_12", "Tree_sequence_4900"),
    }),
    "roadscene": (roadscene, {"test": ("FLIR_00211",), "train": ("FLIR_99999",)}),
    "msrs": (msrs, {"test": ("00002N",), "train": ("00001D", "00003N"), "detection": ("1", "1489")}),
    "llvip": (llvip, {"test": ("190001",), "train": ("010001",)}),
    "m3fd": (m3fd, {"test": ("00170",), "train": ("00000",), "fusion": ("00003",)}),
    "mfnet": (mfnet, {
        "test": ("00003N", "00006D"), "train": ("00001D",), "val": ("00004D",),
        "test_day": ("00006D",), "test_night": ("00003N",),
    }),
    "fmb": (fmb, {"test": ("00002",), "train": ("00001",)}),
    "flir-aligned": (flir_aligned, {"test": ("FLIR_08865",), "train": ("FLIR_00002",)}),
    "kaist": (kaist, {"test": ("set06_V001_I00001",), "train": ("set00_V000_I00001",)}),
    "ivt": (ivt, {
        "test": ("LLVIP_1", "RoadScene_1", "TNO_1"), "train": ("train_1", "train_2"),
        "test_llvip": ("LLVIP_1",), "test_roadscene": ("RoadScene_1",), "test_tno": ("TNO_1",),
    }),
    "ems-lite": (ems_lite, {
        "test": ("IR_Noise_00036N", "Low_light_00036N"), "train": ("IR_Noise_00001N", "Low_light_00001N"),
    }),
    "ems-full": (ems_full, {
        "test": ("IR_Noise_00036N", "Low_light_00036N"), "train": ("IR_Noise_00001N", "Low_light_00001N"),
    }),
    "vlf": (vlf, {
        "test": ("MSRS_00002N", "RoadScene_FLIR_2"), "train": ("MSRS_00001D", "RoadScene_FLIR_1"),
    }),
    "vlf-h5": (vlf_h5, {"test": ("00002N", "00004N"), "train": ("00001D",)}),
}  # fmt: skip
"""By dataset: how to make it below a folder of its name, and the keys of its splits; the split ``all`` is their union,
without those that overlap others or hold the same frames again."""

OVERLAPPING = ("detection", "fusion", "sequences", "test_day", "test_night", "test_llvip", "test_roadscene", "test_tno")


@pytest.fixture
def miniature(tmp_path: Path) -> Callable[[str], tuple[Path, dict[str, tuple[str, ...]]]]:
    """Make the miniature of a dataset; returns the data root and the keys by split."""

    def make(name: str) -> tuple[Path, dict[str, tuple[str, ...]]]:
        build, splits = MINIATURES[name]
        # A home of its own below other capitals: loaders find it all the same.
        if not (tmp_path / "data").is_dir():
            build(tmp_path / "data" / name.upper())
        both = sorted(key for split, keys in splits.items() if split not in OVERLAPPING for key in keys)
        return tmp_path / "data", splits | {"all": tuple(both)}

    return make
