"""What an ablation has to train: each row of a suite once for each seed, and before it the teacher it learns from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import field_validator

from fastbot.ablation.durations import scaled_durations
from fastbot.errors import RecipeError
from fastbot.idle_keys import IdleKeyWarning
from fastbot.recipe import Recipe
from fastbot.recipe_files import did_you_mean, load_recipe
from fastbot.suite_files import Row, Suite
from pipelines.spec import Frozen

# What an ablation sets itself, in every training of its own.
_OURS = {
    "seed": "--seeds says how many there are, from 0",
    "distillation.teacher": "the suite's teachers are trained first, and rows get them",
}


class Changes(Frozen):
    """How an ablation's trainings differ from the suite's recipes.

    Attributes:
        overrides: of every row and teacher, as `key.sub=value`; one that has no meaning in a row, as the group that
            mixes in a row without mixup, leaves that row as it is.
        teacher_overrides: of teachers, after the others.
        scale_epochs: times every duration in epochs that no override gives.
        one_teacher: rows of all seeds learn from the teacher of seed 0, not each from its own seed's.

    Of several overrides of one key the last is kept: it is the one that holds.
    """

    overrides: tuple[str, ...] = ()
    teacher_overrides: tuple[str, ...] = ()
    scale_epochs: float = 1.0
    one_teacher: bool = False

    @field_validator("overrides", "teacher_overrides")
    @classmethod
    def _last_of_each_key(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(entry for number, entry in enumerate(given) if _key(entry) not in map(_key, given[number + 1 :]))


@dataclass(frozen=True, slots=True)
class Training:
    """One training.

    Attributes:
        row: what of the suite it is.
        seed: from 0.
        arguments: of `fastbot train`: the recipe's name and overrides.
        recipe: what they make, resolved.
        folder: of the run.
        teacher: the run folder of the training that must be finished before this one begins; None without.
        label: the row's; a teacher's names the model, which may be another here.
    """

    row: Row
    seed: int
    arguments: tuple[str, ...]
    recipe: Recipe
    folder: Path
    teacher: Path | None
    label: str

    def __str__(self) -> str:
        return f"{self.label}, seed {self.seed}"


def plan_trainings(suite: Suite, rows: Sequence[Row], seeds: int, changes: Changes, out: Path) -> list[Training]:
    """Return all trainings in the order to start them in: by seed, teachers first, then the rows.

    Args:
        suite: which one.
        rows: those of it that are wanted.
        seeds: how many.
        changes: to their recipes.
        out: where their run folders are, OUT/RECIPE/seed-K.

    Raises:
        RecipeError: an override does not fit a recipe, or is the ablation's own to set.
    """
    teachers = needed_teachers(suite, rows)
    _check_changes(suite, changes)
    _check_used(changes.overrides, [*rows, *teachers])
    _check_used(changes.teacher_overrides, teachers)
    _warn(rows, teachers, changes)
    trainings = []
    for seed in range(seeds):
        taught = teachers if seed == 0 or not changes.one_teacher else []
        trainings += [_training(row, seed, changes, out, is_teacher=True) for row in taught]
        trainings += [_training(row, seed, changes, out, is_teacher=False) for row in rows]
    return trainings


def template(row: Row, changes: Changes, *, is_teacher: bool) -> Recipe:
    """Return a row's recipe as changed, before a seed and a teacher are set; rows are compared by it.

    Raises:
        RecipeError: an override does not fit it.
    """
    return _load(row, _overrides(row, changes, is_teacher=is_teacher))[0].resolved()


def needed_teachers(suite: Suite, rows: Iterable[Row]) -> list[Row]:
    """Return the suite's teachers that any of `rows` learns from, in the suite's order."""
    wanted = {row.teacher for row in rows}
    return [teacher for teacher in suite.teachers if teacher.recipe in wanted]


def select_rows(suite: Suite, names: Sequence[str]) -> list[Row]:
    """Return the rows of the given labels or recipes, in the suite's order; all without any.

    Raises:
        RecipeError: there is no such row, with the nearest one.
    """
    known = {name: row for row in suite.rows for name in (row.label, row.recipe)}
    for name in names:
        if name not in known:
            labels = ", ".join(repr(row.label) for row in suite.rows)
            raise RecipeError(f"suite {suite.name} has no row {name!r}.{did_you_mean(name, [*known])} Rows: {labels}")
    return [row for row in suite.rows if not names or row.label in names or row.recipe in names]


def _training(row: Row, seed: int, changes: Changes, out: Path, *, is_teacher: bool) -> Training:
    overrides = _overrides(row, changes, is_teacher=is_teacher)
    teacher = None
    if row.teacher is not None:
        # Absolute: the run's recipe names it, and whoever evaluates or resumes the run may stand in another folder.
        teacher = _folder(out, row.teacher, 0 if changes.one_teacher else seed).resolve()
        overrides.append(f"distillation.teacher={json.dumps(str(teacher), ensure_ascii=False)}")
    overrides.append(f"seed={seed}")
    recipe = _load(row, overrides)[0].resolved()
    renamed = is_teacher and recipe.model.name != load_recipe(row.recipe).model.name
    label = f"{row.label} ({recipe.model.name})" if renamed else row.label
    return Training(row, seed, (row.recipe, *overrides), recipe, _folder(out, row.recipe, seed), teacher, label)


def _folder(out: Path, recipe: str, seed: int) -> Path:
    return out / recipe / f"seed-{seed}"


def _overrides(row: Row, changes: Changes, *, is_teacher: bool) -> list[str]:
    given = _meaningful(row, [*changes.overrides, *(changes.teacher_overrides if is_teacher else ())])
    scaled = scaled_durations(_of_kinds(row, given), changes.scale_epochs, [_key(entry) for entry in given])
    return [*scaled, *given]


def _meaningful(row: Row, overrides: Sequence[str]) -> list[str]:
    """Return the overrides of what the row has, once their kinds are set."""
    recipe = _of_kinds(row, overrides)
    return [entry for entry in overrides if _has(recipe, _key(entry))]


def _of_kinds(row: Row, overrides: Sequence[str]) -> Recipe:
    """Return a row's recipe with the kinds that overrides set, and nothing else of them."""
    return _load(row, [entry for entry in overrides if _key(entry).endswith(".kind")])[0]


def _has(recipe: Recipe, key: str) -> bool:
    """Return whether a key has a meaning where the recipe's tables have the kinds they have."""
    table: object = recipe
    for part in key.split("."):
        if isinstance(table, Frozen) and part not in type(table).model_fields:
            return False
        table = getattr(table, part, None)  # None: a table that an override may begin
    return True


def _check_used(overrides: Sequence[str], rows: Sequence[Row]) -> None:
    """Refuse overrides of what no row has."""
    used = {entry for row in rows for entry in _meaningful(row, overrides)}
    if unused := [entry for entry in overrides if entry not in used]:
        load_recipe(rows[0].recipe, unused)  # refuses, and says why
        raise AssertionError(f"{unused} fit {rows[0].recipe}, which has no such keys")


def _load(row: Row, overrides: Sequence[str]) -> tuple[Recipe, list[Warning]]:
    """Return a row's recipe with overrides, and what it is warned of: what one row has no use for, another may."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipe = load_recipe(row.recipe, overrides)
    return recipe, [each.message for each in caught if isinstance(each.message, Warning)]


def _warn(rows: Sequence[Row], teachers: Sequence[Row], changes: Changes) -> None:
    """Warn of what is wrong with any recipe, once, and of a key without effect where it has none in any of them."""
    general = changes.model_copy(update={"teacher_overrides": ()})
    everywhere = [_warned(row, general, is_teacher=row in teachers) for row in (*rows, *teachers)]
    theirs = [_warned(row, changes, is_teacher=True) for row in teachers]
    idle = _idle_in_all(theirs, {_key(entry) for entry in changes.teacher_overrides}) | _idle_in_all(everywhere)
    others = [str(each) for found in (*everywhere, *theirs) for each in found if not isinstance(each, IdleKeyWarning)]
    told = [f"{key} has no effect in any training that it is given for: {reason}" for key, reason in idle.items()]
    for text in dict.fromkeys([*told, *others]):
        warnings.warn(text, stacklevel=2)


def _warned(row: Row, changes: Changes, *, is_teacher: bool) -> list[Warning]:
    return _load(row, _overrides(row, changes, is_teacher=is_teacher))[1]


def _idle_in_all(warned: Sequence[Sequence[Warning]], of: set[str] | None = None) -> dict[str, str]:
    """Return the keys without effect in all of several recipes, with the first one's reasons; those of tables `of`."""
    idle = [{each.key: each.reason for each in found if isinstance(each, IdleKeyWarning)} for found in warned]
    shared = set.intersection(*map(set, idle)) if idle else set()
    wanted = shared if of is None else {key for key in shared if any(f"{key}.".startswith(f"{name}.") for name in of)}
    return {key: idle[0][key] for key in sorted(wanted)}


def _check_changes(suite: Suite, changes: Changes) -> None:
    if changes.teacher_overrides and not suite.teachers:
        raise RecipeError(f"--teacher {changes.teacher_overrides[0]}: suite {suite.name} has no teachers")
    for entry in (*changes.overrides, *changes.teacher_overrides):
        if (key := _key(entry)) in _OURS:
            raise RecipeError(f"override {entry!r}: an ablation sets {key} itself: {_OURS[key]}")


def _key(override: str) -> str:
    return override.partition("=")[0].strip()
