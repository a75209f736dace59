"""What ``pip install`` delivers: every room and data file, and no top-level ``datasets``, ``metrics`` or ``tests``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("benchmark", "datasets", "leaderboards", "methods", "metrics")
DATA_SUFFIXES = {".json", ".jinja", ".md", ".safetensors", ".txt", ".yaml"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, with the build tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in (*ROOMS, "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "py.typed", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(folder), "."], cwd=source, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def expected_files() -> set[str]:
    files = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix in {".py", *DATA_SUFFIXES}:
                files.add(f"tgfbench/{path.relative_to(ROOT).as_posix()}")
    return files


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = sorted(expected_files() - names)
    assert not missing, "add the folder to `packages` or the suffix to `package_data` in setup.cfg"
    assert "tgfbench/__init__.py" in names


def test_the_wheel_installs_nothing_at_top_level_but_tgfbench(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tgfbench"}
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("tgfbench/tests/")]


def test_the_installed_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """Installed into an empty folder and run from another one, the command lists what the checkout lists."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1]); import tgfbench; print(tgfbench.__file__)\n"
        "from tgfbench.methods import load_method; print(load_method('average', device='cpu').info.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, str(site)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(site / "tgfbench" / "__init__.py"), "average"]


@pytest.mark.parametrize("arguments", [["--help"], ["list", "methods"], ["list", "protocols"]], ids=" ".join)
def test_help_and_lists_import_nothing_heavy(arguments: list[str]) -> None:
    probe = (
        "import sys; sys.argv = ['tgfbench', *sys.argv[1:]]\n"
        "from tgfbench.benchmark.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'pandas', 'transformers', 'cv2', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", probe, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
