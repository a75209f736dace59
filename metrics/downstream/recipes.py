"""Training recipes are data: YAML files beside this module, or the user's own, every field of which can be replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from tgfbench.benchmark.errors import UsageError, suggest
from tgfbench.metrics.downstream.base import Recipe

FOLDER = Path(__file__).parent / "recipes"
"""Holds ``<task>-<recipe>.yaml``."""

YAML_SUFFIXES = (".yaml", ".yml")

R = TypeVar("R", bound=Recipe)


def recipe_names(task: str, folder: Path = FOLDER) -> list[str]:
    """Return the names of the recipes that come with a task, in alphabetical order."""
    return sorted(path.stem.removeprefix(f"{task}-") for path in folder.glob(f"{task}-*.yaml"))


def network_file(model: str) -> Path | None:
    """Return the YAML file of a network: the user's own, or one that lies beside the recipes; None for other names."""
    return next((path for path in (Path(model), FOLDER / model) if path.is_file()), None)


def read_recipe(
    model: type[R], task: str, name: str, overrides: Mapping[str, Any] | None = None, folder: Path = FOLDER
) -> R:
    """Read and check a recipe.

    Args:
        model: the task's recipe class.
        task: the task's registry name.
        name: of a recipe that comes with the task, or the path of a YAML file. The file's ``name`` defaults to its
            stem; a relative ``start`` in it is looked for beside it.
        overrides: values by field, which replace the file's. A string is converted to the field's type (``none`` to
            None, ``[…]`` and ``{…}`` as YAML), so that values may come from a command line.
        folder: where the recipes of the task lie.

    Returns:
        The recipe. Where overrides changed something, its name says so: ``quick epochs=5``.

    Raises:
        UsageError: no such recipe, a damaged file, an unknown field or a value of the wrong kind; names file and field.
    """
    path = _find(task, name, folder)
    doing = f"reading the recipe {path}"
    content = _read(doing, path)
    content.setdefault("name", path.stem.removeprefix(f"{task}-"))
    start = content.get("start")
    if isinstance(start, str):
        content["start"] = str((path.parent / start).resolve())
    original = _validated(model, doing, content)
    given = {field: _parsed(doing, field, value) for field, value in (overrides or {}).items()}
    if "name" in given:
        hint = "write your own recipe file, whose name is that of the results"
        raise UsageError(doing, found="a new value for name", expected="another field", hint=hint)
    if isinstance(given.get("start"), str | Path):
        given["start"] = str(Path(given["start"]).resolve())
    changed = _validated(model, f"{doing} with {_listed(given)}", {**content, **given}) if given else original
    if changed.start is not None and not changed.start.exists():
        raise UsageError(f"{doing}: start", found=f"no {changed.start}", expected="a checkpoint")
    differences = {
        field: getattr(changed, field)
        for field in sorted(model.model_fields)
        if getattr(changed, field) != getattr(original, field)
    }
    return changed.model_copy(update={"name": f"{original.name} {_listed(differences)}".rstrip()})


def _find(task: str, name: str, folder: Path) -> Path:
    if name.lower().endswith(YAML_SUFFIXES):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"reading the recipe {path}", found="no such file", hint=_offered(task, name, folder))
        return path
    known = {recipe.lower(): recipe for recipe in recipe_names(task, folder)}
    if name.strip().lower() not in known:
        hint = f"{_offered(task, name, folder)}; or the path of a .yaml file of your own"
        raise UsageError(f"reading the {task} recipe {name!r}", found="no such recipe", hint=hint)
    return folder / f"{task}-{known[name.strip().lower()]}.yaml"


def _offered(task: str, name: str, folder: Path) -> str:
    return suggest(name, recipe_names(task, folder))


def _read(doing: str, path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
        raise UsageError(doing, found=found, expected="a YAML file of fields and values") from error
    if not isinstance(content, dict) or not all(isinstance(field, str) for field in content):
        raise UsageError(doing, found=f"{type(content).__name__}", expected="fields and their values, `epochs: 12`")
    return content


def _parsed(doing: str, field: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.lower() in ("none", "null"):
        return None
    if not text.startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{doing}: {field}", found=text, expected="a list or mapping in YAML") from error


def _validated(model: type[R], doing: str, content: Mapping[str, Any]) -> R:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            hint = suggest(field, model.model_fields)
            raise UsageError(doing, found=f"no field is called {field!r}", hint=hint) from error
        if first["type"] == "missing":
            raise UsageError(doing, found=f"no field {field}", expected="a value for it") from error
        raise UsageError(
            f"{doing}: {field or 'the fields together'}",
            found=repr(first["input"]) if field else "values that do not go together",
            expected=first["msg"].removeprefix("Input should be ").removeprefix("Value error, "),
        ) from error


def _listed(values: Mapping[str, Any]) -> str:
    shown = {field: value.name if isinstance(value, Path) else value for field, value in values.items()}
    return " ".join(f"{field}={value}" for field, value in shown.items())
