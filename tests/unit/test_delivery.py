"""The prefetcher, between a backend that keeps a record and a consumer who may do anything."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from deliveries import ROWS, STALE, CountingPlan, RecordingBackend, in_a_fork, threads_ended

from pipelines.bad_pictures import Settled
from pipelines.batch import BatchPlan, Decoded
from pipelines.delivery import Delivered, Delivery
from pipelines.errors import PipelineError
from pipelines.transfer import build_transfer

STEPS = 4
CPU = torch.device("cpu")


def as_it_is(decoded: Decoded, plan: BatchPlan) -> Settled:
    return Settled(decoded.pixels, plan)


def deliver(backend: RecordingBackend, plan: CountingPlan | None = None, *, endless: bool = True) -> Delivery:
    return Delivery(plan or CountingPlan(STEPS), backend, as_it_is, build_transfer(CPU), endless=endless)


@pytest.fixture
def backend() -> RecordingBackend:
    return RecordingBackend()


@pytest.fixture
def delivery(backend: RecordingBackend) -> Iterator[Delivery]:
    before = threading.active_count()
    built = deliver(backend)
    yield built
    built.close()
    assert threads_ended(before)
    assert backend.num_open == 0


def first_id(delivered: Delivered) -> int:
    """Return the id that pixels show, once it is sure that the plan says the same."""
    assert delivered.pixels[:, 0, 0, 0].tolist() == delivered.plan.ids.tolist()
    return int(delivered.plan.ids[0])


def read(delivery: Delivery, epoch: int, start_step: int = 0, num_steps: int = STEPS) -> list[int]:
    reader = delivery.start((epoch, start_step))
    ids = []
    for _ in range(num_steps):
        ids.append(first_id(delivery.take(reader)))
        delivery.advance(reader)
    return ids


def ids_of(*steps: int) -> list[int]:
    """Return the first id of each step, counted through all epochs."""
    return [step * ROWS for step in steps]


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return condition()


def test_epochs_follow_one_another_in_one_stream(delivery: Delivery, backend: RecordingBackend) -> None:
    assert [id_ for epoch in range(3) for id_ in read(delivery, epoch)] == ids_of(*range(3 * STEPS))
    assert len(backend.streams) == 1
    assert backend.planned == ids_of(*range(len(backend.planned))), "nothing was planned twice"


def test_the_head_of_the_next_epoch_is_made_while_nobody_asks(delivery: Delivery, backend: RecordingBackend) -> None:
    read(delivery, 0)
    assert eventually(lambda: len(backend.planned) == STEPS + 1 + backend.ahead)


def test_a_bounded_number_of_batches_is_in_flight(delivery: Delivery, backend: RecordingBackend) -> None:
    reader = delivery.start((0, 0))
    for taken in range(1, 12):
        delivery.take(reader)
        delivery.advance(reader)
        time.sleep(0.002)
        assert len(backend.planned) <= taken + 1 + backend.ahead


@pytest.mark.parametrize(("epoch", "start_step"), [(0, 0), (0, 3), (1, 1), (5, 0)])
def test_another_place_begins_anew(delivery: Delivery, backend: RecordingBackend, epoch: int, start_step: int) -> None:
    read(delivery, 0, num_steps=2)
    place = epoch * STEPS + start_step
    assert read(delivery, epoch, start_step, 3) == ids_of(place, place + 1, place + 2)
    assert len(backend.streams) == 2
    assert backend.num_open == 1


def test_leaving_and_coming_back_to_the_same_place_goes_on(delivery: Delivery, backend: RecordingBackend) -> None:
    assert read(delivery, 0, num_steps=3) + read(delivery, 0, 3, 1) + read(delivery, 1) == ids_of(*range(2 * STEPS))
    assert len(backend.streams) == 1


def test_a_reader_that_took_and_did_not_advance_is_given_the_same_again(delivery: Delivery) -> None:
    reader = delivery.start((0, 0))
    assert first_id(delivery.take(reader)) == first_id(delivery.take(reader)) == 0
    assert read(delivery, 0) == ids_of(*range(STEPS))


def test_pixels_stay_as_they_are_until_the_reader_advances(delivery: Delivery) -> None:
    reader = delivery.start((0, 0))
    for step in range(6):
        delivered = delivery.take(reader)
        time.sleep(0.005)
        assert first_id(delivered) == step * ROWS
        delivery.advance(reader)
    assert eventually(lambda: bool((delivered.pixels == STALE).all())), "the test sees when they are overwritten"


def test_another_size_begins_another_stream_before_anyone_asks() -> None:
    backend = RecordingBackend()
    delivery = deliver(backend, CountingPlan(STEPS, {0: 4, 1: 4, 2: 6, 3: 6, 4: 8}))
    read(delivery, 0)
    read(delivery, 1)
    assert eventually(lambda: len(backend.planned) == 2 * STEPS + 1 + backend.ahead)
    assert backend.streams == [(4, 4), (6, 6)]
    assert [read(delivery, epoch) for epoch in (2, 3, 4)] == [ids_of(*range(e * 4, e * 4 + 4)) for e in (2, 3, 4)]
    assert backend.streams == [(4, 4), (6, 6), (8, 8)]
    delivery.close()


def test_an_evaluation_ends_with_its_epoch() -> None:
    backend, before = RecordingBackend(), threading.active_count()
    delivery = deliver(backend, endless=False)
    for _ in range(2):
        assert read(delivery, 0) == ids_of(*range(STEPS))
        assert eventually(lambda: backend.num_open == 0)
    assert backend.planned == ids_of(*range(STEPS)) * 2
    delivery.close()
    assert threads_ended(before)


def test_an_earlier_reader_is_refused(delivery: Delivery) -> None:
    earlier = delivery.start((0, 0))
    delivery.take(earlier)
    later = delivery.start((0, 0))
    with pytest.raises(PipelineError, match="one at a time"):
        delivery.advance(earlier)
    with pytest.raises(PipelineError, match="one at a time"):
        delivery.take(earlier)
    assert first_id(delivery.take(later)) == 0


def test_an_error_of_the_backend_comes_where_its_batch_would(delivery: Delivery, backend: RecordingBackend) -> None:
    backend.fail_at = 3 * ROWS
    reader = delivery.start((0, 0))
    for step in range(3):
        assert first_id(delivery.take(reader)) == step * ROWS
        delivery.advance(reader)
    with pytest.raises(ZeroDivisionError, match="batch 6"):
        delivery.take(reader)
    assert backend.num_open == 0
    backend.fail_at = None
    assert read(delivery, 0, 3, 2) == ids_of(3, 4), "it can be begun anew"


def test_an_error_of_the_policy_ends_the_stream_too() -> None:
    def refuse(decoded: Decoded, plan: BatchPlan) -> Settled:
        raise ZeroDivisionError("refused")

    backend, before = RecordingBackend(), threading.active_count()
    delivery = Delivery(CountingPlan(), backend, refuse, build_transfer(CPU), endless=True)
    with pytest.raises(ZeroDivisionError, match="refused"):
        delivery.take(delivery.start((0, 0)))
    assert backend.num_open == 0
    delivery.close()
    assert threads_ended(before)


def test_a_fork_is_refused_and_does_not_wait_for_threads_that_it_has_not(delivery: Delivery) -> None:
    reader = delivery.start((0, 0))
    delivery.take(reader)

    def refused() -> int:
        number = 0
        for use in (lambda: delivery.take(reader), lambda: delivery.advance(reader), lambda: delivery.start((2, 0))):
            try:
                use()
            except PipelineError as error:
                number += "fork" in str(error)
        return number

    with delivery._lock:  # as another thread may at any moment: its copy is never released
        assert in_a_fork(refused) == 3
    delivery.advance(reader)
    assert first_id(delivery.take(reader)) == ROWS, "where it was opened it goes on"


@pytest.mark.parametrize("closed_before", [False, True])
def test_closing_in_a_fork_ends_nothing_and_waits_for_nothing(delivery: Delivery, closed_before: bool) -> None:
    reader = delivery.start((0, 0))
    delivery.take(reader)
    delivery.advance(reader)
    if closed_before:
        delivery.close()

    def close_twice() -> int:
        delivery.close()
        delivery.close()
        return 7

    with delivery._lock:
        assert in_a_fork(close_twice) == 7
    if not closed_before:
        assert first_id(delivery.take(reader)) == ROWS, "where it was opened it goes on"


def test_closing_half_way_ends_every_thread_and_twice_does_nothing(backend: RecordingBackend) -> None:
    before = threading.active_count()
    delivery = deliver(backend)
    reader = delivery.start((0, 0))
    delivery.take(reader)
    assert threading.active_count() > before
    delivery.close()
    delivery.close()
    assert backend.num_open == 0
    assert threads_ended(before)
    for use in (lambda: delivery.take(reader), lambda: delivery.advance(reader), lambda: delivery.start((0, 0))):
        with pytest.raises(PipelineError, match="closed"):
            use()


def test_closing_what_never_started_ends_too(backend: RecordingBackend) -> None:
    before = threading.active_count()
    deliver(backend).close()
    assert threads_ended(before)


def test_closing_from_another_thread_frees_a_consumer_that_waits(backend: RecordingBackend) -> None:
    before = threading.active_count()
    backend.pause_s = 0.05
    delivery = deliver(backend)
    ended_with: list[BaseException] = []

    def consume() -> None:
        reader = delivery.start((0, 0))
        try:
            while True:
                delivery.take(reader)
                delivery.advance(reader)
        except PipelineError as error:
            ended_with.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert eventually(lambda: backend.num_open == 1)
    delivery.close()
    consumer.join(5)
    assert "closed" in str(ended_with[0])
    assert threads_ended(before)


@pytest.mark.parametrize("num_taken", [0, 1, STEPS])
def test_what_nobody_refers_to_any_more_ends_by_itself(backend: RecordingBackend, num_taken: int) -> None:
    before = threading.active_count()
    gc.disable()  # reference counts alone must do it
    try:
        delivery = deliver(backend)
        read(delivery, 0, num_steps=num_taken)
        del delivery
        assert threads_ended(before)
    finally:
        gc.enable()
    assert backend.num_open == 0


def test_an_error_that_is_let_go_holds_no_thread(backend: RecordingBackend) -> None:
    before, backend.fail_at = threading.active_count(), 0
    gc.disable()
    try:
        delivery = deliver(backend)
        reader = delivery.start((0, 0))
        with contextlib.suppress(ZeroDivisionError):
            delivery.take(reader)
        del delivery
        assert threads_ended(before)
    finally:
        gc.enable()


def test_the_wait_is_what_the_consumer_was_blocked_for(backend: RecordingBackend) -> None:
    backend.ahead, backend.pause_s = 0, 0.03
    delivery = deliver(backend)
    read(delivery, 0)
    assert delivery.waited_s >= STEPS * backend.pause_s
    backend.pause_s = 0
    reader, waited_s = delivery.start((1, 0)), delivery.waited_s
    time.sleep(0.2)  # the batch is there long before it is taken
    delivery.take(reader)
    assert delivery.waited_s - waited_s < 0.1
    delivery.close()
