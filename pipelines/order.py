"""Which sample stands where: the order of an epoch, and the positions in it that a rank holds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines import philox
from pipelines.errors import SpecError

_2_32, _LOW, _32 = np.uint64(2**32), np.uint64(2**32 - 1), np.uint64(32)


# Releases the GIL: for ImageNet this takes tens of milliseconds, in which decoding threads go on.
@njit(cache=True, nogil=True)
def _shuffled(key: np.uint64, epoch: int, size: int) -> NDArray[np.int32]:
    """Return a uniformly random permutation of 0 to size - 1.

    Source: Fisher-Yates shuffle, its exactly uniform integers by Lemire, "Fast random integer generation in an
    interval", 2019.
    """
    order = np.arange(size, dtype=np.int32)  # int32: half the cache misses of int64
    drawn = np.empty(4, np.uint64)
    num_drawn = 0
    for last in range(size - 1, 0, -1):
        bound = np.uint64(last + 1)
        while True:
            place = num_drawn & 3
            if place == 0:
                drawn[0], drawn[1], drawn[2], drawn[3] = philox.words(key, epoch, philox.ORDER, 0, num_drawn >> 2)
            num_drawn += 1
            product = drawn[place] * bound
            remainder = product & _LOW
            # The first comparison nearly always settles it, and spares the division.
            if remainder >= bound or remainder >= (_2_32 - bound) % bound:
                break
        other = product >> _32  # stays unsigned: a signed index would be tested for being negative
        order[last], order[other] = order[other], order[last]
    return order


# Two: an evaluation of another epoch, or a second pipeline, should not shuffle the current one anew.
@lru_cache(maxsize=2)
def permutation(key: np.uint64, epoch: int, size: int) -> NDArray[np.int32]:
    """Return the random order of an epoch; the last two are kept.

    Args:
        key: the generator's, from `philox.key`.
        epoch: from 0.
        size: number of samples, below 2**31.

    Returns:
        int32 (size,), read-only: the sample id at each position of the epoch.
    """
    order: NDArray[np.int32] = _shuffled(key, epoch, size)
    order.flags.writeable = False
    return order


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
    mixing = f" in mix groups of {group}" if group > 1 else ""
    raise SpecError(
        f"{world_size} ranks cannot share out a global_batch_size of {global_batch_size}{mixing} evenly: it takes "
        f"{', '.join(map(str, allowed))} ranks; start one of these numbers (--nproc), or change global_batch_size"
        f"{' or mix.group' if mixing else ''}"
    )


def positions_of_rank(rows: int, rank: int, world_size: int) -> NDArray[np.int64]:
    """Return int64 (rows,), read-only: the positions in the global batch that a rank holds, every `world_size`-th.

    Source: the striding of PyTorch's and timm's distributed samplers.
    """
    positions = rank + world_size * np.arange(rows, dtype=np.int64)
    positions.flags.writeable = False
    return positions
