"""Damaged pictures in a store, read through whole pipelines."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from deliveries import threads_ended
from stores import flip_bytes
from test_pipeline import PLACE, SPEC, across_epochs, backends, need, train

from datasets_tools.errors import DamagedSampleError
from datasets_tools.store import Store
from pipelines.bad_pictures import OnBadImage
from pipelines.batch import Batch
from pipelines.pipeline import open_eval
from pipelines.spec import Mixup

BAD = (3, 40, 41)


@pytest.fixture
def damaged(store_path: Path, tmp_path: Path) -> Store:
    """A copy of the small store with three damaged training pictures, and one that evaluation sees."""
    damaged = Store(shutil.copytree(store_path, tmp_path / "damaged"))
    for sample_id in BAD:
        flip_bytes(damaged.split("train"), sample_id)
    flip_bytes(damaged.split("val"), 7)
    return Store(damaged.path)


def read_damaged(store: Store, on_bad_image: OnBadImage, backend: str, world_size: int) -> list[list[Batch]]:
    """Return the batches of two epochs, by rank."""
    spec = SPEC.model_copy(update={"mix": Mixup(group=8, draw="sample")})
    place = {"on_bad_image": on_bad_image, "backend": backend, "world_size": world_size}
    ranks = []
    for rank in range(world_size):
        pipeline = train(store, spec, rank=rank, **place)
        ranks.append(list(islice(across_epochs(pipeline, 0, 0), 8)))
        assert set(pipeline.bad_pictures.ids) <= set(BAD)
        pipeline.close()
    return ranks


def test_a_bad_picture_ends_the_run_unless_told_otherwise(damaged: Store) -> None:
    before, pipeline = threading.active_count(), train(damaged)
    with pytest.raises(DamagedSampleError, match=r"sample (3|40|41) "):
        list(islice(across_epochs(pipeline, 0, 0), 8))
    pipeline.close()
    assert threads_ended(before)


@pytest.mark.parametrize("backend", backends("torch", "turbo", "dali", "ffcv"))
@pytest.mark.parametrize("on_bad_image", ["skip", "replace"])
def test_bad_pictures_are_settled_alike_on_any_number_of_ranks(
    damaged: Store, on_bad_image: OnBadImage, backend: str
) -> None:
    need(backend)
    (alone,) = read_damaged(damaged, on_bad_image, backend, 1)
    planned = train(damaged, SPEC.model_copy(update={"mix": Mixup(group=8, draw="sample")}), backend="synthetic").plan
    num_bad = 0
    for number, batch in enumerate(alone):
        ids = planned.batch(number // 4, number % 4).ids
        bad = np.isin(ids, BAD)
        num_bad += int(bad.sum())
        assert batch.ids[~bad].tolist() == ids[~bad].tolist()
        assert batch.labels.tolist() == damaged.split("train").labels[batch.ids].tolist()
        if on_bad_image == "skip":
            assert batch.weight.tolist() == (~bad).astype(float).tolist()
            assert batch.ids.tolist() == ids.tolist()
        else:
            assert not np.isin(batch.ids, BAD).any()
            assert batch.weight.tolist() == [1.0] * 16
    assert num_bad >= 3, "the test saw some"
    for rank, batches in enumerate(read_damaged(damaged, on_bad_image, backend, 2)):
        for share, whole in zip(batches, alone, strict=True):
            assert share.ids.tolist() == whole.ids[rank::2].tolist()
            assert torch.equal(share.weight, whole.weight[rank::2])
            torch.testing.assert_close(share.targets, whole.targets[rank::2], rtol=0, atol=1e-6)
            torch.testing.assert_close(share.images, whole.images[rank::2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "turbo"])
def test_only_what_was_read_counts(damaged: Store, backend: str) -> None:
    """However far ahead batches were made: the count is the same on every machine."""
    pipeline = train(damaged, backend=backend, on_bad_image="skip")
    for number, _ in enumerate(islice(across_epochs(pipeline, 0, 0), 8)):
        read = {int(k) for step in range(number + 1) for k in pipeline.plan.batch(step // 4, step % 4).ids}
        assert set(pipeline.bad_pictures.ids) == set(BAD) & read
    pipeline.close()


@pytest.mark.parametrize("on_bad_image", ["skip", "replace"])
def test_evaluation_leaves_a_bad_picture_out(damaged: Store, on_bad_image: OnBadImage) -> None:
    place = replace(PLACE, on_bad_image=on_bad_image)
    pipeline = open_eval(damaged.split("val"), SPEC, damaged.num_classes, place)
    counted: Sequence[int] = [
        int(k) for batch in pipeline.batches() for k, w in zip(batch.ids, batch.weight, strict=True) if w
    ]
    pipeline.close()
    assert counted == [k for k in range(24) if k != 7]
    assert pipeline.bad_pictures.ids == [7]
