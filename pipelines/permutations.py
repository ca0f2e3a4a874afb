"""Random permutations of a split: of all its samples at once, or of blocks that lie together in the store.

Both are pure functions of the generator's key, the epoch and sizes; neither knows of ranks.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines import philox

_2_32, _LOW, _32 = np.uint64(2**32), np.uint64(2**32 - 1), np.uint64(32)

# Samples mix with those of at least so many blocks, also on a rank that holds a single lane.
_MIN_BLOCKS_PER_LANE = 8


# All of these release the GIL: for ImageNet they take tens of milliseconds, in which decoding threads go on.
@njit(cache=True, nogil=True)
def _shuffle(samples: NDArray[np.int32], key: np.uint64, epoch: int, stream: int) -> None:
    """Bring `samples` into a uniformly random order, in place.

    Source: Fisher-Yates shuffle, its exactly uniform integers by Lemire, "Fast random integer generation in an
    interval", 2019.
    """
    drawn = np.empty(4, np.uint64)
    num_drawn = 0
    for last in range(len(samples) - 1, 0, -1):
        bound = np.uint64(last + 1)
        while True:
            place = num_drawn & 3
            if place == 0:
                drawn[0], drawn[1], drawn[2], drawn[3] = philox.words(key, epoch, philox.ORDER, stream, num_drawn >> 2)
            num_drawn += 1
            product = drawn[place] * bound
            remainder = product & _LOW
            # The first comparison nearly always settles it, and spares the division.
            if remainder >= bound or remainder >= (_2_32 - bound) % bound:
                break
        other = product >> _32  # stays unsigned: a signed index would be tested for being negative
        samples[last], samples[other] = samples[other], samples[last]


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
    order = np.arange(size, dtype=np.int32)  # int32: half the cache misses of int64
    _shuffle(order, key, epoch, 0)
    order.flags.writeable = False
    return order


@njit(cache=True, nogil=True)
def _shuffled_blocks(key: np.uint64, epoch: int, size: int, block: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the samples, block after block in random order, and where each block begins in that, then its end."""
    blocks = np.arange((size + block - 1) // block, dtype=np.int32)
    _shuffle(blocks, key, epoch, 0)
    samples, starts = np.empty(size, np.int32), np.empty(len(blocks) + 1, np.int64)
    end = 0
    for k in range(len(blocks)):
        starts[k] = end
        first = blocks[k] * block
        for sample in range(first, min(first + block, size)):
            samples[end] = sample
            end += 1
    starts[len(blocks)] = end
    return samples, starts


@njit(cache=True, nogil=True)
def _block_shuffled(
    key: np.uint64, epoch: int, size: int, block: int, length: int, lanes: int, pieces_per_pool: int
) -> NDArray[np.int32]:
    samples, starts = _shuffled_blocks(key, epoch, size, block)
    order = np.empty(length, np.int32)
    share = length // lanes
    stream = 1
    for lane in range(lanes):
        first, last = lane * share, (lane + 1) * share
        # A lane's pieces are blocks; the first and the last may be parts, whose other parts are the neighbours'.
        first_piece = np.searchsorted(starts, first, side="right") - 1
        num_pieces = np.searchsorted(starts, last) - first_piece
        num_pools = (num_pieces + pieces_per_pool - 1) // pieces_per_pool
        for pool in range(num_pools):
            # Pools share out the pieces evenly: a short one at the end would mix badly.
            low = max(first, starts[first_piece + num_pieces * pool // num_pools])
            high = min(last, starts[first_piece + num_pieces * (pool + 1) // num_pools])
            _shuffle(samples[low:high], key, epoch, stream)
            stream += 1
        for place in range(share):
            order[place * lanes + lane] = samples[first + place]
    return order


@lru_cache(maxsize=2)
def block_permutation(
    key: np.uint64, epoch: int, size: int, block: int, pool: int, global_batch_size: int
) -> NDArray[np.int32]:
    """Return an order of an epoch that reads blocks of consecutive samples whole; the last two are kept.

    All blocks are laid end to end in random order, and what does not fill a batch is cut off. The rest is dealt to L
    lanes in equal, consecutive shares; position p of the epoch belongs to lane p mod L. A lane goes through its share
    `pool / L` blocks at a time, and shuffles the samples of these.

    Reads stay sequential: the blocks that a lane goes through are whole ranges of the store, each of whose bytes is
    needed before the lane goes on. So reading ahead, by the kernel or by a reader of whole blocks, is never in vain,
    and no page is read twice where `pool` blocks fit into memory.

    Ranks read disjointly: p mod R is (p mod L) mod R for every world size R that divides L, so then each rank holds
    whole lanes, and two ranks meet in a block only where two shares do: there each reads a part of its own. Other
    world sizes get the same batches, but their ranks read from common blocks. L, which must not depend on the world
    size, is the largest divisor of the global batch that divides `pool / 8` too: a lane mixes at least 8 blocks,
    since on L ranks a rank mixes nothing else. The default pool of 64 makes 8 lanes. A split that `pool` blocks hold
    has a single lane, and is shuffled as a whole.

    Each batch holds as many samples of each lane as of any other: it is spread over the open blocks more
    evenly than chance would.

    Args:
        key: the generator's, from `philox.key`.
        epoch: from 0.
        size: number of samples, below 2**31.
        block: samples that lie together.
        pool: blocks open at a time, at most, over all lanes.
        global_batch_size: at most `size`.

    Returns:
        int32, read-only: the sample id at each position of the epoch, for as many whole batches as there are.
    """
    num_blocks = -(-size // block)
    lanes = gcd(global_batch_size, max(1, pool // _MIN_BLOCKS_PER_LANE)) if num_blocks > pool else 1
    length = size - size % global_batch_size
    order: NDArray[np.int32] = _block_shuffled(key, epoch, size, block, length, lanes, pool // lanes)
    order.flags.writeable = False
    return order
