from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipelines.batch import BatchPlan
from pipelines.errors import PipelineError, SpecError
from pipelines.plan import EvalPlan, TrainPlan
from pipelines.spec import DataSpec

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
    "partner": np.int64,
    "lam": np.float32,
}
COLUMNS = {"windows": (4,), "boxes": (4,), "jitter": (3,), "jitter_order": (3,), "lighting": (3,)}


def data_spec(**fields: Any) -> DataSpec:
    return DataSpec.model_validate({"global_batch_size": 32} | fields)


def sizes(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(200, 600, count, dtype=np.int32), rng.integers(200, 600, count, dtype=np.int32)


def train_plan(count: int = 100, seed: int = 0, rank: int = 0, world_size: int = 1, **fields: Any) -> TrainPlan:
    return TrainPlan(data_spec(**fields), *sizes(count), seed=seed, rank=rank, world_size=world_size)


def eval_plan(count: int, batch_size: int = 32, rank: int = 0, world_size: int = 1) -> EvalPlan:
    spec = data_spec(eval={"global_batch_size": batch_size, "resize_size": 146, "crop_size": 128})
    return EvalPlan(spec, *sizes(count), rank=rank, world_size=world_size)


def big_batch(**fields: Any) -> BatchPlan:
    return train_plan(5000, global_batch_size=5000, **fields).batch(0, 0)


@pytest.mark.parametrize("plan", [train_plan(rank=1, world_size=2), eval_plan(100, rank=1, world_size=2)])
def test_every_array_is_what_the_batch_plan_says(plan: TrainPlan | EvalPlan) -> None:
    batch = plan.batch(3, 1)
    assert (batch.epoch, batch.step, batch.output_size) == (3, 1, plan.output_size)
    for name, dtype in DTYPES.items():
        array = getattr(batch, name)
        assert array.dtype == dtype, name
        assert array.shape == (16, *COLUMNS.get(name, ())), name


@pytest.mark.parametrize("plan", [train_plan(jitter={"kind": "contrast"}), train_plan(), eval_plan(100)])
def test_what_a_caller_writes_into_a_batch_stays_there(plan: TrainPlan | EvalPlan) -> None:
    untouched = plan.batch(0, 1)
    before = {name: getattr(untouched, name).copy() for name in DTYPES}
    touched = plan.batch(0, 1)
    for name in DTYPES:
        if getattr(touched, name).flags.writeable:
            getattr(touched, name)[:] = 1
    for name in DTYPES:
        np.testing.assert_array_equal(getattr(plan.batch(0, 1), name), before[name], err_msg=name)


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
    rich = train_plan(mix={"kind": "mixup"}, jitter={"kind": "contrast"}).batch(1, 2)
    np.testing.assert_array_equal(plain.ids, rich.ids)
    np.testing.assert_array_equal(plain.windows, rich.windows)


def test_epochs_steps_and_seeds_differ() -> None:
    lightings = [train_plan(seed=seed).batch(epoch, step).lighting for seed, epoch, step in
                 [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2**64 - 1, 0, 0)]]  # fmt: skip
    assert len(np.unique(np.concatenate(lightings))) == 5 * 32 * 3


def test_too_few_samples_for_a_batch() -> None:
    with pytest.raises(SpecError, match=r"holds 31 samples, fewer than one global_batch_size of 32: choose 31 or less"):
        train_plan(31)


@pytest.mark.parametrize("mix", [{"kind": "none"}, {"kind": "mixup", "group": 16}])
def test_world_size_is_checked_with_the_mixing(mix: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="3 ranks cannot share out"):
        train_plan(world_size=3, mix=mix)


def test_mix_groups_are_not_split() -> None:
    with pytest.raises(SpecError, match="it takes 1, 2 ranks"):
        train_plan(world_size=4, mix={"kind": "mixup", "group": 16})


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


def test_eval_pads_its_last_batch_with_weight_zero() -> None:
    batch = eval_plan(37, batch_size=32).batch(0, 1)
    assert batch.ids.tolist() == [32, 33, 34, 35, 36] + [36] * 27
    assert batch.weight.tolist() == [1] * 5 + [0] * 27


def test_eval_goes_on_where_ranks_do_not_divide_the_batch() -> None:
    batches = [eval_plan(8, batch_size=4, rank=rank, world_size=3).batch(0, 0) for rank in range(3)]
    assert [batch.ids.tolist() for batch in batches] == [[0, 3], [1, 3], [2, 3]]
    assert [batch.weight.tolist() for batch in batches] == [[1, 1], [1, 0], [1, 0]]


def test_eval_changes_nothing_but_the_geometry() -> None:
    batch = eval_plan(40).batch(0, 0)
    assert not batch.flip.any()
    assert np.all(batch.jitter == 1)
    assert np.all(batch.lighting == 0)
    assert np.all(batch.lam == 1)
    np.testing.assert_array_equal(batch.partner, np.arange(32))


def test_eval_reads_the_whole_picture_and_resizes_it_to_whole_pixels() -> None:
    heights, widths = sizes(40)
    batch = eval_plan(40).batch(0, 0)
    assert np.all(batch.windows[:, :2] == 0)
    np.testing.assert_array_equal(batch.windows[:, 2:], np.stack([heights[:32], widths[:32]], axis=1))
    resized = batch.windows[:, 2:] * 128 / batch.boxes[:, 2:]
    np.testing.assert_allclose(resized, np.round(resized), rtol=1e-12)
    assert np.all(np.round(resized).min(axis=1) == 146)
    offset = batch.boxes[:, :2] * 128 / batch.boxes[:, 2:]
    np.testing.assert_allclose(offset, np.round(offset), atol=1e-9)
