"""Recipe files: finding them, merging a parent and overrides, and saying what is wrong with a key."""

from __future__ import annotations

import difflib
import os
import tomllib
import warnings
from collections.abc import Sequence, Set
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from fastbot.errors import RecipeError
from fastbot.idle_keys import idle_keys
from fastbot.recipe import Recipe, changed_keys, flat
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

    Warns of keys that are written and have no effect: the overrides', and the file's own, not its parent's.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key, or a value of the wrong type or range.
    """
    values, written = _with_parent(name)
    recipe = _validate(values, name)
    changed = override_recipe(recipe, overrides, name)
    # Not of a file with every key in it, as runs keep them: nobody chose to write its keys.
    if not flat(recipe.as_dict()).keys() <= written:
        _warn_of_idle(written & idle_keys(recipe).keys(), changed, name)
    return changed


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
    parsed = [_parsed(override) for override in overrides]
    for key, value in sorted(parsed, key=_sets_no_kind):  # a kind first: it decides which other keys there are
        _apply(values, key, value)
    changed = _validate(values, name)
    _warn_of_idle({each for key, value in parsed for each in flat({key: value})}, changed, name)
    return changed


def _warn_of_idle(written: Set[str], recipe: Recipe, name: str) -> None:
    if os.environ.get("RANK", "0") != "0":
        return  # of several ranks the first says it
    reasons = idle_keys(recipe)
    for key in sorted(written & reasons.keys()):
        warnings.warn(f"{key} has no effect in recipe {name}: {reasons[key]}", stacklevel=1)


def write_recipe(recipe: Recipe) -> str:
    """Return the recipe, resolved, as TOML text that `load_recipe` reads back to an equal recipe."""
    return tomli_w.dumps(recipe.resolved().as_dict())


def unpublished_keys(recipe: Recipe) -> list[str]:
    """Return the keys, besides the seed, in which a recipe is not the packaged one of its name, sorted.

    Where there are any, what its `[paper]` reports is about another training. A recipe file of one's own, under a name
    of its own, is taken as its author published it.
    """
    if recipe.name not in recipe_names():
        return []
    published = load_recipe(recipe.name).resolved()
    return [key for key in changed_keys(published.as_dict(), recipe.resolved().as_dict()) if key != "seed"]


def did_you_mean(word: str, known: Sequence[str], most: int = 1) -> str:
    """Return ` Did you mean X or Y?` with the nearest of what is known, or nothing where nothing is near."""
    matches = difflib.get_close_matches(word, known, n=most, cutoff=0.5)
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def _validate(values: dict[str, Any], name: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(explain(error, Recipe, name, "a recipe key")) from error


def _with_parent(name: str) -> tuple[dict[str, Any], Set[str]]:
    """Return the values of a recipe, laid on its parent's, and the dotted keys that are written in its own file."""
    values = _read(name)
    parent = values.pop("parent", None)
    written = flat(values).keys()
    if parent is None:
        return values, written
    beside = Path(name).parent / parent  # a file's parent is named as seen from that file
    parent = str(beside) if parent.endswith(".toml") and not Path(parent).is_absolute() else parent
    base = _read(parent)
    if "parent" in base:
        raise RecipeError(f"recipe {name}: its parent {parent} has a parent itself; one level is allowed")
    base.pop("paper", None)  # what its parent's source reports is not about this recipe
    return _merge(base, values), written


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
        f"there is no recipe {name}.{did_you_mean(name, recipe_names())} "
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


def _sets_no_kind(override: tuple[str, Any]) -> bool:
    return not override[0].endswith(".kind")


def _parsed(override: str) -> tuple[str, Any]:
    """Return an override's dotted key and its value."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r} is not of the form key.sub=value")
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text


def _apply(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    table = values
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{key} is not a recipe key: {part} is not a table")
    if last == "kind" and table.get("kind") not in (None, value):
        table.clear()  # another kind has other keys
    table[last] = value
