from __future__ import annotations

import numpy as np
import pytest
from split_plans import eval_plan, sizes

from pipelines.errors import PipelineError


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
    assert not batch.cut.any()
    assert not batch.erase.any()
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


def test_evaluation_takes_no_substitutes() -> None:
    plan = eval_plan(40)
    with pytest.raises(PipelineError, match=r"evaluation cannot replace samples \[33, 35\] by others"):
        plan.substituted(plan.batch(0, 1), [1, 3], 0)
