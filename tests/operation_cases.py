"""Pictures and plans that reach every corner of the 8-bit operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import skimage.data
from numpy.typing import NDArray
from plans import train_plan

from pipelines.batch import BatchPlan, Operation

Picture = NDArray[np.uint8]


def operation_pictures() -> dict[str, Picture]:
    """Return uint8 (H, W, 3) pictures: photographs, flat ones, noise, and sizes that leave no room for a filter."""
    random = np.random.default_rng(0)
    two_levels = np.where(np.arange(13 * 11 * 3).reshape(13, 11, 3) % 7 < 3, 100, 101).astype(np.uint8)
    pictures = {
        "astronaut": skimage.data.astronaut()[60:119, 200:271],
        "dark": skimage.data.coffee()[30:78, 40:80] // 3 + 20,
        "black": np.zeros((6, 5, 3), np.uint8),
        "grey": np.full((9, 8, 3), 77, np.uint8),
        "two levels": two_levels,
        "noise": random.integers(0, 256, (31, 24, 3), dtype=np.uint8),
    }
    for size in ((1, 1), (1, 9), (8, 1), (2, 5), (3, 3), (5, 7)):
        pictures[f"{size[0]}x{size[1]}"] = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    return {name: np.ascontiguousarray(picture) for name, picture in pictures.items()}


def operations_plan(operations: Sequence[Sequence[int]], arguments: Sequence[Sequence[float]]) -> BatchPlan:
    """Return a plan of these operations and arguments, a row for each picture, in which nothing else happens."""
    num = len(operations)
    return replace(
        train_plan(list(range(num)), np.zeros((num, 4)), (1, 1)),
        operations=np.array(operations, np.int8),
        arguments=np.array(arguments, np.float32),
    )


# Arguments from about the least to the most that any policy draws, some beyond.
RANGES = {
    Operation.ROTATE: (-135, 135),
    Operation.POSTERIZE: (0, 9),
    Operation.SOLARIZE: (0, 257),
    Operation.SOLARIZE_ADD: (0, 129),
    Operation.COLOR: (0, 2.2),
    Operation.CONTRAST: (0, 2.2),
    Operation.BRIGHTNESS: (0, 2.2),
    Operation.SHARPNESS: (0, 2.2),
    Operation.SHEAR_X: (-1, 1),
    Operation.SHEAR_Y: (-1, 1),
    Operation.TRANSLATE_X: (-40, 40),
    Operation.TRANSLATE_Y: (-40, 40),
}


def random_operations_plan(num: int, layers: int, seed: int = 0) -> BatchPlan:
    """Return a plan of operations in turn in the first layer, at random in the others, half of the rows mirrored."""
    random = np.random.default_rng(seed)
    operations = random.integers(0, len(Operation), (num, layers))
    operations[:, 0] = np.arange(num) % len(Operation)
    arguments = [[random.uniform(*RANGES.get(Operation(o), (0, 0))) for o in row] for row in operations]
    whole = np.isin(operations, (Operation.POSTERIZE, Operation.SOLARIZE_ADD))
    plan = operations_plan(operations.tolist(), np.where(whole, np.floor(arguments), arguments).tolist())
    return replace(plan, flip=random.random(num) < 0.5)
