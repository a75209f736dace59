"""``tgfbench new-method``: a plugin project that works as soon as it is installed."""

from __future__ import annotations

import re
from pathlib import Path

from tgfbench.benchmark.errors import UsageError
from tgfbench.benchmark.images import write_text

_PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
dependencies = ["tgfbench"]

[project.entry-points."tgfbench.methods"]
{name} = "{module}:{cls}"

[tool.setuptools]
py-modules = ["{module}"]
"""

_METHOD = '''"""{cls}: a fusion method for tgfbench."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tgfbench.methods.base import FusionBatch, FusionMethod, MethodInfo


class {cls}(FusionMethod):
    """Replace this weighted average by your method.

    Keyword arguments of the constructor become options of the command line (``-O weight=0.7``).
    """

    info: ClassVar[MethodInfo] = MethodInfo(name="{name}", title="{cls}", paper="(yours)", text_use="none")

    def __init__(self, *, weight: float = 0.5, **common: object) -> None:
        super().__init__(**common)
        self.weight = weight

    def fuse(self, batch: FusionBatch) -> Tensor:
        """Return float32 (B, 3, H, W) RGB in [0, 1]; ``batch.texts`` holds one prompt per image."""
        return self.weight * batch.visible + (1 - self.weight) * batch.infrared.expand_as(batch.visible)

    def provenance(self) -> dict[str, object]:
        """Everything besides weights and inputs that decides the output."""
        return {{"weight": self.weight}}
'''

_TEST = '''"""The contract every fusion method keeps."""

import torch

from tgfbench.methods import load_method
from tgfbench.methods.base import FusionBatch


def test_keeps_size_dtype_and_range() -> None:
    batch = FusionBatch(torch.rand(2, 3, 37, 53), torch.rand(2, 1, 37, 53), ["a person", ""], None, ["a", "b"])
    fused = load_method("{name}", device="cpu").fuse(batch)
    assert fused.shape == batch.visible.shape
    assert fused.dtype == torch.float32
    assert 0 <= fused.min() and fused.max() <= 1
'''

_README = """# {name}

A fusion method for tgfbench.

    pip install -e .
    tgfbench list methods
    tgfbench run -m {name},baselines -d sample
    pip install pytest && pytest

After a change of the code: `tgfbench run … --overwrite always`, or another `version` in the card.
"""


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write a plugin project.

    Args:
        name: registry name, lower case letters, digits and hyphens.
        folder: where to; made if absent, refused if it holds anything.

    Returns:
        The files written.

    Raises:
        UsageError: a bad or taken name, or a folder that is not empty.
    """
    from tgfbench.benchmark.registry import normalise
    from tgfbench.methods import METHODS

    doing = f"making a plugin project for {name!r}"
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(doing, found=repr(name), expected="lower case letters, digits and hyphens, e.g. my-net")
    if normalise(name) in map(normalise, METHODS.names()):
        raise UsageError(doing, found=f"the name belongs to {METHODS.entry(name).owner}", hint="choose another name")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(doing, found=f"{folder} exists and is not an empty folder", hint="choose another --dir")
    names = {
        "name": name,
        "module": f"tgfbench_{name.replace('-', '_')}",
        "cls": "".join(part.capitalize() for part in name.split("-")),
    }
    files = {
        "pyproject.toml": _PROJECT,
        f"{names['module']}.py": _METHOD,
        f"tests/test_{names['module']}.py": _TEST,
        "README.md": _README,
    }
    for path, template in files.items():
        write_text(folder / path, template.format(**names))
    return [folder / path for path in files]
