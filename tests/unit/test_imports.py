"""Imports point back along the data's way, and only the command line wires all three packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "datasets_tools": {"datasets_tools"},
    "pipelines": {"pipelines", "datasets_tools"},
    "fastbot": {"fastbot", "pipelines", "datasets_tools"},
    "benchmarks": {"benchmarks", "fastbot", "pipelines", "datasets_tools"},
}


def imported_packages(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add((node.module or "").split(".")[0])
    return found & ALLOWED.keys()


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_back(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        forbidden = imported_packages(file) - ALLOWED[package]
        assert not forbidden, f"{file} imports {forbidden}"


def test_only_the_command_line_wires_all_three() -> None:
    outside = [file for file in (ROOT / "fastbot").rglob("*.py") if "cli" not in file.parts]
    wiring = [file.name for file in outside if "datasets_tools" in imported_packages(file)]
    assert not wiring, "stores are opened by fastbot/cli and reach the trainer as pipelines"
