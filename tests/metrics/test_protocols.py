"""Protocols: names without torch, selection, input conventions, and VIFB's published scores."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tgfbench.benchmark.errors import MetricError, UsageError
from tgfbench.metrics import METRICS, load_protocol, protocol_names
from tgfbench.metrics.base import MetricInputs
from tgfbench.metrics.luma import to_luma
from tgfbench.metrics.protocols import CORE, PROTOCOLS

PUBLISHED = {
    "Avg_gradient": "AG", "Cross_entropy": "CE", "Edge_intensity": "EI", "Entropy": "EN", "Mutinf": "MI",
    "Psnr": "PSNR", "Qabf": "Qabf", "Qcb": "Qcb", "Qcv": "Qcv", "Rmse": "RMSE", "Spatial_frequency": "SF",
    "Ssim": "SSIM", "Variance": "SD",
}  # fmt: skip
PRINT_ROUNDING = 5e-5
"""Half a unit in the last of five significant digits, relative, at worst."""


def image(seed: int, height: int = 168, width: int = 176, *, colour: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = random.normal(0, 1, (height, width, 3) if colour else (height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + 250 * smooth, 0, 255).astype(np.uint8)


def read_rgb(path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None, f"{path} cannot be read"
    return found if found.ndim == 2 else np.ascontiguousarray(found[..., ::-1])


def test_names_and_data_need_no_torch() -> None:
    code = (
        "import sys; from tgfbench.metrics import METRICS, protocol_names; from tgfbench.metrics.protocols import CORE;"
        "assert protocol_names()[0] == 'correct' and METRICS.names(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", protocol_names())
def test_every_metric_of_a_protocol_exists_in_that_convention(name: str) -> None:
    protocol = load_protocol(name)
    assert protocol.name == name and protocol.metrics == tuple(PROTOCOLS[name].metrics)
    assert all(version >= 1 for version in protocol.versions().values())
    for metric in protocol.metrics:
        assert protocol.info(metric).name == metric


def test_every_registered_metric_without_weights_is_in_a_protocol() -> None:
    used = {use.metric for card in PROTOCOLS.values() for use in card.metrics.values()}
    rare = {"dss", "iw-ssim", "ms-gmsd", "sr-sim", "brisque", "clip-iqa", "lpips", "musiq", "niqe"}
    assert set(METRICS.names()) == used | rare


def test_selection() -> None:
    correct = load_protocol("Correct")
    assert correct.select("core").metrics == tuple(name for name in correct.metrics if name in CORE)
    assert set(correct.select("core").metrics) == set(CORE)
    assert correct.select("en, ms_ssim").metrics == ("EN", "MS-SSIM")
    assert correct.select("all").metrics == correct.metrics
    with pytest.raises(UsageError, match="did you mean"):
        correct.select("SSSIM")
    with pytest.raises(UsageError, match="film"):
        load_protocol("flim")


def test_evaluate_equals_a_batch_and_takes_colour_or_grey() -> None:
    protocol = load_protocol("correct").select("EN,SSIM,VIF,Qabf")
    fused, visible, infrared = image(1, colour=True), image(2, colour=True), image(3)
    single = protocol.evaluate(fused, visible, infrared)
    assert list(single) == list(protocol.metrics)
    tensors = [torch.from_numpy(np.stack([x, x])) for x in (fused, visible, infrared)]
    together = protocol.evaluate_batch(tensors[0].permute(0, 3, 1, 2), tensors[1].permute(0, 3, 1, 2), tensors[2])
    for name, values in together.items():
        assert values.tolist() == pytest.approx([single[name]] * 2, rel=1e-12)
    grey = to_luma(torch.from_numpy(fused)[None].permute(0, 3, 1, 2), "bt601")[0].numpy()
    assert protocol.select("EN").evaluate(grey, visible, infrared)["EN"] == single["EN"]


def test_several_threads_give_the_values_of_one() -> None:
    protocol = load_protocol("film")
    images = [torch.from_numpy(np.stack([image(seed + i) for i in range(3)])) for seed in (1, 10, 20)]
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(protocol.evaluate_batch(*images))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    for name in protocol.metrics:
        assert torch.equal(found[0][name], found[1][name])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda fused: fused.astype(np.float32), "float32"),
        (lambda fused: fused[..., None][..., [0, 0]], "grey or"),
        (lambda fused: fused[1:], "1 x 167 x 176"),
        (lambda fused: None, "NoneType"),
    ],
)
def test_wrong_images_are_refused_naming_protocol_and_image(change, text: str) -> None:
    visible, infrared = image(2), image(3)
    with pytest.raises(MetricError, match="film") as refusal:
        load_protocol("film").evaluate(change(image(1)), visible, infrared)
    assert text in str(refusal.value)


def test_unknown_extra_is_refused() -> None:
    with pytest.raises(UsageError, match="confidence"):
        load_protocol("film").evaluate(image(1), image(2), image(3), prompt="a car")


def test_luma_formulas_differ_by_one_level_at_most() -> None:
    colours = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 200, 200), dtype=np.uint8))
    lumas = torch.stack([to_luma(colours, formula).int() for formula in ("bt601", "opencv", "pil", "matlab")])
    assert (lumas.amax(0) - lumas.amin(0)).max() == 1
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for formula in ("bt601", "opencv", "pil", "matlab"):
        assert torch.equal(to_luma(grey, formula), grey[:, 0])


def test_channels_are_averaged_and_spatial_frequency_sees_them_side_by_side() -> None:
    protocol = load_protocol("vifb").select("SD,SF")
    fused, visible, infrared = image(1, colour=True), image(2, colour=True), image(3)
    values = protocol.evaluate(fused, visible, infrared)
    assert values["SD"] == pytest.approx(np.mean([fused[..., k].std() for k in range(3)]))
    wide = np.concatenate([fused[..., k] for k in range(3)], axis=1)
    assert values["SF"] == pytest.approx(protocol.evaluate(wide, wide, wide)["SF"])


def test_protocols_resize_as_their_evaluators_do() -> None:
    fused, visible, infrared = image(1), image(2, 200, 220), image(3, 200, 220)
    values = load_protocol("thfylsty").select("EN,CC").evaluate(fused, visible, infrared)
    assert values["EN"] == load_protocol("hli").select("EN").evaluate(fused, fused, fused)["EN"]
    with pytest.raises(MetricError):
        load_protocol("hli").select("SCD").evaluate(fused, visible, infrared)


@pytest.mark.parametrize("key", ["manWalking", "carShadow"])
def test_vifb_published_scores(shared, key: str) -> None:
    folder = shared / "vifb"
    with (folder / "published_scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["key"] == key]
    protocol = load_protocol("vifb")
    visible, infrared = (read_rgb(folder / "input" / kind / f"{key}.jpg") for kind in ("VI", "IR"))
    scores = {
        method: protocol.evaluate(read_rgb(folder / "fused" / method / f"{key}.jpg"), visible, infrared)
        for method in sorted({row["method"] for row in rows})
    }
    assert len(rows) == 12 * 13
    for row in rows:
        found = scores[row["method"]][PUBLISHED[row["metric"]]]
        assert found == pytest.approx(float(row["value"]), rel=PRINT_ROUNDING), f"{row['method']} {row['metric']}"


def test_sharing_less_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = load_protocol("correct").select("EN,SSIM,MS-SSIM,VIF,Qabf,MEF-SSIM,FMI-pixel,FMI-edge,MI")
    images = image(1), image(2), image(3)
    shared = protocol.evaluate(*images)
    monkeypatch.setattr("tgfbench.metrics.evaluation.SHARED_BYTES", {"cpu": 0})
    monkeypatch.setattr("tgfbench.metrics.fmi.BAND_WINDOWS", 1000)
    monkeypatch.setattr("tgfbench.metrics.mef.BAND_PIXELS", 3000)
    assert protocol.evaluate(*images) == pytest.approx(shared, rel=1e-12)


def test_what_metrics_share_is_forgotten_beyond_a_limit() -> None:
    inputs = MetricInputs(torch.zeros(1, 512, 512), *(torch.zeros(1, 512, 512) for _ in "ab"))
    small, large = inputs.once("small", lambda: torch.zeros(5)), inputs.once("large", lambda: [torch.zeros(2**20)])
    inputs.trim(2**22 + 20)
    assert inputs.once("large", lambda: None) is large
    inputs.trim(2**22)
    assert inputs.once("large", lambda: None) is None
    assert inputs.once("small", lambda: None) is small


def test_the_documented_table_is_what_the_protocols_fix() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.split("|")[1:5]] for line in text.splitlines() if line.startswith("| `")]
    assert rows == [[card.name, card.luma, card.colour, card.resize] for card in PROTOCOLS.values()]


@pytest.mark.parametrize("name", [name for name in protocol_names() if name != "textfusion"])
def test_every_protocol_takes_odd_sizes_colour_and_constant_images(name: str) -> None:
    protocol = load_protocol(name)
    fused, visible, infrared = image(1, 163, 171, colour=True), image(2, 163, 171, colour=True), image(3, 163, 171)
    values = protocol.evaluate(fused, visible, infrared)
    for metric, value in values.items():
        low, high = protocol.info(metric).range
        assert low - 1e-9 <= value <= high + 1e-9, metric
    three_planes = np.repeat(infrared[..., None], 3, axis=2)
    assert protocol.evaluate(fused, visible, three_planes) == pytest.approx(values, rel=1e-12)
    flat = np.full((163, 171), 90, np.uint8)
    undefined = {metric for metric, value in protocol.evaluate(flat, flat, flat).items() if np.isnan(value)}
    documented = {metric for metric in protocol.metrics if protocol.info(metric).on_constant == "nan"}
    assert undefined <= documented, "a value that no card says may be undefined"
