from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fastbot.distributed import Ranks
from fastbot.metrics import CudaWaitClock, HostWaitClock, Reading, Sums, means

ALONE = Ranks(rank=0, local_rank=0, world_size=1, local_world_size=1, device=torch.device("cpu"))


def test_sums_are_weighted_means_over_rows() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(40, 7)), generator.integers(7, size=40)
    weight = (generator.random(40) < 0.7).astype(np.float32)
    losses = generator.random(40)
    sums = Sums(torch.device("cpu"))
    for rows in (slice(0, 25), slice(25, 40)):
        loss = (losses[rows] * weight[rows]).sum() / weight[rows].sum()
        batch = (torch.tensor(value[rows]) for value in (logits, labels, weight))
        sums.update(torch.tensor(loss), *batch)
    order = np.argsort(-logits, axis=1)
    total = weight.sum()
    expected = {
        "loss": (losses * weight).sum() / total,
        "top1": ((order[:, 0] == labels) * weight).sum() / total,
        "top5": ((order[:, :5] == labels[:, None]).any(1) * weight).sum() / total,
    }
    assert Reading(sums.total(ALONE)).means() == pytest.approx(expected)


def test_fewer_than_five_classes_have_a_top5_of_one() -> None:
    sums = Sums(torch.device("cpu"))
    sums.update(torch.tensor(1.0), torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), torch.ones(6))
    assert means(sums.values)["top5"] == 1


def test_nothing_seen_is_nan_not_a_division_error() -> None:
    assert np.isnan(means(Sums(torch.device("cpu")).values)["loss"])


def test_the_wait_of_a_slow_source_is_measured() -> None:
    """The oracle is the source itself, which counts how long it really slept."""
    slept = 0.0

    def slow_source():  # type: ignore[no-untyped-def]
        nonlocal slept
        for step in range(10):
            started = time.perf_counter()
            time.sleep(0.02)
            slept += time.perf_counter() - started
            yield step

    clock = HostWaitClock()
    started = time.perf_counter()
    for _ in clock.watch(slow_source()):
        time.sleep(0.005)
    whole = time.perf_counter() - started
    assert 0.8 * slept <= clock.seconds() <= whole


def test_the_time_of_a_step_is_not_waiting() -> None:
    ticks = iter(range(100))
    clock = HostWaitClock(now=lambda: float(next(ticks)))
    for _ in clock.watch(iter([1, 2, 3])):
        next(ticks)  # the step takes a tick that must not be counted
    assert clock.seconds() == 4  # one tick for each of three batches, one to learn that there is no fourth


class _Event:
    """A CUDA event on a stream that works at once; it is recorded at the time that `now` shows, in ms."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        self.at = math.nan

    def record(self, _: object) -> None:
        self.at = self.now

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: _Event) -> float:
        return other.at - self.at


def test_on_a_gpu_steps_that_have_ended_count_when_the_wait_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels arrive 200 ms after each step's end; augmentation does not end before the second is read."""
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    monkeypatch.setattr(_Event, "now", 0.0)
    clock = CudaWaitClock(torch.device("cuda"))

    def batches() -> Iterator[int]:
        for number in range(2):
            _Event.now += 200
            clock.arrived()
            if number == 1:
                read.append(clock.seconds())
            yield number

    read: list[float] = []
    for _ in clock.watch(batches()):
        _Event.now += 1000
    assert read == [pytest.approx(0.4)]
