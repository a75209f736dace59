"""MTG-Fusion's modules equal the released ones; windows, rewrite, texts and losses do what they say."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
from torch import Tensor

from tgfbench.benchmark.errors import DataError, UsageError, WeightsError
from tgfbench.benchmark.text import load_text_encoder
from tgfbench.methods import FusionBatch, create_method
from tgfbench.methods.mtgfusion import fast
from tgfbench.methods.mtgfusion.fast import FastMTGFusion
from tgfbench.methods.mtgfusion.guidance import TGCE, nearest
from tgfbench.methods.mtgfusion.losses import fusion_losses, text_loss
from tgfbench.methods.mtgfusion.method import MTGFusion
from tgfbench.methods.mtgfusion.network import TEXTS, MTGFusionNetwork, build_network, from_windows, to_windows
from tgfbench.methods.mtgfusion.objective import fused_alike
from tgfbench.methods.mtgfusion.texts import FOLDERS, TextFiles

CASES = golden.case_names("mtgfusion")
TOLERANCE = 2e-5  # the fixtures allow 2e-4
CHANNELS_LAST = ("text_cube", "cross1", "cross4")


def special(name: str, drawn: np.ndarray) -> np.ndarray | None:
    return 1 + np.float32(0.02) * np.abs(drawn) if name.endswith("running_var") else None


def network(**config: Any) -> MTGFusionNetwork:
    filled = golden.fill(build_network(**config), special=special)
    assert isinstance(filled, MTGFusionNetwork)
    return filled


def golden_inputs(case: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    texts = {name: torch.from_numpy(case[name]).to(dtype) for name in TEXTS}
    infrared = golden.image(case["ir"], dtype) / 255
    return {"visible": torch.from_numpy(case["gray_vi"]).to(dtype), "infrared": infrared, **texts}


def random_inputs(height: int, width: int, tokens: int = 3, count: int = 1) -> dict[str, Tensor]:
    """Images and five texts of BLIP's width."""
    draw = torch.Generator().manual_seed(height * width)
    images = torch.rand(2, count, 1, height, width, generator=draw)
    texts = torch.randn(5, count, tokens, 768, generator=draw)
    return {"visible": images[0], "infrared": images[1], **dict(zip(TEXTS, texts, strict=True))}


def double(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in given.items()}


def test_keys_and_shapes_are_those_of_the_release() -> None:
    folder = golden.folder_of("mtgfusion")
    if folder is None:
        pytest.skip("TGFBENCH_SHARED is not set")
    official = json.loads((folder / "state_dict.json").read_text())
    own = {name: list(value.shape) for name, value in build_network().state_dict().items()}
    added = {
        f"{module}.{kind}" for module in ("text_in", "tgsf.reduce3A", "tgsf.reduce3B") for kind in ("weight", "bias")
    }
    assert {name: shape for name, shape in own.items() if name not in added} == official
    assert added < set(own)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in build_network().named_children()}
    assert counts == {
        "text_in": 768 * 64 + 64,
        "visual": 50_104,
        "shared": 206_464,
        "tgce": 443_330,
        "tgsf": 848_386 + 2 * (192 * 3 + 3),
        "recon": 274_817,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_modules_equal_the_released_ones(name: str, dtype: torch.dtype) -> None:
    case = golden.load_case("mtgfusion", name)
    strides = json.loads(case["meta"])["channel_strides"]
    computed = network().to(dtype)(**golden_inputs(case, dtype))
    compared = set(computed) & set(case)
    assert compared == {*strides, "logdet", "recon"}
    for part in compared:
        stride = strides.get(part, 1)
        value = computed[part][..., ::stride] if part in CHANNELS_LAST else computed[part]
        if part not in CHANNELS_LAST and stride > 1:
            value = value[:, ::stride]
        assert golden.greatest_deviation(value, case[part]) < TOLERANCE, part


@pytest.mark.parametrize(
    ("size", "window", "transform"),
    [
        ((16, 24), None, "release"),
        ((15, 21), (5, 7), "release"),
        ((7, 30), (16, 16), "paper"),
        ((1, 9), (16, 16), "release"),
        ((9, 9), None, "paper"),
        ((12, 10), (4, 16), "release"),
        ((10, 12), None, "release"),
    ],
)
@torch.inference_mode()
def test_rewrite_equals_network(size: tuple[int, int], window: tuple[int, int] | None, transform: str) -> None:
    """The sizes lie on both sides of those at which text maps begin to have a constant inside."""
    plain, given = network(window=window, transform=transform), random_inputs(*size)
    exact = copy.deepcopy(plain).double()
    expected = exact(**double(given))["fused"]
    assert golden.greatest_deviation(FastMTGFusion(exact)(**double(given)), expected) < 1e-12
    assert golden.greatest_deviation(FastMTGFusion(plain)(**given), expected) < TOLERANCE
    assert golden.greatest_deviation(plain.fused(**given), expected) < TOLERANCE


@torch.inference_mode()
def test_rewrite_equals_network_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "TOKENS", 300)
    exact, given = network(window=(16, 16)).double(), double(random_inputs(33, 37, tokens=32))
    expected = exact.fused(**given)
    assert golden.greatest_deviation(FastMTGFusion(exact)(**given), expected) < 1e-12
    single = FastMTGFusion(exact.float())(**{name: value.float() for name, value in given.items()})
    # Where two text vectors are equally near, rounding chooses, and what follows the pixel changes with it.
    assert (single - expected).abs().flatten().quantile(0.99) < TOLERANCE
    assert golden.greatest_deviation(single, expected) < 5e-3


@pytest.mark.parametrize("size", [(15, 21), (48, 64)])
@torch.inference_mode()
def test_windows_as_large_as_the_image_are_full_attention(size: tuple[int, int]) -> None:
    given = random_inputs(*size)
    full = FastMTGFusion(network(window=None))(**given)
    assert golden.greatest_deviation(network(window=None).fused(**given), full) < TOLERANCE
    assert golden.greatest_deviation(FastMTGFusion(network(window=(48, 64)))(**given), full) < TOLERANCE
    assert golden.greatest_deviation(FastMTGFusion(network(window=(8, 8)))(**given), full) > 1e-3


def test_windows_cover_the_mirrored_image_once() -> None:
    x = torch.arange(2 * 3 * 5 * 7.0).view(2, 3, 5, 7)
    windows = to_windows(x, (4, 4))
    assert windows.shape == (2 * 2 * 2, 16, 3)
    assert torch.equal(windows[0, :4, 0], x[0, 0, 0, :4])
    assert torch.equal(windows[1, :4, 0], x[0, 0, 0, [4, 5, 6, 5]])
    assert torch.equal(windows[2, [0, 4, 8], 0], x[0, 0, [4, 3, 2], 0])
    assert torch.equal(from_windows(windows, (4, 4), (5, 7)), x)
    assert torch.equal(from_windows(to_windows(x, None), None, (5, 7)), x)


@pytest.mark.parametrize("run", [MTGFusionNetwork.fused, lambda plain, **given: FastMTGFusion(plain)(**given)])
@torch.inference_mode()
def test_images_of_a_batch_do_not_influence_each_other(run: Any) -> None:
    plain, given = network(window=(8, 8)), random_inputs(12, 17, count=3)
    alone = [run(plain, **{name: value[row : row + 1] for name, value in given.items()}) for row in range(3)]
    torch.testing.assert_close(run(plain, **given), torch.cat(alone), rtol=0, atol=TOLERANCE)


@torch.inference_mode()
def test_missing_texts_are_zeros_and_every_text_matters() -> None:
    plain, given = network(), random_inputs(10, 11)
    silent = {name: torch.zeros(1, 4, 768) if name in TEXTS else value for name, value in given.items()}
    images = {name: given[name] for name in ("visible", "infrared")}
    none = FastMTGFusion(plain)(**images)
    torch.testing.assert_close(FastMTGFusion(plain)(**silent), none, rtol=0, atol=TOLERANCE)
    for name in TEXTS:
        assert golden.greatest_deviation(FastMTGFusion(plain)(**images, **{name: given[name]}), none) > 1e-4, name


def test_nearest_is_exact() -> None:
    draw = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(50, 8, generator=draw), 2 * torch.randn(30, 8, generator=draw)
    assert torch.equal(nearest(queries, candidates), torch.cdist(queries, candidates).argmin(dim=1))


@pytest.mark.parametrize("transform", ["release", "paper"])
def test_smoothing_follows_its_recursion(transform: str) -> None:
    draw = torch.Generator().manual_seed(0)
    v, t = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=draw)
    expected = v.clone()
    for axis in (1, 0):  # along the rows, then along the columns
        for y in range(axis == 0, 3):
            for x in range(axis == 1, 4):
                before = (y, x - 1) if axis else (y - 1, x)
                a, b = (expected[y, x], t[before]) if transform == "release" else (t[y, x], t[before])
                d = 1 - a @ b / (a.norm() * b.norm())
                keep = torch.exp(-d) if transform == "release" else 0.5**d
                expected[y, x] = (1 - keep) * expected[y, x] + keep * expected[before]
    smoothed = TGCE(5, transform).smoothed(v[None], t[None])[0]
    torch.testing.assert_close(smoothed, expected)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mtgfusion") / "stage2.pth"
    torch.save({"model": {f"module.{name}": value for name, value in network().state_dict().items()}}, path)
    return path


def scene(text: str = "", size: tuple[int, int] = (20, 27)) -> FusionBatch:
    draw = torch.Generator().manual_seed(4)
    visible, infrared = torch.rand(1, 3, *size, generator=draw), torch.rand(1, 1, *size, generator=draw)
    return FusionBatch(visible, infrared, [text], None, ["scene"])


def loaded(weights: Path, **options: Any) -> MTGFusion:
    method = create_method(MTGFusion, options, weights=weights, device="cpu")
    assert isinstance(method, MTGFusion)
    return method


def test_method_keeps_the_chroma_or_stays_grey(weights: Path) -> None:
    batch = scene()
    grey = 0.299 * batch.visible[:, :1] + 0.587 * batch.visible[:, 1:2] + 0.114 * batch.visible[:, 2:]
    raw = FastMTGFusion(network(window=(16, 16)))(visible=grey, infrared=batch.infrared).clamp(0, 1)
    authors = loaded(weights, text_encoder="none", postprocess="authors").fuse(batch)
    assert torch.equal(authors, ((raw * 255).round() / 255).repeat(1, 3, 1, 1))
    plain = loaded(weights, text_encoder="none").fuse(batch)
    inside = ((plain > 0) & (plain < 1)).all(dim=1, keepdim=True)
    y = 0.299 * plain[:, :1] + 0.587 * plain[:, 1:2] + 0.114 * plain[:, 2:]
    assert inside.any()
    assert (y - raw).abs()[inside].max() < 1.5 / 255
    assert plain.std(dim=1).mean() > 0.01


def test_window_is_an_option(weights: Path) -> None:
    full, sixteen, six = (loaded(weights, text_encoder="none", window=w) for w in ("none", "auto", "6"))
    assert [m.provenance()["network"]["window"] for m in (full, sixteen, six)] == [None, [16, 16], [6, 6]]
    batch = scene(size=(12, 14))
    assert golden.greatest_deviation(full.fuse(batch), sixteen.fuse(batch)) <= 1 / 255  # one window holds it all
    assert golden.greatest_deviation(full.fuse(batch), six.fuse(batch)) > 2 / 255
    with pytest.raises(UsageError, match="at least 1"):
        loaded(weights, text_encoder="none", window=0)


def test_texts_come_from_files_of_the_released_layout(weights: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for sub in FOLDERS.values():
        (tmp_path / sub).mkdir()
        np.save(tmp_path / sub / "scene.npy", draw.standard_normal((1, 5, 768)).astype(np.float32))
    method = loaded(weights, text_features=tmp_path)
    given = {name: torch.from_numpy(np.load(tmp_path / sub / "scene.npy")) for name, sub in FOLDERS.items()}
    assert method.text.tokens("scene", "ignored").keys() == given.keys()
    assert all(torch.equal(method.text.tokens("scene", "")[name], given[name]) for name in given)
    assert not torch.equal(method.fuse(scene()), loaded(weights, text_encoder="none").fuse(scene()))
    np.save(tmp_path / "text_vi" / "scene.npy", np.zeros((1, 5, 512), np.float32))
    with pytest.raises(DataError, match=r"(?s)text_vi.*scene\.npy.*\(1, 5, 512\).*768"):
        loaded(weights, text_features=tmp_path).fuse(scene())
    (tmp_path / "text_ir" / "scene.npy").unlink()
    with pytest.raises(DataError, match="text_ir"):
        loaded(weights, text_features=tmp_path)


def test_text_files_are_encoded_each_for_its_input(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    config = {"text_width": 384, "window": [8, 8]}
    save_file(network(**config).state_dict(), tmp_path / "w.safetensors", {"config": json.dumps(config)})
    for sub in FOLDERS.values():
        (tmp_path / sub).mkdir()
        (tmp_path / sub / "scene.txt").write_text(f"the text of {sub}\n")
    method = loaded(tmp_path / "w.safetensors", text_files=tmp_path)
    expected = load_text_encoder("minilm").encode(["the text of text_irunique"]).tokens
    assert torch.equal(method.text.tokens("scene", "")["tAS"], expected)
    with pytest.raises(DataError, match=r"text_ir.absent\.txt"):
        method.text.tokens("absent", "")
    with pytest.raises(UsageError, match="both"):
        loaded(tmp_path / "w.safetensors", text_files=tmp_path, text_features=tmp_path)
    prompted = loaded(tmp_path / "w.safetensors")
    assert not torch.equal(prompted.fuse(scene("two people")), prompted.fuse(scene()))
    assert method.provenance()["text"] != prompted.provenance()["text"]


def test_what_is_missing_is_explained(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?s)not shipped.*ask them, or train your own"):
        create_method(MTGFusion, {}, weights="authors", device="cpu")
    with pytest.raises(
        WeightsError, match=r"(?s)neither text features nor a text encoder.*blip-itm-base-coco.*text_ir"
    ):
        loaded(weights)
    with pytest.raises(DataError, match=r"no \.txt file in text_ir"):
        TextFiles(tmp_path, load_text_encoder("minilm"))


def test_a_wrong_checkpoint_is_described(weights: Path, tmp_path: Path) -> None:
    state = network().state_dict()
    state["recon.final_conv.weight"] = torch.zeros(2, 64, 1, 1)
    state["extra"] = state.pop("text_in.bias")
    torch.save(state, tmp_path / "wrong.pth")
    problems = (
        r"(?s)wrong\.pth.*missing: text_in\.bias.*unexpected: extra.*final_conv\.weight \(2, 64, 1, 1\), expected"
    )
    with pytest.raises(WeightsError, match=problems):
        loaded(tmp_path / "wrong.pth", text_encoder="none")
    from safetensors.torch import save_file

    save_file(network().state_dict(), tmp_path / "odd.safetensors", {"config": '{"window": [0]}'})
    with pytest.raises(WeightsError, match=r"(?s)odd\.safetensors.*two positive numbers"):
        loaded(tmp_path / "odd.safetensors", text_encoder="none")


def test_card_calls_it_a_reconstruction() -> None:
    assert MTGFusion.info.reconstruction
    assert {r.source for r in MTGFusion.info.reported} == {"re-test in ControlFuse, AAAI 2026"}


def test_losses_follow_the_definition() -> None:
    draw = torch.Generator().manual_seed(0)
    fused, infrared, visible = torch.rand(3, 2, 1, 14, 15, generator=draw)
    terms = {name: float(value) for name, value in fusion_losses(fused, infrared, visible).items()}
    mse = ((fused - infrared).square().mean() + (fused - visible).square().mean()) / 2
    l1 = ((fused - infrared).abs().mean() + (fused - visible).abs().mean()) / 2
    assert terms["mse"] == pytest.approx(float(mse))
    assert terms["l1"] == pytest.approx(0.6 * float(l1))
    assert 0 < terms["ssim"] < 1
    assert all(float(value) == pytest.approx(0, abs=1e-6) for value in fusion_losses(fused, fused, fused).values())
    dark, bright = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    similarity = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert float(fusion_losses(dark, bright, bright)["ssim"]) == pytest.approx(0.5 * (1 - similarity), rel=1e-3)
    along, across = torch.tensor([[[3.0, 0], [1, 0]]]), torch.tensor([[[0.0, 2]]])
    assert float(text_loss(torch.tensor([[2.0, 0]]), (along, across, -along))) == pytest.approx(0.5 * (0 + 1 + 2))


def test_training_form_equals_the_network() -> None:
    torch.manual_seed(0)
    trained = MTGFusion.objective(window=8).build().train()
    assert isinstance(trained, MTGFusionNetwork)
    texts = {name: torch.randn(1, 4, 384) for name in TEXTS}
    visible, infrared = torch.rand(1, 1, 25, 31), torch.rand(1, 1, 25, 31)
    with torch.no_grad():
        images = [
            fused_alike(trained, visible, infrared, texts),
            trained.eval().fused(visible=visible, infrared=infrared, **texts),
        ]
    assert golden.greatest_deviation(*images) <= TOLERANCE
    norms = [module for module in trained.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(not norm.running_mean.any() for norm in norms)  # training must not have moved them


def test_objective_lowers_its_loss() -> None:
    from tgfbench.methods.objective import TrainingBatch, TrainingTexts

    objective = MTGFusion.objective(window=8)
    torch.manual_seed(0)
    plain = objective.build()
    visible, infrared = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16)
    texts = (TrainingTexts(captions=("two people",)), TrainingTexts())
    batch = TrainingBatch(visible, infrared, visible, texts, ({}, {}), ("sample/a", "sample/b"))
    optimiser = torch.optim.Adam(plain.parameters(), lr=1e-4)
    history = []
    for step in range(4):
        total = torch.stack(list(objective.loss(plain, batch, np.random.default_rng(step)).values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        history.append(float(total.detach()))
    assert history[-1] < history[0]
    assert {name for name, p in plain.named_parameters() if p.grad is None} == set()
    with pytest.raises(ValueError, match="none or captions"):
        MTGFusion.objective(text="five")
    assert MTGFusion.objective(text="none").card()["text_encoder"] == "zeros"
