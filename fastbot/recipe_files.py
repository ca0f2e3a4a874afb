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
from fastbot.idle_keys import IdleKeyWarning, idle_keys, lost_milestones
from fastbot.recipe import Recipe, changed_keys, flat
from fastbot.specs import Paper
from pipelines.spec_errors import explain

WILDCARDS = "*?[]"

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
    own = set() if flat(recipe.as_dict()).keys() <= written else written
    _warn_of_idle(own & idle_keys(recipe).keys(), changed, name)
    lengths = {"epochs", "schedule.milestones"} & _overridden(overrides) or {"schedule.milestones"} & own
    if lengths and (lost := lost_milestones(changed)):
        _warn(
            f"schedule.milestones has {', '.join(map(str, lost))} in recipe {name}, not before its end at "
            f"{changed.epochs}: that has no effect. Change schedule.milestones, or epochs"
        )
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
    written = _overridden(overrides)
    _warn_of_idle(written, changed, name)
    if recipe.ema is None and changed.ema is not None and "ema.every" in written and "ema.decay" not in written:
        _warn(
            f"ema.every switches the moving average of the weights on, which is what gets evaluated, with ema.decay "
            f"{changed.ema.decay}: give ema.decay too"
        )
    return changed


def _warn_of_idle(written: Set[str], recipe: Recipe, name: str) -> None:
    reasons = idle_keys(recipe)
    for key in sorted(written & reasons.keys()):
        _warn(IdleKeyWarning(name, key, reasons[key]))


def _warn(message: str | Warning) -> None:
    if os.environ.get("RANK", "0") == "0":  # of several ranks the first says it
        warnings.warn(message, stacklevel=2)


def write_recipe(recipe: Recipe) -> str:
    """Return the recipe, resolved, as TOML text that `load_recipe` reads back to an equal recipe."""
    return tomli_w.dumps(recipe.resolved().as_dict())


def published_name(recipe: Recipe) -> str:
    """Return the name of the packaged recipe whose `[paper]` a recipe has, whatever it is called itself now.

    A recipe with a `[paper]` of its own is taken as its author published it: then this is its own name.
    """
    names = [name for name in recipe_names() if _paper_of(name) == recipe.paper]
    return recipe.name if recipe.name in names or not names else names[0]


def unpublished_keys(recipe: Recipe) -> list[str]:
    """Return the keys, besides the seed, in which a recipe is not the packaged one of `published_name`, sorted.

    Where there are any, what its `[paper]` reports is about another training.
    """
    name = published_name(recipe)
    if name not in recipe_names():
        return []
    published = load_recipe(name).resolved()
    return [key for key in changed_keys(published.as_dict(), recipe.resolved().as_dict()) if key != "seed"]


def _paper_of(name: str) -> Paper | None:
    reported = _read(name).get("paper")
    return Paper.model_validate(reported) if reported else None


def is_pattern(name: str) -> bool:
    """Return whether a shell would take a name for a pattern; a file may be called like one."""
    return any(character in name for character in WILDCARDS) and not Path(name).is_file()


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
    if not isinstance(parent, str):
        raise RecipeError(
            f"recipe {name}: parent is {parent!r}, and parent must be a recipe's name or a .toml path. "
            "`fastbot recipes` lists the names"
        )
    beside = Path(name).parent / parent  # a file's parent is named as seen from that file
    parent = str(beside) if parent.endswith(".toml") and not Path(parent).is_absolute() else parent
    base = _read(parent)
    if "parent" in base:
        raise RecipeError(
            f"recipe {name}: its parent {parent} has a parent itself, and one level is allowed. "
            f"Begin with the whole of it: fastbot recipes {parent} > mine.toml"
        )
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
    if is_pattern(name):
        raise RecipeError(
            f"{name} is a pattern, and this takes one recipe: `fastbot recipes '{name}'` lists what it fits"
        )
    raise RecipeError(
        f"there is no recipe {name or 'without a name'}.{did_you_mean(name, recipe_names())} "
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


def _overridden(overrides: Sequence[str]) -> Set[str]:
    """Return the dotted keys that overrides write."""
    return {each for key, value in map(_parsed, overrides) for each in flat({key: value})}


def _parsed(override: str) -> tuple[str, Any]:
    """Return an override's dotted key and its value."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r} is not of the form key.sub=value")
    if key.strip() == "parent":
        raise RecipeError(f"override {override!r}: a parent is for recipe files. Name the recipe itself: {text}")
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
