"""Suites: ordered lists of recipes that `fastbot ablate` trains one after another, as a paper's table has them.

What the paper reports for a row is in its recipe's `[paper]`; a suite only says which recipes, in which order, under
which label.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Annotated

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from fastbot.errors import RecipeError
from fastbot.recipe_files import did_you_mean, recipe_names
from pipelines.spec import Frozen

_PACKAGED = resources.files("fastbot") / "suites"


class Row(Frozen):
    """One training of a suite.

    Attributes:
        label: as the paper's table has it.
        recipe: a packaged recipe's name.
        teacher: the recipe of the suite's teacher that this row distills from; None without distillation.
    """

    label: str
    recipe: str
    teacher: str | None = None


class Suite(Frozen):
    """A paper's table, as trainings.

    Attributes:
        baseline: index of the row that the others are compared with.
        rows: from the first line of the table to the last.
        teachers: trained before the rows, and no rows themselves.
    """

    name: str
    about: str
    baseline: NonNegativeInt = 0
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    teachers: tuple[Row, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        if self.baseline >= len(self.rows):
            raise ValueError(f"baseline is {self.baseline}, and there are {len(self.rows)} rows: they count from 0")
        every = (*self.teachers, *self.rows)
        _check_unique("label", [row.label for row in every])
        _check_unique("recipe", [row.recipe for row in every])
        trained = {teacher.recipe for teacher in self.teachers}
        for row in every:
            if row.recipe not in recipe_names():
                raise ValueError(f"row {row.label!r}: there is no recipe {row.recipe}")
            if row.teacher is not None and row.teacher not in trained:
                raise ValueError(f"row {row.label!r}: {row.teacher} is not one of the suite's teachers")
        return self


def _check_unique(what: str, values: list[str]) -> None:
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{what} {twice!r} stands in two rows: each is trained once")


def suite_names() -> list[str]:
    """Return the names of the suites that come with fastbot, sorted."""
    return sorted(item.name.removesuffix(".toml") for item in _PACKAGED.iterdir() if item.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """Read a packaged suite.

    Raises:
        RecipeError: there is no such suite, or it is not consistent.
    """
    if name not in suite_names():
        hint = did_you_mean(name, suite_names())
        raise RecipeError(f"there is no suite {name}.{hint} Suites: {', '.join(suite_names())}")
    return parse_suite((_PACKAGED / f"{name}.toml").read_text(), name)


def parse_suite(text: str, name: str) -> Suite:
    """Return the suite that a TOML text describes; `name` is for messages.

    Raises:
        RecipeError: it is not TOML, has an unknown key, or is not consistent.
    """
    try:
        return Suite.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"suite {name} is not TOML: {error}") from error
    except ValidationError as error:
        lines = [f"suite {name}: {_where(details['loc'])}{_rule(details['msg'])}" for details in error.errors()]
        raise RecipeError("\n".join(lines)) from error


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) + ": " if location else ""


def _rule(message: str) -> str:
    return message.removeprefix("Value error, ")
