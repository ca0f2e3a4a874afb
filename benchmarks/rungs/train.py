"""How fast is a training end to end, beside its two parts alone: the loader, and the step?

fastbot's own trainer trains from a store. In the same rounds the same plan and backend deliver batches that nobody
trains on, and the same trainer takes steps on pixels that cost nothing. What is slower of the two is what a training
can reach where they run on hardware of their own, as with a GPU that computes while CPU cores decode.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from benchmarks.corpora.identity import store_identity
from benchmarks.measure import Case, Effort, Result, measure
from benchmarks.options import Data, Device, JsonFile, Repeats, Seconds
from benchmarks.publishing import publish
from benchmarks.rungs.memory_use import device_peak_mb, device_used_mb, host_mb, reset_device_peak
from benchmarks.rungs.training import (
    WARM_STEPS,
    Consuming,
    Course,
    Turns,
    build_trainer,
    go_on,
    open_pipeline,
    place_settings,
    recipe_of,
    recipe_settings,
    steady,
    synchronize,
    warmed,
)
from datasets_tools.store import Store
from fastbot.distributed import joined, pick_device
from fastbot.recipe import Recipe

_TRAIN, _LOADER, _STEP = "train", "loader alone", "step alone"


class _Watched:
    """A course, and how much of each turn it waited for data: what comes before a turn is no part of it."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._shares: list[float] = []

    def ready(self) -> None:
        """Make ready for a turn."""
        warmed(self._course)
        self._course.forget_times()
        self._shares.append(0.0)

    def go(self, steps: int) -> int:
        """Train so many steps of a turn."""
        pictures = self._course.go(steps)
        self._shares[-1] = self._course.waited_s / self._course.seconds
        return pictures

    def share(self, repeats: int) -> float:
        """Return the median of the last turns, which are those that count."""
        return statistics.median(self._shares[-repeats:])


def run(
    recipe: Recipe,
    store: Store,
    *,
    backend: str = "auto",
    device: str = "auto",
    steps: int = 20,
    effort: Effort,
) -> list[Result]:
    """Measure a training, its loader and its step.

    Args:
        recipe: what to train; see `recipe_of`.
        store: on what.
        backend: what decodes.
        device: `auto`, `cpu` or `cuda`.
        steps: that a case takes before its clock is read again.
        effort: of the measurement.
    """
    with (
        joined(device) as ranks,
        closing(open_pipeline(recipe, store, backend, ranks)) as trained,
        closing(open_pipeline(recipe, store, backend, ranks)) as consumed,
        closing(open_pipeline(recipe, store, "synthetic", ranks)) as synthetic,
    ):
        trainer = build_trainer(recipe, trained, store, ranks)
        watched = _Watched(Course(trainer, trained))
        turns: dict[str, Turns] = {
            _TRAIN: watched,
            _LOADER: Consuming(consumed),
            _STEP: Course(trainer, synthetic),
        }
        peers = {_TRAIN: (_LOADER, _STEP), _LOADER: (_STEP,), _STEP: (_STEP,)}
        cases = [
            Case(
                name,
                partial(part.go, steps),
                peers[name][0],
                other_peers=peers[name][1:],
                before=watched.ready if part is watched else partial(warmed, part),
                at_once=partial(go_on, part, steps),
            )
            for name, part in turns.items()
        ]
        reset_device_peak(ranks.device)
        results = measure("train", cases, effort, synchronize=partial(synchronize, ranks.device))
        details = {
            "data_wait_share": watched.share(effort.repeats),
            "host_mb": host_mb(),
            "device_peak_mb": device_peak_mb(ranks.device),
            "device_used_mb": device_used_mb(ranks.device),
        }
        place = place_settings(backend, device)
        results = [replace(result, details=place) for result in results]
        return _described(results, details, shares_cores=ranks.device.type == "cpu")


def _described(results: Sequence[Result], details: dict[str, Any], *, shares_cores: bool) -> list[Result]:
    """Return results with what the training came to, of what its parts allow."""
    train, loader, step = (
        next(result.samples for result in results if result.case == name) for name in (_TRAIN, _LOADER, _STEP)
    )
    rounds = list(zip(train, loader, step, strict=True))
    of_the_slower = statistics.median(both / min(*parts) for both, *parts in rounds)
    of_shared = statistics.median(both * sum(1 / part for part in parts) for both, *parts in rounds)
    details = details | {"of_the_slower": of_the_slower}
    notes = f"{of_the_slower:.2f} of the slower part; waits for data {details['data_wait_share']:.1%} of the time"
    if shares_cores:
        details["of_what_sharing_cores_allows"] = of_shared
        notes += (
            f"; loader and step share the cores: 1/(1/loader + 1/step) is to be expected, and this is {of_shared:.2f} "
            "of it"
        )
    first = next(result for result in results if result.case == _TRAIN)
    whole = replace(first, details={**first.details, **details}, notes=notes)
    return [whole if result is first else result for result in results]


def command(
    data: Data,
    recipe: Annotated[str, typer.Option(help="A packaged recipe's name, or a .toml file.")] = "bot-efficient",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="The recipe's, if not given.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Crop size in pixels; the recipe's, if not given.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps a turn, repeated until --seconds are full.")] = 20,
    backend: Annotated[str, typer.Option(help="Of those that `fastbot doctor` lists, or auto.")] = "auto",
    device: Device = "auto",
    repeats: Repeats = 5,
    seconds: Seconds = 0.0,
    json_file: JsonFile = None,
) -> None:
    """Measure a training end to end, beside its loader alone and its step alone.

    Example: [bold]fastbot bench train --data corpus --recipe bot-efficient --batch-size 32 --size 64 --steps 5[/]
    """
    whole = recipe_of(recipe, overrides or [], batch_size, size)
    results = run(whole, Store(data), backend=backend, device=device, steps=steps, effort=steady(repeats, seconds))
    target = pick_device(device)
    own = {**place_settings(backend, device), "steps": steps, "warm_steps": WARM_STEPS}
    settings = {**store_identity(data), **recipe_settings(whole), **own}
    title = f"{whole.name}, batch {whole.data.global_batch_size}, end to end"
    publish(results, settings, json_file, title, device=target)
