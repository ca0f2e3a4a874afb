"""What must hold for any data set, batch size, world size and place."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.batch import BatchPlan, Operation
from pipelines.crops import ramped_size
from pipelines.plan import EvalPlan, TrainPlan
from pipelines.spec import DataSpec, SizeRamp

ARRAYS = [f.name for f in fields(BatchPlan) if f.name not in ("epoch", "step", "output_size", "interpolation")]
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


ORDERS = st.one_of(
    st.just({"kind": "shuffle"}),
    st.builds(
        lambda block, pool: {"kind": "blocks", "block": block, "pool": pool}, st.integers(1, 9), st.integers(1, 64)
    ),
    st.builds(lambda repeats: {"kind": "repeat", "repeats": repeats}, st.integers(2, 5)),
    st.builds(lambda power: {"kind": "weighted", "power": power}, st.floats(0, 1)),
)
AUTO_AUGMENTS = st.sampled_from([{"kind": "none"}, {"kind": "rand", "layers": 3}, {"kind": "trivial"}])
RAMPS = st.sampled_from([None, {"start_size": 20, "start_epoch": 1, "end_epoch": 30, "multiple": 4}])
MAX_RANKS = 8


@st.composite
def mixes(draw: st.DrawFn, group: int) -> dict[str, Any]:
    """Draw one of the four kinds."""
    kind = draw(st.sampled_from(["none", "mixup", "cutmix", "mixup_cutmix"]))
    if kind == "none":
        return {"kind": kind}
    sharing = draw(st.sampled_from(["batch", "group", "sample"]))
    return {"kind": kind, "group": group, "draw": sharing, "probability": draw(st.sampled_from([0.5, 1.0]))}


@st.composite
def specs(draw: st.DrawFn, orders: st.SearchStrategy[dict[str, Any]] = ORDERS) -> DataSpec:
    """Draw a spec that 1, 2, 4 and 8 ranks can share out."""
    group = draw(st.integers(1, 6))
    chosen: dict[str, Any] = {
        "global_batch_size": MAX_RANKS * group * draw(st.integers(1, 3)),
        "order": draw(orders),
        "crop_size": draw(st.integers(20, 50)),
        "size_ramp": draw(RAMPS),
        "auto_augment": draw(AUTO_AUGMENTS),
        "erasing": {"probability": draw(st.sampled_from([0.0, 0.5]))},
        "mix": draw(mixes(group)),
        "jitter": {"kind": draw(st.sampled_from(["none", "hsv", "contrast"]))},
    }
    return DataSpec.model_validate(chosen)


def train_plan(spec: DataSpec, count: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> TrainPlan:
    """Return a plan for `count` pictures of any size and a few classes, sorted by class."""
    labels = np.sqrt(np.arange(count)).astype(np.int64)
    return TrainPlan(spec, *sizes(count), seed=seed, labels=labels, rank=rank, world_size=world_size)


@UNHURRIED
@given(spec=specs(), extra=st.integers(0, 100), seed=SEEDS, epoch=st.integers(0, 2**32 - 1))
def test_an_epoch_shows_its_samples_as_often_as_its_order_says(
    spec: DataSpec, extra: int, seed: int, epoch: int
) -> None:
    count = spec.global_batch_size + extra
    plan = train_plan(spec, count, seed)
    shown = np.concatenate([plan.batch(epoch, step).ids for step in range(plan.steps_per_epoch)])
    assert len(shown) == count - count % spec.global_batch_size
    assert shown.min() >= 0
    assert shown.max() < count
    if spec.order.kind == "weighted":
        return
    repeats = spec.order.repeats if spec.order.kind == "repeat" else 1
    times = np.unique(shown, return_counts=True)[1]
    assert times.max() <= repeats
    # Only the last sample of an epoch may lack copies.
    assert np.sum(times < repeats) <= 1


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
@given(spec=specs(), world_size=st.sampled_from([2, 4, 8]), seed=SEEDS, data=st.data())
def test_ranks_together_see_the_batch_of_one_rank(
    spec: DataSpec, world_size: int, seed: int, data: st.DataObject
) -> None:
    count = 3 * spec.global_batch_size + 1
    alone = train_plan(spec, count, seed)
    place = data.draw(st.integers(0, 50)), data.draw(st.integers(0, alone.steps_per_epoch - 1))
    whole = alone.batch(*place)
    bad = data.draw(st.integers(0, spec.global_batch_size - 1))
    attempt = data.draw(st.integers(0, 3))
    substitute = alone.substituted(whole, [bad], attempt)
    for rank in range(world_size):
        plan = train_plan(spec, count, seed, rank, world_size)
        share = plan.batch(*place)
        for name in ARRAYS:
            expected = getattr(whole, name)[rank::world_size]
            actual = share.positions[share.partner] if name == "partner" else getattr(share, name)
            np.testing.assert_array_equal(actual, expected, err_msg=name)
        if bad % world_size == rank:
            assert_same(plan.substituted(share, [bad // world_size], attempt), substitute)


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
    count = 4 * spec.global_batch_size
    places = [(epoch, step) for epoch in range(3) for step in range(4)]
    asked = data.draw(st.lists(st.sampled_from(places), min_size=2, max_size=6))
    plan = train_plan(spec, count, seed)
    for place in [*asked, *reversed(asked)]:
        assert_same(plan.batch(*place), train_plan(spec, count, seed).batch(*place))


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
    cropping = DataSpec.model_validate(spec.model_dump() | {"crop": crop})
    batch = train_plan(cropping, spec.global_batch_size, seed).batch(0, 0)
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
@given(spec=specs(), world_size=st.sampled_from([1, 2, 4, 8]), data=st.data())
def test_partners_are_pairs_inside_their_virtual_rank(spec: DataSpec, world_size: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, world_size - 1))
    plan = train_plan(spec, spec.global_batch_size, rank=rank, world_size=world_size)
    batch = plan.batch(0, 0)
    group = 1 if spec.mix.kind == "none" else spec.mix.group
    num_virtual_ranks = spec.global_batch_size // group
    np.testing.assert_array_equal(batch.partner[batch.partner], np.arange(plan.rows))
    partners = batch.positions[batch.partner]
    np.testing.assert_array_equal(partners % num_virtual_ranks, batch.positions % num_virtual_ranks)
    alone = batch.partner == np.arange(plan.rows)
    assert np.all(batch.lam[alone] == 1)
    assert not batch.cut[alone].any()
    assert alone.sum() == (plan.rows // group if group % 2 else 0)


@UNHURRIED
@given(spec=specs(), seed=SEEDS, epoch=st.integers(0, 40))
def test_rectangles_lie_inside_the_output_and_shares_are_what_they_leave(spec: DataSpec, seed: int, epoch: int) -> None:
    batch = train_plan(spec, spec.global_batch_size, seed).batch(epoch, 0)
    size = np.array(batch.output_size)
    for rectangles in (batch.erase, batch.cut):
        assert np.all(rectangles >= 0)
        assert np.all(rectangles[:, :2] + rectangles[:, 2:] <= size)
        nothing = rectangles[:, 2] == 0
        assert np.all(rectangles[nothing] == 0)
        assert np.all(rectangles[~nothing, 3] > 0)
    assert np.all(batch.erase[:, 2:] < size)
    cuts = batch.cut[:, 2] > 0
    outside = 1 - batch.cut[cuts, 2:].prod(axis=1) / size.prod()
    np.testing.assert_array_equal(batch.lam[cuts], outside.astype(np.float32))
    assert np.all((batch.lam >= 0) & (batch.lam <= 1))


@UNHURRIED
@given(spec=specs(), seed=SEEDS, epoch=st.integers(0, 40))
def test_arguments_are_what_their_operations_take(spec: DataSpec, seed: int, epoch: int) -> None:
    batch = train_plan(spec, spec.global_batch_size, seed).batch(epoch, 0)
    side = batch.output_size[0]
    # TrivialAugment's ranges contain RandAugment's, but for translations, which are a share of the size there.
    shift = max(32.0, 0.45 * side)
    limits = dict.fromkeys((Operation.IDENTITY, Operation.AUTO_CONTRAST, Operation.EQUALIZE, Operation.INVERT), (0, 0))
    limits |= {Operation.ROTATE: (-135, 135), Operation.POSTERIZE: (0, 8), Operation.SOLARIZE: (0, 256)}
    limits |= {Operation.SOLARIZE_ADD: (0, 110)}
    limits |= dict.fromkeys(range(Operation.COLOR, Operation.SHARPNESS + 1), (0.0099, 1.9901))
    limits |= dict.fromkeys((Operation.SHEAR_X, Operation.SHEAR_Y), (-0.9901, 0.9901))
    limits |= dict.fromkeys((Operation.TRANSLATE_X, Operation.TRANSLATE_Y), (-shift, shift))
    low, high = np.array([limits[Operation(k)] for k in batch.operations.ravel()]).reshape(-1, 2).T
    arguments = batch.arguments.ravel()
    assert np.all((low <= arguments) & (arguments <= high))


@given(
    final=st.integers(1, 500),
    start=st.integers(1, 500),
    first=st.integers(0, 50),
    length=st.integers(1, 50),
    multiple=st.integers(1, 64),
)
def test_sizes_grow_from_the_first_to_the_last(final: int, start: int, first: int, length: int, multiple: int) -> None:
    start = min(start, final)
    ramp = SizeRamp(start_size=start, start_epoch=first, end_epoch=first + length, multiple=multiple)
    ramped = [ramped_size(ramp, final, epoch) for epoch in range(first + length + 3)]
    assert ramped == sorted(ramped)
    assert ramped[: first + 1] == [start] * (first + 1)
    assert ramped[first + length :] == [final] * 3
    for side in ramped:
        assert side in (start, final) or side % multiple == 0
