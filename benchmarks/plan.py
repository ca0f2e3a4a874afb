"""What does a plan cost? BoT's training plan for ImageNet, beside the same draws by vectorized `numpy.random`.

Whole epochs of one rank are timed, so that the permutation has its share. One thread: microseconds are of one core.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import benchmarks.measure as method
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec, HsvJitter, Mixup

NUM_SAMPLES = 1_281_167  # ImageNet-1k's training split
WORLD_SIZES = (1, 8, 32)
JITTER = HsvJitter()
MIXUP = Mixup()
SPEC = DataSpec(global_batch_size=1024, jitter=JITTER, mix=MIXUP)


class NumpyPeer:
    """The same draws for one rank's rows by numpy's own Philox, without our promises.

    Its numbers depend on what was drawn before, so no batch can be drawn by itself, and on the number of ranks.
    """

    def __init__(self, heights: NDArray[np.int32], widths: NDArray[np.int32], world_size: int) -> None:
        self._random = np.random.Generator(np.random.Philox(0))
        self._heights, self._widths = heights, widths
        self._world_size = world_size
        self._rows = SPEC.global_batch_size // world_size
        self.shuffle()

    def shuffle(self) -> None:
        """Draw the order of an epoch."""
        self._order = self._random.permutation(np.arange(len(self._heights), dtype=np.int32))

    def batch(self, step: int) -> tuple[NDArray[Any], ...]:
        """Draw a batch: ids, windows, flips, jitter, lighting, partners and lambdas."""
        first = step * SPEC.global_batch_size
        ids = self._order[first : first + SPEC.global_batch_size : self._world_size].astype(np.int64)
        return (
            ids,
            self._windows(ids),
            self._random.random(self._rows) < SPEC.flip,
            self._random.uniform(*JITTER.hue, (self._rows, 3)).astype(np.float32),
            self._random.normal(0, SPEC.lighting_std, (self._rows, 3)).astype(np.float32),
            np.arange(self._rows)[::-1],
            np.full(self._rows, self._random.beta(MIXUP.alpha, MIXUP.alpha), np.float32),
        )

    def _windows(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Draw crops, and those that do not fit again. None is left over at photographs' aspects, so no fallback."""
        heights, widths = self._heights[ids], self._widths[ids]
        log_low, log_high = map(math.log, SPEC.crop.aspect)
        windows = np.empty((len(ids), 4), np.int32)
        pending = np.arange(len(ids))
        for _ in range(SPEC.crop.attempts):
            target = heights[pending] * widths[pending] * self._random.uniform(*SPEC.crop.area, len(pending))
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


def _photo_sizes() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return heights and widths: ImageNet's commonest size, 500 x 375, and every fourth picture upright."""
    upright = np.arange(NUM_SAMPLES) % 4 == 0
    return np.where(upright, 500, 375).astype(np.int32), np.where(upright, 375, 500).astype(np.int32)


def _cases(world_size: int) -> list[method.Case]:
    heights, widths = _photo_sizes()
    plan = TrainPlan(SPEC, heights, widths, seed=0, world_size=world_size)
    peer = NumpyPeer(heights, widths, world_size)
    epochs = count()

    def plan_epoch() -> int:
        epoch = next(epochs)
        for step in range(plan.steps_per_epoch):
            plan.batch(epoch, step)
        return plan.steps_per_epoch * plan.rows

    def peer_epoch() -> int:
        peer.shuffle()
        for step in range(plan.steps_per_epoch):
            peer.batch(step)
        return plan.steps_per_epoch * plan.rows

    ranks = f"rank of {world_size}"
    return [
        method.Case(f"BoT's plan, {ranks}", plan_epoch, f"numpy.random, {ranks}"),
        method.Case(f"numpy.random, {ranks}", peer_epoch, f"numpy.random, {ranks}"),
    ]


def run(repeats: int) -> list[method.Result]:
    """Measure an epoch of BoT's plan on one rank of several world sizes, and of its peer."""
    results = [
        result
        for world_size in WORLD_SIZES
        for result in method.measure("plan", _cases(world_size), repeats=repeats, unit="samples/s")
    ]
    return [replace(result, notes=f"{1e6 / result.images_per_s:.2f} us a sample") for result in results]


def measure(repeats: int = 5) -> list[dict[str, Any]]:
    """Return the results as plain dicts, each with `us_per_sample`: microseconds of one core."""
    return [asdict(result) | {"us_per_sample": 1e6 / result.images_per_s} for result in run(repeats)]


def command(
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Append one JSON line per result.")] = None,
) -> None:
    """Measure what deciding everything random costs.

    Example: [bold]fastbot bench plan --json plan.jsonl[/]
    """
    settings = {"samples": NUM_SAMPLES, "global_batch_size": SPEC.global_batch_size}
    title = f"plan of BoT's training, global batch {SPEC.global_batch_size}"
    method.report(run(repeats), method.conditions() | settings, json_file, title)


if __name__ == "__main__":
    typer.run(command)
