"""Recipes and networks of segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tgfbench.benchmark.errors import UsageError, WeightsError
from tgfbench.metrics.downstream.segmentation import Segmentation
from tgfbench.metrics.downstream.segmentation_labels import class_weights
from tgfbench.metrics.downstream.segmentation_networks import NETWORKS, network_config, preprocessing

ENCODERS = {
    "segformer-b0": 3.4,
    "segformer-b1": 13.1,
    "segformer-b2": 24.2,
    "segformer-b3": 44.0,
    "segformer-b4": 60.8,
    "segformer-b5": 81.4,
}
"""Millions of encoder parameters, table 1 of the SegFormer paper."""


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_recipes_that_come_with_the_task(name: str) -> None:
    recipe = Segmentation.recipe(name, {})
    assert (recipe.name, recipe.start) == (name, None)
    assert recipe.model in NETWORKS
    assert recipe.purpose


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("crop", "[64, 96]", (64, 96)),
        ("optimizer", "SGD", "SGD"),
        ("learning_rate", "0.5", 0.5),
        ("iterations", "100", 100),
        ("flip", "0", 0.0),
        ("distortion", "false", False),
        ("class_weights", "[1, 2, 0.5]", (1.0, 2.0, 0.5)),
        ("class_weights", "equal", "equal"),
        ("model", "hf:somewhere", "hf:somewhere"),
    ],
)
def test_every_field_can_be_replaced(field: str, value: str, kept: Any) -> None:
    assert getattr(Segmentation.recipe("standard", {field: value}), field) == kept


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model", "segformer-b7", "segformer-b5"),
        ("model", "hf:", "segmentation network"),
        ("scale", "[2, 1]", "smaller scale first"),
        ("crop", "[8, 64]", "32"),
        ("class_weights", "rare", "inverse-sqrt"),
        ("speed", "9", "no field is called 'speed'"),
    ],
)
def test_nonsense_is_refused_by_field(field: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Segmentation.recipe("quick", {field: value})
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "images", "steps"),
    [
        ({"epochs": 3, "batch": 4}, 10, (2, 3)),
        ({"epochs": 3, "batch": 16}, 10, (1, 3)),
        ({"epochs": 3, "batch": 4, "iterations": 5}, 10, (2, 3)),
        ({"iterations": 20_000, "batch": 4}, 1083, (270, 75)),
    ],
)
def test_steps(changed: dict[str, int], images: int, steps: tuple[int, int]) -> None:
    recipe = Segmentation.recipe("standard", changed)
    assert (recipe.steps_over(images), recipe.epochs_over(images)) == steps


def test_a_model_of_transformers_stands_for_its_folder(tmp_path: Path) -> None:
    assert Segmentation.recipe("quick", {}).model_path() is None
    recipe = Segmentation.recipe("quick", {"model": f"hf:{tmp_path}"})
    with pytest.raises(WeightsError, match=r"no config\.json"):
        recipe.model_path()
    (tmp_path / "config.json").write_text("{}")
    assert recipe.model_path() == tmp_path
    with pytest.raises(UsageError, match="either start, or"):
        Segmentation.recipe("quick", {"model": f"hf:{tmp_path}", "start": str(tmp_path / "config.json")})


def test_class_weights() -> None:
    assert class_weights("equal", [10, 1], [0, 1]) is None
    assert class_weights("inverse-sqrt", [400, 100, 0], [0, 1, 2]) == pytest.approx([2 / 3, 4 / 3, 1])
    assert class_weights("inverse-sqrt", [9, 400, 100], [1, 2]) == pytest.approx([2 / 3, 4 / 3])
    assert class_weights((1.0, 2.0, 3.0), [5, 5, 5], [1, 2]) == [2.0, 3.0]
    with pytest.raises(UsageError, match=r"2 numbers(.|\n)*3, one per class"):
        class_weights((1.0, 2.0), [5, 5, 5], [0, 1, 2])


def flat(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (str(key), *flat(item))]
    if isinstance(value, list | tuple):
        return [text for item in value for text in flat(item)]
    return [str(value)]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    from tgfbench.metrics.downstream.mmseg_library import import_mmseg

    import_mmseg(tmp_path_factory.mktemp("library"))
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    from tgfbench.metrics.downstream import segmentation_loss  # noqa: F401  (registers the loss)

    config = network_config(name, 9)
    words = flat(config)
    assert not {"init_cfg", "pretrained"} & set(words)
    assert not any("://" in word for word in words)
    with DefaultScope.overwrite_default_scope("mmseg"):
        network = MODELS.build({**config, "data_preprocessor": preprocessing((64, 64))})
    assert network.decode_head.conv_seg.weight.shape[0] == 9
    if name in ENCODERS:
        millions = sum(parameter.numel() for parameter in network.backbone.parameters()) / 1e6
        assert millions == pytest.approx(ENCODERS[name], rel=0.03)
