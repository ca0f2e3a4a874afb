"""The content of OUT/ablation.json: what an ablation is, and what its finished trainings came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from fastbot.ablation.trainings import Changes, Training, needed_teachers, template
from fastbot.specs import Paper
from fastbot.suite_files import Row, Suite
from pipelines.spec import Frozen


class Scores(Frozen):
    """An evaluation: accuracies as fractions."""

    top1: float
    top5: float
    loss: float


class RunResult(Frozen):
    """What a training came to.

    Attributes:
        steps: of the optimizer.
        final, best: the last evaluation, and the one with the highest top-1.
        best_step: of the latter.
        images_per_s, wall_s: how fast.
        bad_pictures: samples that could not be used.
        machine: where.
        conditions: versions, threads, device, backend and the like, as its checkpoint has them.
    """

    steps: int
    final: Scores
    best: Scores
    best_step: int
    images_per_s: float
    wall_s: float
    bad_pictures: int
    machine: str
    conditions: dict[str, Any]


class RowResult(Frozen):
    """A row, or a teacher.

    Attributes:
        label, recipe, teacher: as in the suite.
        model: what is trained.
        epochs: how long it trains.
        digest: of its changed recipe, before a seed and a teacher are set.
        paper: what its source reports.
        seeds: its finished trainings.
    """

    label: str
    recipe: str
    teacher: str | None
    model: str
    epochs: str
    digest: str
    paper: Paper | None
    seeds: dict[int, RunResult] = Field(default_factory=dict)

    def with_seeds(self, seeds: Mapping[int, RunResult]) -> RowResult:
        """Return this row with more finished trainings."""
        return self.model_copy(update={"seeds": dict(sorted({**self.seeds, **seeds}.items()))})


class StoreRecord(Frozen):
    """Which store was trained on.

    Attributes:
        path: where it was.
        digest: sha256 of its manifest.
        num_classes, num_train, num_val: its sizes.
        grey: whether no picture has colours.
    """

    path: str
    digest: str
    num_classes: int
    num_train: int
    num_val: int
    grey: bool


class Ablation(Frozen):
    """All of an ablation.

    Attributes:
        format: of the file.
        suite, about: the suite's.
        baseline: label of the row that others are compared with.
        changes: to the suite's recipes.
        store: which one.
        teachers, rows: those asked for so far, in the suite's order.
    """

    format: Literal[1] = 1
    suite: str
    about: str
    baseline: str
    changes: Changes
    store: StoreRecord
    teachers: tuple[RowResult, ...] = ()
    rows: tuple[RowResult, ...] = ()

    @property
    def every(self) -> tuple[RowResult, ...]:
        """Teachers and rows."""
        return (*self.teachers, *self.rows)

    def result(self, training: Training) -> RunResult | None:
        """Return what a training came to, if it is finished."""
        row = next(row for row in self.every if row.recipe == training.row.recipe)
        return row.seeds.get(training.seed)

    def with_results(self, results: Mapping[str, Mapping[int, RunResult]]) -> Ablation:
        """Return this ablation with more finished trainings, given by recipe and seed."""

        def added(rows: Iterable[RowResult]) -> tuple[RowResult, ...]:
            return tuple(row.with_seeds(results.get(row.recipe, {})) for row in rows)

        return self.model_copy(update={"teachers": added(self.teachers), "rows": added(self.rows)})


def asked_for(
    suite: Suite, changes: Changes, store: StoreRecord, rows: Sequence[Row], before: Ablation | None
) -> Ablation:
    """Return the ablation that is asked for, nothing of it trained yet.

    Args:
        suite, changes, store: see `Ablation`.
        rows: those wanted.
        before: an earlier one in the same folder, whose rows it has too.

    Raises:
        RecipeError: an override does not fit a recipe.
    """
    old = {row.recipe for row in before.every} if before else set()
    wanted = {row.recipe for row in rows} | old
    taught = {row.recipe for row in needed_teachers(suite, rows)} | old
    return Ablation(
        suite=suite.name,
        about=suite.about,
        baseline=suite.rows[suite.baseline].label,
        changes=changes,
        store=store,
        teachers=tuple(_untrained(row, changes, is_teacher=True) for row in suite.teachers if row.recipe in taught),
        rows=tuple(_untrained(row, changes, is_teacher=False) for row in suite.rows if row.recipe in wanted),
    )


def _untrained(row: Row, changes: Changes, *, is_teacher: bool) -> RowResult:
    recipe = template(row, changes, is_teacher=is_teacher)
    return RowResult(
        label=row.label,
        recipe=row.recipe,
        teacher=row.teacher,
        model=recipe.model.name,
        epochs=str(recipe.epochs),
        digest=recipe.training_digest(),
        paper=recipe.paper,
    )
