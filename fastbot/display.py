"""What a person sees while a run goes on: a live line in a terminal, plain lines elsewhere, nothing on other ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Values = Mapping[str, float]


class Display(Protocol):
    """Shows a run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None:
        """Show a line that stays."""
        ...

    def train(self, step: int, values: Values) -> None:
        """Show a reading of the training metrics."""
        ...

    def evaluation(self, step: int, scores: Values) -> None:
        """Show the result of an evaluation."""
        ...


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None:
        """Show nothing."""

    def train(self, step: int, values: Values) -> None:
        """Show nothing."""

    def evaluation(self, step: int, scores: Values) -> None:
        """Show nothing."""


class Lines(Silent):
    """Plain lines, for logs.

    Args:
        console: where to.
        start_step: steps done before this start.
        total_steps: of the whole training.
    """

    def __init__(self, console: Console, start_step: int, total_steps: int) -> None:
        self._console, self._total = console, total_steps
        self._start_step, self._started = start_step, time.monotonic()

    def say(self, text: str) -> None:
        """Print the line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def train(self, step: int, values: Values) -> None:
        """Print one line of numbers."""
        self.say(self._line(step, values))

    def evaluation(self, step: int, scores: Values) -> None:
        """Print the scores."""
        self.say(_scores(step, scores))

    def _line(self, step: int, values: Values) -> str:
        return f"step {step}/{self._total}  {_numbers(values)}  left {_span(self._left(step))}"

    def _left(self, step: int) -> float:
        done = step - self._start_step
        return (time.monotonic() - self._started) / done * (self._total - step) if done else math.inf


class Live(Lines):
    """A progress bar over the numbers of the last reading; evaluations stay above it as lines."""

    def __init__(self, console: Console, start_step: int, total_steps: int) -> None:
        super().__init__(console, start_step, total_steps)
        self._live = RichLive(self._shown(start_step, "starting"), console=console, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def train(self, step: int, values: Values) -> None:
        """Move the bar and its numbers."""
        self._live.update(self._shown(step, self._line(step, values)), refresh=True)

    def _shown(self, step: int, text: str) -> RenderableType:
        rows = Table.grid(expand=True)
        rows.add_row(ProgressBar(self._total, step))
        rows.add_row(Text(text))
        return rows


def build_display(console: Console, start_step: int, total_steps: int) -> Display:
    """Return the live display in a terminal, plain lines elsewhere."""
    kind = Live if console.is_terminal else Lines
    return kind(console, start_step, total_steps)


def _numbers(values: Values) -> str:
    return (
        f"epoch {values['epoch']:.2f}  loss {values['loss']:.3f}  top-1 {values['top1']:.1%}  "
        f"lr {values['learning_rate']:.4f}  {values['images_per_s']:,.0f} images/s  "
        f"data wait {values['data_wait_fraction']:.0%}"
    )


def _scores(step: int, scores: Values) -> str:
    return f"step {step}: val top-1 {scores['top1']:.2%}, top-5 {scores['top5']:.2%}, loss {scores['loss']:.3f}"


def _span(seconds: float) -> str:
    if seconds == math.inf:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
