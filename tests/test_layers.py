"""Who may import whom: the map of docs/architecture.md, checked on the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOUNDATIONS = {"errors", "registry", "images", "options", "text", "weights", "compat"}
ENGINE_ROOMS = {"datasets", "methods", "metrics", "leaderboards"}
ROOMS = [*sorted(ENGINE_ROOMS), "benchmark"]


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """All modules a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_is_imported_as_a_top_level_folder(room: str) -> None:
    for path in sources(room):
        bad = {name for name in imports(path) if name.split(".")[0] in {*ENGINE_ROOMS, "benchmark"}}
        assert not bad, f"{path} imports {bad}; write tgfbench.…"


@pytest.mark.parametrize("room", sorted(ENGINE_ROOMS))
def test_rooms_know_only_themselves_and_the_foundations(room: str) -> None:
    for path in sources(room):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "tgfbench" or len(parts) < 2:
                continue
            allowed = parts[1] == room or (parts[1] == "benchmark" and parts[2] in FOUNDATIONS)
            assert allowed, f"{path} imports {name}"


def test_leaderboards_never_touch_torch_or_images() -> None:
    for path in sources("leaderboards"):
        bad = {name for name in imports(path) if name.split(".")[0] in {"torch", "PIL", "cv2"}}
        assert not bad, f"{path} imports {bad}"


@pytest.mark.parametrize("foundation", sorted(FOUNDATIONS))
def test_foundations_import_no_room_and_no_engine(foundation: str) -> None:
    path = ROOT / "benchmark" / foundation
    for source in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        for name in imports(source):
            parts = name.split(".")
            if parts[0] == "tgfbench":
                assert parts[1] == "benchmark", f"{source} imports {name}"
                assert parts[2] in FOUNDATIONS, f"{source} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_files_stay_short_enough_to_hold_in_mind(room: str) -> None:
    long = {str(path): count for path in sources(room) if (count := len(path.read_text().splitlines())) > 500}
    assert not long
