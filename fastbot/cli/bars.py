"""Progress bars, of commands that read or write a whole store and of others: in a terminal, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

# Ten times a second is all an eye sees; an update costs more than copying a picture.
_PERIOD_S = 0.1


class TerminalProgress(Progress):
    """rich's progress, which elsewhere than in a terminal would leave its last state standing, or an empty line."""

    def start(self) -> None:
        """Begin to draw, in a terminal."""
        if self.console.is_interactive:
            super().start()

    def stop(self) -> None:
        """End drawing, if it was begun."""
        if self.live.is_started:
            super().stop()


class Bar:
    """A bar that is told how far the work is, as often as the work likes.

    Args:
        progress: what draws it.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("opening", total=None)
        self._next_s = 0.0

    def update(self, what: str, num_done: int, num_total: int) -> None:
        """Show how far the work is.

        Args:
            what: is being worked on, in a word.
            num_done: of it.
            num_total: of it.
        """
        now_s = monotonic()
        if num_done < num_total and now_s < self._next_s:
            return
        self._next_s = now_s + _PERIOD_S
        self._progress.start()  # not before: what fails at once needs no bar
        self._progress.update(self._task, description=what, completed=num_done, total=num_total)


@contextmanager
def pictures_bar(console: Console) -> Iterator[Bar]:
    """Show a bar that counts pictures while the block runs."""
    with _drawn(console, MofNCompleteColumn()) as bar:
        yield bar


@contextmanager
def bytes_bar(console: Console) -> Iterator[Bar]:
    """Show a bar that counts bytes, with their rate, while the block runs."""
    with _drawn(console, DownloadColumn(), TransferSpeedColumn()) as bar:
        yield bar


@contextmanager
def _drawn(console: Console, *columns: ProgressColumn) -> Iterator[Bar]:
    # A split's name may hold brackets.
    what = TextColumn("{task.description}", markup=False)
    progress = TerminalProgress(what, BarColumn(), *columns, TimeRemainingColumn(), console=console)
    try:
        yield Bar(progress)
    finally:
        progress.stop()
