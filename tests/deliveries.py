"""A plan and a backend that cost nothing and keep a record, for tests of what lies between them and a consumer."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from plans import train_plan

from pipelines.batch import BatchPlan, Decoded

ROWS = 2
STALE = 255


class CountingPlan:
    """Epochs of a few steps; sample ids count through them. `sizes` are the sides of the pictures by epoch."""

    rows = ROWS

    def __init__(self, steps_per_epoch: int = 4, sizes: Mapping[int, int] | None = None) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._sizes = sizes or {}

    def output_size(self, epoch: int) -> tuple[int, int]:
        side = self._sizes.get(epoch, 4)
        return side, side

    def batch(self, epoch: int, step: int) -> BatchPlan:
        first = (epoch * self.steps_per_epoch + step) * ROWS
        plan = train_plan(range(first, first + ROWS), np.ones((ROWS, 4)), self.output_size(epoch), step)
        return replace(plan, epoch=epoch)

    def substituted(self, plan: BatchPlan, rows: Sequence[int], attempt: int) -> BatchPlan:
        raise NotImplementedError


class RecordingBackend:
    """Pixels are the sample's id, and turn stale when the next are requested. Works ahead in a thread of its own.

    Attributes:
        planned: ids of the first row of each plan that was read, in order.
        streams: output sizes of the streams that were begun.
        num_open: streams that were begun and have not ended.
        fail_at: first id of the batch that raises instead.
        pause_s: how long each batch takes.
    """

    name = "recording"

    def __init__(self, ahead: int = 2) -> None:
        self.ahead = ahead
        self.planned: list[int] = []
        self.streams: list[tuple[int, int]] = []
        self.num_open = 0
        self.fail_at: int | None = None
        self.pause_s = 0.0
        self.closed = 0

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        pending: list[BatchPlan] = []
        self.num_open += 1
        with ThreadPoolExecutor(1, thread_name_prefix="recording") as pool:
            try:
                for number, plan in enumerate(plans):
                    if number == 0:
                        self.streams.append(plan.output_size)
                    self.planned.append(int(plan.ids[0]))
                    pending.append(plan)
                    if len(pending) > self.ahead:
                        yield from self._made(pool, pending.pop(0))
                while pending:
                    yield from self._made(pool, pending.pop(0))
            finally:
                self.num_open -= 1

    def close(self) -> None:
        self.closed += 1

    def _made(self, pool: ThreadPoolExecutor, plan: BatchPlan) -> Generator[Decoded]:
        pixels = pool.submit(self._make, plan).result()
        yield Decoded(pixels, {})
        pixels.fill_(STALE)

    def _make(self, plan: BatchPlan) -> torch.Tensor:
        time.sleep(self.pause_s)
        if plan.ids[0] == self.fail_at:
            raise ZeroDivisionError(f"batch {self.fail_at}")
        shape = (len(plan.ids), *plan.output_size, 3)
        return torch.from_numpy(np.broadcast_to(plan.ids[:, None, None, None], shape).astype(np.uint8))


def threads_ended(before: int) -> bool:
    """Wait until no more than `before` Python threads are left."""
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    return threading.active_count() <= before


def in_a_fork(use: Callable[[], int]) -> int:
    """Return what `use` returns in a fork of this process (1 to 9), or what else the fork ended with.

    One that hangs is ended by its alarm: the result is then -14.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads is what this is about
        child = os.fork()
    if not child:
        ended_with = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(5)
            ended_with = use()
        finally:
            os._exit(ended_with)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
