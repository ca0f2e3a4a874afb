"""How far a measurement is, on a terminal: nothing is drawn while the clock runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

# Is told what comes next.
Tell = Callable[[str], None]


@contextmanager
def progress(title: str, total: int) -> Iterator[Tell]:
    """Show how many of the turns of a measurement are done, and which is under way; off a terminal nothing.

    A bar that drew itself anew ten times a second would be measured with the rest: it is drawn as each turn begins.

    Args:
        title: of what is measured.
        total: turns.

    Returns:
        What to call at the beginning of each turn, with its name.
    """
    columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(
        *columns, console=Console(stderr=True), auto_refresh=False, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task, begun = bar.add_task(title, total=total), 0

        def tell(name: str) -> None:
            nonlocal begun
            bar.update(task, description=f"{title}: {name}", completed=begun, refresh=True)
            begun += 1

        yield tell
