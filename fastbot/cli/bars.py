"""Progress bars of commands that read or write a whole store."""

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
        self._progress.update(self._task, description=what, completed=num_done, total=num_total)


@contextmanager
def pictures_bar(console: Console) -> Iterator[Bar]:
    """Show a bar that counts pictures while the block runs."""
    with _progress(console, MofNCompleteColumn()) as progress:
        yield Bar(progress)


@contextmanager
def bytes_bar(console: Console) -> Iterator[Bar]:
    """Show a bar that counts bytes, with their rate, while the block runs."""
    with _progress(console, DownloadColumn(), TransferSpeedColumn()) as progress:
        yield Bar(progress)


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    # A split's name may hold brackets.
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), *columns, TimeRemainingColumn(), console=console
    )
