"""Plan, backend, augmentation and mixing together, on real pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from datasets_tools.store import Store
from pipelines.errors import SpecError
from pipelines.pipeline import Pipeline, Place, open_eval, open_train
from pipelines.spec import DataSpec, EvalSpec, Mixup

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
        expected = lam * single.images + (1 - lam) * single.images[plan.partner]
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
