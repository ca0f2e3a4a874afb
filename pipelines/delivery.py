"""One prefetcher for all backends: batches of pixels, one after another, across epochs.

A thread of its own asks the backend for a batch, settles its bad pictures and sends it to the device, while the
consumer works on the batch before. The backend's stream runs on from epoch to epoch: an epoch begins with pictures that
were decoded while the last one ended. In flight are the consumer's batch, one here, and those the backend works on.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch

from pipelines.bad_pictures import Settled
from pipelines.batch import Backend, BatchPlan, Decoded, Plan
from pipelines.errors import PipelineError
from pipelines.transfer import Transfer

Step = tuple[int, int]  # an epoch and a step in it, both from 0
Settle = Callable[[Decoded, BatchPlan], Settled]


@dataclass(frozen=True, slots=True)
class Delivered:
    """Pixels on the device, the plan that they follow, and what was wrong with which samples."""

    pixels: torch.Tensor
    plan: BatchPlan
    bad: Mapping[int, Exception]


_Source = Generator[Delivered]


class Delivery:
    """Prepares the batches of a plan, one ahead of whoever takes them.

    There is one reader at a time: `start` makes the one before invalid. What it took is valid until it advances, and is
    what it takes again until then.

    Args:
        plan: what to prepare.
        backend: makes pixels. Its owner closes it, after this.
        settle: what becomes of rows that have no picture.
        transfer: brings pixels to the device.
        endless: whether the next epoch follows the end of each, or nothing does.

    Attributes:
        waited_s: seconds for which `take` has blocked.
    """

    def __init__(self, plan: Plan, backend: Backend, settle: Settle, transfer: Transfer, *, endless: bool) -> None:
        self._plan = plan
        self._backend = backend
        self._settle = settle
        self._transfer = transfer
        self._endless = endless
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="delivery")
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._reader = 0
        self._ended: Future[None] | None = None
        self._source: _Source = _nothing()
        self._coming: Future[Delivered | None] = Future()
        self._next: Step | None = None  # which batch `_coming` brings
        self.waited_s = 0.0

    def start(self, step: Step) -> int:
        """Begin to prepare the batches from `step` on, unless they are what comes next anyway.

        Returns:
            The reader's number.

        Raises:
            PipelineError: the delivery is closed, or this process is a fork of the one that opened it.
        """
        self._check_process()
        with self._lock:
            self._check_open()
            self._reader += 1
            if self._next != step:
                before, self._source = self._source, self._source_from(step)
                self._next, self._coming = step, self._worker.submit(_restart, before, self._source, self._transfer)
            return self._reader

    def take(self, reader: int) -> Delivered:
        """Return the next batch, waiting for it.

        Raises:
            PipelineError: the delivery is closed, another reader has started, or this process is a fork.
            Exception: what making the batch raised. Nothing follows; `start` begins anew.
        """
        self._check_process()
        with self._lock:
            self._check_reader(reader)
            coming = self._coming
        began = time.perf_counter()
        try:
            delivered = coming.result()
        except BaseException:
            self._forget(coming)
            raise
        finally:
            self.waited_s += time.perf_counter() - began
            # An error that its own frames lead back to would hold threads until cycles are collected.
            del coming
        assert delivered is not None, "a reader takes no more than an epoch has"
        return delivered

    def advance(self, reader: int) -> None:
        """Begin to prepare the next batch: the pixels of the one that was taken are not needed any more.

        Raises:
            PipelineError: the delivery is closed, another reader has started, or this process is a fork.
        """
        self._check_process()
        with self._lock:
            self._check_reader(reader)
            self._transfer.release()
            self._coming = self._worker.submit(_request, self._source, self._transfer)
            self._next = self._after(self._next)

    def close(self) -> None:
        """End the backend's stream and the thread, once the batch it is making is made.

        May be called twice, and from any thread. In a fork it does nothing: what it would end is its parent's.
        """
        if self.in_fork:
            return
        with self._lock:
            if self._ended is None:
                self._ended = self._worker.submit(self._source.close)
        self._worker.shutdown()
        self._ended.result()

    @property
    def in_fork(self) -> bool:
        """Whether this is a fork's copy, without the threads: they are where it was opened."""
        return os.getpid() != self._process

    def _source_from(self, step: Step) -> _Source:
        return _deliveries(self._plan, self._backend, self._settle, self._transfer, step, self._endless)

    def _after(self, step: Step | None) -> Step | None:
        assert step is not None, "a reader advances from a batch that it took"
        following = _step_after(step, self._plan.steps_per_epoch)
        return following if self._endless or following[0] == step[0] else None

    def _forget(self, coming: Future[Delivered | None]) -> None:
        """Let the next reader begin anew where making a batch failed: its source has ended."""
        with self._lock:
            if self._coming is coming and coming.done() and coming.exception() is not None:
                self._next, self._coming = None, Future()

    def _check_open(self) -> None:
        if self._ended is not None:
            raise PipelineError("the pipeline is closed: open it again")

    def _check_process(self) -> None:
        """Refuse a fork, before it waits for threads that it has not, or for a lock that one of them held."""
        if self.in_fork:
            raise PipelineError(
                f"the pipeline was opened in process {self._process}, of which {os.getpid()} is a fork: open it in "
                "this process, or start processes with multiprocessing's `spawn`"
            )

    def _check_reader(self, reader: int) -> None:
        self._check_open()
        if reader != self._reader:
            raise PipelineError(
                "batches were asked for again while this iterator was read: a pipeline has one at a time; "
                "open another pipeline to read two"
            )


def _nothing() -> _Source:
    yield from ()


def _request(source: _Source, transfer: Transfer) -> Delivered | None:
    with transfer.requesting():
        return next(source, None)


def _restart(before: _Source, source: _Source, transfer: Transfer) -> Delivered | None:
    before.close()
    return _request(source, transfer)


# Not a method: a generator that refers to its owner would leave threads to the cycle collector.
def _deliveries(plan: Plan, backend: Backend, settle: Settle, transfer: Transfer, step: Step, endless: bool) -> _Source:
    """Yield batches from `step` on; a new stream of the backend begins where pictures change their size."""
    deliver = partial(_delivered, settle, transfer)
    for _, steps in groupby(_steps_from(step, plan.steps_per_epoch, endless), lambda step: plan.output_size(step[0])):
        planned: deque[BatchPlan] = deque()  # what the backend has asked for and not delivered yet
        with closing(backend.pixels(_plans(plan, steps, planned))) as stream:
            # Not a loop: its variable would hold a batch while the backend makes another.
            yield from map(deliver, stream, iter(planned.popleft, None))


def _delivered(settle: Settle, transfer: Transfer, decoded: Decoded, plan: BatchPlan) -> Delivered:
    settled = settle(decoded, plan)
    return Delivered(transfer.send(settled.pixels), settled.plan, settled.bad)


def _plans(plan: Plan, steps: Iterator[Step], planned: deque[BatchPlan]) -> Iterator[BatchPlan]:
    for epoch, step in steps:
        planned.append(plan.batch(epoch, step))
        yield planned[-1]


def _steps_from(step: Step, steps_per_epoch: int, endless: bool) -> Iterator[Step]:
    following = step
    while endless or following[0] == step[0]:
        yield following
        following = _step_after(following, steps_per_epoch)


def _step_after(step: Step, steps_per_epoch: int) -> Step:
    epoch, number = step
    return (epoch, number + 1) if number + 1 < steps_per_epoch else (epoch + 1, 0)
