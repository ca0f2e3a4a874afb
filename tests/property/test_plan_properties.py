"""What must hold for any data set, batch size, world size and place."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.batch import BatchPlan
from pipelines.plan import EvalPlan, TrainPlan
from pipelines.spec import DataSpec

ARRAYS = [field.name for field in fields(BatchPlan) if field.name not in ("epoch", "step", "output_size")]
SEEDS = st.integers(0, 2**64 - 1)
# What the plan is compiled for the first time takes seconds, which is not the example's fault.
UNHURRIED = settings(deadline=None, max_examples=40)


def sizes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sides from 1 to 2000 pixels, any aspect ratio."""
    rng = np.random.default_rng(count)
    heights, widths = np.exp(rng.uniform(0, np.log(2000), (2, count))).astype(np.int32)
    return heights, widths


def assert_same(one: BatchPlan, other: BatchPlan) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@st.composite
def specs(draw: st.DrawFn) -> DataSpec:
    """Draw a spec that 1, 2 and 4 ranks can share out."""
    group = draw(st.integers(1, 6))
    mixup = {"kind": "mixup", "group": group, "draw": draw(st.sampled_from(["batch", "group", "sample"]))}
    chosen: dict[str, Any] = {
        "global_batch_size": 4 * group * draw(st.integers(1, 3)),
        "mix": draw(st.sampled_from([{"kind": "none"}, mixup])),
        "jitter": {"kind": draw(st.sampled_from(["none", "hsv", "contrast"]))},
    }
    return DataSpec.model_validate(chosen)


@UNHURRIED
@given(spec=specs(), extra=st.integers(0, 100), seed=SEEDS, epoch=st.integers(0, 2**32 - 1))
def test_an_epoch_shows_every_sample_once_up_to_the_tail(spec: DataSpec, extra: int, seed: int, epoch: int) -> None:
    count = spec.global_batch_size + extra
    plan = TrainPlan(spec, *sizes(count), seed=seed)
    shown = np.concatenate([plan.batch(epoch, step).ids for step in range(plan.steps_per_epoch)])
    assert len(np.unique(shown)) == len(shown) == count - count % spec.global_batch_size
    assert shown.min() >= 0
    assert shown.max() < count


@UNHURRIED
@given(count=st.integers(1, 200), batch_size=st.integers(1, 40), world_size=st.integers(1, 9))
def test_eval_counts_every_sample_exactly_once(count: int, batch_size: int, world_size: int) -> None:
    spec = DataSpec.model_validate({"eval": {"global_batch_size": batch_size}})
    plans = [EvalPlan(spec, *sizes(count), rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {(plan.steps_per_epoch, plan.rows) for plan in plans} == {(-(-count // batch_size), plans[0].rows)}
    times_counted = np.zeros(count)
    for plan in plans:
        for step in range(plan.steps_per_epoch):
            batch = plan.batch(0, step)
            assert len(batch.ids) == plan.rows
            np.add.at(times_counted, batch.ids, batch.weight)
    np.testing.assert_array_equal(times_counted, 1)


@UNHURRIED
@given(spec=specs(), world_size=st.sampled_from([2, 4]), seed=SEEDS, data=st.data())
def test_ranks_together_see_the_batch_of_one_rank(
    spec: DataSpec, world_size: int, seed: int, data: st.DataObject
) -> None:
    heights, widths = sizes(3 * spec.global_batch_size + 1)
    alone = TrainPlan(spec, heights, widths, seed=seed)
    place = data.draw(st.integers(0, 50)), data.draw(st.integers(0, alone.steps_per_epoch - 1))
    whole = alone.batch(*place)
    for rank in range(world_size):
        share = TrainPlan(spec, heights, widths, seed=seed, rank=rank, world_size=world_size).batch(*place)
        for name in ARRAYS:
            expected = getattr(whole, name)[rank::world_size]
            actual = share.positions[share.partner] if name == "partner" else getattr(share, name)
            np.testing.assert_array_equal(actual, expected, err_msg=name)


@UNHURRIED
@given(count=st.integers(1, 60), rows_each=st.integers(1, 5), world_size=st.sampled_from([2, 4]))
def test_eval_ranks_together_see_the_batch_of_one_rank(count: int, rows_each: int, world_size: int) -> None:
    spec = DataSpec.model_validate({"eval": {"global_batch_size": rows_each * world_size}})
    for step in range(EvalPlan(spec, *sizes(count)).steps_per_epoch):
        whole = EvalPlan(spec, *sizes(count)).batch(0, step)
        for rank in range(world_size):
            share = EvalPlan(spec, *sizes(count), rank=rank, world_size=world_size).batch(0, step)
            for name in set(ARRAYS) - {"partner"}:
                np.testing.assert_array_equal(
                    getattr(share, name), getattr(whole, name)[rank::world_size], err_msg=name
                )


@UNHURRIED
@given(spec=specs(), seed=SEEDS, data=st.data())
def test_a_batch_is_the_same_whenever_it_is_asked_for(spec: DataSpec, seed: int, data: st.DataObject) -> None:
    heights, widths = sizes(4 * spec.global_batch_size)
    places = [(epoch, step) for epoch in range(3) for step in range(4)]
    asked = data.draw(st.lists(st.sampled_from(places), min_size=2, max_size=6))
    plan = TrainPlan(spec, heights, widths, seed=seed)
    for place in [*asked, *reversed(asked)]:
        fresh = TrainPlan(spec, heights, widths, seed=seed)
        assert_same(plan.batch(*place), fresh.batch(*place))


@UNHURRIED
@given(
    spec=specs(),
    seed=SEEDS,
    low=st.floats(1e-4, 1),
    aspects=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
    attempts=st.integers(1, 12),
)
def test_training_crops_lie_inside_their_pictures(
    spec: DataSpec, seed: int, low: float, aspects: tuple[float, float], attempts: int
) -> None:
    crop = {"area": (low, 1.0), "aspect": (min(aspects), max(aspects)), "attempts": attempts}
    heights, widths = sizes(spec.global_batch_size)
    batch = TrainPlan(DataSpec.model_validate(spec.model_dump() | {"crop": crop}), heights, widths, seed=seed).batch(
        0, 0
    )
    top, left, height, width = batch.windows.T
    assert np.all((top >= 0) & (left >= 0) & (height >= 1) & (width >= 1))
    assert np.all((top + height <= heights[batch.ids]) & (left + width <= widths[batch.ids]))
    np.testing.assert_array_equal(batch.boxes, batch.windows)


@UNHURRIED
@given(count=st.integers(1, 60), crop_size=st.integers(1, 300), margin=st.integers(0, 100))
def test_eval_boxes_lie_inside_their_pictures(count: int, crop_size: int, margin: int) -> None:
    sizes_of_eval = {"global_batch_size": count, "crop_size": crop_size, "resize_size": crop_size + margin}
    heights, widths = sizes(count)
    batch = EvalPlan(DataSpec.model_validate({"eval": sizes_of_eval}), heights, widths).batch(0, 0)
    top, left, height, width = batch.boxes.T
    assert np.all((top >= 0) & (left >= 0) & (height > 0) & (width > 0))
    assert np.all((top + height <= heights) & (left + width <= widths))


@UNHURRIED
@given(spec=specs(), world_size=st.sampled_from([1, 2, 4]), data=st.data())
def test_partners_are_pairs_inside_their_virtual_rank(spec: DataSpec, world_size: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, world_size - 1))
    plan = TrainPlan(spec, *sizes(spec.global_batch_size), seed=0, rank=rank, world_size=world_size)
    batch = plan.batch(0, 0)
    group = spec.mix.group if spec.mix.kind == "mixup" else 1
    num_virtual_ranks = spec.global_batch_size // group
    np.testing.assert_array_equal(batch.partner[batch.partner], np.arange(plan.rows))
    partners = batch.positions[batch.partner]
    np.testing.assert_array_equal(partners % num_virtual_ranks, batch.positions % num_virtual_ranks)
    alone = batch.partner == np.arange(plan.rows)
    assert np.all(batch.lam[alone] == 1)
    assert alone.sum() == (plan.rows // group if group % 2 else 0)
