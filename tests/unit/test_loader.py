"""`pipelines.open`, as somebody with their own loop uses it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deliveries import in_a_fork, threads_ended

import pipelines
from datasets_tools.store import Store
from pipelines.errors import PipelineError

SPEC = {"global_batch_size": 16, "crop_size": 32, "eval": {"resize_size": 36, "crop_size": 32, "global_batch_size": 16}}
FAST = {"backend": "synthetic", "device": "cpu", "num_threads": 1}


def ids(batches: Any) -> list[list[int]]:
    return [batch.ids.tolist() for batch in batches]


def test_five_lines_give_batches(store_path: Path) -> None:
    before = threading.active_count()
    with pipelines.open(store_path, SPEC, device="cpu") as batches:
        assert len(batches) == 4
        assert batches.num_classes == len(batches.class_names) == 12
        for batch in batches:
            assert batch.images.shape == (16, 3, 32, 32)
    assert threads_ended(before)
    with pytest.raises(PipelineError, match="closed"):
        batches.epoch(0)


def test_iterating_goes_from_epoch_to_epoch(store: Store) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        epochs = [ids(batches) for _ in range(3)]
        assert epochs[0] != epochs[1] != epochs[2]
        assert epochs == [ids(batches.epoch(epoch)) for epoch in range(3)]
        assert ids(batches.epoch(1, 2)) == epochs[1][2:]
        assert ids(batches) == epochs[2], "iterating goes on after the epoch that was read last"


def test_a_loop_left_half_way_leaves_the_rest_of_its_epoch_out(store: Store) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        second = ids(batches.epoch(1))
        batches.load_state_dict({"epoch": 0, "step": 0})
        list(islice(batches, 2))
        assert ids(batches) == second


@pytest.mark.parametrize("num_read", [1, 4, 7])
def test_a_state_saved_anywhere_resumes_there(store: Store, num_read: int) -> None:
    with pipelines.open(store, SPEC, **FAST) as whole, pipelines.open(store, SPEC, **FAST) as resumed:
        everything = [batch for _ in range(4) for batch in ids(whole)]
        whole.load_state_dict({"epoch": 0, "step": 0})
        reading = (batch for _ in range(2) for batch in whole)
        assert ids(islice(reading, num_read)) == everything[:num_read]
        resumed.load_state_dict(whole.state_dict())
        read = ids(resumed) + ids(resumed)
        assert len(read) == 8 - num_read % 4, "the rest of an epoch, and a whole one"
        assert read == everything[num_read:][: len(read)]


def test_a_state_says_which_batch_comes_next(store: Store) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        states = [batches.state_dict()]
        for _ in batches:
            states.append(batches.state_dict())
    assert states == [{"epoch": 0, "step": step} for step in range(4)] + [{"epoch": 1, "step": 0}]
    assert batches.state_dict() == states[-1], "closing keeps it"


def test_asking_for_an_iterator_reads_nothing(store: Store) -> None:
    """As Lightning does, to see whether it can."""
    with pipelines.open(store, SPEC, **FAST) as batches:
        expected = [ids(batches.epoch(epoch)) for epoch in range(2)]
        batches.load_state_dict({"epoch": 0, "step": 1})
        iter(batches)
        assert batches.state_dict() == {"epoch": 0, "step": 1}
        assert ids(batches) == expected[0][1:]
        iter(batches)
        assert ids(batches) == expected[1]


def test_what_is_loaded_holds_whoever_is_still_reading(store: Store) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        third = ids(batches.epoch(2))
        earlier = batches.epoch(0)
        next(earlier)
        batches.load_state_dict({"epoch": 2, "step": 1})
        next(earlier)
        assert batches.state_dict() == {"epoch": 2, "step": 1}
        assert ids(batches) == third[1:]


def test_two_iterators_at_once_are_refused(store: Store) -> None:
    with (
        pipelines.open(store, SPEC, **FAST) as batches,
        pytest.raises(PipelineError, match="one at a time; open another pipeline to read two"),
    ):
        list(zip(batches, batches, strict=True))


def test_a_state_is_plain_numbers_whatever_the_epoch_was_given_as(store: Store) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        next(batches.epoch(np.int64(3), np.int64(1)))  # type: ignore[arg-type]
        assert json.loads(json.dumps(batches.state_dict())) == {"epoch": 3, "step": 2}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "the state is {}: give what `state_dict` returned"),
        ({"epoch": 1}, "the state is {'epoch': 1}: give what `state_dict` returned"),
        ({"epoch": 1, "step": 0, "seed": 3}, "give what `state_dict` returned, an epoch and a step"),
        (None, "the state is None: give"),
        ([1, 2], r"the state is \[1, 2\]: give"),
        ({"epoch": 1.5, "step": 0}, "epoch is 1.5: choose a whole number, 0 or more"),
        ({"epoch": True, "step": 0}, "epoch is True: choose a whole number"),
        ({"epoch": -1, "step": 0}, "epoch is -1: choose a whole number, 0 or more"),
        ({"epoch": 1, "step": "0"}, "step is '0': choose a whole number"),
        ({"epoch": 1, "step": 4}, "step is 4, and an epoch has 4 here: .* same store and global_batch_size"),
    ],
)
def test_a_state_that_is_none_changes_nothing(store: Store, state: Any, message: str) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        batches.load_state_dict({"epoch": 2, "step": 1})
        with pytest.raises(PipelineError, match=message):
            batches.load_state_dict(state)
        assert batches.state_dict() == {"epoch": 2, "step": 1}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((1.5,), "epoch is 1.5: choose a whole number, 0 or more"),
        ((True,), "epoch is True: choose a whole number"),
        ((None,), "epoch is None: choose a whole number"),
        ((-1,), "epoch is -1: choose a whole number, 0 or more"),
        ((0, "1"), "start_step is '1': choose a whole number"),
        ((0, -1), "start_step is -1: choose a whole number, 0 or more"),
        ((0, 4), "epoch 0 has no step 4 to start at: its steps are 0 to 3"),
    ],
)
def test_an_epoch_that_is_none_changes_nothing(store: Store, place: Any, message: str) -> None:
    with pipelines.open(store, SPEC, **FAST) as batches:
        with pytest.raises(PipelineError, match=message):
            batches.epoch(*place)
        assert batches.state_dict() == {"epoch": 0, "step": 0}


def test_what_is_closed_stays_closed(store: Store) -> None:
    batches = pipelines.open(store, SPEC, **FAST)
    read = iter(batches)
    next(read)
    batches.close()
    batches.close()
    for use in (lambda: next(read), lambda: iter(batches), lambda: batches.epoch(0)):
        with pytest.raises(PipelineError, match="the pipeline is closed: open it again"):
            use()
    assert len(batches) == 4
    assert batches.bad_pictures == []


def test_an_error_in_the_loop_leaves_the_block_closed(store: Store) -> None:
    before = threading.active_count()
    batches = pipelines.open(store, SPEC, device="cpu")

    def fail() -> None:
        with batches:
            for batch in batches:
                raise ZeroDivisionError(str(batch.ids))

    with pytest.raises(ZeroDivisionError):
        fail()
    assert threads_ended(before)
    with pytest.raises(PipelineError, match="closed"):
        iter(batches)


def test_a_fork_is_refused_and_leaving_its_block_is_not_felt(store: Store) -> None:
    with pipelines.open(store, SPEC, device="cpu") as batches:
        expected = ids(batches.epoch(0))
        reading = batches.epoch(0)
        read = [next(reading).ids.tolist()]

        def leave() -> int:
            try:
                with batches:
                    next(reading)
            except PipelineError as error:
                batches.close()
                return 7 if "is a fork" in str(error) else 8
            return 9

        assert in_a_fork(leave) == 7
        assert read + ids(reading) == expected


def test_evaluation_counts_every_sample_once_each_time(store: Store) -> None:
    with pipelines.open(store, SPEC, split="val", **FAST) as batches:
        for _ in range(2):
            counted = [int(k) for b in batches for k, w in zip(b.ids, b.weight, strict=True) if w]
            assert counted == list(range(24))


def test_a_split_of_any_name_can_be_trained_on(store: Store) -> None:
    with pipelines.open(store, SPEC, split="val", train=True, **FAST) as batches:
        assert ids(batches.epoch(0)) != ids(batches.epoch(1))


def test_importing_the_package_does_not_import_torch() -> None:
    command = "import sys, pipelines, pipelines.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'pipelines' has no attribute 'opne'"):
        pipelines.opne  # noqa: B018
