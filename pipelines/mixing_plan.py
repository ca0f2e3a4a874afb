"""Who mixes with whom, and by how much; the arithmetic on pixels is in `mixing`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines import philox
from pipelines.spec import Mix, Mixup


def mix_group(mix: Mix) -> int:
    """Return how many positions of a global batch mix with each other: 1 where nothing mixes."""
    return mix.group if isinstance(mix, Mixup) else 1


def mixing_partners(positions: NDArray[np.int64], global_batch_size: int, group: int) -> NDArray[np.int64]:
    """Return the position that each position of a global batch mixes with.

    The batch is dealt to V = global_batch_size / group virtual ranks, position p to p mod V, and each reverses its
    own. Mixing is therefore the same on any number of ranks that divides V, and never leaves a rank.

    Args:
        positions: int64 (n,), positions in the global batch.
        global_batch_size: rows of a batch over all ranks.
        group: rows of a virtual rank; divides `global_batch_size`.

    Returns:
        int64 (n,). The middle of an odd group is its own partner.

    Source: the reversed batch of GluonCV's and timm's mixup, where V is the number of processes.
    """
    num_virtual_ranks = global_batch_size // group
    virtual_rank, place = positions % num_virtual_ranks, positions // num_virtual_ranks
    return virtual_rank + (group - 1 - place) * num_virtual_ranks


class MixingPlan:
    """Plans the mixing of one rank's rows. Without mixing every row is its own partner, with a lambda of 1.

    Args:
        mix: what to draw.
        global_batch_size: rows of a batch over all ranks.
        positions: int64 (n,), the rank's positions in the global batch: its rank, then every `world_size`-th.
        world_size: number of ranks; divides the number of mix groups.

    Attributes:
        partner: int64 (n,), read-only: the row that each row mixes with, the same in every batch.

    Source: BoT section 5.4; who shares a lambda is GluonCV's (batch) or timm's (group) way.
    """

    def __init__(self, mix: Mix, global_batch_size: int, positions: NDArray[np.int64], world_size: int) -> None:
        group = mix_group(mix)
        rank = positions[0]
        self.partner = (mixing_partners(positions, global_batch_size, group) - rank) // world_size
        self.partner.flags.writeable = False
        self._alone = self.partner == np.arange(len(positions))
        self._alpha = mix.alpha if isinstance(mix, Mixup) else 1.0
        draw = mix.draw if isinstance(mix, Mixup) else "batch"
        self._draws_per_batch = {"batch": 1, "group": global_batch_size // group, "sample": global_batch_size}[draw]
        # Along this rank's rows the draws repeat after so many.
        own_draws = max(1, self._draws_per_batch // world_size)
        self._own_draws = positions[:own_draws] % self._draws_per_batch
        self._draw_of_row = np.arange(len(positions)) % own_draws

    def lambdas(self, key: np.uint64, epoch: int, step: int) -> NDArray[np.float32]:
        """Return float32 (n,) in [0, 1]: the share that each row keeps of itself."""
        index = step * self._draws_per_batch + self._own_draws
        drawn: NDArray[np.float64] = philox.betas(key, epoch, philox.LAMBDA, index, self._alpha)
        lam = drawn.astype(np.float32)[self._draw_of_row]
        lam[self._alone] = 1
        return lam
