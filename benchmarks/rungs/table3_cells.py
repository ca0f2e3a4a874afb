"""A cell of table 3, ready to be trained: a network, a number format and a batch that fits the device.

A batch that does not fit is computed in parts. First on pixels that cost nothing, where only the network needs memory;
then on what the backend delivers, which takes memory of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.rungs.memory_use import release
from benchmarks.rungs.training import Course, build_trainer, open_pipeline, synchronize, warmed
from datasets_tools.store import Store
from fastbot.build import precision_of
from fastbot.distributed import Ranks
from fastbot.errors import RunError
from fastbot.recipe import Recipe
from fastbot.recipe_files import override_recipe
from fastbot.trainer import Trainer
from pipelines.errors import PipelineError
from pipelines.pipeline import Pipeline

_TRIAL_STEPS = 4
_TRIALS = 3
# Steps before: they compile, and find convolution algorithms.
_TRIAL_WARM_STEPS = 2
# What is said where there is no memory, with all kinds of errors: by DALI (`dali::CUDABadAlloc`), by CUDA itself
# (pinned memory, modules), by cuBLAS, cuDNN and nvJPEG.
_OUT_OF_MEMORY = "Can't allocate", "CUDA allocation failed", "out of memory", "ALLOC_FAILED", "ALLOCATOR_FAILURE"


class Stage:
    """Where cells are measured: one pipeline is open at a time, so that no cell needs the memory of two.

    Args:
        store: what is trained on.
        backend: what decodes.
        ranks: this process among all of the run.
    """

    def __init__(self, store: Store, backend: str, ranks: Ranks) -> None:
        self.store, self.ranks = store, ranks
        self._backend = backend
        self._open: tuple[Recipe, str, Pipeline] | None = None

    def pipeline(self, recipe: Recipe, backend: str = "") -> Pipeline:
        """Return a recipe's pipeline, opening it if another is open."""
        wanted = backend or self._backend
        if self._open is None or self._open[:2] != (recipe, wanted):
            self.clear()
            self._open = (recipe, wanted, open_pipeline(recipe, self.store, wanted, self.ranks))
        return self._open[2]

    def clear(self) -> None:
        """Close what is open and give the device its memory back."""
        if self._open is not None:
            self._open[2].close()
        self._open = None
        release(self.ranks.device)


class Cell:
    """One network in one number format with one batch size.

    Args:
        recipe: with all of them set.
        stage: where it is measured.

    Raises:
        RunError: not even one picture at a time fits.
    """

    def __init__(self, recipe: Recipe, stage: Stage) -> None:
        self._stage = stage
        self._trainer, self._recipe = _fitting(recipe, stage)
        self._course: Course | None = None
        self._pipeline: Pipeline | None = None

    @property
    def micro_batches(self) -> int:
        """Parts that a batch is computed in."""
        return self._recipe.micro_batches

    def settle(self) -> None:
        """Take the first steps on what the backend delivers, in more parts where there is no memory for both.

        Raises:
            RunError: not even one picture at a time fits.
        """
        while not _fits(self.prepare):
            del self._trainer
            self._course = self._pipeline = None
            self._stage.clear()
            self._trainer, self._recipe = _fitting(self._recipe, self._stage, more_than=self.micro_batches)

    def prepare(self) -> None:
        """Make ready for a turn."""
        device = self._stage.ranks.device
        precision_of(self._recipe, device)  # TF32 is a switch of the whole process: another cell may have set it
        pipeline = self._stage.pipeline(self._recipe)
        if self._course is None or pipeline is not self._pipeline:
            self._pipeline, self._course = pipeline, Course(self._trainer, pipeline)
        warmed(self._course)

    def go(self, steps: int) -> int:
        """Train so many steps, and return how many pictures all ranks had."""
        assert self._course is not None, "a cell is prepared first"
        return self._course.go(steps) * self._stage.ranks.world_size


def trial(recipe: Recipe, stage: Stage) -> float:
    """Return the images/s of a recipe on pixels that cost nothing: the median of three trials."""
    trainer, fitting = _fitting(recipe, stage)
    course = Course(trainer, stage.pipeline(fitting, "synthetic"))
    course.go(_TRIAL_WARM_STEPS)
    return _median_rate(lambda: course.go(_TRIAL_STEPS), lambda: synchronize(stage.ranks.device))


def _median_rate(go: Callable[[], int], wait: Callable[[], object]) -> float:
    rates = []
    for _ in range(_TRIALS):
        wait()
        began = time.perf_counter()
        pictures = go()
        wait()
        rates.append(pictures / (time.perf_counter() - began))
    return statistics.median(rates)


def _fitting(recipe: Recipe, stage: Stage, more_than: int = 0) -> tuple[Trainer, Recipe]:
    """Return a trainer that has done a step, of a batch in as few parts as the device's memory takes.

    Args:
        recipe: whose batch is divided.
        stage: where.
        more_than: so many parts do not do.

    Raises:
        RunError: not even one picture at a time fits.
    """
    for parts in _divisors(recipe.data.global_batch_size):
        divided = override_recipe(recipe, [f"micro_batches={parts}"], recipe.name)
        if parts > more_than and (trainer := _trained_once(divided, stage)):
            return trainer, divided
    raise RunError(f"{recipe.name} does not fit {stage.ranks.device} with one picture at a time: lower --size")


def _trained_once(recipe: Recipe, stage: Stage) -> Trainer | None:
    """Return a trainer that has done a step; None where that does not fit, and then nothing of it is left."""
    pipeline = stage.pipeline(recipe, "synthetic")
    trainers: list[Trainer] = []

    def train() -> None:
        trainers.append(build_trainer(recipe, pipeline, stage.store, stage.ranks))
        Course(trainers[0], pipeline).go(1)

    if _fits(train):
        return trainers[0]
    trainers.clear()
    release(stage.ranks.device)
    return None


def _fits(work: Callable[[], object]) -> bool:
    """Do something; return whether there was memory for it."""
    try:
        work()
    except (RuntimeError, MemoryError, PipelineError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that a device has no memory left, whichever library it comes from."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)


def _divisors(number: int) -> Iterator[int]:
    return (parts for parts in range(1, number + 1) if number % parts == 0)
