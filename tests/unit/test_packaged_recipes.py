"""The files of the packaged recipes: their headers, parents, and the page that lists them."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from recipe_headers import FILES, header

from fastbot.cli import app
from fastbot.cli.recipes import reported
from fastbot.recipe_files import load_recipe, recipe_names

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
COMMAND: Any = typer.main.get_command(app)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_has_its_files_name_and_at_most_one_parent(file: Path) -> None:
    values = tomllib.loads(file.read_text())
    assert values["name"] == file.stem
    if "parent" in values:
        parent = tomllib.loads((file.parent / f"{values['parent']}.toml").read_text())
        assert "parent" not in parent
    if file.stem != "demo":
        assert {"row", "bn_batch", "top1", "top5"} <= values["paper"].keys(), "a parent's figures are not its own"


def test_no_recipe_repeats_another() -> None:
    digests = {name: load_recipe(name).training_digest() for name in recipe_names() if "places365" not in name}
    assert len(set(digests.values())) == len(digests)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_child_says_nothing_that_its_parent_says(file: Path) -> None:
    values = tomllib.loads(file.read_text())
    if "parent" not in values:
        return
    values.pop("paper")
    parent = tomllib.loads((file.parent / f"{values['parent']}.toml").read_text())
    same = {key for key, value in _leaves(values) if dict(_leaves(parent)).get(key) == value}
    # A table of another kind replaces its parent's, so it must say again what it shares with it.
    kinds = {key.rpartition(".")[0] for key, value in _leaves(values) if key.endswith(".kind")}
    assert {key for key in same if key.rpartition(".")[0] not in kinds} <= {"epochs"}


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize("name", recipe_names())
def test_the_commands_of_a_header_are_commands(name: str) -> None:
    first, blank, *_ = header(name).splitlines()
    assert first.startswith(f"# fastbot train {name} --data ")
    assert blank == "#"
    commands = [line.lstrip("# ") for line in header(name).splitlines() if line.lstrip("# ").startswith("fastbot ")]
    for command in commands:
        parameters = parsed(command)
        if "recipe" in parameters:
            load_recipe(parameters["recipe"], parameters["overrides"])
            assert parameters["recipe"] == "demo" or str(parameters["out"]) == f"runs/{parameters['recipe']}"


def parsed(line: str) -> dict[str, Any]:
    """Return the parameters of a command line, as the command would get them."""
    command = COMMAND
    name, *arguments = shlex.split(line)
    context = command.make_context(name, arguments)
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(
            context, [*getattr(context, "_protected_args", []), *context.args]
        )
        context = command.make_context(name, arguments, parent=context)
    parameters: dict[str, Any] = context.params
    return parameters


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("bot-baseline", ["data.jitter.kind=contrast", "model.init=gluoncv"]),
        ("bot-efficient", ["data.jitter.kind=contrast", "model.init=gluoncv"]),
        ("bot-resnet50d-smoothing", ["loss.smoothing=all"]),
        ("bot-resnet50d-distill", ["distillation.hard_weight=0.5", "distillation.soft_weight=0.5"]),
        ("bot-resnet152d-teacher", ["precision.kind=fp32"]),
        ("rsb-a1", ["data.mix.group=256"]),
        ("rsb-a1", ["model.name=resnet152b"]),
    ],
)
def test_the_variants_that_a_header_names_are_recipes(name: str, overrides: list[str]) -> None:
    assert all(override in header(name) for override in overrides)
    assert load_recipe(name, overrides).training_digest() != load_recipe(name).training_digest()


def test_the_page_lists_every_recipe_as_it_is() -> None:
    page = PAGE.read_text()
    for name in recipe_names():
        recipe = load_recipe(name)
        batch = recipe.data.global_batch_size
        line = f"| `{name}` | {recipe.about} | {recipe.epochs.value:g} | {batch} | {reported(recipe.paper)} |"
        assert line in page, f"docs/recipes.md lacks the line {line}"
