from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from split_plans import RICH, data_spec, eval_plan, sizes, train_plan

from pipelines.batch import BatchPlan, Operation
from pipelines.errors import PipelineError, SpecError
from pipelines.plan import EvalPlan, TrainPlan

# Seeds are fixed, so these tests cannot flicker.
P_VALUE = 1e-4
DTYPES = {
    "positions": np.int64,
    "ids": np.int64,
    "weight": np.float32,
    "windows": np.int32,
    "boxes": np.float64,
    "flip": np.bool_,
    "jitter": np.float32,
    "jitter_order": np.int8,
    "lighting": np.float32,
    "operations": np.int8,
    "arguments": np.float32,
    "erase": np.int32,
    "noise": np.uint32,
    "partner": np.int64,
    "lam": np.float32,
    "cut": np.int32,
}
COLUMNS = dict.fromkeys(["windows", "boxes", "erase", "cut"], 4) | dict.fromkeys(["jitter", "jitter_order"], 3)
COLUMNS |= {"lighting": 3, "noise": 2}


def big_batch(**fields: Any) -> BatchPlan:
    return train_plan(5000, global_batch_size=5000, **fields).batch(0, 0)


@pytest.mark.parametrize(
    ("plan", "layers"),
    [
        (train_plan(rank=1, world_size=2), 0),
        (train_plan(rank=1, world_size=2, **RICH), 2),
        (train_plan(rank=1, world_size=2, auto_augment={"kind": "trivial"}), 1),
        (eval_plan(100, rank=1, world_size=2), 0),
    ],
)
def test_every_array_is_what_the_batch_plan_says(plan: TrainPlan | EvalPlan, layers: int) -> None:
    batch = plan.batch(3, 1)
    assert (batch.epoch, batch.step, batch.output_size) == (3, 1, plan.output_size(3))
    columns = COLUMNS | {"operations": layers, "arguments": layers}
    for name, dtype in DTYPES.items():
        array = getattr(batch, name)
        assert array.dtype == dtype, name
        assert array.shape == ((16, columns[name]) if name in columns else (16,)), name


def test_batch_plans_have_no_array_that_goes_unchecked() -> None:
    others = {"epoch", "step", "output_size", "interpolation"}
    assert {field.name for field in fields(BatchPlan)} == DTYPES.keys() | others


@pytest.mark.parametrize("plan", [train_plan(**RICH), train_plan(), eval_plan(100)])
def test_what_a_caller_writes_into_a_batch_stays_there(plan: TrainPlan | EvalPlan) -> None:
    untouched = plan.batch(0, 1)
    before = {name: getattr(untouched, name).copy() for name in DTYPES}
    touched = plan.batch(0, 1)
    for name in DTYPES:
        if getattr(touched, name).flags.writeable:
            getattr(touched, name)[:] = 1
    for name in DTYPES:
        np.testing.assert_array_equal(getattr(plan.batch(0, 1), name), before[name], err_msg=name)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pictures_are_resampled_as_the_spec_says(interpolation: str) -> None:
    assert train_plan(interpolation=interpolation).batch(0, 0).interpolation == interpolation
    assert eval_plan(40, interpolation=interpolation).batch(0, 0).interpolation == interpolation


def test_all_that_happens_to_a_picture_is_planned_for_the_size_of_its_epoch() -> None:
    ramp = {"start_size": 32, "start_epoch": 1, "end_epoch": 3}
    plan = train_plan(2048, global_batch_size=2048, crop_size=96, size_ramp=ramp, **RICH | {"flip": 0.0})
    for epoch, side in ((0, 32), (2, 64), (3, 96), (70, 96)):
        assert plan.output_size(epoch) == (side, side)
        batch = plan.batch(epoch, 0)
        assert batch.output_size == (side, side)
        for rectangles in (batch.erase, batch.cut):
            assert np.max(rectangles[:, :2] + rectangles[:, 2:]) in (side - 1, side)
        shifts = batch.arguments[np.isin(batch.operations, [Operation.TRANSLATE_X, Operation.TRANSLATE_Y])]
        assert 0.45 * 0.75 * side < np.abs(shifts).max() <= 0.45 * side


def test_training_drops_the_tail() -> None:
    assert train_plan(100).steps_per_epoch == 3
    assert train_plan(96).steps_per_epoch == 3
    assert train_plan(95).steps_per_epoch == 2


def test_training_crops_the_sample_it_names() -> None:
    # Every picture has a size of its own, and the crop is all of it.
    heights = np.arange(100, 132, dtype=np.int32)
    whole = {"area": (1.0, 1.0), "aspect": (1e-9, 1e9), "attempts": 1}
    spec = data_spec(crop=whole)
    batch = TrainPlan(spec, heights, heights + 1000, seed=0).batch(0, 0)
    expected = np.stack([np.zeros(32), np.zeros(32), heights[batch.ids], heights[batch.ids] + 1000], axis=1)
    np.testing.assert_array_equal(batch.windows, expected)
    np.testing.assert_array_equal(batch.boxes, expected)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_flip(probability: float) -> None:
    flips = int(big_batch(flip=probability).flip.sum())
    assert stats.binomtest(flips, 5000, probability).pvalue > P_VALUE


def test_hsv_jitter_draws_each_factor_from_its_own_range() -> None:
    ranges = {"hue": (0.6, 1.4), "saturation": (0.5, 1.0), "brightness": (1.0, 3.0)}
    batch = big_batch(jitter={"kind": "hsv"} | ranges)
    for factors, (low, high) in zip(batch.jitter.T, ranges.values(), strict=True):
        assert stats.kstest(factors, stats.uniform(low, high - low).cdf).pvalue > P_VALUE
    assert np.unique(batch.jitter_order, axis=0).tolist() == [[0, 1, 2]]


def test_contrast_jitter_draws_factors_about_one_in_random_order() -> None:
    strengths = {"brightness": 0.4, "contrast": 0.2, "saturation": 1.0}
    batch = big_batch(jitter={"kind": "contrast"} | strengths)
    for factors, strength in zip(batch.jitter.T, strengths.values(), strict=True):
        assert stats.kstest(factors, stats.uniform(1 - strength, 2 * strength).cdf).pvalue > P_VALUE
    orders, counts = np.unique(batch.jitter_order, axis=0, return_counts=True)
    assert np.sort(orders, axis=1).tolist() == [[0, 1, 2]] * 6
    assert stats.chisquare(counts).pvalue > P_VALUE


def test_no_jitter_leaves_colours_alone() -> None:
    batch = big_batch(jitter={"kind": "none"}, lighting_std=0.0)
    assert np.all(batch.jitter == 1)
    assert np.all(batch.lighting == 0)


def test_lighting_is_normal() -> None:
    lighting = big_batch(lighting_std=0.1).lighting
    for alphas in lighting.T:
        assert stats.kstest(alphas, stats.norm(scale=0.1).cdf).pvalue > P_VALUE


def test_what_one_switch_draws_does_not_move_the_others() -> None:
    plain = train_plan(jitter={"kind": "none"}, flip=0.0, lighting_std=0.0).batch(1, 2)
    rich = train_plan(**RICH | {"order": {"kind": "shuffle"}}).batch(1, 2)
    np.testing.assert_array_equal(plain.ids, rich.ids)
    np.testing.assert_array_equal(plain.windows, rich.windows)
    # Another operation of another strength leaves erasing and mixing where they were.
    other = train_plan(**RICH | {"auto_augment": {"kind": "trivial"}, "jitter": {"kind": "none"}}).batch(1, 2)
    for name in ("erase", "noise", "lam", "cut"):
        np.testing.assert_array_equal(getattr(other, name), getattr(rich, name))


def test_epochs_steps_and_seeds_differ() -> None:
    lightings = [train_plan(seed=seed).batch(epoch, step).lighting for seed, epoch, step in
                 [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2**64 - 1, 0, 0)]]  # fmt: skip
    assert len(np.unique(np.concatenate(lightings))) == 5 * 32 * 3


@pytest.mark.parametrize("order", ["shuffle", "blocks", "repeat", "weighted"])
@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix", "mixup_cutmix"])
@pytest.mark.parametrize("draw", ["batch", "group", "sample"])
def test_any_number_of_ranks_sees_the_same_batches_also_after_a_resume(order: str, mix: str, draw: str) -> None:
    mixing = {"kind": mix} | ({"group": 8, "draw": draw} if mix != "none" else {})
    orders = {"kind": order} | ({"block": 4, "pool": 64} if order == "blocks" else {})
    spec = data_spec(**RICH | {"global_batch_size": 64, "order": orders, "mix": mixing})
    labels = np.arange(300) // 100
    alone = TrainPlan(spec, *sizes(300), seed=0, labels=labels)
    # Each world size starts where another has been, as a resumed run does.
    for world_size, place in ((8, (1, 3)), (4, (0, 2)), (2, (1, 0)), (8, (0, 0))):
        whole = alone.batch(*place)
        for rank in range(world_size):
            plan = TrainPlan(spec, *sizes(300), seed=0, labels=labels, rank=rank, world_size=world_size)
            share = replace(plan.batch(*place), partner=plan.batch(*place).partner * world_size + rank)
            for name in DTYPES:
                np.testing.assert_array_equal(getattr(share, name), getattr(whole, name)[rank::world_size], name)


def test_too_few_samples_for_a_batch() -> None:
    with pytest.raises(SpecError, match=r"holds 31 samples, fewer than one global_batch_size of 32: choose 31 or less"):
        train_plan(31)


@pytest.mark.parametrize("mix", [{"kind": "none"}, {"kind": "mixup", "group": 16}])
def test_world_size_is_checked_with_the_mixing(mix: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="3 ranks cannot share out"):
        train_plan(world_size=3, mix=mix)


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "mixup_cutmix"])
def test_mix_groups_are_not_split(kind: str) -> None:
    with pytest.raises(SpecError, match="it takes 1, 2 ranks"):
        train_plan(world_size=4, mix={"kind": kind, "group": 16})


def test_a_weighted_order_takes_the_labels_it_is_given() -> None:
    labels = np.arange(100) % 4
    spec = data_spec(order={"kind": "weighted", "weights": [0, 1, 0, 2]})
    ids = TrainPlan(spec, *sizes(100), seed=0, labels=labels).batch(0, 0).ids
    assert set(labels[ids].tolist()) == {1, 3}
    with pytest.raises(SpecError, match="labels were not given"):
        TrainPlan(spec, *sizes(100), seed=0)


def test_substitutes_change_the_picture_and_its_crop_alone() -> None:
    plan = train_plan(rank=1, world_size=2, **RICH)
    batch = plan.batch(2, 1)
    rows = [3, 11, 12]
    substituted = plan.substituted(batch, rows, attempt=0)
    assert (substituted.epoch, substituted.step, substituted.output_size) == (2, 1, batch.output_size)
    assert substituted.interpolation == batch.interpolation
    for name in DTYPES.keys() - {"ids", "windows", "boxes", "partner", "lam", "cut"}:
        np.testing.assert_array_equal(getattr(substituted, name), getattr(batch, name)[rows], err_msg=name)
    assert not np.any(substituted.ids == batch.ids[rows])
    assert substituted.partner.tolist() == [0, 1, 2]
    assert substituted.lam.tolist() == [1, 1, 1]
    assert not substituted.cut.any()


def test_substitutes_are_cropped_by_the_rows_own_numbers() -> None:
    # Pictures of one size: then the same numbers give the same crop.
    side = np.full(64, 300, np.int32)
    plan = TrainPlan(data_spec(), side, side, seed=0)
    batch = plan.batch(0, 1)
    np.testing.assert_array_equal(plan.substituted(batch, range(32), 5).windows, batch.windows)
    # And of many: then it is a crop of the other picture.
    heights, widths = np.arange(20, 120, dtype=np.int32), np.arange(400, 300, -1, dtype=np.int32)
    whole = {"area": (1.0, 1.0), "aspect": (1e-9, 1e9), "attempts": 1}
    plan = TrainPlan(data_spec(crop=whole), heights, widths, seed=0)
    other = plan.substituted(plan.batch(0, 1), range(32), 0)
    np.testing.assert_array_equal(other.windows[:, 2:], np.stack([heights[other.ids], widths[other.ids]], axis=1))
    np.testing.assert_array_equal(other.boxes, other.windows)


@pytest.mark.parametrize("kind", [TrainPlan, EvalPlan])
@pytest.mark.parametrize(
    ("heights", "widths", "message"),
    [
        ([], [], "holds no samples"),
        ([5, 5], [5], "one number for each sample"),
        ([5, 5, 0], [5, 5, 7], "sample 2 has height 0 and width 7"),
    ],
)
def test_sizes_that_make_no_sense(
    kind: type[TrainPlan | EvalPlan], heights: list[int], widths: list[int], message: str
) -> None:
    seed = {"seed": 0} if kind is TrainPlan else {}
    with pytest.raises(SpecError, match=message):
        kind(data_spec(global_batch_size=1), np.array(heights, np.int32), np.array(widths, np.int32), **seed)


@pytest.mark.parametrize("plan", [train_plan(96), eval_plan(96)])
@pytest.mark.parametrize("place", [(0, 3), (0, -1), (-1, 0), (2**32, 0)])
def test_a_batch_that_does_not_exist(plan: TrainPlan | EvalPlan, place: tuple[int, int]) -> None:
    with pytest.raises(PipelineError, match=r"(epoch|step) -?\d+ cannot be planned"):
        plan.batch(*place)
    plan.batch(2**32 - 1, 2)
