"""A program that opens datasets full of broken files; ``test_mutations.py`` runs it in a process of its own.

It prints a JSON object: files mutated, pairs that were good, pairs served, problems named, peak memory in MiB.
"""

from __future__ import annotations

import io
import json
import pickle
import resource
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from conftest import SIZE, VOC, YOLO, noise
from PIL import Image

from tgfbench.benchmark.compat.memory import peak_resident_mib
from tgfbench.datasets import load_dataset
from tgfbench.datasets.verify import verify

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]
GOOD_EVERY = 8
MEMORY = 4 << 30


def cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.integers(0, len(data))]


def flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, len(data), rng.integers(1, 12)):
        changed[at] = rng.integers(256)
    return bytes(changed)


def flip_head(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, min(len(data), 64), 3):
        changed[at] = rng.integers(256)
    return bytes(changed)


def other_magic(data: bytes, rng: Random) -> bytes:
    starts = [b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"\xff\xd8\xff\xe0", b"RIFF", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS"]
    start = starts[rng.integers(len(starts))]
    return start + data[len(start) :]


def garbage(data: bytes, rng: Random) -> bytes:
    return rng.bytes(int(rng.integers(0, 2000)))


def empty(data: bytes, rng: Random) -> bytes:
    return b""


def doubled(data: bytes, rng: Random) -> bytes:
    at = int(rng.integers(0, len(data)))
    return data[:at] + data[at // 2 :]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(data: bytes, rng: Random) -> bytes:
    """A valid header of absurd size, some of them just small enough to be tried."""
    sizes = [(2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (100_000, 100_000), (7000, 7000), (0, 5), (60_000_000, 1)]
    width, height = sizes[rng.integers(len(sizes))]
    depth, colour = [(8, 2), (16, 0), (8, 3), (16, 6), (8, 7)][rng.integers(5)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(500))) + chunk(b"IEND", b"")


def png_bomb(data: bytes, rng: Random) -> bytes:
    """Text and image chunks that grow a thousandfold."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 8, 2, 0, 0, 0))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000), 9))
    image = chunk(b"IDAT", zlib.compress(bytes(5_000_000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + text + image + chunk(b"IEND", b"")


def long_chunk(data: bytes, rng: Random) -> bytes:
    return data[:33] + struct.pack(">I", int(rng.integers(2**24, 2**31))) + b"tEXt" + data[33:]


def other_mode(data: bytes, rng: Random) -> bytes:
    grey = Image.fromarray(noise("mode", *SIZE))
    kind, mode = [("PNG", "1"), ("PNG", "LA"), ("PNG", "P"), ("PNG", "RGBA"), ("TIFF", "CMYK"), ("TIFF", "F"),
                  ("TIFF", "I"), ("TIFF", "LAB"), ("JPEG", "CMYK"), ("GIF", "P"), ("WEBP", "RGB"), ("PPM", "L")][
        rng.integers(12)
    ]  # fmt: skip
    buffer = io.BytesIO()
    (grey.convert("RGB").convert(mode) if mode in ("CMYK", "LAB", "RGBA") else grey.convert(mode)).save(buffer, kind)
    return buffer.getvalue()


def huge_other(data: bytes, rng: Random) -> bytes:
    """Absurd sizes in the headers of other formats."""
    big = [2**31 - 1, 60_000, 8_000][rng.integers(3)]
    kind = rng.integers(3)
    buffer = io.BytesIO()
    Image.fromarray(noise("other", *SIZE)).save(buffer, ["BMP", "TIFF", "JPEG"][kind])
    found = bytearray(buffer.getvalue())
    if kind == 0:
        found[18:26] = struct.pack("<ii", big, big)
    elif kind == 1:
        at = struct.unpack("<I", found[4:8])[0] + 2
        for entry in range(at, min(len(found) - 12, at + 24), 12):
            found[entry + 8 : entry + 12] = struct.pack("<I", big)
    else:
        at = found.index(b"\xff\xc0") + 5
        found[at : at + 4] = struct.pack(">HH", min(big, 65_000), min(big, 65_000))
    return bytes(found)


def text_of(*texts: str | bytes) -> Mutation:
    encoded = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return lambda data, rng: encoded[rng.integers(len(encoded))]


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
hostile_xml = text_of(
    f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l9;</annotation>',
    '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>',
    "<a>" * 200_000,
    "<annotation>" + "<object/>" * 50_000 + "</annotation>",
    VOC.format("person").replace(">4<", ">nan<"),
    VOC.format("person").replace(">34<", ">1e-320<"),
    VOC.format("person").replace(">4<", ">" + "9" * 5000 + "<"),
    VOC.format("\u202e" * 100),
    VOC.format("person").encode("utf-16"),
    '<?xml version="1.0" encoding="utf-7"?><a/>',
    "<annotation>" + "x" * 2_000_000 + "</annotation>",
)
hostile_txt = text_of(
    "0 nan inf -inf 1e999\n", "0 " * 400_000, "0 0.5 0.5 0.2\n" * 50_000, "9" * 5000 + " 0 0 0 0\n", "\0" * 1000,
    "0 0.5 0.5 0.2 0.2\n".encode("utf-16"), b"\xff\xfe\xfd" * 50, "% bbGt version=3\nperson 1 1 nan 2\nalien 1 1 2 2\n",
    "% bbGt version=3\n" + "person -1 -1 1e308 1e308\n" * 1000, "0 1e308 1e308 1e308 1e308\n", "x\u0085y\u2028z",
)  # fmt: skip
hostile_json = text_of(
    "[" * 100_000, '{"key": "x", "boxes": ' + "[" * 5_000, '{"key": 3}', '{"key": "\\ud800"}', '{"key": ""}', "null",
    '{"key": "000", "captions": 5}', '{"key": "000", "boxes": [{"label": "x", "xyxy": [1, 2, 3]}]}', "{}" * 1000,
    '{"key": "000", "boxes": [{"label": "person", "xyxy": [NaN, 0, 1e999, 2]}]}', "\ufeff", b"\xff" * 100, "\0",
)  # fmt: skip


def npy(header: str, content: bytes = b"") -> bytes:
    padded = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + content


hostile_npy = text_of(
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1000000000, 768)}"),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807)}"),
    npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, -5, 768)}"),
    npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1)}", pickle.dumps(np.ones(3))),
    npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1)}", bytes(4)),
    npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2, 3)}", b"\xff" * 24),
    npy("__import__('os').system('false')"),
    npy("(" * 110),
    b"PK\x03\x04" + bytes(50),
    pickle.dumps(["x"]),
)
ANY = (cut, flip, flip_head, garbage, empty, doubled)
MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    ".png": (*ANY, other_magic, huge_png, png_bomb, long_chunk, other_mode, huge_other),
    ".xml": (*ANY, hostile_xml, hostile_xml),
    ".txt": (*ANY, hostile_txt, hostile_txt),
    ".npy": (*ANY, hostile_npy, hostile_npy),
}


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pair(visible: str, infrared: str, name: str) -> dict[str, bytes]:
    return {
        f"{visible}/{name}.png": encoded(noise(name, *SIZE, 3)),
        f"{infrared}/{name}.png": encoded(noise(f"ir {name}", *SIZE)),
    }


def features() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((1, 3, 8), np.float32))
    return buffer.getvalue()


IDS = encoded(np.zeros(SIZE, np.uint8))
LAYOUTS: dict[str, tuple[str, str, Callable[[str], dict[str, bytes]]]] = {
    "msrs": ("test", "", lambda name: pair("msrs/test/vi", "msrs/test/ir", name) | {
        f"msrs/test/Segmentation_labels/{name}.png": IDS,
        f"msrs/detection_lele3/fusion/test/{name}.txt": YOLO.encode(),
    }),
    "llvip": ("test", "", lambda name: pair("llvip/LLVIP/visible/test", "llvip/LLVIP/infrared/test", name) | {
        f"llvip/LLVIP/Annotations/{name}.xml": VOC.format("person").encode(),
    }),
    "mfnet": ("all", "", lambda name: {
        f"mfnet/images/{name}.png": encoded(noise(name, *SIZE, 4)), f"mfnet/labels/{name}.png": IDS,
    }),
    "ivt": ("train", "train_", lambda name: pair("ivt/IVT_train/vis", "ivt/IVT_train/ir", name) | {
        f"ivt/IVT_train/text/{name}_{index}.txt": b"A sentence." for index in (1, 2)
    }),
    "ems-lite": ("train", "Low_light_", lambda name: {
        **pair("ems-lite/Low_light/train/Visible", "ems-lite/Low_light/train/Infrared", name),
        **pair("ems-lite/Low_light/train/Visible_gt", "ems-lite/Low_light/train/Infrared_gt", name),
    }),
    "vlf": ("all", "MSRS_", lambda name: pair("vlf/Image/IVF/MSRS/VI", "vlf/Image/IVF/MSRS/IR", name) | {
        f"vlf/TextFeature/IVF/MSRS/{name}.npy": features(),
    }),
    "kaist": ("test", "set06_V000_", lambda name: {
        **pair("kaist/images/set06/V000/visible", "kaist/images/set06/V000/lwir", name),
        f"kaist/annotations/set06/V000/{name}.txt": b"% bbGt version=3\nperson 2 3 8 7 0 0 0 0 0 0 0\n",
    }),
}  # fmt: skip


def mutated_sidecar(names: list[str], rng: Random) -> Iterator[bytes]:
    for name in names:
        line = json.dumps({"key": name, "captions": ["A road."]}).encode()
        yield line
        mutation = (*ANY, hostile_json, hostile_json)[rng.integers(8)]
        yield mutation(line, rng).replace(b"\n", b" ")


def check(name: str, count: int, rng: Random) -> dict[str, int]:
    """Open and verify one dataset of ``count`` pairs of which all but every eighth have one mutated file."""
    split, prefix, build = LAYOUTS[name]
    names = [f"{index:03}" for index in range(count)]
    good = set(names[::GOOD_EVERY])
    done = {"mutated": 0, "good": len(good), "served": 0, "problems": 0}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for key in names:
            files = build(key)
            if key not in good:
                victim = list(files)[rng.integers(len(files))]
                mutations = MUTATIONS[Path(victim).suffix]
                files[victim] = mutations[rng.integers(len(mutations))](files[victim], rng)
                done["mutated"] += 1
            for path, content in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
        if name == "msrs":
            (root / "captions").mkdir()
            (root / "captions/msrs.jsonl").write_bytes(b"\n".join(mutated_sidecar(names, rng)))
            done["mutated"] += len(names)
        dataset = load_dataset(name, root, split)
        report = verify(dataset, workers=2)
        served = {row.key for row in report.pairs}
        for key in good:
            sample = dataset.load(prefix + key)
            expected = noise(key, *SIZE, 4) if name == "mfnet" else noise(key, *SIZE, 3)
            assert np.array_equal(sample.visible, expected[..., :3]), f"{name} {key}"
            assert prefix + key in served, f"{name} {key}"
        said = "\n".join(f"{problem.item} {problem.detail}" for problem in report.problems)
        unnamed = [key for key in names if prefix + key not in served and key not in said]
        assert not unnamed, f"{name}: neither served nor named: {unnamed}"
        done["served"], done["problems"] = len(served), len(report.problems)
    return done


def check_large() -> None:
    """Verify a pair whose small files are valid and decode to 30 million pixels of 16 bits."""
    with tempfile.TemporaryDirectory() as folder:
        for modality in ("vi", "ir"):
            (Path(folder) / modality).mkdir()
            Image.fromarray(np.full((5500, 5500), 30_000, np.uint16)).save(Path(folder) / modality / "a.png")
        assert len(verify(load_dataset("folder", folder)).pairs) == 1


def main(total: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = np.random.default_rng(seed)
    done = {"mutated": 0, "good": 0, "served": 0, "problems": 0}
    while done["mutated"] < total:
        for name in LAYOUTS:
            for what, number in check(name, 64, rng).items():
                done[what] += number
    check_large()
    done["peak_mib"] = peak_resident_mib()
    print(json.dumps(done))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
