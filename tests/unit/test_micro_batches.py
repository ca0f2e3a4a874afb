from __future__ import annotations

import numpy as np
import pytest
import torch

from fastbot.errors import RecipeError
from fastbot.micro_batches import build_split
from pipelines.batch import Batch

CPU = torch.device("cpu")


def batch(rows: int = 12) -> Batch:
    images = torch.randn(rows, 3, 4, 5).to(memory_format=torch.channels_last)
    labels = torch.arange(rows)
    weight = torch.ones(rows)
    weight[[1, 4]] = 0
    return Batch(images, labels, torch.eye(rows), np.arange(rows), weight)


def test_one_part_is_the_batch_itself() -> None:
    whole = batch()
    (part,) = build_split(1, 12, CPU)(whole)
    assert part.batch is whole
    assert part.share == 1
    assert part.is_last


@pytest.mark.parametrize("num_parts", [2, 3, 12])
def test_parts_are_strided_rows_whose_shares_add_up(num_parts: int) -> None:
    whole = batch()
    parts = list(build_split(num_parts, 12, CPU)(whole))
    assert [part.is_last for part in parts] == [False] * (num_parts - 1) + [True]
    assert sum(part.share.item() for part in parts) == pytest.approx(1)
    for first, part in enumerate(parts):
        rows = list(range(first, 12, num_parts))
        assert part.batch.ids.tolist() == rows
        torch.testing.assert_close(part.batch.images, whole.images[rows])
        torch.testing.assert_close(part.batch.targets, whole.targets[rows])
        assert part.batch.labels.tolist() == rows
        assert part.batch.images.is_contiguous(memory_format=torch.channels_last)
        assert part.share.item() == pytest.approx(whole.weight[rows].sum().item() / 10)


def test_a_batch_of_no_weight_has_shares_of_zero() -> None:
    whole = batch()
    whole.weight.zero_()
    assert [part.share.item() for part in build_split(3, 12, CPU)(whole)] == [0, 0, 0]


def test_parts_of_unequal_size_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"micro_batches is 5 .* 12 rows: choose a divisor"):
        build_split(5, 12, CPU)
