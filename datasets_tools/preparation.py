"""Pictures prepared ahead, in order, by worker processes: bounded in memory, and never waiting for a dead worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from datasets_tools.errors import ConversionError, PictureError
from datasets_tools.pictures import Encoding, Picture, prepare
from datasets_tools.sources.base import Entry

# Few pictures a task keep the window small when pictures are large; more than one amortizes the task's own cost.
_ENTRIES_PER_TASK = 4
_TASKS_PER_WORKER = 4


@dataclass(frozen=True, slots=True)
class Rejected:
    """A picture that cannot be used, and why."""

    key: str
    reason: str


def prepared(entries: Sequence[Entry], encoding: Encoding, workers: int) -> Generator[Picture | Rejected]:
    """Yield the outcome of every entry, in order.

    Args:
        entries: what to read.
        encoding: how to store it.
        workers: processes; 1 works in this one. At most 16 pictures per worker are in flight.

    Raises:
        ConversionError: a worker died.
    """
    if workers == 1:
        for entry in entries:
            yield _outcome(entry, encoding)
        return
    # Not fork: the caller may have threads. The server starts each worker from a clean, single-threaded process.
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield from _in_order(pool, entries, encoding, workers * _TASKS_PER_WORKER)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, entries: Sequence[Entry], encoding: Encoding, window: int
) -> Generator[Picture | Rejected]:
    pending: deque[tuple[Entry, Future[list[Picture | Rejected]]]] = deque()
    try:
        for start in range(0, len(entries), _ENTRIES_PER_TASK):
            task = entries[start : start + _ENTRIES_PER_TASK]
            pending.append((task[0], pool.submit(_outcomes, task, encoding)))
            if len(pending) == window:
                yield from pending[0][1].result()
                pending.popleft()
        while pending:
            yield from pending[0][1].result()
            pending.popleft()
    except BrokenProcessPool as error:
        near = f" near {pending[0][0].key}" if pending else ""
        raise ConversionError(
            f"a worker process died{near}: killed from outside, out of memory, or a picture that crashes the decoder. "
            "Try fewer --workers; --workers 1 finds a picture that is to blame."
        ) from error


def _outcomes(entries: Sequence[Entry], encoding: Encoding) -> list[Picture | Rejected]:
    return [_outcome(entry, encoding) for entry in entries]


def _outcome(entry: Entry, encoding: Encoding) -> Picture | Rejected:
    try:
        return prepare(entry.key, entry.read(), encoding)
    except PictureError as error:
        return Rejected(entry.key, error.reason)
    except OSError as error:
        return Rejected(entry.key, f"cannot be read: {error.strerror or error}")


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which stops its workers, and end with the parent even when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"
    parent.join()
    os._exit(1)
