"""Tasks by name, and the recipes they are trained by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tgfbench.benchmark.errors import UsageError
from tgfbench.metrics.downstream import TASKS, load_task
from tgfbench.metrics.downstream.base import Recipe
from tgfbench.metrics.downstream.recipes import FOLDER, read_recipe, recipe_names

TEXT = "purpose: trying\nmodel: net\nimage_size: 64\nepochs: 3\nbatch: 2\nlearning_rate: 1e-3\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy-quick.yaml").write_text(TEXT, encoding="utf-8")
    (tmp_path / "toy-slow.yaml").write_text(TEXT.replace("3", "300"), encoding="utf-8")
    return tmp_path


def refusal(folder: Path, name: str, overrides: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as error:
        read_recipe(Recipe, "toy", name, overrides, folder)
    return str(error.value)


@pytest.mark.parametrize("name", TASKS.names())
def test_a_task_says_what_it_measures_and_which_labels_it_needs(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task.labels in ("boxes", "segmentation")
    titles = [info.name for info in task.metrics]
    assert titles
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("task", "recipe"), [(task, recipe) for task in TASKS.names() for recipe in recipe_names(task)]
)
def test_recipes_that_come_with_a_task_are_sound(task: str, recipe: str) -> None:
    read = load_task(task).recipe(recipe, {})
    assert read.name == recipe
    assert read.purpose
    assert load_task(task).recipe(recipe, {"epochs": str(read.epochs + 1)}).epochs == read.epochs + 1


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_both_tasks_have_a_quick_and_a_standard_recipe(task: str) -> None:
    assert {"quick", "standard"} <= set(recipe_names(task))


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_cards_of_tasks_are_shown_without_their_libraries(task: str) -> None:
    probe = (
        f"import sys; sys.argv = ['tgfbench', 'info', {task!r}]\n"
        "from tgfbench.benchmark.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'ultralytics', 'mmseg', 'mmengine', 'pycocotools'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quick" in done.stdout


def test_values_are_read_from_the_file_and_from_the_command_line(folder: Path) -> None:
    read = read_recipe(Recipe, "toy", "Quick", {"epochs": "5", "train_images": "none"}, folder)
    assert (read.epochs, read.learning_rate, read.train_images) == (5, 1e-3, None)
    assert read.name == "quick epochs=5"


def test_a_value_that_is_that_of_the_file_changes_no_name(folder: Path) -> None:
    assert read_recipe(Recipe, "toy", "quick", {"epochs": "3"}, folder).name == "quick"


def test_the_order_of_overrides_does_not_matter(folder: Path) -> None:
    first = read_recipe(Recipe, "toy", "quick", {"epochs": "5", "batch": "4"}, folder)
    assert first == read_recipe(Recipe, "toy", "quick", {"batch": 4, "epochs": 5}, folder)
    assert first.name == "quick batch=4 epochs=5"


def test_a_file_of_the_users_own_is_named_by_its_stem_and_its_start_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT + "start: first.pt\n", encoding="utf-8")
    (tmp_path / "first.pt").write_bytes(b"")
    read = read_recipe(Recipe, "toy", str(tmp_path / "mine.yaml"), {})
    assert read.name == "mine"
    assert read.start == tmp_path / "first.pt"


@pytest.mark.parametrize(
    ("name", "overrides", "told"),
    [
        ("quik", {}, "did you mean quick"),
        ("nowhere.yaml", {}, "nowhere.yaml"),
        ("quick", {"epoch": "5"}, "did you mean epochs"),
        ("quick", {"epochs": "five"}, "epochs"),
        ("quick", {"epochs": "0"}, "greater than or equal to 1"),
        ("quick", {"learning_rate": "nan"}, "learning_rate"),
        ("quick", {"learning_rate": "inf"}, "finite"),
        ("quick", {"batch": "none"}, "batch"),
        ("quick", {"batch": "[1"}, "batch"),
        ("quick", {"start": "nowhere.pt"}, "nowhere.pt"),
        ("quick", {"name": "mine"}, "name"),
    ],
    ids=str,
)
def test_refusals_name_the_field(folder: Path, name: str, overrides: dict[str, Any], told: str) -> None:
    assert told in refusal(folder, name, overrides)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TEXT + "epoch: 5\n", "epoch"),
        (TEXT.replace("epochs: 3\n", ""), "no field epochs"),
        (TEXT.replace("64", "small"), "'small'"),
        ("- a list\n", "list"),
        ("model: [unclosed\n", "YAML"),
        ("", "NoneType"),
    ],
    ids=["unknown", "missing", "kind", "list", "syntax", "empty"],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "toy-bad.yaml").write_text(text, encoding="utf-8")
    message = refusal(tmp_path, "bad", {})
    assert "toy-bad.yaml" in message
    assert told in message


def test_the_folder_holds_nothing_but_recipes_of_tasks_and_networks() -> None:
    prefixes = tuple(f"{task}-" for task in TASKS.names())
    for path in FOLDER.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(prefixes) or "backbone:" in text
