"""The trainer: everything is decided when it is built; the loop only runs it.

A trick of a paper is one of: surgery on the model, plan fields, a batch transform, a schedule (a pure function of the
step), a loss, parameter groups, or something called after a step. None of them is a branch in the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastbot.build import loss_of, model_of, optimizer_of, precision_of, schedule_of
from fastbot.distributed import Ranks
from fastbot.errors import CheckpointError, RecipeError
from fastbot.evaluate import evaluate
from fastbot.metrics import Sums, build_wait_clock
from fastbot.optimizers import set_learning_rate
from fastbot.recipe import Recipe
from pipelines.batch import Batch
from pipelines.pipeline import Pipeline

AfterStep = Callable[[int], None]


class Clock:
    """Seconds of training: it runs from its making, except while paused.

    Args:
        seconds: already on it.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._since = time.perf_counter()

    def seconds(self) -> float:
        """Return what it shows."""
        return self._before + time.perf_counter() - self._since

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still while evaluating or saving."""
        self._before = self.seconds()
        try:
            yield
        finally:
            self._since = time.perf_counter()


class Trainer:
    """One training on one rank.

    Args:
        recipe: what to do.
        train_data, eval_data: this rank's pipelines.
        num_classes: of the store.
        ranks: this process among all of the run.

    Attributes:
        step: optimizer steps done.
        total_steps: optimizer steps of the whole training.
        bare: the model itself; `model` is what the loop calls, perhaps compiled and under DDP.
        sums: weighted loss and hits since the last reading, on the device.
        waited: how long the device waited for data.
        clock: seconds spent training, without evaluating and saving.
        wall: seconds since the start, pauses between a kill and a resume left out.
    """

    def __init__(
        self, recipe: Recipe, train_data: Pipeline, eval_data: Pipeline, num_classes: int, ranks: Ranks
    ) -> None:
        self.recipe, self.ranks = recipe, ranks
        self.train_data, self.eval_data = train_data, eval_data
        self.step = 0
        self.total_steps = recipe.epochs.steps(train_data.steps_per_epoch)
        if self.total_steps == 0:
            raise RecipeError(f"epochs is {recipe.epochs}: no step at all with {train_data.steps_per_epoch} an epoch")

        torch.manual_seed(recipe.seed)  # for the initial weights; nothing else draws from torch's generator
        self.bare = model_of(recipe.model, num_classes)
        self.bare.to(ranks.device)
        self.bare.to(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)
        self.loss = loss_of(recipe)
        self.optimizer = optimizer_of(recipe, self.bare)
        self.schedule = schedule_of(recipe, train_data.steps_per_epoch)
        self.precision = precision_of(recipe, ranks.device)
        self.model = _wrapped(self.bare, recipe, ranks)

        self.sums = Sums(ranks.device)
        self.waited = build_wait_clock(ranks.device)
        self.clock = Clock()
        self.wall = Clock()

    def fit(self, after_step: Sequence[AfterStep]) -> None:
        """Train from where it stands to the last step, calling each of `after_step` with the steps done."""
        self.model.train()
        self.clock = Clock(self.clock.seconds())
        while self.step < self.total_steps:
            epoch, start_step = divmod(self.step, self.train_data.steps_per_epoch)
            with closing(self.train_data.batches(epoch, start_step)) as batches:
                self._train(self.waited.watch(batches), after_step)

    def _train(self, batches: Iterator[Batch], after_step: Sequence[AfterStep]) -> None:
        for batch in batches:
            set_learning_rate(self.optimizer, self.schedule(self.step))
            loss, logits = self._forward(batch)
            self.precision.step(loss, self.optimizer)
            self.sums.update(loss, logits, batch.labels, batch.weight)
            self.step += 1
            for hook in after_step:
                hook(self.step)
            if self.step == self.total_steps:
                return

    def _forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with self.precision.autocast():
            logits = self.model(batch.images)
            return self.loss(logits, batch.targets, batch.weight), logits

    def evaluate(self) -> dict[str, float]:
        """Score the validation split; every rank must call it."""
        self.ranks.average_batch_norm_statistics(self.bare)
        return evaluate(self.bare, self.eval_data, self.loss, self.precision, self.ranks)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint carries besides weights; every rank must call it."""
        self.ranks.average_batch_norm_statistics(self.bare)
        return {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "sums": self.sums.total(self.ranks).cpu(),
            "train_s": self.clock.seconds(),
            "wait_s": self.waited.seconds(),
            "wall_s": self.wall.seconds(),
        }

    def summary(self) -> dict[str, Any]:
        """Return how the training went; every rank must call it.

        Returns:
            `steps`, `world_size`, `images_per_s` (of training alone), `data_wait_fraction` (of training time, mean
            over ranks) and `wall_s`.
        """
        train_s = self.clock.seconds()
        waited = torch.tensor(self.waited.seconds(), device=self.ranks.device, dtype=torch.float64)
        return {
            "steps": self.step,
            "world_size": self.ranks.world_size,
            "images_per_s": self.step * self.recipe.data.global_batch_size / train_s,
            "data_wait_fraction": self.ranks.sum(waited).item() / self.ranks.world_size / train_s,
            "wall_s": self.wall.seconds(),
        }

    def load_state(self, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Go back to where a checkpoint stands.

        Raises:
            CheckpointError: the weights do not fit the model.
        """
        try:
            self.bare.load_state_dict(weights)
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint does not fit {self.recipe.model.name}: {error}") from error
        self.precision.load_state_dict(state["precision"])
        self.step = state["step"]
        self.clock = Clock(state["train_s"])
        self.wall = Clock(state["wall_s"])
        self.waited.start_at(state["wait_s"])
        if self.ranks.is_first:  # the sums of all ranks; the others go on from zero
            self.sums.values.copy_(state["sums"])


def _wrapped(model: nn.Module, recipe: Recipe, ranks: Ranks) -> nn.Module:
    if ranks.world_size > 1:
        # Batch-norm statistics are averaged before an evaluation or a checkpoint, not broadcast in every step.
        devices = [ranks.device] if ranks.device.type == "cuda" else None
        model = DistributedDataParallel(model, devices, broadcast_buffers=False, gradient_as_bucket_view=True)
    return torch.compile(model) if recipe.compile else model  # type: ignore[return-value]
