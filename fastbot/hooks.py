"""What happens after steps: reading the metrics, evaluating, saving, stopping. Each is built once, called per step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch

from fastbot.checkpoint import Identity
from fastbot.display import Display
from fastbot.errors import RunError
from fastbot.metrics import Reading
from fastbot.runs import Journal, RunFolder
from fastbot.specs import Duration, RunSpec
from fastbot.trainer import Trainer


class Stopped(Exception):
    """The run was asked to stop and has saved a checkpoint.

    Args:
        step: optimizer steps done.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}; continue with --resume")
        self.step = step


@dataclass
class Results:
    """What evaluations have found so far; accuracies are fractions, nan before the first.

    Attributes:
        top1, top5, eval_loss: of the latest.
        best_top1: of all.
    """

    top1: float = math.nan
    top5: float = math.nan
    eval_loss: float = math.nan
    best_top1: float = -1.0

    def add(self, scores: Mapping[str, float]) -> bool:
        """Take in an evaluation and return whether it is the best so far."""
        best = scores["top1"] > self.best_top1
        self.top1, self.top5, self.eval_loss = scores["top1"], scores["top5"], scores["loss"]
        self.best_top1 = max(self.best_top1, self.top1)
        return best


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the clocks stood when the metrics were last read."""

    step: int
    train_s: float
    wait_s: float


class ReadMetrics:
    """Every N steps: snapshots the sums, and reports them one step later, when they have reached the host.

    Args:
        trainer: whose metrics.
        journal: gets the records; a silent one on ranks other than the first.
        display: shows them.
        every: steps.

    Raises (when called):
        RunError: the loss is not finite.
    """

    def __init__(self, trainer: Trainer, journal: Journal, display: Display, every: int) -> None:
        self._trainer, self._journal, self._display, self._every = trainer, journal, display, every
        self._mark = self._now()
        self._unread: list[tuple[_Mark, _Mark, Reading]] = []

    def __call__(self, step: int) -> None:
        """Report the last snapshot, and take one when it is time; at the very end, report it at once."""
        last = step == self._trainer.total_steps
        self.flush()
        if last or step % self._every == 0:
            self._snapshot()
        if last:
            self.flush()

    def _snapshot(self) -> None:
        trainer, since, now = self._trainer, self._mark, self._now()
        self._unread.append((since, now, Reading(trainer.sums.total(trainer.ranks))))
        trainer.sums.reset()
        self._mark = now

    def flush(self) -> None:
        """Report what has been snapshotted and not reported yet.

        Raises:
            RunError: the loss is not finite.
        """
        for since, now, reading in self._unread:
            if reading.is_empty():
                continue  # every picture was skipped
            scores = reading.means()
            _check_finite(scores["loss"], since.step, now.step)
            values = {"loss": scores["loss"], "top1": scores["top1"]} | self._rates(since, now)
            self._journal.add("train", now.step, values)
            self._display.train(now.step, values)
        self._unread.clear()

    def _rates(self, since: _Mark, now: _Mark) -> dict[str, float]:
        seconds = max(now.train_s - since.train_s, 1e-9)
        pictures = (now.step - since.step) * self._trainer.recipe.data.global_batch_size
        return {
            "epoch": now.step / self._trainer.train_data.steps_per_epoch,
            "learning_rate": self._trainer.schedule(now.step - 1),
            "images_per_s": pictures / seconds,
            "data_wait_fraction": (now.wait_s - since.wait_s) / seconds,
        }

    def _now(self) -> _Mark:
        return _Mark(self._trainer.step, self._trainer.clock.seconds(), self._trainer.waited.seconds())


def _check_finite(loss: float, since: int, step: int) -> None:
    if not math.isfinite(loss):
        raise RunError(
            f"the loss is {loss} between steps {since} and {step}. "
            "Lower optimizer.learning_rate, or raise schedule.warmup; with fp16, try precision.kind=bf16"
        )


class Save:
    """Writes checkpoints when other hooks say so.

    Nothing not finite is ever saved: a checkpoint would replace the good one before it.

    Args:
        trainer: whose state.
        run: where to.
        identity: what the checkpoints belong to.
        results: saved with them.
        metrics: what they have read is reported first, so that no reading is lost between a stop and a resume.
    """

    def __init__(
        self, trainer: Trainer, run: RunFolder, identity: Identity, results: Results, metrics: ReadMetrics
    ) -> None:
        self._trainer, self._run, self._identity = trainer, run, identity
        self._results, self._metrics = results, metrics
        self.saved_step, self.saved_at = trainer.step, time.monotonic()

    def now(self, step: int, *, best: bool = False, unevaluated: bool = False) -> None:
        """Write a checkpoint; every rank must call it.

        Args:
            step: optimizer steps done.
            best: whether it is the best so far.
            unevaluated: an evaluation is due at this step, which whoever resumes makes up for.

        Raises:
            RunError: the loss is not finite.
            CheckpointError: it cannot be written.
        """
        self._metrics.flush()
        with self._trainer.clock.paused():
            state = self._trainer.state() | {"results": asdict(self._results), "unevaluated": unevaluated}
            _check_finite(float(state["sums"].sum()), self.saved_step, step)
            with self._trainer.averaged_statistics():
                bare, average = self._trainer.bare, self._trainer.average.state_dict()
                with self._trainer.ranks.all_or_none():  # ranks that wait for one that has failed wait for long
                    if self._trainer.ranks.is_first:
                        self._run.checkpoints.save(step, bare, state, self._identity, best=best, average=average)
        self.saved_step, self.saved_at = step, time.monotonic()


class Evaluate:
    """Scores the validation split every so often and at the end, and saves.

    Args:
        trainer, journal, display: as for `ReadMetrics`.
        metrics: reported before each evaluation.
        save: called after each.
        results: updated by each.
        every: how often.
        before: called before each with the steps done; it may raise `Stopped`.

    Raises (when called):
        RunError: the last evaluation's loss is nan.
    """

    def __init__(
        self,
        trainer: Trainer,
        journal: Journal,
        display: Display,
        metrics: ReadMetrics,
        save: Save,
        results: Results,
        every: Duration,
        before: Callable[[int], None],
    ) -> None:
        self._trainer, self._journal, self._display = trainer, journal, display
        self._metrics, self._save, self._results, self._before = metrics, save, results, before
        self._every = max(1, every.steps(trainer.train_data.steps_per_epoch))

    def __call__(self, step: int) -> None:
        """Evaluate when it is time."""
        if step % self._every and step != self._trainer.total_steps:
            return
        self._before(step)
        self.now(step)

    def now(self, step: int) -> None:
        """Evaluate and save; every rank must call it."""
        self._metrics.flush()  # a loss that is not finite must not become the best
        with self._trainer.clock.paused():
            scores = self._trainer.evaluate()
        if step == self._trainer.total_steps and math.isnan(scores["loss"]):  # earlier, training may yet recover
            raise RunError(
                f"the validation loss is nan at the end, step {step}: the weights are not finite, or no picture could "
                "be used. Earlier checkpoints stand. Lower optimizer.learning_rate, or raise schedule.warmup"
            )
        best = self._results.add(scores)
        self._journal.add("eval", step, scores)
        self._display.evaluation(step, scores)
        self._save.now(step, best=best)


class SaveOrStop:
    """Saves after so many steps or minutes; when somebody asks (SIGTERM), saves and leaves.

    Ranks must do both at the same step, so they ask each other, about every two seconds: more often costs steps,
    more seldom wastes the grace that a scheduler gives. A single process asks itself after every step.

    Args:
        trainer: whose ranks must agree.
        save: writes the checkpoint.
        cadence: how often.
        asked: whether this process has been asked to stop.

    Raises (when called):
        Stopped: after saving.
    """

    _ASK_EVERY_S = 2.0

    def __init__(self, trainer: Trainer, save: Save, cadence: RunSpec, asked: Callable[[], bool]) -> None:
        self._trainer, self._save, self._asked = trainer, save, asked
        self._seconds, self._steps = cadence.checkpoint_minutes * 60, cadence.checkpoint_steps
        self._interval = 1  # steps between two questions; the same on every rank
        self._asked_step, self._asked_at = trainer.step, time.monotonic()

    def __call__(self, step: int) -> None:
        """Ask, and save or stop."""
        stop, overdue = self._ask(step) if step - self._asked_step >= self._interval else (False, False)
        due = overdue or stop or (self._steps is not None and step % self._steps == 0)
        if due and step != self._save.saved_step:
            self._save.now(step)
        if stop and step < self._trainer.total_steps:
            raise Stopped(step)

    def before_evaluation(self, step: int) -> None:
        """Save and leave now where somebody has asked: an evaluation may take longer than a scheduler's grace.

        Args:
            step: optimizer steps done. Whoever resumes there evaluates first.
        """
        if self._ask(step)[0]:
            self._save.now(step, unevaluated=True)
            raise Stopped(step)

    def _ask(self, step: int) -> tuple[bool, bool]:
        now, ranks = time.monotonic(), self._trainer.ranks
        mine = [self._asked(), now - self._save.saved_at >= self._seconds, now - self._asked_at]
        if ranks.world_size == 1:
            return bool(mine[0]), bool(mine[1])
        stop, overdue, elapsed = ranks.max(torch.tensor(mine, dtype=torch.float64, device=ranks.device)).tolist()
        self._interval = max(1, int((step - self._asked_step) * self._ASK_EVERY_S / max(elapsed, 1e-6)))
        self._asked_step, self._asked_at = step, now
        return bool(stop), bool(overdue)
