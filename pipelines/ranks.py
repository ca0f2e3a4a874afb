"""How ranks share out a global batch: how many there may be, and the positions that each holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import SpecError


def check_rank(rank: int, world_size: int) -> None:
    """Check that `rank` is one of `world_size` ranks.

    Raises:
        SpecError: it is not.
    """
    if not 0 <= rank < world_size:
        raise SpecError(f"rank is {rank} of world_size {world_size}: ranks count from 0 to world_size - 1")


def allowed_world_sizes(num_groups: int) -> list[int]:
    """Return the numbers of ranks that `num_groups` groups of rows can be shared out over: its divisors."""
    return [n for n in range(1, num_groups + 1) if num_groups % n == 0]


def check_world_size(world_size: int, global_batch_size: int, group: int) -> None:
    """Check that every rank gets the same number of rows and whole mix groups.

    Args:
        world_size: number of ranks.
        global_batch_size: rows of a batch over all ranks, a multiple of `group`.
        group: rows that mix with each other; 1 if none do.

    Raises:
        SpecError: it does not divide the number of groups; lists the numbers that do.
    """
    allowed = allowed_world_sizes(global_batch_size // group)
    if world_size in allowed:
        return
    numbers = f"{', '.join(map(str, allowed))} {'rank' if allowed == [1] else 'ranks'}"
    mixing = f" in mix groups of {group}" if group > 1 else ""
    raise SpecError(
        f"{world_size} ranks cannot share out a global_batch_size of {global_batch_size}{mixing} evenly: it takes "
        f"{numbers}; start one of these numbers (--nproc), or change global_batch_size"
        f"{' or mix.group' if mixing else ''}"
    )


def positions_of_rank(rows: int, rank: int, world_size: int) -> NDArray[np.int64]:
    """Return int64 (rows,), read-only: the positions in the global batch that a rank holds, every `world_size`-th.

    Source: the striding of PyTorch's and timm's distributed samplers.
    """
    positions = rank + world_size * np.arange(rows, dtype=np.int64)
    positions.flags.writeable = False
    return positions
