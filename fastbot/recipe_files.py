"""Recipe files: finding them, merging a parent and overrides, and saying what is wrong with a key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from fastbot.errors import RecipeError
from fastbot.recipe import Recipe
from pipelines.spec_errors import explain

_PACKAGED = resources.files("fastbot") / "recipes"


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with fastbot, sorted."""
    return sorted(item.name.removesuffix(".toml") for item in _PACKAGED.iterdir() if item.name.endswith(".toml"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        name: a packaged recipe's name, or the path of a TOML file.
        overrides: `key.sub=value` strings; the value is a TOML value, or else taken as a string.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key, or a value of the wrong type or range.
    """
    return override_recipe(_validate(_with_parent(name), name), overrides, name)


def override_recipe(recipe: Recipe, overrides: Sequence[str], name: str) -> Recipe:
    """Return a recipe with overrides applied.

    Args:
        recipe: which one.
        overrides: as for `load_recipe`.
        name: of the recipe, for messages.

    Raises:
        RecipeError: an unknown key, or a value of the wrong type or range.
    """
    if not overrides:
        return recipe
    values = recipe.as_dict()  # with defaults written out, so that an override finds the table it changes
    for override in sorted(overrides, key=_sets_no_kind):  # a kind first: it decides which other keys there are
        _apply(values, override)
    return _validate(values, name)


def write_recipe(recipe: Recipe) -> str:
    """Return the recipe, resolved, as TOML text that `load_recipe` reads back to an equal recipe."""
    return tomli_w.dumps(recipe.resolved().as_dict())


def _validate(values: dict[str, Any], name: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(explain(error, Recipe, name, "a recipe key")) from error


def _with_parent(name: str) -> dict[str, Any]:
    values = _read(name)
    parent = values.pop("parent", None)
    if parent is None:
        return values
    beside = Path(name).parent / parent  # a file's parent is named as seen from that file
    parent = str(beside) if parent.endswith(".toml") and not Path(parent).is_absolute() else parent
    base = _read(parent)
    if "parent" in base:
        raise RecipeError(f"recipe {name}: its parent {parent} has a parent itself; one level is allowed")
    base.pop("paper", None)  # what its parent's source reports is not about this recipe
    return _merge(base, values)


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    try:
        if name.endswith(".toml") or path.is_file():
            return tomllib.loads(path.read_text())
        if name in recipe_names():
            return tomllib.loads((_PACKAGED / f"{name}.toml").read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {name} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {name} is not TOML: {error}") from error
    raise RecipeError(
        f"there is no recipe {name}.{_nearest(name, recipe_names())} "
        f"`fastbot recipes` lists all {len(recipe_names())}; or give the path of a .toml file"
    )


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on it; a table with another `kind` replaces the whole table."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        same_kind = isinstance(old, dict) and isinstance(value, dict) and value.get("kind") in (None, old.get("kind"))
        merged[key] = _merge(old, value) if same_kind and isinstance(old, dict) else value
    return merged


def _sets_no_kind(override: str) -> bool:
    return not override.partition("=")[0].strip().endswith(".kind")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r} is not of the form key.sub=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *path, last = key.strip().split(".")
    table = values
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{key} is not a recipe key: {part} is not a table")
    if last == "kind" and table.get("kind") not in (None, value):
        table.clear()  # another kind has other keys
    table[last] = value


def _nearest(word: str, known: Sequence[str]) -> str:
    """Return ` Did you mean X?`, or nothing when nothing is near."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {matches[0]}?" if matches else ""
