"""Which sample stands at each position of an epoch, and which stands in for one that cannot be used.

Positions of an epoch count over all ranks and batches: orders know neither, so that every world size, and a run that
is resumed on another, sees the same batches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines import philox
from pipelines.errors import PipelineError, SpecError
from pipelines.permutations import block_permutation, permutation
from pipelines.spec import BlockShuffle, Order, RepeatAugment, Shuffle, Weighted


class EpochOrder(Protocol):
    """A pure function of (epoch, position in the epoch)."""

    def ids(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return int64 (n,): the sample ids at `positions`, int64 (n,), of `epoch`."""
        ...

    def others(
        self, epoch: int, positions: NDArray[np.int64], ids: NDArray[np.int64], attempt: int
    ) -> NDArray[np.int64]:
        """Return int64 (n,): samples other than `ids` for `positions`, drawn anew for each `attempt` (from 0).

        Raises:
            PipelineError: there are no others.
        """
        ...


@njit(cache=True, nogil=True)
def _substitute_uniforms(
    key: np.uint64, epoch: int, positions: NDArray[np.int64], attempt: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, two = np.empty(len(positions)), np.empty(len(positions))
    for k in range(len(positions)):
        word_a, word_b, _, _ = philox.words(key, epoch, philox.SUBSTITUTE, positions[k], attempt)
        one[k], two[k] = philox.unit(word_a), philox.unit(word_b)
    return one, two


class PermutedOrder:
    """Every sample as often as any other, in the order of a permutation; substitutes are drawn uniformly.

    Args:
        key: the generator's, from `philox.key`.
        num_samples: of the split.
        permute: returns the permutation of an epoch.
        repeats: copies of each sample, one after the other.
    """

    def __init__(
        self, key: np.uint64, num_samples: int, permute: Callable[[int], NDArray[np.int32]], repeats: int = 1
    ) -> None:
        self._key = key
        self._num_samples = num_samples
        self._permute = permute
        self._repeats = repeats

    def ids(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `EpochOrder`."""
        ids: NDArray[np.int64] = self._permute(epoch)[positions // self._repeats].astype(np.int64)
        return ids

    def others(
        self, epoch: int, positions: NDArray[np.int64], ids: NDArray[np.int64], attempt: int
    ) -> NDArray[np.int64]:
        """See `EpochOrder`."""
        if self._num_samples < 2:
            raise PipelineError("the split holds one sample: none can stand in for it")
        uniform, _ = _substitute_uniforms(self._key, epoch, positions, attempt)
        others: NDArray[np.int64] = (uniform * (self._num_samples - 1)).astype(np.int64)
        others += others >= ids
        return others


class WeightedOrder:
    """Each position is drawn by itself, with replacement: a class by its weight, then one of its samples uniformly.

    Args:
        key: the generator's, from `philox.key`.
        labels: int64 (N,), from 0.
        weights: float64 (K,), of classes, at least 0; 0 where a class has no samples, and not all 0.
    """

    def __init__(self, key: np.uint64, labels: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        self._key = key
        self._labels = labels
        self._counts = np.bincount(labels, minlength=len(weights))
        # Samples sorted by class, where each class begins in that, and the place of each sample within its class.
        self._members = np.argsort(labels, kind="stable").astype(np.int32)
        self._starts = np.cumsum(self._counts) - self._counts
        self._places = np.empty(len(labels), np.int32)
        self._places[self._members] = np.arange(len(labels)) - self._starts[labels[self._members]]
        shares = weights / weights.max()  # first: the sum of large weights may be infinite
        shares /= shares.sum()
        self._upper = np.cumsum(shares)
        self._share_of_sample = shares / np.maximum(self._counts, 1)
        drawable = np.flatnonzero(shares)
        self._last_class = drawable[-1]
        self._num_drawable = int(self._counts[drawable].sum())

    def ids(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `EpochOrder`."""
        drawn: NDArray[np.float64] = philox.uniforms(self._key, epoch, philox.ORDER, positions)
        classes = self._classes(drawn[:, 0])
        return self._samples(classes, (drawn[:, 1] * self._counts[classes]).astype(np.int64))

    def others(
        self, epoch: int, positions: NDArray[np.int64], ids: NDArray[np.int64], attempt: int
    ) -> NDArray[np.int64]:
        """See `EpochOrder`. The others keep their weights among each other."""
        if self._num_drawable < 2:
            raise PipelineError("order.weights leave one sample that can be drawn: none can stand in for it")
        for_class, for_place = _substitute_uniforms(self._key, epoch, positions, attempt)
        own = self._labels[ids]
        # The sample's own share is taken out of the end of its class's.
        missing = self._share_of_sample[own]
        drawn = for_class * (self._upper[-1] - missing)
        classes = self._classes(drawn + np.where(drawn >= self._upper[own] - missing, missing, 0))
        same = classes == own
        places = (for_place * (self._counts[classes] - same)).astype(np.int64)
        places += same & (places >= self._places[ids])
        # By a rounding error the class may be its own where that has no other sample.
        return self._samples(classes, np.minimum(places, self._counts[classes] - 1))

    def _classes(self, drawn: NDArray[np.float64]) -> NDArray[np.int64]:
        # The sum of all shares may be rounded to less than what was drawn.
        classes: NDArray[np.int64] = np.minimum(np.searchsorted(self._upper, drawn, side="right"), self._last_class)
        return classes

    def _samples(self, classes: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        ids: NDArray[np.int64] = self._members[self._starts[classes] + places].astype(np.int64)
        return ids


def _checked_labels(labels: NDArray[np.int64] | None, num_samples: int) -> NDArray[np.int64]:
    if labels is None:
        raise SpecError(
            "order.kind is weighted, but the split's labels were not given: pass labels=, one for each sample"
        )
    if labels.shape != (num_samples,):
        raise SpecError(f"labels {labels.shape} must be one number for each of the {num_samples} samples")
    if labels.min() < 0:
        raise SpecError(f"sample {int(np.argmin(labels))} has the label {labels.min()}: labels count from 0")
    return np.ascontiguousarray(labels, np.int64)


def class_weights(order: Weighted, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weight of each class.

    Args:
        order: `weights`, or the `power` that balances classes by.
        labels: int64 (N,), from 0.

    Returns:
        float64 (K,): how often a class is drawn, in any unit. Classes without samples have 0.

    Raises:
        SpecError: `weights` are not one for each class, all 0, or not 0 for a class that has no samples.
    """
    if order.weights is None:
        counts = np.bincount(labels)
        return np.where(counts > 0, np.float_power(counts, 1 - order.power), 0)
    weights = np.array(order.weights, np.float64)
    if len(weights) <= labels.max():
        raise SpecError(
            f"order.weights has {len(weights)} numbers, but labels go up to {labels.max()}: give one for each class"
        )
    empty = np.flatnonzero((np.bincount(labels, minlength=len(weights)) == 0) & (weights > 0))
    if len(empty):
        raise SpecError(
            f"order.weights gives class {empty[0]} the weight {weights[empty[0]]}, but the split has no samples of it: "
            "give it 0"
        )
    if not weights.any():
        raise SpecError("order.weights are all 0: give at least one class a positive weight")
    return weights


def build_order(
    order: Order, key: np.uint64, num_samples: int, global_batch_size: int, labels: NDArray[np.int64] | None
) -> EpochOrder:
    """Return the order of training epochs that a spec asks for.

    With `RepeatAugment`, position p shows sample p // repeats of the shuffle: ranks, which hold every R-th position,
    get what timm's `RepeatAugSampler` gives them, for timm's permutation. The length may differ: here an epoch is the
    N // B whole batches that N samples fill, as ever. timm keeps N // 256 * 256 // R samples a rank: as many
    whole batches where B is a multiple of 256, otherwise as many or fewer. (Below 256 samples it keeps N / R rounded
    up, which may be a batch more.)

    Args:
        order: which.
        key: the generator's, from `philox.key`.
        num_samples: of the split.
        global_batch_size: at most `num_samples`.
        labels: int64 (N,), from 0; only `Weighted` needs them.

    Raises:
        SpecError: what `Weighted` needs is missing or makes no sense.
    """
    match order:
        case Weighted():
            labels = _checked_labels(labels, num_samples)
            return WeightedOrder(key, labels, class_weights(order, labels))
        case BlockShuffle(block=block, pool=pool):
            # Larger ones mean no more than the whole split, and might not fit compiled code's integers.
            block, pool = min(block, num_samples), min(pool, num_samples)
            sizes = {"size": num_samples, "block": block, "pool": pool, "global_batch_size": global_batch_size}
            return PermutedOrder(key, num_samples, partial(block_permutation, key, **sizes))
        case RepeatAugment(repeats=repeats):
            return PermutedOrder(key, num_samples, partial(permutation, key, size=num_samples), repeats)
        case Shuffle():
            return PermutedOrder(key, num_samples, partial(permutation, key, size=num_samples))
