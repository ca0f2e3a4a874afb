"""The trainer: everything is decided when it is built; the loop only runs it.

A trick of a paper is one of: surgery on the model, plan fields, a batch transform, a schedule (a pure function of the
step), a loss, parameter groups, or something called after a step. None of them is a branch in the loop.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastbot.build import (
    average_of,
    clip_of,
    compiled,
    criterion_of,
    loss_of,
    optimizer_of,
    precision_of,
    schedule_of,
    trained_model_on,
)
from fastbot.distillation import Teacher
from fastbot.distributed import BatchNormStatistics, Ranks
from fastbot.errors import CheckpointError, RecipeError
from fastbot.evaluate import evaluate
from fastbot.metrics import Sums, build_wait_clock
from fastbot.micro_batches import Part, build_split
from fastbot.optimizers import set_learning_rate
from fastbot.recipe import Recipe
from pipelines.batch import Batch
from pipelines.pipeline import Pipeline

AfterStep = Callable[[int], None]


class Clock:
    """Seconds of training. It stands still until started, and while paused.

    Args:
        device: on CUDA, steps still in flight are waited for before the clock is stopped.
        seconds: already on it.
    """

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self._device = device
        self._before = seconds
        self._since: float | None = None

    def seconds(self) -> float:
        """Return what it shows."""
        return self._before + (0.0 if self._since is None else time.perf_counter() - self._since)

    def start(self) -> None:
        """Let it run."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """Stop it once the device has done what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._before, self._since = self.seconds(), None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still while evaluating or saving."""
        self.stop()
        try:
            yield
        finally:
            self.start()


class Trainer:
    """One training on one rank.

    Args:
        recipe: what to do.
        train_data, eval_data: this rank's pipelines.
        num_classes: of the store.
        ranks: this process among all of the run.
        teacher: the one that the recipe names, if it does.

    Attributes:
        step: optimizer steps done.
        total_steps: optimizer steps of the whole training.
        bare: the model itself; `model` is what the loop calls, perhaps compiled and under DDP.
        average: what is evaluated: the model, or a moving average of its weights.
        sums: weighted loss and hits since the last reading, on the device.
        waited: how long the device waited for data.
        clock: seconds spent training, without evaluating and saving.
        wall: seconds since the start, pauses between a kill and a resume left out.
    """

    def __init__(
        self,
        recipe: Recipe,
        train_data: Pipeline,
        eval_data: Pipeline,
        num_classes: int,
        ranks: Ranks,
        teacher: Teacher | None = None,
    ) -> None:
        self.recipe, self.ranks = recipe, ranks
        self.train_data, self.eval_data = train_data, eval_data
        self.step = 0
        self.total_steps = recipe.epochs.steps(train_data.steps_per_epoch)
        if self.total_steps == 0:
            raise RecipeError(f"epochs is {recipe.epochs}: no step at all with {train_data.steps_per_epoch} an epoch")

        self.split = build_split(recipe.micro_batches, recipe.data.global_batch_size // ranks.world_size, ranks.device)
        torch.manual_seed(recipe.seed)  # for the initial weights
        self.bare = trained_model_on(recipe, num_classes, ranks.device, ranks.world_size)
        self.loss = loss_of(recipe)  # of evaluations; training minimizes the criterion
        self.criterion = criterion_of(recipe, teacher)
        self.optimizer = optimizer_of(recipe, self.bare)
        self.clip = clip_of(recipe, self.bare)
        self.average = average_of(recipe, self.bare)
        self.schedule = schedule_of(recipe, train_data.steps_per_epoch)
        self.precision = precision_of(recipe, ranks.device)
        parallel = _parallel(self.bare, ranks)
        # Ranks exchange gradients in the backward pass of a batch's last part only.
        self._local = parallel.no_sync if isinstance(parallel, DistributedDataParallel) else nullcontext
        self.model = compiled(recipe, parallel)

        self.sums = Sums(ranks.device)
        self.waited = build_wait_clock(ranks.device)
        self.clock = Clock(ranks.device)
        self.wall = Clock(ranks.device)
        self.wall.start()

    def fit(self, after_step: Sequence[AfterStep]) -> None:
        """Train from where it stands to the last step, calling each of `after_step` with the steps done."""
        self.model.train()
        self.clock.start()
        while self.step < self.total_steps:
            epoch, start_step = divmod(self.step, self.train_data.steps_per_epoch)
            with closing(self.train_data.batches(epoch, start_step, self.waited.arrived)) as batches:
                self._train(self.waited.watch(batches), after_step)
        self.clock.stop()

    def _train(self, batches: Iterator[Batch], after_step: Sequence[AfterStep]) -> None:
        for batch in batches:
            torch.manual_seed(_step_seed(self.recipe.seed, self.step, self.ranks.rank))
            set_learning_rate(self.optimizer, self.schedule(self.step))
            for part in self.split(batch):
                self._accumulate(part)
            self.precision.step(self.optimizer, self.clip)
            self.step += 1
            self.average.update(self.step)
            for hook in after_step:
                hook(self.step)
            if self.step == self.total_steps:
                return

    def _accumulate(self, part: Part) -> None:
        """Add a part's gradients, and its loss and hits to the sums."""
        batch = part.batch
        with nullcontext() if part.is_last else self._local():
            with self.precision.autocast():
                loss, logits = self.criterion(self.model(batch.images), batch)
            self.precision.backward(loss, part.share)
        self.sums.update(loss, logits, batch.labels, batch.weight)

    def evaluate(self) -> dict[str, float]:
        """Score the validation split; every rank must call it."""
        flip = self.recipe.run.eval_flip
        with self.averaged_statistics():
            return evaluate(self.average.model, self.eval_data, self.loss, self.precision, self.ranks, flip=flip)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint carries besides weights; every rank must call it."""
        return {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "sums": self.sums.total(self.ranks).cpu(),
            "train_s": self.clock.seconds(),
            "wait_s": self.waited.seconds(),
            "wall_s": self.wall.seconds(),
            "bad_pictures": self._bad_pictures(),
            "statistics": self.ranks.rows(self._statistics().flat().to(self.ranks.device)).cpu(),
        }

    def averaged_statistics(self) -> AbstractContextManager[None]:
        """Let the weights have batch-norm statistics of all ranks, as they are evaluated and saved.

        Every rank must enter it; on leaving, it has those of its own again, with which its training goes on.
        """
        return self.ranks.averaged_batch_norm_statistics(self._models())

    def _statistics(self) -> BatchNormStatistics:
        return BatchNormStatistics(self._models())

    def _models(self) -> list[nn.Module]:
        return [self.bare] if self.average.model is self.bare else [self.bare, self.average.model]

    def summary(self) -> dict[str, Any]:
        """Return how the training went; every rank must call it.

        Returns:
            `steps`, `world_size`, `images_per_s` (of training alone), `data_wait_fraction` (of training time, on the
            rank that waited longest: the others wait for it), `wall_s`, and `bad_pictures`, how many samples could not
            be used.
        """
        train_s = self.clock.seconds()
        waited = torch.tensor(self.waited.seconds(), device=self.ranks.device, dtype=torch.float64)
        return {
            "steps": self.step,
            "world_size": self.ranks.world_size,
            "images_per_s": self.step * self.recipe.data.global_batch_size / train_s,
            "data_wait_fraction": self.ranks.max(waited).item() / train_s,
            "wall_s": self.wall.seconds(),
            "bad_pictures": sum(map(len, self._bad_pictures().values())),
        }

    def _bad_pictures(self) -> dict[str, list[int]]:
        """Return the ids of samples that could not be used, of all ranks; every rank must call it."""
        pipelines = {"train": self.train_data, "eval": self.eval_data}
        return {name: self.ranks.union(data.bad_pictures.ids, data.num_samples) for name, data in pipelines.items()}

    def load_state(
        self, weights: dict[str, torch.Tensor], average: dict[str, torch.Tensor], state: dict[str, Any]
    ) -> None:
        """Go back to where a checkpoint stands.

        Raises:
            CheckpointError: the weights do not fit the model.
        """
        try:
            self.bare.load_state_dict(weights)
            self.average.load_state_dict(average)
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint does not fit {self.recipe.model.name}: {error}") from error
        self.precision.load_state_dict(state["precision"])
        self.step = state["step"]
        self.clock = Clock(self.ranks.device, state["train_s"])
        self.wall = Clock(self.ranks.device, state["wall_s"])
        self.wall.start()
        self.waited.start_at(state["wait_s"])
        self.train_data.bad_pictures.remember(state["bad_pictures"]["train"])
        self.eval_data.bad_pictures.remember(state["bad_pictures"]["eval"])
        statistics = state.get("statistics", ())  # older checkpoints have only those of all ranks
        if len(statistics) == self.ranks.world_size:
            self._statistics().fill(statistics[self.ranks.rank])
        if self.ranks.is_first:  # the sums of all ranks; the others go on from zero
            self.sums.values.copy_(state["sums"])


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of one step on one rank, for what a model itself draws (dropout, stochastic depth).

    With it there is no generator state to save: a resumed run draws what the uninterrupted one would have drawn.

    Source: the finalizer of SplitMix64 (Steele, Lea and Flood 2014), over a different word for each (step, rank).
    """
    word = (seed + 0x9E3779B97F4A7C15 * (step * 65_536 + rank + 1)) % 2**64
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return (word ^ (word >> 31)) % 2**63


def _parallel(model: nn.Module, ranks: Ranks) -> nn.Module:
    if ranks.world_size == 1:
        return model
    # Batch-norm statistics are averaged for an evaluation or a checkpoint, not broadcast in every step.
    devices = [ranks.device] if ranks.device.type == "cuda" else None
    with warnings.catch_warnings():
        # torch 2.14 announces another name for broadcast_buffers and asks to keep this one until then.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return DistributedDataParallel(model, devices, broadcast_buffers=False, gradient_as_bucket_view=True)
