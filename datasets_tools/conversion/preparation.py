"""Pictures prepared ahead, in order, by worker processes: bounded in memory, and never waiting for a dead worker.

A worker reads a run of pictures, checks and converts them, and leaves the bytes in a slot of memory that it shares with
the parent; only what is known *about* them travels through a pipe. So the parent, the one ordered writer, touches each
byte once, when it hands it to the file.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import reduction
from types import TracebackType
from typing import Any, Self

from datasets_tools.conversion.journal import Rejected
from datasets_tools.errors import ConversionError, PictureError
from datasets_tools.pictures import Picture, Policy, prepare
from datasets_tools.sources.base import Entries, Run

# Runs under way per worker: one at work, one waiting, one being written.
_RUNS_PER_WORKER = 3
# Address space, not memory: pages are taken as they are written. A run that does not fit travels through the pipe.
_SLOT_SIZE = 32 << 20
# A slot that held more than this gives its memory back.
_KEPT_SIZE = 2 << 20


class Preparation:
    """Worker processes that prepare pictures. A context manager: leaving it ends them.

    Args:
        policy: what is asked of every picture.
        workers: processes; 1 prepares in this one.
    """

    def __init__(self, policy: Policy, workers: int) -> None:
        self._policy = policy
        self._num_slots = workers * _RUNS_PER_WORKER
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            self._slots = _Slots(os.memfd_create("pictures"), self._num_slots * _SLOT_SIZE)
            # Not fork: the caller may have threads. The server forks each worker from a clean, single-threaded process.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])  # imported once, not by each worker
            self._pool = ProcessPoolExecutor(workers, context, _start_worker, (self._slots, policy))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._slots.close()

    def outcomes(self, entries: Entries, start: int, stop: int) -> Generator[Picture | Rejected]:
        """Yield what becomes of pictures `start` to `stop`, in order.

        A picture's data are valid until the next one is asked for.

        Raises:
            ConversionError: the source cannot be read any more, or a worker died.
        """
        runs = entries.runs(start, stop)
        if self._pool is None:
            for run in runs:
                yield from _inline(run, self._policy)
        else:
            yield from self._parallel(self._pool, runs)

    def _parallel(self, pool: ProcessPoolExecutor, runs: Iterator[Run]) -> Generator[Picture | Rejected]:
        pending: deque[tuple[Run, int, Future[list[_Prepared]]]] = deque()
        try:
            for number, run in enumerate(runs):
                # Runs end in the order they began, so the slot of the run `num_slots` before this one is free.
                if len(pending) == self._num_slots:
                    yield from self._collected(pending.popleft())
                slot = number % self._num_slots
                pending.append((run, slot, _submitted(pool, run, slot)))
            while pending:
                yield from self._collected(pending.popleft())
        finally:
            for _, _, future in pending:
                future.cancel()
            # What could not be cancelled still writes to its slot: the next call's runs must not get it.
            for _, _, future in pending:
                if not future.cancelled():
                    future.exception()

    def _collected(self, task: tuple[Run, int, Future[list[_Prepared]]]) -> Generator[Picture | Rejected]:
        run, slot, future = task
        try:
            prepared = future.result()
        except BrokenProcessPool as error:
            raise ConversionError(_worker_died(run)) from error
        except OSError as error:
            raise ConversionError(_source_gone(run, error)) from error
        for outcome, start, size in prepared:
            if isinstance(outcome, Picture) and start >= 0:
                yield _with_data(outcome, self._slots.view(slot, start, size))
            else:
                yield outcome
        self._slots.release(slot, max(start + size for _, start, size in prepared))


# What a worker says of a picture: the outcome, and where in the slot its bytes lie; a start of -1 where they are in
# the outcome itself.
_Prepared = tuple[Picture | Rejected, int, int]


class _Slots:
    """Memory shared with the workers, in slots of `_SLOT_SIZE`; pickles only on the way to a new process."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)
        self._view = memoryview(self._memory)

    def __reduce__(self) -> tuple[Any, tuple[Any, int]]:
        return _attached, (reduction.DupFd(self._descriptor), len(self._memory))

    def view(self, slot: int, start: int, size: int) -> memoryview:
        """Return part of a slot."""
        first = slot * _SLOT_SIZE + start
        return self._view[first : first + size]

    def release(self, slot: int, used: int) -> None:
        """Give the memory of a slot back where it was large."""
        if used > _KEPT_SIZE:
            self._memory.madvise(mmap.MADV_REMOVE, slot * _SLOT_SIZE, _SLOT_SIZE)

    def close(self) -> None:
        """Close the file; the memory goes when the last view of it does."""
        os.close(self._descriptor)


def _attached(descriptor: Any, size: int) -> _Slots:
    return _Slots(descriptor.detach(), size)


def _inline(run: Run, policy: Policy) -> Generator[Picture | Rejected]:
    try:
        for key, data in run.read():
            yield _outcome(key, data, policy)
    except OSError as error:
        raise ConversionError(_source_gone(run, error)) from error


def _outcome(key: str, data: bytes | PictureError, policy: Policy) -> Picture | Rejected:
    if isinstance(data, PictureError):
        return Rejected(key, data.reason)
    try:
        return prepare(key, data, policy)
    except PictureError as error:
        return Rejected(key, error.reason)
    except MemoryError as error:
        raise ConversionError(
            f"{key}: no memory to prepare it ({len(data):,} bytes). Go on with --resume and fewer --workers, or begin "
            "anew with a smaller --max-pixels."
        ) from error


def _submitted(pool: ProcessPoolExecutor, run: Run, slot: int) -> Future[list[_Prepared]]:
    try:
        return pool.submit(_work, run, slot)
    except BrokenProcessPool as error:
        raise ConversionError(_worker_died(run)) from error


def _worker_died(run: Run) -> str:
    return (
        f"a worker process died near {run.first_key}: killed from outside, out of memory, or a picture that crashes "
        "the decoder. What was done is kept: go on with --resume, with fewer --workers if memory was short; "
        "--workers 1 finds a picture that is to blame."
    )


def _source_gone(run: Run, error: OSError) -> str:
    return (
        f"the source cannot be read any more, near {run.first_key}: {error}. What was done is kept: bring the source "
        "back and go on with --resume."
    )


def _with_data(picture: Picture, data: bytes | memoryview) -> Picture:
    return Picture(data, picture.height, picture.width, picture.info, picture.reencoded)


class _Worker:
    """What a worker process keeps between its runs."""

    slots: _Slots
    policy: Policy


def _work(run: Run, slot: int) -> list[_Prepared]:
    prepared: list[_Prepared] = []
    start = 0
    for key, data in run.read():
        outcome = _outcome(key, data, _Worker.policy)
        if isinstance(outcome, Rejected):
            prepared.append((outcome, start, 0))
            continue
        size = len(outcome.data)
        if start + size > _SLOT_SIZE:
            prepared.append((outcome, -1, 0))
            continue
        _Worker.slots.view(slot, start, size)[:] = outcome.data
        prepared.append((_with_data(outcome, b""), start, size))
        start += size
    return prepared


def _start_worker(slots: _Slots, policy: Policy) -> None:
    """Leave Ctrl-C to the parent, which stops its workers, and end with the parent even when that is killed."""
    _Worker.slots, _Worker.policy = slots, policy
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in a worker"
    parent.join()
    os._exit(1)
