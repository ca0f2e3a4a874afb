"""Pictures and plans that reach every corner of the augmentation."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from plans import train_plan

from pipelines.batch import BatchPlan
from pipelines.spec import ContrastJitter, DataSpec, HsvJitter, Mixup, MixupCutMix, NoJitter, RandomErasing

SPECS = {
    "none": DataSpec(jitter=NoJitter()),
    "hsv": DataSpec(jitter=HsvJitter()),
    "contrast": DataSpec(jitter=ContrastJitter()),
}

# Every jitter once with each mode of erasing; the last has no mixing, so that erasing is seen alone.
MIXED_SPECS = {
    "hsv, pixel, mixed": DataSpec(erasing=RandomErasing(probability=1, mode="pixel"), mix=MixupCutMix()),
    "contrast, rand, mixed": DataSpec(
        jitter=ContrastJitter(), erasing=RandomErasing(probability=1, mode="rand"), mix=Mixup()
    ),
    "none, const, mixed": DataSpec(
        jitter=NoJitter(), erasing=RandomErasing(probability=1, mode="const"), mix=MixupCutMix()
    ),
    "hsv, mixed": DataSpec(mix=MixupCutMix()),
    "none, pixel": DataSpec(jitter=NoJitter(), erasing=RandomErasing(probability=1, mode="pixel")),
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


def mixed_plan(spec: DataSpec, num: int, height: int, width: int, seed: int = 0) -> BatchPlan:
    """Return a random plan that also erases and mixes, if the spec does.

    Rows erase nothing, a rectangle, or all. They are cut or blended, by shares that are not their partner's; the last
    row is alone, and so is the middle one where the others are an odd number.
    """
    random, plan = np.random.default_rng(seed), random_plan(num, seed)
    row = np.arange(num)
    if spec.erasing.probability > 0:
        plan = replace(
            plan,
            erase=np.where((row % 3)[:, None] > 0, rectangles(random, num, height, width), 0),
            noise=random.integers(0, 2**32, (num, 2), dtype=np.uint32),
        )
        plan.erase[1:2] = (0, 0, height, width)
    if spec.mix.kind == "none":
        return plan
    partner = np.append(row[: num - 1][::-1], num - 1)
    alone = partner == row
    cut = np.where((row % 4 < 2)[:, None] & ~alone[:, None], rectangles(random, num, height, width), 0)
    own = 1 - cut[:, 2] * cut[:, 3] / (height * width)
    lam = np.where(cut[:, 2] > 0, own, np.where(alone, 1, random.beta(1, 1, num)))
    return replace(plan, partner=partner, cut=cut, lam=lam.astype(np.float32))


def rectangles(random: np.random.Generator, num: int, height: int, width: int) -> NDArray[np.int32]:
    """Return int32 (num, 4): top, left, height, width of rectangles that are not empty."""
    first = random.integers(0, (height, width), (num, 2))
    sides = random.integers(1, (height, width) - first + 1)
    return np.concatenate([first, sides], axis=1).astype(np.int32)
