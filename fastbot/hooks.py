"""What happens after steps: reading the metrics, evaluating, saving, stopping. Each is built once, called per step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from fastbot.checkpoint import Identity
from fastbot.display import Display
from fastbot.errors import RunError
from fastbot.metrics import Reading
from fastbot.recipe import Duration, RunSpec
from fastbot.runs import Journal, RunFolder
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
        self._report()
        if last or step % self._every == 0:
            self._snapshot()
        if last:
            self._report()

    def _snapshot(self) -> None:
        trainer, since, now = self._trainer, self._mark, self._now()
        self._unread.append((since, now, Reading(trainer.sums.total(trainer.ranks))))
        trainer.sums.reset()
        self._mark = now

    def _report(self) -> None:
        for since, now, reading in self._unread:
            scores = reading.means()
            if not math.isfinite(scores["loss"]):
                raise RunError(
                    f"the loss is {scores['loss']} between steps {since.step} and {now.step}. "
                    "Lower optimizer.learning_rate, or raise schedule.warmup; with fp16, try precision.kind=bf16"
                )
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


class Save:
    """Writes checkpoints: after so many steps or minutes, and whenever another hook says so.

    Args:
        trainer: whose state.
        run: where to.
        identity: what the checkpoints belong to.
        results: saved with them.
        cadence: how often.
        look_every: steps between two looks at the clock; ranks must agree, so each look is a collective.
    """

    def __init__(
        self, trainer: Trainer, run: RunFolder, identity: Identity, results: Results, cadence: RunSpec, look_every: int
    ) -> None:
        self._trainer, self._run, self._identity, self._results = trainer, run, identity, results
        self._seconds, self._steps = cadence.checkpoint_minutes * 60, cadence.checkpoint_steps
        self._look_every = look_every
        self._saved_at, self._saved_step = time.monotonic(), trainer.step

    def __call__(self, step: int) -> None:
        """Save when it is time."""
        by_steps = self._steps is not None and step % self._steps == 0
        by_clock = step % self._look_every == 0 and self._trainer.ranks.any(self._overdue())
        if by_steps or by_clock:
            self.now(step)

    def now(self, step: int, *, best: bool = False) -> None:
        """Write a checkpoint unless this step has one already; every rank must call it."""
        if step == self._saved_step:
            return
        with self._trainer.clock.paused():
            state = self._trainer.state() | {"results": asdict(self._results)}
            if self._trainer.ranks.is_first:
                self._run.checkpoints.save(step, self._trainer.bare, state, self._identity, best=best)
            self._trainer.ranks.barrier()
        self._saved_at, self._saved_step = time.monotonic(), step

    def _overdue(self) -> bool:
        return time.monotonic() - self._saved_at >= self._seconds


class Evaluate:
    """Scores the validation split every so often and at the end, and saves.

    Args:
        trainer, journal, display: as for `ReadMetrics`.
        save: called after each evaluation.
        results: updated by each evaluation.
        every: how often.
    """

    def __init__(
        self, trainer: Trainer, journal: Journal, display: Display, save: Save, results: Results, every: Duration
    ) -> None:
        self._trainer, self._journal, self._display = trainer, journal, display
        self._save, self._results = save, results
        self._every = max(1, every.steps(trainer.train_data.steps_per_epoch))

    def __call__(self, step: int) -> None:
        """Evaluate when it is time."""
        if step % self._every and step != self._trainer.total_steps:
            return
        with self._trainer.clock.paused():
            scores = self._trainer.evaluate()
        best = self._results.add(scores)
        self._journal.add("eval", step, scores)
        self._display.evaluation(step, scores)
        self._save.now(step, best=best)


class StopWhenAsked:
    """Saves and leaves when somebody asks (SIGTERM).

    Args:
        trainer: whose ranks must agree.
        save: called before leaving.
        asked: whether this process has been asked.
        look_every: steps between two looks.

    Raises (when called):
        Stopped: after saving.
    """

    def __init__(self, trainer: Trainer, save: Save, asked: Callable[[], bool], look_every: int) -> None:
        self._trainer, self._save, self._asked, self._look_every = trainer, save, asked, look_every

    def __call__(self, step: int) -> None:
        """Save and leave when asked."""
        last = step == self._trainer.total_steps
        if not last and step % self._look_every == 0 and self._trainer.ranks.any(self._asked()):
            self._save.now(step)
            raise Stopped(step)
