"""Ranks: who am I, who else is there, and the few things they tell each other.

Training runs one process per device, started by torchrun's own elastic launcher, with NCCL between GPUs and gloo
between CPUs. A single process is rank 0 of 1 and talks to nobody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from fastbot.errors import RunError

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

    def any(self, flag: bool) -> bool:
        """Return whether any rank says so. All ranks must call it at the same step."""
        if self.world_size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world_size > 1:
            dist.barrier()

    def average_batch_norm_statistics(self, model: nn.Module) -> None:
        """Average running means and variances over ranks, in place.

        DDP runs without buffer broadcast, so each rank tracks its own share of the data; before an evaluation or a
        checkpoint they are averaged, as timm's `dist-bn reduce` does.
        """
        if self.world_size == 1:
            return
        statistics = [
            buffer
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]
        if not statistics:
            return
        flat = torch.cat([buffer.flatten() for buffer in statistics])
        flat = self.sum(flat) / self.world_size
        for buffer, mean in zip(statistics, torch.split(flat, [buffer.numel() for buffer in statistics]), strict=True):
            buffer.copy_(mean.view_as(buffer))


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`.

    Raises:
        RunError: CUDA is asked for and not there.
    """
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

    The environment decides (torchrun's RANK, LOCAL_RANK, WORLD_SIZE); without it this is rank 0 of 1.
    """
    rank, local_rank = int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(max(1, cores() // local_world_size))  # torchrun would leave each rank a single one
    device = pick_device(device_name, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_COLLECTIVE_TIMEOUT)
    try:
        yield Ranks(rank, local_rank, world_size, local_world_size, device)
    finally:
        if world_size > 1:
            dist.destroy_process_group()


def under_launcher() -> bool:
    """Return whether torchrun (ours or the user's) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or "RANK" in os.environ


def launch(num_processes: int, arguments: Sequence[str]) -> None:
    """Run `python -m fastbot ARGUMENTS` in `num_processes` ranks on this machine and wait for them.

    Raises:
        RunError: a rank failed; its own message has been printed by it.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="fastbot",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "fastbot", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise RunError(f"rank {rank} failed with exit code {failure.exitcode}; its message stands above") from error
    except SignalException:
        return  # the ranks were told to stop, and each has saved and left


def cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0))
