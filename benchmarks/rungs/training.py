"""What rungs about whole trainings share: fastbot's own trainer over a store, so many steps at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from typing import Any, Protocol

import torch

from benchmarks.measure import Effort
from datasets_tools.store import Store
from fastbot.build import image_dtype_of
from fastbot.distributed import Ranks, pick_device
from fastbot.errors import RunError
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe, override_recipe
from fastbot.trainer import Trainer
from pipelines.backends import choose
from pipelines.batch import Batch
from pipelines.cores import cores
from pipelines.pipeline import Pipeline, Place, open_train

# Steps before each turn, outside of its time: more than a pipeline prepares ahead (two by its backend, one by its
# delivery), so that no turn is given batches that were made while another case had its own.
WARM_STEPS = 4
# What "at rest" means, and how long it is waited for.
_LOOK_S, _AT_REST, _PATIENCE_S = 0.05, 0.1, 10.0


class Turns(Protocol):
    """Something that goes on by steps."""

    def go(self, steps: int) -> int:
        """Go on by `steps` steps and return how many pictures they had."""
        ...


class Consuming:
    """Batches of a pipeline, consumed and nothing else."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._batches = _endless(pipeline)

    def go(self, steps: int) -> int:
        """Take so many batches."""
        return sum(len(next(self._batches).labels) for _ in range(steps))


class Course:
    """A trainer's steps over a pipeline. Several may share a trainer: each has its own place in the epochs.

    Args:
        trainer: of a recipe.
        pipeline: of that recipe's plan.

    Attributes:
        seconds, waited_s: of its steps since `forget_times`, and how much of that the device waited for data.
    """

    def __init__(self, trainer: Trainer, pipeline: Pipeline) -> None:
        self._trainer, self._pipeline = trainer, pipeline
        self._step = 0
        self.seconds = self.waited_s = 0.0

    def go(self, steps: int) -> int:
        """Train so many steps."""
        trainer = self._trainer
        trainer.train_data, trainer.step, trainer.total_steps = self._pipeline, self._step, self._step + steps
        seconds, waited_s = trainer.clock.seconds(), trainer.waited.seconds()
        trainer.fit(())
        self.seconds += trainer.clock.seconds() - seconds
        self.waited_s += trainer.waited.seconds() - waited_s
        self._step = trainer.step
        return steps * trainer.recipe.data.global_batch_size // trainer.ranks.world_size

    def forget_times(self) -> None:
        """Set `seconds` and `waited_s` to 0."""
        self.seconds = self.waited_s = 0.0


def recipe_of(
    name: str, overrides: Sequence[str] = (), batch_size: int | None = None, size: int | None = None
) -> Recipe:
    """Return a recipe for measuring: it never ends, so that its schedule stays at its beginning.

    Args:
        name, overrides: as for `fastbot train`.
        batch_size: the global one, in place of the recipe's.
        size: of crops, in pixels, in place of the recipe's.
    """
    recipe = load_recipe(name, overrides)
    given = {"data.global_batch_size": batch_size, "data.crop_size": size}
    changes = [f"{key}={value}" for key, value in given.items() if value is not None]
    return override_recipe(recipe, [*changes, "epochs=1000000000 steps"], name)


def open_pipeline(recipe: Recipe, store: Store, backend: str, ranks: Ranks, num_threads: int | None = None) -> Pipeline:
    """Return the training pipeline of a store's split `train`, as `fastbot train` opens it.

    Args:
        recipe: whose.
        store: open.
        backend: a name, or `auto`.
        ranks: this process among all of the run.
        num_threads: that decode; None for this rank's share of the cores.
    """
    place = Place(
        backend=choose.choose(backend, ranks.device).name,
        device=ranks.device,
        dtype=image_dtype_of(recipe, ranks.device),
        num_threads=num_threads or max(1, cores() // ranks.local_world_size),
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    return open_train(store.split("train"), recipe.data, store.num_classes, place, seed=recipe.seed)


def build_trainer(recipe: Recipe, pipeline: Pipeline, store: Store, ranks: Ranks) -> Trainer:
    """Return the trainer that `fastbot train` builds; nothing is evaluated, so it has no pipeline for that.

    Raises:
        RunError: the recipe has a teacher, whose weights are not at hand.
    """
    refuse_teacher(recipe)
    return Trainer(recipe, pipeline, pipeline, store.num_classes, ranks)


def refuse_teacher(recipe: Recipe) -> None:
    """Raise RunError for a recipe that distils."""
    if recipe.distillation.kind != "none":
        raise RunError(
            f"{recipe.name} distils a teacher, whose weights no benchmark has: measure a recipe without one, or add "
            "distillation.kind=none"
        )


def steady(repeats: int, seconds: float) -> Effort:
    """Return the effort for cases that `warmed` makes ready: a round before is needed only to find how long turns are.

    Args:
        repeats: counted rounds.
        seconds: that a turn takes at least.
    """
    return Effort(repeats, seconds, warmups=1 if seconds else 0)


def go_on(turns: Turns, steps: int, times: int) -> int:
    """Go on by `times * steps` steps in one go, and return how many pictures they had.

    Between two calls a device's queue runs empty, which it never does in a training.
    """
    return turns.go(times * steps)


def warmed(turns: Turns, steps: int = WARM_STEPS) -> None:
    """Make ready for a turn: let other cases' threads come to rest, then go on by a few steps."""
    come_to_rest()
    turns.go(steps)


def come_to_rest() -> None:
    """Wait until this process's threads have little to do, or for ten seconds if they always have."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(_LOOK_S)
        if time.process_time() - before < _AT_REST * _LOOK_S:
            return


def synchronize(device: torch.device) -> None:
    """Wait for what a device was given; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def place_settings(backend: str, device: str) -> Mapping[str, str]:
    """Return what a line of results says of where a rung ran: what `auto` stood for.

    Args:
        backend: a name, or `auto`.
        device: `auto`, `cpu` or `cuda`.
    """
    target = pick_device(device)
    return {"backend": choose.choose(backend, target).name, "device": str(target)}


def recipe_settings(recipe: Recipe) -> Mapping[str, Any]:
    """Return what a line of results says of the recipe."""
    return {
        "recipe": recipe.name,
        "recipe_digest": recipe.training_digest(),
        "model": recipe.model.name,
        "precision": recipe.precision.kind,
        "tf32": recipe.precision.tf32,
        "batch_size": recipe.data.global_batch_size,
        "micro_batches": recipe.micro_batches,
        "size": recipe.data.crop_size,
        "channels_last": recipe.channels_last,
        "compile": recipe.compile,
    }


def _endless(pipeline: Pipeline) -> Iterator[Batch]:
    for epoch in count():
        with closing(pipeline.batches(epoch)) as batches:
            yield from batches
