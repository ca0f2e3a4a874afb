"""Trains what an ablation consists of: so many at a time, each as soon as its teacher is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fastbot.ablation.children import Child
from fastbot.ablation.progress import Progress
from fastbot.ablation.trainings import Training
from fastbot.errors import RunError

# How often processes are looked at: Ctrl-C should not feel slow, and a training takes minutes.
_PERIOD_S = 0.1


class Runner:
    """Runs trainings.

    Args:
        trainings: in the order to start them in, finished ones left out.
        jobs: how many at a time.
        start: starts a training in one of `jobs` places.
        keep: takes in what a training came to, when its process has ended well, and returns whether it is finished: it
            is not when somebody has asked it to stop.
        asked: whether this process has been asked to stop.
        progress: is told.
    """

    def __init__(
        self,
        trainings: Sequence[Training],
        jobs: int,
        start: Callable[[Training, int], Child],
        keep: Callable[[Training], bool],
        asked: Callable[[], bool],
        progress: Progress,
    ) -> None:
        self._waiting = list(trainings)
        self._unfinished = {training.folder.resolve() for training in trainings}
        self._running: dict[int, Child] = {}
        self._jobs, self._start, self._keep = jobs, start, keep
        self._asked, self._progress = asked, progress

    def run(self) -> bool:
        """Train everything; when asked to stop, or when a training fails, let the running ones save and leave.

        Returns:
            whether everything is trained.

        Raises:
            RunError: a training has failed.
        """
        try:
            while (self._waiting or self._running) and not self._asked():
                self._fill()
                for child in self._ended():
                    self._take(child)
                self._progress.show([child.training for child in self._running.values()])
                time.sleep(_PERIOD_S)
        finally:
            self._stop()
        return not self._unfinished

    def _fill(self) -> None:
        """Start what can be started."""
        free = [place for place in range(self._jobs) if place not in self._running]
        ready = [training for training in self._waiting if training.teacher not in self._unfinished]
        for place, training in zip(free, ready, strict=False):
            self._waiting.remove(training)
            self._running[place] = self._start(training, place)
            self._progress.started(training)

    def _ended(self) -> list[Child]:
        """Return the trainings whose processes have ended since the last call."""
        places = [place for place, child in self._running.items() if child.exit_code() is not None]
        return [self._running.pop(place) for place in places]

    def _take(self, child: Child) -> None:
        """Take in a training that nobody has asked to stop.

        Raises:
            RunError: it has failed.
        """
        if child.exit_code() != 0:
            raise child.failure()
        if not self._finished(child):
            raise RunError(f"training {child.training} was asked to stop by somebody else, and has saved. Run it again")

    def _finished(self, child: Child) -> bool:
        finished = self._keep(child.training)
        if finished:
            self._unfinished.remove(child.training.folder.resolve())
        return finished

    def _stop(self) -> None:
        """Ask what still runs to save and leave, and wait for it; after another Ctrl-C, end it."""
        for child in self._running.values():
            child.ask_to_stop()
        try:
            while self._running:
                for child in self._ended():
                    if child.exit_code() == 0:
                        self._finished(child)
                time.sleep(_PERIOD_S)
        finally:
            for child in self._running.values():
                child.kill()
