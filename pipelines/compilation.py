"""Says in a line that numba compiles, which a first run after an installation waits for and no later one does."""

from __future__ import annotations

import logging
from functools import cache

from numba.core import event

_log = logging.getLogger("pipelines")


@cache
def announce_compilation() -> None:
    """Log one line when a kernel of this package is compiled, instead of read from numba's cache on disk.

    Called again, it does nothing.
    """
    event.register("numba:compile", _Announcement())


class _Announcement(event.Listener):  # type: ignore[misc]
    """Told by numba, which compiles one function at a time."""

    def __init__(self) -> None:
        self._is_made = False

    def on_start(self, event: event.Event) -> None:
        function = event.data["dispatcher"]
        folder = function.stats.cache_path  # None for what FFCV compiles in every process, which has its own line
        if self._is_made or folder is None or not function.py_func.__module__.startswith("pipelines."):
            return
        self._is_made = True
        _log.info("compiling for this machine, once after an installation: up to 20 s of a core; kept in %s", folder)

    def on_end(self, event: event.Event) -> None:
        """Say nothing: what was announced is over when the first batch is there."""
