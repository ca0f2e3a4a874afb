"""What a person sees while an ablation goes on: a line for each finished training, and in a terminal a live one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fastbot.ablation.records import RunResult
from fastbot.ablation.trainings import Training

_PERIOD_S = 1.0
_TAIL_BYTES = 8192  # of metrics.jsonl: some dozens of records


class Progress:
    """Shows how far an ablation is.

    Args:
        console: where.
        trainings: all of them.
        num_done: how many are finished already; they are not shown.
    """

    def __init__(self, console: Console, trainings: Sequence[Training], num_done: int) -> None:
        self._console = console
        self._num_done, self._num_all = num_done, len(trainings)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._next_s = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._live.stop()

    def started(self, training: Training) -> None:
        """Say that a training begins, where there is no live line to say so."""
        if not self._console.is_terminal:
            self._say(f"        {training}: begins")

    def finished(self, training: Training, result: RunResult) -> None:
        """Say what a training came to."""
        self._num_done += 1
        self._say(
            f"{self._num_done:3}/{self._num_all} {training}: top-1 {result.final.top1:.2%}, "
            f"{result.images_per_s:,.0f} images/s, {result.wall_s:.0f} s"
        )

    def show(self, running: Sequence[Training]) -> None:
        """Show how far the running trainings are; may be called as often as one likes."""
        if not self._console.is_terminal or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _PERIOD_S
        shown = f"{self._num_done:3}/{self._num_all} " + "; ".join(map(_position, running))
        self._live.update(Text(shown, no_wrap=True, overflow="ellipsis"), refresh=True)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _position(training: Training) -> str:
    """Return where a training stands, by the last reading of its metrics."""
    reading = last_reading(training.folder / "metrics.jsonl")
    if not reading:
        return f"{training}: starting"
    end = training.recipe.epochs
    done = reading["epoch"] if end.unit == "epochs" else reading["step"]
    return f"{training}: {done / end.value:.0%}, loss {reading['loss']:.3f}, {reading['images_per_s']:,.0f} images/s"


def last_reading(file: Path) -> dict[str, Any]:
    """Return the last whole training record of a `metrics.jsonl`; nothing where there is none yet."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            lines = stream.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    whole = (json.loads(line) for line in reversed(lines) if line.startswith(b'{"kind": "train"'))
    return next(whole, {})
