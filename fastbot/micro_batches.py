"""A rank's share of a batch, computed in parts that need less memory; the optimizer steps once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from fastbot.errors import RecipeError
from pipelines.batch import Batch


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a batch.

    Attributes:
        batch: these rows, in the same memory format.
        share: float32 scalar on the device, their weight over that of the whole batch: what their mean loss counts.
        is_last: whether the gradients are complete with it, so that ranks may exchange them.
    """

    batch: Batch
    share: torch.Tensor
    is_last: bool


class Split(Protocol):
    """Cuts batches."""

    def __call__(self, batch: Batch) -> Iterator[Part]:
        """Yield the parts of a batch, in a fixed order; their shares add up to 1."""
        ...


class Whole:
    """One part: the batch itself."""

    def __init__(self, device: torch.device) -> None:
        self._share = torch.ones((), device=device)

    def __call__(self, batch: Batch) -> Iterator[Part]:
        """Yield the batch."""
        yield Part(batch, self._share, is_last=True)


class Strided:
    """Part m of M has the rows m, m + M, m + 2M, ...

    Positions of the global batch go to ranks in turns in the same way. So the groups that batch norm normalizes over
    (`bn_batch`) hold the same samples for any number of ranks and of parts.

    Args:
        num_parts: M, at least 2.
    """

    def __init__(self, num_parts: int) -> None:
        self._num_parts = num_parts

    def __call__(self, batch: Batch) -> Iterator[Part]:
        """Yield the parts, each a copy of its rows."""
        total = batch.weight.sum().clamp(min=1)
        layout = torch.channels_last if batch.images.is_contiguous(memory_format=torch.channels_last) else None
        for first in range(self._num_parts):
            rows = slice(first, None, self._num_parts)
            weight = batch.weight[rows]
            part = replace(
                batch,
                images=batch.images[rows].contiguous(memory_format=layout or torch.contiguous_format),
                labels=batch.labels[rows],
                targets=batch.targets[rows],
                ids=batch.ids[rows],
                weight=weight,
            )
            yield Part(part, weight.sum() / total, is_last=first == self._num_parts - 1)


def build_split(num_parts: int, rows: int, device: torch.device) -> Split:
    """Return what cuts each rank's share of a batch.

    Args:
        num_parts: the recipe's `micro_batches`.
        rows: of each rank's share.
        device: where batches are.

    Raises:
        RecipeError: the rows do not divide into so many parts of one size.
    """
    if rows % num_parts:
        raise RecipeError(
            f"micro_batches is {num_parts} and does not divide a rank's share of the batch, {rows} rows: "
            "choose a divisor"
        )
    return Whole(device) if num_parts == 1 else Strided(num_parts)
