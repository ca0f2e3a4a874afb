"""Plan, backend, augmentation and mixing together, on real pictures."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deliveries import in_a_fork, threads_ended

from datasets_tools.store import Store
from pipelines.errors import PipelineError, SpecError
from pipelines.pipeline import Pipeline, Place, open_eval, open_train
from pipelines.spec import BlockShuffle, DataSpec, EvalSpec, Mixup, Order, RepeatAugment, Shuffle, SizeRamp, Weighted

SPEC = DataSpec(global_batch_size=16, crop_size=32, eval=EvalSpec(resize_size=36, crop_size=32, global_batch_size=16))
PLACE = Place("torch", torch.device("cpu"))


def train(store: Store, spec: DataSpec = SPEC, **elsewhere: Any) -> Pipeline:
    return open_train(store.split("train"), spec, store.num_classes, replace(PLACE, **elsewhere), seed=3)


def test_a_batch_is_what_a_model_expects(store: Store) -> None:
    pipeline = train(store)
    batches = list(pipeline.batches())
    pipeline.close()
    assert len(batches) == pipeline.steps_per_epoch == 72 // 16
    for step, batch in enumerate(batches):
        assert batch.images.shape == (16, 3, 32, 32)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.ids.tolist() == pipeline.plan.batch(0, step).ids.tolist()
        assert batch.labels.tolist() == store.split("train").labels[batch.ids].tolist()
        assert batch.targets is batch.labels
        assert batch.weight.tolist() == [1.0] * 16
    assert len({int(k) for batch in batches for k in batch.ids}) == 64


def test_starting_late_gives_the_rest_of_the_same_epoch(store: Store) -> None:
    pipeline = train(store)
    whole = [batch.images.clone() for batch in pipeline.batches(epoch=1)]
    rest = [batch.images.clone() for batch in pipeline.batches(epoch=1, start_step=2)]
    pipeline.close()
    torch.testing.assert_close(rest, whole[2:], rtol=0, atol=0)


def test_two_ranks_share_out_the_global_batch(store: Store) -> None:
    alone = train(store)
    ranks = [train(store, rank=rank, world_size=2) for rank in range(2)]
    for whole, *parts in zip(alone.batches(), *(pipeline.batches() for pipeline in ranks), strict=True):
        for rank, part in enumerate(parts):
            torch.testing.assert_close(part.images, whole.images[rank::2], rtol=0, atol=0)
            assert part.ids.tolist() == whole.ids[rank::2].tolist()
    for pipeline in (alone, *ranks):
        pipeline.close()


def test_mixing_blends_pictures_and_targets_alike(store: Store) -> None:
    plain, mixed = train(store), train(store, SPEC.model_copy(update={"mix": Mixup(group=8, draw="sample")}))
    for step, (single, blend) in enumerate(zip(plain.batches(), mixed.batches(), strict=True)):
        plan = mixed.plan.batch(0, step)
        lam = torch.from_numpy(plan.lam.copy())[:, None, None, None]
        expected = lam * single.images + (1 - lam) * single.images[plan.partner.copy()]
        torch.testing.assert_close(blend.images, expected, rtol=0, atol=1e-5)
        own = blend.targets[np.arange(16), single.labels]
        assert (own >= lam.flatten() - 1e-6).all()
        assert blend.labels.tolist() == single.labels.tolist()
    plain.close()
    mixed.close()


def test_evaluation_pads_with_weight_zero(store: Store) -> None:
    pipeline = open_eval(store.split("val"), SPEC, store.num_classes, PLACE)
    batches = list(pipeline.batches())
    pipeline.close()
    assert [batch.images.shape[0] for batch in batches] == [16, 16]
    counted = [int(k) for batch in batches for k, w in zip(batch.ids, batch.weight, strict=True) if w]
    assert counted == list(range(24))


def test_arrival_is_called_once_a_batch_before_it_is_yielded(store: Store) -> None:
    pipeline, events = train(store, backend="synthetic"), []
    for step, _ in enumerate(pipeline.batches(arrived=lambda: events.append("arrived"))):
        events.append(step)
    assert events == ["arrived", 0, "arrived", 1, "arrived", 2, "arrived", 3]


def test_ranks_that_do_not_divide_are_refused(store: Store) -> None:
    with pytest.raises(SpecError, match="3"):
        train(store, rank=0, world_size=3)


def test_a_step_that_does_not_exist_is_refused(store: Store) -> None:
    pipeline = train(store, backend="synthetic")
    with pytest.raises(PipelineError, match="epoch 1 has no step 4 to start at: its steps are 0 to 3"):
        pipeline.batches(1, 4)
    pipeline.close()


def test_crops_grow_with_the_epochs(store: Store) -> None:
    ramp = SizeRamp(start_size=16, start_epoch=0, end_epoch=2, multiple=8)
    pipeline = train(store, SPEC.model_copy(update={"size_ramp": ramp}))
    sizes = [{batch.images.shape[2:] for batch in pipeline.batches(epoch)} for epoch in range(4)]
    pipeline.close()
    assert sizes == [{(16, 16)}, {(24, 24)}, {(32, 32)}, {(32, 32)}]


def test_closing_ends_every_thread_wherever_the_reader_stands(store: Store) -> None:
    before = threading.active_count()
    for num_read in (0, 1, 4):
        pipeline = train(store)
        batches = pipeline.batches()
        assert len(list(islice(batches, num_read))) == num_read
        assert threading.active_count() > before
        pipeline.close()
        pipeline.close()
        assert threads_ended(before)
        if num_read < 4:
            with pytest.raises(PipelineError, match="closed"):
                next(batches)


def test_a_consumer_that_fails_leaks_nothing(store: Store) -> None:
    def consume() -> None:
        for batch in train(store).batches():
            raise ZeroDivisionError(str(batch.ids))

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        consume()
    assert threads_ended(before)


# Leaves a loop half way, in a manner of its own, and everything open.
LEFT_OPEN = """
import os, signal, sys, time, torch
from datasets_tools.store import Store
from pipelines.pipeline import Place, open_eval, open_train
from pipelines.spec import DataSpec

store = Store(sys.argv[1])
spec = DataSpec(global_batch_size=16, crop_size=32)
place = Place("{backend}", torch.device("cpu"))
pipelines = [
    open_train(store.split("train"), spec, store.num_classes, place, seed=0),
    open_eval(store.split("val"), spec, store.num_classes, place),
]
kept = [pipeline.batches() for pipeline in pipelines]
for batches in kept:
    next(batches)
print("read", flush=True)
{leave}
"""


# The child leaves it too, by the interpreter's end; a child that hangs is ended by its alarm.
FORK = "time.sleep(0.5); os.fork() or (signal.alarm(20), sys.exit()); sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "leave", "code"),
    [("torch", "pass", 0), ("torch", "sys.exit(3)", 3), ("torch", "1 / 0", 1), ("dali", FORK, 0)],
)
def test_the_interpreter_ends_with_pipelines_open(store_path: Path, backend: str, leave: str, code: int) -> None:
    need(backend)
    command = [sys.executable, "-c", LEFT_OPEN.format(backend=backend, leave=leave), str(store_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.stdout == "read\n"
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.count("Error") == (1 if leave == "1 / 0" else 0), ended.stderr


def backends(*names: str) -> list[Any]:
    return [
        pytest.param(name, marks=pytest.mark.slow) if name == "ffcv" else name  # FFCV compiles for seconds
        for name in names
    ]


def need(backend: str) -> None:
    if module := {"dali": "nvidia.dali", "ffcv": "ffcv"}.get(backend):
        pytest.importorskip(module)


@pytest.mark.parametrize("idle", [True, False])
@pytest.mark.parametrize("backend", backends("torch", "turbo", "dali", "ffcv"))
def test_a_fork_may_close_and_drop_what_its_parent_goes_on_with(store: Store, backend: str, idle: bool) -> None:
    need(backend)
    pipeline = train(store, backend=backend)
    expected = [batch.ids.tolist() for batch in pipeline.batches()]
    held: list[Any] = [pipeline, pipeline.batches()]
    read = [next(held[1]).ids.tolist()]
    if idle:
        pipeline._delivery._coming.result()
    del pipeline

    def leave() -> int:
        held[0].close()
        held.clear()
        return 7

    assert in_a_fork(leave) == 7
    assert read + [batch.ids.tolist() for batch in held[1]] == expected
    held[0].close()


def global_stream(
    store: Store, spec: DataSpec, world_size: int, start: tuple[int, int], num_steps: int, **place: Any
) -> list[tuple[list[int], torch.Tensor]]:
    """Return ids and mean pixel of every row of so many global batches, put together from all ranks."""
    ranks = [train(store, spec, rank=rank, world_size=world_size, **place) for rank in range(world_size)]
    parts = [list(islice(across_epochs(pipeline, *start), num_steps)) for pipeline in ranks]
    for pipeline in ranks:
        pipeline.close()
    rows = spec.global_batch_size
    stream = []
    for shares in zip(*parts, strict=True):
        ids, means = np.empty(rows, np.int64), torch.empty(rows)
        for rank, share in enumerate(shares):
            ids[rank::world_size], means[rank::world_size] = share.ids, share.images.mean(dim=(1, 2, 3))
        stream.append((ids.tolist(), means))
    return stream


def across_epochs(pipeline: Pipeline, epoch: int, step: int) -> Any:
    yield from pipeline.batches(epoch, step)
    yield from across_epochs(pipeline, epoch + 1, 0)


@pytest.mark.parametrize("backend", backends("torch", "turbo", "dali", "ffcv", "synthetic"))
def test_a_resume_on_more_ranks_goes_on_with_the_same_global_batches(store: Store, backend: str) -> None:
    """Killed after 6 of 11 steps, in the second epoch, and gone on with on two ranks."""
    need(backend)
    spec = SPEC.model_copy(update={"mix": Mixup(group=8, draw="sample")})
    whole = global_stream(store, spec, 1, (0, 0), 11, backend=backend)
    resumed = global_stream(store, spec, 2, (1, 2), 5, backend=backend)
    assert [ids for ids, _ in resumed] == [ids for ids, _ in whole[6:]]
    if backend != "synthetic":  # its pixels belong to rows, not to samples
        torch.testing.assert_close([m for _, m in resumed], [m for _, m in whole[6:]], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "order", [Shuffle(), BlockShuffle(block=8, pool=2), RepeatAugment(), Weighted()], ids=lambda order: order.kind
)
def test_every_order_survives_a_resume_on_another_number_of_ranks(store: Store, order: Order) -> None:
    spec = SPEC.model_copy(update={"order": order})
    whole = [ids for ids, _ in global_stream(store, spec, 1, (0, 0), 10, backend="synthetic")]
    for world_size, start in ((2, (0, 3)), (4, (1, 0)), (8, (1, 1)), (16, (2, 0))):
        first = start[0] * 4 + start[1]
        resumed = global_stream(store, spec, world_size, start, 10 - first, backend="synthetic")
        assert [ids for ids, _ in resumed] == whole[first:]
