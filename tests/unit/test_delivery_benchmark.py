from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from answering import ask_here
from sources import encoded, pixels
from stores import StoredPicture, write_store

from benchmarks.rungs import delivery, delivery_answers, fresh_process
from benchmarks.rungs.delivery_answers import Setting
from benchmarks.rungs.fresh_process import Answer
from fastbot.errors import RunError

_STOCK = "torchvision DataLoader"


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    pictures = [StoredPicture(f"{seed}.jpg", encoded(pixels(24, 32, seed)), 24, 32) for seed in range(96)]
    write_store(tmp_path / "store", {"train": pictures}, ("one",))
    return Setting(str(tmp_path / "store"), "turbo", "cpu", batch_size=32, size=16, threads=1)


class Workers:
    """A clock, and a `DataLoader` that lives by it: each worker makes a batch in `batch_s`, all begin together."""

    def __init__(self, workers: int, batch_s: float, num_batches: int = 16, *, starting_s: float = 0.0) -> None:
        self.now = 0.0
        self._workers, self._batch_s, self._num_batches = workers, batch_s, num_batches
        self._starting_s = starting_s

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def epoch(self, _: int) -> Iterator[int]:
        """Yield batches; two a worker are asked for ahead, as by PyTorch's loader."""
        self.now, self._starting_s = self.now + self._starting_s, 0.0
        free = [self.now] * self._workers
        done: list[float] = []
        for number in range(self._num_batches):
            while len(done) < min(self._num_batches, number + 2 * self._workers):
                worker = len(done) % self._workers
                free[worker] = max(free[worker], self.now) + self._batch_s
                done.append(free[worker])
            self.now = max(self.now, done[number])
            yield number


def waits(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Answer:
    monkeypatch.setattr(delivery_answers, "time", workers)
    return delivery_answers._waits(workers.epoch, 2, workers.perf_counter)


def test_a_step_is_longer_than_a_batch_takes_also_where_batches_come_in_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four workers, four seconds a batch: four batches every four seconds, with nothing between three of four."""
    answer = waits(Workers(4, 4.0), monkeypatch)
    assert answer["step_s"] == pytest.approx(1.5)
    assert answer["others_s"] == [0, 0], "who makes a batch a second keeps up with steps of one and a half"
    assert answer["first_s"] == [4, 4], "nothing is made ready beyond the end of an epoch"


def test_what_is_started_once_is_no_part_of_a_batchs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = waits(Workers(1, 2.0, starting_s=60.0), monkeypatch)
    assert answer["step_s"] == pytest.approx(3)


def test_ours_stands_beside_the_peers_and_takes_turns_with_it(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process's sample is the median of its epochs."""
    asked = []

    def ask(question: Any, *_: object) -> Answer:
        asked.append(question.__name__)
        number = asked.count(question.__name__)
        scale = 1.0 if question is delivery_answers.borders else 4.0
        return {"step_s": 0.5, "first_s": [scale * number, 9.0, 0.0], "others_s": [0.25 * scale] * 3}

    monkeypatch.setattr(fresh_process, "ask", ask)
    results = {result.case: result for result in delivery.run(setting, repeats=2)}
    assert asked == ["borders", "stock_borders"] * 2
    first, stock_first = (results[f"wait at an epoch's start, {name}"] for name in ("fastbot", _STOCK))
    assert [*first.samples] == [1000, 2000]
    assert [*stock_first.samples] == [4000, 8000]
    assert (first.peer, stock_first.peer) == (stock_first.case, stock_first.case)
    assert [*first.ratios] == [0.25, 0.25]
    assert first.details == {"step_ms": 500, "longest_ms": 9000}
    elsewhere = results["wait elsewhere, fastbot"]
    assert [*elsewhere.samples] == [250, 250]
    assert elsewhere.peer == f"wait elsewhere, {_STOCK}"
    assert elsewhere.ratio == 0.25


def test_both_answer(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process, "ask", ask_here)
    results = delivery.run(setting, repeats=1, epochs=2)
    assert [result.case.rpartition(", ")[2] for result in results] == ["fastbot", _STOCK] * 2
    for result in results:
        assert result.unit == "ms"
        assert result.details["longest_ms"] >= result.value >= 0
        assert result.details["step_ms"] > 0


def test_an_epoch_of_one_batch_is_refused(setting: Setting) -> None:
    with pytest.raises(RunError, match="96 pictures, and an epoch needs two batches of 64: lower --batch-size"):
        delivery.run(Setting(setting.data, "turbo", "cpu", 64, 16, 1))


def test_on_a_gpu_a_batch_is_there_when_the_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that was only begun takes a second each, ours and the peer's copy alike."""
    workers = Workers(1, 0.0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: workers.sleep(1.0))
    monkeypatch.setattr(delivery_answers, "time", workers)
    answer = delivery_answers._waits(
        lambda epoch: delivery_answers._there(workers.epoch(epoch)), 2, workers.perf_counter
    )
    assert answer == {"step_s": 1.5, "first_s": [1.0, 1.0], "others_s": [1.0, 1.0]}
