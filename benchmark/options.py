"""Options: the keyword arguments of a plugin's constructor, checked and converted before it is called."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Collection, Mapping
from typing import Any

from tgfbench.benchmark.errors import UsageError, suggest


def check_options(doing: str, cls: type, options: Mapping[str, Any], reserved: Collection[str]) -> dict[str, Any]:
    """Return constructor options ready to be passed on.

    Args:
        doing: what is being done, for messages.
        cls: the class to be constructed.
        options: by name; a string is converted to the annotated type, so that values may come from a command line.
        reserved: constructor arguments that are no options.

    Raises:
        UsageError: an unknown option (suggests close ones), a missing one, or a value of the wrong type.
    """
    known = option_parameters(cls, reserved)
    for name in options:
        if name not in known:
            hint = suggest(name, known) if known else "there are no options here"
            raise UsageError(doing, found=f"no option is called {name!r}", hint=hint)
    needed = [name for name, p in known.items() if p.default is inspect.Parameter.empty and name not in options]
    if needed:
        raise UsageError(doing, found=f"no value for {', '.join(needed)}", hint=f"give {needed[0]}=VALUE")
    return {
        name: _converted(doing, name, value, known[name].annotation) if isinstance(value, str) else value
        for name, value in options.items()
    }


def option_parameters(cls: type, reserved: Collection[str]) -> dict[str, inspect.Parameter]:
    """Return a constructor's keyword arguments; through ``**kwargs`` also those of the classes above."""
    found: dict[str, inspect.Parameter] = {}
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        constructor = vars(owner)["__init__"]
        try:
            hints = typing.get_type_hints(constructor)
        except NameError:  # an annotation that is imported for type checkers only: nothing to convert to
            hints = {}
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        for p in parameters:
            if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in reserved:
                found.setdefault(p.name, p.replace(annotation=hints.get(p.name, Any)))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def _converted(doing: str, name: str, value: str, annotation: Any) -> Any:
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    if value.lower() == "none" and type(None) in typing.get_args(annotation):
        return None
    try:
        return TypeAdapter(annotation).validate_python(value)
    except PydanticSchemaGenerationError:  # a type of the plugin's own, which it must read from a string by itself
        return value
    except ValidationError as error:
        expected = getattr(annotation, "__name__", str(annotation)) if isinstance(annotation, type) else str(annotation)
        reason = error.errors()[0]["msg"]
        raise UsageError(
            f"{doing}: {name}", found=f"{value!r} ({reason})", expected=f"a value of type {expected}"
        ) from error
