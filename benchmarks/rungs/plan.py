"""What does a plan cost? The training plans of BoT and RSB for ImageNet, beside the same draws by `numpy.random`.

Whole epochs of one rank are timed, so that the permutation has its share. One thread: microseconds are of one core.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import benchmarks.measure as method
from benchmarks.options import JsonFile, Repeats, Seconds
from benchmarks.publishing import Publish, publishing
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec, HsvJitter, Mixup, MixupCutMix, NoJitter, RandAugment, RepeatAugment

NUM_SAMPLES = 1_281_167  # ImageNet-1k's training split
WORLD_SIZES = (1, 8)
ROWS = 256
JITTER = HsvJitter()
MIXUP = Mixup()
REPEAT = RepeatAugment()
RAND_AUGMENT = RandAugment()
EITHER = MixupCutMix()
BOT = DataSpec(jitter=JITTER, mix=MIXUP)
RSB = DataSpec(
    order=REPEAT,
    interpolation="bicubic",
    jitter=NoJitter(),
    lighting_std=0.0,
    auto_augment=RAND_AUGMENT,
    mix=EITHER,
)
NUM_OPERATIONS = 15  # of RandAugment
# Kernels compile in the first turn: only the second tells how long one takes.
EFFORT = method.Effort(repeats=5, at_least_s=1.0, warmups=2)

Arrays = tuple[NDArray[Any], ...]


class NumpyPeer:
    """The draws of both recipes for one rank's rows by numpy's own Philox, without our promises.

    Its numbers depend on what was drawn before, so no batch can be drawn by itself, and on the number of ranks.
    """

    def __init__(self, heights: NDArray[np.int32], widths: NDArray[np.int32], world_size: int) -> None:
        self._random = np.random.Generator(np.random.Philox(0))
        self._heights, self._widths = heights, widths
        self._world_size = world_size
        self._global_batch_size = ROWS * world_size
        self.shuffle()

    def shuffle(self) -> None:
        """Draw the order of an epoch."""
        self._order = self._random.permutation(np.arange(len(self._heights), dtype=np.int32))

    def bot(self, step: int) -> Arrays:
        """Draw a batch of BoT's: ids, windows, flips, jitter, lighting, partners and lambdas."""
        first = step * self._global_batch_size
        ids = self._order[first : first + self._global_batch_size : self._world_size].astype(np.int64)
        return (
            *self._geometry(ids, BOT),
            self._random.uniform(*JITTER.hue, (ROWS, 3)).astype(np.float32),
            self._random.normal(0, BOT.lighting_std, (ROWS, 3)).astype(np.float32),
            np.arange(ROWS)[::-1],
            np.full(ROWS, self._random.beta(MIXUP.alpha, MIXUP.alpha), np.float32),
        )

    def rsb(self, step: int) -> Arrays:
        """Draw a batch of RSB's: ids, windows, flips, operations and their arguments, partners, lambdas and cuts."""
        first = step * self._global_batch_size
        positions = np.arange(first, first + self._global_batch_size, self._world_size)
        ids = self._order[positions // REPEAT.repeats].astype(np.int64)
        return (*self._geometry(ids, RSB), *self._operations(), np.arange(ROWS)[::-1], *self._cuts())

    def _geometry(self, ids: NDArray[np.int64], spec: DataSpec) -> Arrays:
        return ids, self._windows(ids, spec), self._random.random(ROWS) < spec.flip

    def _operations(self) -> Arrays:
        """Draw RandAugment's, its arguments by one product: less than ours does, in the peer's favour."""
        shape = ROWS, RAND_AUGMENT.layers
        applied = self._random.random(shape) < RAND_AUGMENT.probability
        operations = np.where(applied, self._random.integers(1, NUM_OPERATIONS + 1, shape), 0)
        magnitudes = self._random.normal(RAND_AUGMENT.magnitude, RAND_AUGMENT.magnitude_std, shape).clip(0, 10)
        signs = np.where(self._random.random(shape) < 0.5, -1, 1)
        return operations.astype(np.int8), (signs * magnitudes).astype(np.float32)

    def _cuts(self) -> Arrays:
        """Draw mixup or CutMix of each group of this rank's rows."""
        num_groups = ROWS // EITHER.group
        cuts = self._random.random(num_groups) < EITHER.switch
        lam = np.where(
            cuts,
            self._random.beta(EITHER.cutmix_alpha, EITHER.cutmix_alpha, num_groups),
            self._random.beta(EITHER.mixup_alpha, EITHER.mixup_alpha, num_groups),
        )
        half = (RSB.crop_size * np.sqrt(1 - lam) / 2).astype(np.int64)[:, None]
        centre = self._random.integers(0, RSB.crop_size, (num_groups, 2))
        low, high = np.maximum(centre - half, 0), np.minimum(centre + half, RSB.crop_size)
        lam = np.where(cuts, 1 - (high - low).prod(axis=1) / RSB.crop_size**2, lam)
        boxes = np.where(cuts[:, None], np.concatenate([low, high - low], axis=1), 0)
        group_of_row = np.arange(ROWS) % num_groups
        return lam.astype(np.float32)[group_of_row], boxes.astype(np.int32)[group_of_row]

    def _windows(self, ids: NDArray[np.int64], spec: DataSpec) -> NDArray[np.int32]:
        """Draw crops, and those that do not fit again. None is left over at photographs' aspects, so no fallback."""
        heights, widths = self._heights[ids], self._widths[ids]
        log_low, log_high = map(math.log, spec.crop.aspect)
        windows = np.empty((len(ids), 4), np.int32)
        pending = np.arange(len(ids))
        for _ in range(spec.crop.attempts):
            target = heights[pending] * widths[pending] * self._random.uniform(*spec.crop.area, len(pending))
            aspect = np.exp(self._random.uniform(log_low, log_high, len(pending)))
            h, w = np.rint(np.sqrt(target / aspect)), np.rint(np.sqrt(target * aspect))
            fits = (h <= heights[pending]) & (w <= widths[pending])
            done, h, w = pending[fits], h[fits].astype(np.int64), w[fits].astype(np.int64)
            top, left = self._random.integers(0, heights[done] - h + 1), self._random.integers(0, widths[done] - w + 1)
            windows[done] = np.stack([top, left, h, w], axis=1)
            pending = pending[~fits]
            if len(pending) == 0:
                break
        return windows


def _photo_sizes(num_samples: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return heights and widths: ImageNet's commonest size, 500 x 375, and every fourth picture upright."""
    upright = np.arange(num_samples) % 4 == 0
    return np.where(upright, 500, 375).astype(np.int32), np.where(upright, 375, 500).astype(np.int32)


class _CpuClock:
    """Adds up what a thread computes for its samples: other processes take its core, but not this time."""

    def __init__(self, run: Callable[[], int]) -> None:
        self._run = run
        self._us_per_sample: list[float] = []

    def run(self) -> int:
        began = time.thread_time()
        num_samples = self._run()
        self._us_per_sample.append(1e6 * (time.thread_time() - began) / num_samples)
        return num_samples

    @property
    def us_per_sample(self) -> float:
        """The median, without the first, in which kernels compile."""
        return statistics.median(self._us_per_sample[1:])


def _epochs(recipe: str, spec: DataSpec, world_size: int, num_samples: int) -> dict[str, Callable[[], int]]:
    """Return what draws one rank's epoch, ours and the peer's; the peer is the last."""
    heights, widths = _photo_sizes(num_samples)
    spec = spec.model_copy(update={"global_batch_size": ROWS * world_size})
    plan = TrainPlan(spec, heights, widths, seed=0, world_size=world_size)
    peer = NumpyPeer(heights, widths, world_size)
    draw = peer.bot if recipe == "BoT" else peer.rsb
    epochs = count()

    def plan_epoch() -> int:
        epoch = next(epochs)
        for step in range(plan.steps_per_epoch):
            plan.batch(epoch, step)
        return plan.steps_per_epoch * plan.rows

    def peer_epoch() -> int:
        peer.shuffle()
        for step in range(plan.steps_per_epoch):
            draw(step)
        return plan.steps_per_epoch * plan.rows

    ranks = f"rank of {world_size}"
    return {f"{recipe}'s plan, {ranks}": plan_epoch, f"numpy.random, {recipe}, {ranks}": peer_epoch}


def _measured(epochs: Mapping[str, Callable[[], int]], effort: method.Effort) -> list[method.Result]:
    clocks = {name: _CpuClock(epoch) for name, epoch in epochs.items()}
    peer = list(epochs)[-1]
    cases = [method.Case(name, clock.run, peer) for name, clock in clocks.items()]
    results = []
    for result in method.measure("plan", cases, effort, unit="samples/s"):
        wall_us, cpu_us = 1e6 / result.value, clocks[result.case].us_per_sample
        notes = f"{wall_us:.2f} us a sample, {cpu_us:.2f} of a core"
        details = {"us_per_sample": wall_us, "cpu_us_per_sample": cpu_us}
        results.append(replace(result, notes=notes, details=details))
    return results


def run(
    effort: method.Effort = EFFORT, num_samples: int = NUM_SAMPLES, publish: Publish = lambda _: None
) -> list[method.Result]:
    """Measure an epoch of both plans on one rank of several world sizes, and of their peer.

    Args:
        effort: how much measuring.
        num_samples: of the split, at least a global batch of 8 ranks.
        publish: gets the results of each plan and world size as soon as they are there.
    """
    results: list[method.Result] = []
    for recipe, spec in (("BoT", BOT), ("RSB", RSB)):
        for world_size in WORLD_SIZES:
            publish(found := _measured(_epochs(recipe, spec, world_size, num_samples), effort))
            results += found
    return results


def command(
    repeats: Repeats = EFFORT.repeats,
    seconds: Seconds = EFFORT.at_least_s,
    samples: Annotated[
        int, typer.Option(min=ROWS * WORLD_SIZES[-1], help="Of the split; ImageNet's, by default.")
    ] = NUM_SAMPLES,
    json_file: JsonFile = None,
) -> None:
    """Measure what deciding everything random costs.

    Example: [bold]fastbot bench plan --json plan.jsonl[/]
    """
    settings = {"samples": samples, "rows": ROWS, "seconds": seconds}
    title = f"plans of training on {samples:,} pictures, {ROWS} rows a rank"
    with publishing(settings, json_file, title, device="cpu") as publish:
        run(replace(EFFORT, repeats=repeats, at_least_s=seconds), samples, publish)
