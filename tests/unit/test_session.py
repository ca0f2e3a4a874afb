"""The words that `train` and `eval` share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastbot.cli.session import summary_lines
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe

SUMMARY: dict[str, Any] = {
    "top1": 0.5, "best_top1": 0.6, "images_per_s": 1000.0, "data_wait_fraction": 0.01, "wall_s": 60.0
}  # fmt: skip


def lines(recipe: Recipe) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    summary_lines(SUMMARY, recipe, Path("runs/one"), console)
    assert isinstance(console.file, io.StringIO)
    return [line for line in console.file.getvalue().splitlines() if line.startswith(("trained", "paper"))]


TRAINED = "trained     val top-1 50.00% at the end, best 60.00%"


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        # Bag of Tricks, table 4: 76.21.
        ("bot-efficient", [], ["paper       76.21%, on its own data"]),
        ("bot-efficient", ["seed=5", "run.log_every=7"], ["paper       76.21%, on its own data"]),
        (
            "bot-efficient",
            ["model.name=resnet18v1"],
            ["paper       76.21%, on its own data, for bot-efficient as published; 1 key differs here"],
        ),
        (
            "bot-efficient",
            ["model.name=resnet18v1", "data.crop_size=64"],
            ["paper       76.21%, on its own data, for bot-efficient as published; 2 keys differ here"],
        ),
        (
            "bot-efficient",
            ["name=mine", "model.name=resnet18v1"],
            ["paper       76.21%, on its own data, for bot-efficient as published; 1 key differs here"],
        ),
        (
            "bot-efficient",
            ["name=demo", "model.name=resnet18v1"],
            ["paper       76.21%, on its own data, for bot-efficient as published; 1 key differs here"],
        ),
        ("bot-efficient", ["name=mine"], ["paper       76.21%, on its own data"]),
        ("demo", ["epochs=2"], []),
    ],
)
def test_the_papers_figure_is_of_the_recipe_as_published(name: str, overrides: list[str], expected: list[str]) -> None:
    assert lines(load_recipe(name, overrides).resolved()) == [TRAINED, *expected]


def test_a_recipe_file_under_a_name_of_its_own_is_its_authors(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text('name = "ours"\nabout = "x"\nepochs = 1\n[paper]\nrow = "ours, table 1"\ntop1 = 0.5\n')
    assert lines(load_recipe(str(file), ["epochs=2"])) == [TRAINED, "paper       50.00%, on its own data"]
