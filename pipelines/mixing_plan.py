"""Who mixes with whom, how, and by how much; the arithmetic on pixels and targets is elsewhere."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines import philox
from pipelines.constants import constant
from pipelines.spec import CutMix, Mix, Mixup, MixupCutMix, NoMix


def mix_group(mix: Mix) -> int:
    """Return how many positions of a global batch mix with each other: 1 where nothing mixes."""
    return 1 if isinstance(mix, NoMix) else mix.group


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


def cut_rectangles(
    lam: NDArray[np.float64], centre: NDArray[np.float64], output_size: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the rectangles that CutMix takes from the partners, and what they leave.

    Args:
        lam: float64 (n,), 0 to 1: a rectangle covers 1 - lam of the picture, before it is clipped to it.
        centre: float64 (n, 2), uniform in [0, 1): where its centre is, from top and left.
        output_size: height and width of the picture in pixels.

    Returns:
        int32 (n, 4): top, left, height, width in pixels; all 0 where a rectangle covers no pixel. And float64 (n,):
        the share of the picture's pixels outside of it.

    Source: Yun et al. 2019, as timm's `rand_bbox` rounds and `cutmix_bbox_and_lam` corrects.
    """
    size = np.array(output_size)
    sides = (size * np.sqrt(1 - lam)[:, None]).astype(np.int64)
    middle = (size * centre).astype(np.int64)
    low, high = np.clip(middle - sides // 2, 0, size), np.clip(middle + (sides + 1) // 2, 0, size)
    sides = high - low
    area = sides.prod(axis=1)
    rectangles = np.where(area[:, None] > 0, np.concatenate([low, sides], axis=1), 0)
    return rectangles.astype(np.int32), 1 - area / size.prod()


class MixingPlan(Protocol):
    """Plans the mixing of one rank's rows.

    Attributes:
        partner: int64 (n,), read-only: the row that each row mixes with, the same in every batch.
    """

    partner: NDArray[np.int64]

    def shares(
        self, epoch: int, step: int, output_size: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return `BatchPlan.lam` and `BatchPlan.cut` for pictures of `output_size`, height and width in pixels."""
        ...


class NoMixingPlan:
    """Plans that every row is its own partner, with a lambda of 1. Arguments: the number of rows."""

    def __init__(self, rows: int) -> None:
        self.partner = constant(range(rows), (rows,), np.int64)
        self._alone = constant(1, (rows,), np.float32), constant(0, (rows, 4), np.int32)

    def shares(
        self, epoch: int, step: int, output_size: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """See `MixingPlan`."""
        return self._alone


def _alphas(mix: Mixup | CutMix | MixupCutMix) -> tuple[float, float, float]:
    """Return alpha of mixup, alpha of CutMix, and the probability of the latter."""
    match mix:
        case Mixup():
            return mix.alpha, mix.alpha, 0.0
        case CutMix():
            return mix.alpha, mix.alpha, 1.0
        case MixupCutMix():
            return mix.mixup_alpha, mix.cutmix_alpha, mix.switch


class PairMixingPlan:
    """Plans mixup, CutMix or either, of each row with the one that its group's reversal puts in its place.

    Whether anything is mixed, which of the two, lambda and the rectangle are drawn once a batch, a group or a sample.
    Drawn per sample, the two rows of a pair mix differently, as in timm's `elem` mode: each takes from the other as it
    was. A row that is its own partner stays as it is.

    Args:
        mix: what to draw.
        key: the generator's, from `philox.key`.
        global_batch_size: rows of a batch over all ranks.
        positions: int64 (n,), the rank's positions in the global batch: its rank, then every `world_size`-th.
        world_size: number of ranks; divides the number of mix groups.

    Source: BoT section 5.4 and timm's `Mixup`; who shares a draw is GluonCV's (batch) or timm's (group) way.
    """

    def __init__(
        self,
        mix: Mixup | CutMix | MixupCutMix,
        key: np.uint64,
        global_batch_size: int,
        positions: NDArray[np.int64],
        world_size: int,
    ) -> None:
        self.partner = (mixing_partners(positions, global_batch_size, mix.group) - positions[0]) // world_size
        self.partner.flags.writeable = False
        self._alone = self.partner == np.arange(len(positions))
        self._key = key
        self._probability = mix.probability
        self._mixup_alpha, self._cutmix_alpha, self._switch = _alphas(mix)
        num_groups = global_batch_size // mix.group
        self._draws_per_batch = {"batch": 1, "group": num_groups, "sample": global_batch_size}[mix.draw]
        # Along this rank's rows the draws repeat after so many.
        own_draws = max(1, self._draws_per_batch // world_size)
        self._own_draws = positions[:own_draws] % self._draws_per_batch
        self._draw_of_row = np.arange(len(positions)) % own_draws

    def shares(
        self, epoch: int, step: int, output_size: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """See `MixingPlan`."""
        index = step * self._draws_per_batch + self._own_draws
        drawn: NDArray[np.float64] = philox.uniforms(self._key, epoch, philox.CUT, index)
        mixes, cuts = drawn[:, 0] < self._probability, drawn[:, 1] < self._switch
        lam = self._lambdas(epoch, index, cuts)
        cut = np.zeros((len(index), 4), np.int32)
        cuts &= mixes
        cut[cuts], lam[cuts] = cut_rectangles(lam[cuts], drawn[cuts, 2:], output_size)
        lam[~mixes] = 1
        return self._of_rows(lam.astype(np.float32), cut)

    def _lambdas(self, epoch: int, index: NDArray[np.int64], cuts: NDArray[np.bool_]) -> NDArray[np.float64]:
        lam = np.empty(len(index))
        for alpha, drawn in ((self._mixup_alpha, ~cuts), (self._cutmix_alpha, cuts)):
            lam[drawn] = philox.betas(self._key, epoch, philox.LAMBDA, index[drawn], alpha)
        return lam

    def _of_rows(
        self, lam: NDArray[np.float32], cut: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Hand each row its draw."""
        lam, cut = lam[self._draw_of_row], cut[self._draw_of_row]
        lam[self._alone], cut[self._alone] = 1, 0
        return lam, cut


def build_mixing_plan(
    mix: Mix, key: np.uint64, global_batch_size: int, positions: NDArray[np.int64], world_size: int
) -> MixingPlan:
    """Return the plan of a spec's mixing; the arguments are `PairMixingPlan`'s."""
    if isinstance(mix, NoMix):
        return NoMixingPlan(len(positions))
    return PairMixingPlan(mix, key, global_batch_size, positions, world_size)
