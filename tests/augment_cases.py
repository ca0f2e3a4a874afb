"""Pictures and plans that reach every corner of the augmentation."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from plans import train_plan

from pipelines.batch import BatchPlan
from pipelines.spec import ContrastJitter, DataSpec, HsvJitter, NoJitter

SPECS = {
    "none": DataSpec(jitter=NoJitter()),
    "hsv": DataSpec(jitter=HsvJitter()),
    "contrast": DataSpec(jitter=ContrastJitter()),
}


def colours() -> NDArray[np.uint8]:
    """Return uint8 (n, 3): greys, primaries and other ties, colours one level beside them, and random ones."""
    levels = [0, 1, 2, 127, 128, 254, 255]
    ties = np.array(list(itertools.product(levels, repeat=3)), np.uint8)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    return np.concatenate([ties, greys, np.random.default_rng(0).integers(0, 256, (2000, 3), dtype=np.uint8)])


def pictures(num: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return uint8 (num, height, width, 3): each begins with the colours above and goes on at random."""
    pixels = np.random.default_rng(seed).integers(0, 256, (num, height * width, 3), dtype=np.uint8)
    first = colours()[: height * width]
    pixels[:, : len(first)] = first
    return torch.from_numpy(pixels.reshape(num, height, width, 3))


def random_plan(num: int, seed: int = 0, low: float = 0.6, high: float = 1.4) -> BatchPlan:
    """Return a plan with random factors, all six orders in turn, and both ways up."""
    random = np.random.default_rng(seed)
    orders = np.array(list(itertools.permutations(range(3))), np.int8)
    return replace(
        train_plan(list(range(num)), np.zeros((num, 4)), (1, 1)),
        flip=np.arange(num) % 2 == 1,
        jitter=random.uniform(low, high, (num, 3)).astype(np.float32),
        jitter_order=orders[np.arange(num) % 6],
        lighting=random.normal(0, 0.1, (num, 3)).astype(np.float32),
    )
