"""What a training is asked for, refused here where it cannot be: before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.store import Store
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe
from fastbot.runs import RunFolder


@dataclass(frozen=True, slots=True)
class Start:
    """A training that may start, as far as could be seen at once.

    Attributes:
        recipe: resolved, overrides applied.
        overrides: those; of a run that is resumed first those that it was begun with.
        store: open; it has the splits `train` and `val`.
        run: where the run is, or will be.
        resume: go on from the last checkpoint; without one, start from the beginning.
    """

    recipe: Recipe
    overrides: Sequence[str]
    store: Store
    run: RunFolder
    resume: bool

    def line(self) -> str:
        """Return what is about to be done."""
        what = "going on with" if self.resume and self.run.checkpoints.exists() else "training"
        recipe = shlex.join([self.recipe.name, *self.overrides])
        return f"start     {what} {recipe} on {self.store.path}, into {self.run.path}"


def checked_start(recipe: str, overrides: Sequence[str], data: Path, out: Path, *, resume: bool) -> Start:
    """Check what a training is asked for.

    Args:
        recipe: a recipe's name or file.
        overrides: changes to it.
        data: the store's folder.
        out: the run folder.
        resume: whether a run that is there goes on.

    Raises:
        RecipeError: there is no such recipe, or it makes no sense.
        RunError: there is a run already; or, to be resumed, one of another recipe, or one whose checkpoints are gone;
            or a training is at work there.
        StoreError: the store is missing, damaged, or lacks a split.
    """
    run = RunFolder(out)
    if os.environ.get("RANK", "0") == "0":  # of several ranks the first holds the lock, perhaps by now
        run.check_idle()
    run.check_free(resume=resume)
    if resume:
        overrides = run.overrides(overrides)
    resolved = load_recipe(recipe, overrides).resolved()
    if resume:
        run.check_recipe(resolved)
    store = Store(data)
    for split in ("train", "val"):
        store.split(split)
    return Start(resolved, overrides, store, run, resume)
