"""Which operations RandAugment or TrivialAugment applies to each picture, and how strongly."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from pipelines import philox
from pipelines.batch import Operation
from pipelines.constants import constant
from pipelines.spec import AutoAugment, NoAutoAugment, RandAugment, TrivialAugment

Drawn = tuple[NDArray[np.int8], NDArray[np.float32]]

# Magnitudes go from 0 to this. Source: timm's `_LEVEL_DENOM`.
_MAX_MAGNITUDE = 10.0

# The values of `pipelines.batch.Operation`. Kept in this file because numba's cache notices changes of this file only.
ROTATE, POSTERIZE, SOLARIZE, SOLARIZE_ADD, COLOR, SHARPNESS = 4, 5, 6, 7, 8, 11
SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = 12, 13, 14, 15
# RandAugment draws from AUTO_CONTRAST, 1, to TRANSLATE_Y: timm's `_RAND_INCREASING_TRANSFORMS`, in its order.
NUM_RAND_OPERATIONS = 15


class OperationsPlan(Protocol):
    """Plans the 8-bit operations of one rank's rows."""

    def draw(self, epoch: int, index: NDArray[np.int64], output_size: tuple[int, int]) -> Drawn:
        """Return `BatchPlan.operations` and `BatchPlan.arguments`.

        Args:
            epoch: from 0.
            index: int64 (n,), positions in the epoch.
            output_size: height and width of the pictures, in pixels.
        """
        ...


@njit(cache=True, nogil=True)
def rand_augment_argument(operation: int, magnitude: float, negated: bool, height: int, width: int) -> float:
    """Return what RandAugment passes to an operation at a magnitude.

    Args:
        operation: an `Operation` other than IDENTITY.
        magnitude: 0 to 10.
        negated: turn the direction of those operations that have one.
        height: of the picture, in pixels.
        width: likewise.

    Source: the `_level_to_arg` functions of timm's `_RAND_INCREASING_TRANSFORMS`, in the order of their arithmetic.
    """
    level = magnitude / _MAX_MAGNITUDE
    signed = -level if negated else level
    if operation == ROTATE:
        return signed * 30.0
    if operation == POSTERIZE:
        return 4.0 - math.floor(level * 4.0)
    if operation == SOLARIZE:
        return 256.0 - min(256.0, math.floor(level * 256.0))
    if operation == SOLARIZE_ADD:
        return min(128.0, math.floor(level * 110.0))
    if COLOR <= operation <= SHARPNESS:
        return max(0.1, 1.0 + signed * 0.9)
    if SHEAR_X <= operation <= SHEAR_Y:
        return signed * 0.3
    if operation == TRANSLATE_X:
        return signed * 0.45 * width
    if operation == TRANSLATE_Y:
        return signed * 0.45 * height
    return 0.0


@njit(cache=True, nogil=True)
def _rand_augment(
    key: np.uint64,
    epoch: int,
    index: NDArray[np.int64],
    size: tuple[int, int],
    layers: int,
    probability: float,
    mean: float,
    std: float,
) -> Drawn:
    operations, arguments = np.zeros((len(index), layers), np.int8), np.zeros((len(index), layers), np.float32)
    for k in range(len(index)):
        for layer in range(layers):
            for_operation, for_applying, word_a, word_b = philox.words(key, epoch, philox.OPERATION, index[k], layer)
            if philox.unit(for_applying) >= probability:
                continue
            drawn = philox.below(for_operation, 2 * NUM_RAND_OPERATIONS)
            operation, negated = 1 + (drawn >> 1), drawn & 1 == 1
            # Box and Muller, 1958.
            normal = math.sqrt(-2.0 * math.log(philox.unit(word_a))) * math.cos(2.0 * math.pi * philox.unit(word_b))
            magnitude = max(0.0, min(mean + std * normal, _MAX_MAGNITUDE))
            operations[k, layer] = operation
            arguments[k, layer] = rand_augment_argument(operation, magnitude, negated, size[0], size[1])
    return operations, arguments


@njit(cache=True, nogil=True)
def _trivial_augment(
    key: np.uint64,
    epoch: int,
    index: NDArray[np.int64],
    operations_of_wide: NDArray[np.int8],
    arguments_of_wide: NDArray[np.float32],
) -> Drawn:
    num_operations, num_strengths, num_signs = arguments_of_wide.shape
    operations, arguments = np.empty((len(index), 1), np.int8), np.empty((len(index), 1), np.float32)
    for k in range(len(index)):
        for_operation, for_strength, for_sign, _ = philox.words(key, epoch, philox.OPERATION, index[k], 0)
        drawn = philox.below(for_operation, num_operations)
        operations[k, 0] = operations_of_wide[drawn]
        arguments[k, 0] = arguments_of_wide[
            drawn, philox.below(for_strength, num_strengths), philox.below(for_sign, num_signs)
        ]
    return operations, arguments


def trivial_augment_arguments(num_strengths: int) -> dict[Operation, NDArray[np.float32]]:
    """Return every argument that TrivialAugment may pass to each of its operations.

    Args:
        num_strengths: equally spaced strengths, at least 2.

    Returns:
        For each operation float32 (num_strengths, 2): the strengths in ascending order, as they are and negated;
        twice the same where an operation has no direction.

    Source: torchvision's `TrivialAugmentWide`. Its pictures move to the right and down where ours go left and up,
    by whole pixels.
    """

    # torch's own arithmetic: numpy's rounds otherwise, and a threshold of 170 is not one of 170.00002.
    def linear(first: float, last: float) -> NDArray[np.float64]:
        return torch.linspace(first, last, num_strengths).numpy().astype(np.float64)

    def both(strengths: NDArray[np.float64], negated: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
        return np.stack([strengths, strengths if negated is None else negated], axis=1).astype(np.float32)

    nothing = both(np.zeros(num_strengths))
    shear, enhance, turn = linear(0, 0.99), linear(0, 0.99), linear(0, 135)
    shift = np.trunc(linear(0, 32))
    bits = 8 - (torch.arange(num_strengths) / ((num_strengths - 1) / 6)).round().numpy().astype(np.float64)
    factors = both(1 + enhance, 1 - enhance)
    return {
        Operation.IDENTITY: nothing,
        Operation.SHEAR_X: both(shear, -shear),
        Operation.SHEAR_Y: both(shear, -shear),
        Operation.TRANSLATE_X: both(-shift, shift),
        Operation.TRANSLATE_Y: both(-shift, shift),
        Operation.ROTATE: both(turn, -turn),
        Operation.BRIGHTNESS: factors,
        Operation.COLOR: factors,
        Operation.CONTRAST: factors,
        Operation.SHARPNESS: factors,
        Operation.POSTERIZE: both(bits),
        Operation.SOLARIZE: both(linear(255, 0)),
        Operation.AUTO_CONTRAST: nothing,
        Operation.EQUALIZE: nothing,
    }


class NoOperationsPlan:
    """Plans no operations: no layers."""

    def __init__(self, rows: int) -> None:
        self._nothing = constant(0, (rows, 0), np.int8), constant(0, (rows, 0), np.float32)

    def draw(self, epoch: int, index: NDArray[np.int64], output_size: tuple[int, int]) -> Drawn:
        """See `OperationsPlan`."""
        return self._nothing


class RandAugmentPlan:
    """Plans RandAugment: per layer an operation with replacement, a magnitude, a direction, and whether it is applied.

    A layer that is not applied is IDENTITY. Translations are a share of the output's size.

    Source: timm's `RandAugment` and `AugmentOp.__call__`.
    """

    def __init__(self, augment: RandAugment, key: np.uint64) -> None:
        self._augment = augment
        self._key = key

    def draw(self, epoch: int, index: NDArray[np.int64], output_size: tuple[int, int]) -> Drawn:
        """See `OperationsPlan`."""
        augment = self._augment
        drawn: Drawn = _rand_augment(
            self._key,
            epoch,
            index,
            output_size,
            augment.layers,
            augment.probability,
            augment.magnitude,
            augment.magnitude_std,
        )
        return drawn


class TrivialAugmentPlan:
    """Plans TrivialAugment: an operation, one of its strengths and a direction, each uniform.

    Source: torchvision's `TrivialAugmentWide`.
    """

    def __init__(self, augment: TrivialAugment, key: np.uint64) -> None:
        self._key = key
        arguments = trivial_augment_arguments(augment.num_strengths)
        self._operations = np.array(list(arguments), np.int8)
        self._arguments = np.stack(list(arguments.values()))

    def draw(self, epoch: int, index: NDArray[np.int64], output_size: tuple[int, int]) -> Drawn:
        """See `OperationsPlan`."""
        drawn: Drawn = _trivial_augment(self._key, epoch, index, self._operations, self._arguments)
        return drawn


def build_operations_plan(augment: AutoAugment, key: np.uint64, rows: int) -> OperationsPlan:
    """Return the plan of a spec's operations, for so many rows a rank; `key` is the generator's."""
    match augment:
        case RandAugment():
            return RandAugmentPlan(augment, key)
        case TrivialAugment():
            return TrivialAugmentPlan(augment, key)
        case NoAutoAugment():
            return NoOperationsPlan(rows)
