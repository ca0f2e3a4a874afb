"""Ranks: who am I, who else is there, and the few things they tell each other.

Training runs one process per device, started by `fastbot.launcher` or torchrun, with NCCL between GPUs and gloo between
CPUs. A single process is rank 0 of 1 and talks to nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from fastbot.errors import RecipeError, RunError
from pipelines.cores import cores as cores

_T = TypeVar("_T")

# A rank that waits longer than this for another is waiting for a dead one; an evaluation or a checkpoint is shorter.
_COLLECTIVE_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among all of a run.

    Attributes:
        rank: from 0 to world_size - 1.
        local_rank: the same within this machine; it picks the GPU.
        world_size: processes of the run.
        local_world_size: processes of the run on this machine.
        device: what this rank computes on.
    """

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that writes files and speaks."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Add `values` up over all ranks, in place, and return them."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def max(self, values: torch.Tensor) -> torch.Tensor:
        """Take the largest of `values` over all ranks, in place, and return them."""
        if self.world_size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def union(self, ids: Sequence[int], size: int) -> list[int]:
        """Return what any rank has of the ids 0 to `size` - 1, in ascending order; every rank must call it."""
        present = torch.zeros(size, dtype=torch.uint8, device=self.device)
        present[list(ids)] = 1
        return self.max(present).nonzero().flatten().tolist()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world_size > 1:
            dist.barrier()

    def first_says(self, value: _T) -> _T:
        """Return on every rank what the first one passes; every rank must call it."""
        if self.world_size == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, src=0, device=self.device)
        return told[0]

    def each_says(self, value: _T) -> list[_T]:
        """Return what each rank passes, by rank; every rank must call it."""
        if self.world_size == 1:
            return [value]
        told: list[Any] = [None] * self.world_size
        dist.all_gather_object(told, value)
        return told

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Do something on every rank; where it fails on one, none goes on.

        Raises:
            RunError: it failed on another rank: with what that one has to say. A rank's own error stays as it is.
        """
        own: Exception | None = None
        try:
            yield
        except Exception as error:
            own = error
        try:
            told = self.each_says("" if own is None else f"rank {self.rank}: {own}")
        except Exception as lost:  # the others are gone, too: what happened here says more than that
            raise own or lost from lost
        if own is not None:
            raise own
        if failed := next(filter(None, told), ""):
            raise RunError(failed)

    def rows(self, values: torch.Tensor) -> torch.Tensor:
        """Return the 1-D `values` of each rank as a row (world_size, n), bit for bit; every rank must call it."""
        rows = values.new_zeros(self.world_size, len(values))
        rows[self.rank] = values
        return self.sum(rows)

    @contextmanager
    def averaged_batch_norm_statistics(self, models: Sequence[nn.Module]) -> Iterator[None]:
        """Average running means and variances over ranks; on leaving each rank has its own again, bit for bit.

        DDP runs without buffer broadcast, so each rank tracks its own share of the data; for an evaluation or a
        checkpoint they are averaged, as timm's `dist-bn reduce` does. timm goes on from the averages: how often it
        evaluates then changes what is tracked.
        """
        statistics = BatchNormStatistics(models)
        if self.world_size == 1 or not statistics.buffers:
            yield
            return
        own = statistics.flat()
        statistics.fill(self.sum(own.clone()) / self.world_size)
        try:
            yield
        finally:
            statistics.fill(own)


class BatchNormStatistics:
    """The running means and variances of models, in one order, as one row of numbers.

    Args:
        models: at least one.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.buffers = [
            buffer
            for model in models
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]

    def flat(self) -> torch.Tensor:
        """Return a copy of all, 1-D."""
        return torch.cat([buffer.flatten() for buffer in self.buffers]) if self.buffers else torch.empty(0)

    def fill(self, flat: torch.Tensor) -> None:
        """Set all to what `flat` returned."""
        parts = torch.split(flat, [buffer.numel() for buffer in self.buffers])
        for buffer, part in zip(self.buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`.

    Raises:
        RecipeError: there is no device of that name.
        RunError: CUDA is asked for and not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"device is {name!r}; it must be auto, cpu or cuda")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RunError("device cuda: PyTorch sees no CUDA device here. Use --device cpu, or see `fastbot doctor`")
    if local_rank >= torch.cuda.device_count():
        raise RunError(
            f"local rank {local_rank} has no GPU: this machine has {torch.cuda.device_count()}. Lower --nproc"
        )
    return torch.device("cuda", local_rank)


@contextmanager
def joined(device_name: str) -> Iterator[Ranks]:
    """Join the run this process was started for, and leave it at the end.

    The environment decides (torchrun's RANK, LOCAL_RANK, WORLD_SIZE); without it this is rank 0 of 1. After an error
    the group is not taken down: the other ranks may sit in a collective, and this one must not wait for them.

    Raises:
        RunError: contact with another rank was lost; that rank says why.
    """
    rank, local_rank = int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))
    world_size = int(os.environ.get("WORLD_SIZE") or 1)
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(max(1, cores() // local_world_size))  # torchrun would leave each rank a single one
    device = pick_device(device_name, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Ranks(rank, local_rank, world_size, local_world_size, device)
        return
    on_gpu = device.type == "cuda"
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=_COLLECTIVE_TIMEOUT, device_id=device if on_gpu else None
    )
    try:
        yield Ranks(rank, local_rank, world_size, local_world_size, device)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise RunError(f"rank {rank} lost contact with another rank, which says why") from error
    dist.destroy_process_group()
