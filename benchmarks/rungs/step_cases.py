"""Training loops as cases of a measurement: built one by one, timed in turns, and held against the floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks.floor.floor import Floor
from benchmarks.floor.layers import Network, trace
from benchmarks.floor.rates import Rates, device_rates
from benchmarks.measure import Case, Effort, Result, measure
from benchmarks.rungs.memory_use import release
from benchmarks.rungs.step_loops import NUM_CLASSES, Loop, our_network
from benchmarks.rungs.step_memory import allocated_mb, peak_mb
from benchmarks.rungs.step_parts import parts_ms
from benchmarks.rungs.step_turns import make_ready, steps_of_a_turn
from benchmarks.rungs.training import synchronize
from benchmarks.units import figure
from fastbot.build import model_on
from fastbot.precision import DTYPES
from fastbot.recipe import Recipe
from pipelines.batch import Batch

# Steps before the peak of memory is looked for, in which code is compiled; and as many in which it is.
_PROBE_STEPS = 2
_PARTS_STEPS = 3
# Forward, gradient of the input, gradient of the weights: the usual count of a model's operations, 2 a multiply-add.
_TRAINING_FLOPS = 2 * 3


@dataclass(frozen=True, slots=True)
class Contender:
    """A loop that is ready to be timed.

    Attributes:
        name: of the case.
        recipe: what it does, with everything set.
        loop: its steps.
        batch: what each gets.
        peak_mb: the most memory that a step took, as `step_memory.peak_mb` has it; on a GPU of this loop alone.
    """

    name: str
    recipe: Recipe
    loop: Loop
    batch: Batch
    peak_mb: float


def precision_name(recipe: Recipe) -> str:
    """Return fp32 (TF32 off), tf32, fp16 or bf16."""
    return "tf32" if recipe.precision.tf32 else recipe.precision.kind


def title(whose: str, recipe: Recipe) -> str:
    """Return the name of a case: whose loop, and all that the recipe sets for it."""
    layout = "" if recipe.channels_last else ", contiguous"
    compiled = ", compiled" if recipe.compile else ""
    size = f"{recipe.data.global_batch_size} x {recipe.data.crop_size} px"
    return f"{whose}, {recipe.model.name}, {precision_name(recipe)}{layout}{compiled}, {size}"


def contender(
    whose: str,
    recipe: Recipe,
    batch: Batch,
    device: torch.device,
    build: Callable[[Recipe, Batch, torch.device], Loop],
    leave_out: Callable[[str], object],
) -> Contender | None:
    """Build a loop and make its first steps.

    Args:
        whose: loop it is.
        recipe, batch, device: what it does, with what, and where.
        build: returns it.
        leave_out: is told why there is none.

    Returns:
        None where the device has too little memory for it.
    """
    name = title(whose, recipe)
    before_mb = allocated_mb(device) - batch.images.nbytes / 1e6
    try:
        loop, most_mb = _begun(partial(build, recipe, batch, device), recipe, device)
    except torch.OutOfMemoryError:
        leave_out(f"{name}: more memory than {device} has")
    else:
        return Contender(name, recipe, loop, batch, most_mb - (before_mb if device.type == "cuda" else 0.0))
    release(device)  # and no compiled code, which loops that were built before may have
    return None


def _begun(build: Callable[[], Loop], recipe: Recipe, device: torch.device) -> tuple[Loop, float]:
    """Build a loop, make its first steps, and return the peak of memory in the next."""
    loop = build()
    make_ready(loop, recipe, device)
    loop.train(_PROBE_STEPS)
    return loop, peak_mb(partial(loop.train, _PROBE_STEPS), device)


class Yardsticks:
    """What measured rates are held against.

    Args:
        device: that is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rates: dict[str, Rates] = {}
        self._networks: dict[str, Network] = {}

    def look(self, recipe: Recipe) -> None:
        """Measure the device with a recipe's type; the best of all looks counts: cores may be others' meanwhile."""
        found = device_rates(self._device, DTYPES[recipe.precision.kind], tf32=recipe.precision.tf32)
        precision = precision_name(recipe)
        known = self._rates.get(precision, found)
        self._rates[precision] = Rates(
            max(known.matrix_flops, found.matrix_flops), max(known.copy_bytes_per_s, found.copy_bytes_per_s)
        )

    def floor(self, recipe: Recipe) -> Floor:
        """Return the floor of a recipe's step; where its type was not looked at yet, the device is measured."""
        dtype, precision, size = DTYPES[recipe.precision.kind], precision_name(recipe), recipe.data.crop_size
        if precision not in self._rates:
            self.look(recipe)
        key = f"{recipe.model.model_dump_json()} {size}"
        if key not in self._networks:
            meta = torch.device("meta")
            with meta:
                self._networks[key] = trace(model_on(recipe, NUM_CLASSES, meta), size)
        return Floor(self._networks[key], self._rates[precision], dtype.itemsize, recipe.data.global_batch_size)


def measured(
    benchmark: str,
    contenders: Mapping[str, Sequence[str]],
    by_name: Mapping[str, Contender],
    effort: Effort,
    device: torch.device,
    yardsticks: Yardsticks,
) -> list[Result]:
    """Time loops in turns, each of which is one call for so many steps.

    Args:
        benchmark: its name.
        contenders: names of cases, and of those that each is compared with, of which there is at least one.
        by_name: the loops.
        effort: rounds and seconds.
        device: where.
        yardsticks: for the floors.

    Raises:
        torch.OutOfMemoryError: each fits, but not all of them side by side.
    """
    wait = partial(synchronize, device)

    def case(name: str, peer: str, *others: str) -> Case:
        loop, recipe = by_name[name].loop, by_name[name].recipe
        ready = partial(make_ready, loop, recipe, device)
        ready()
        steps = steps_of_a_turn(loop, effort.at_least_s, effort.warmups, device, wait)

        def run() -> int:
            loop.train(steps)
            return steps * recipe.data.global_batch_size

        return Case(name, run, peer, other_peers=others, before=ready)

    cases = [case(name, *peers) for name, peers in contenders.items()]
    results = measure(benchmark, cases, Effort(effort.repeats, warmups=0), synchronize=wait)
    if device.type == "cpu":  # a GPU is nobody else's, and full by now
        for recipe in {precision_name(found.recipe): found.recipe for found in by_name.values()}.values():
            yardsticks.look(recipe)
    rate = {result.case: result.value for result in results}
    details = {name: _details(by_name[name], rate[name], device, yardsticks) for name in contenders}
    notes = {name: _notes(by_name[name], found, device) for name, found in details.items()}
    return [
        replace(result, details=details[result.case], notes=notes.pop(result.case, ""))  # of a case's first row only
        for result in results
    ]


def _details(found: Contender, images_per_s: float, device: torch.device, yardsticks: Yardsticks) -> dict[str, Any]:
    recipe, floor = found.recipe, yardsticks.floor(found.recipe)
    rows = recipe.data.global_batch_size
    flops_per_s = _TRAINING_FLOPS * floor.network.multiply_adds * images_per_s
    details: dict[str, Any] = {
        "recipe": recipe.name,
        "recipe_digest": recipe.training_digest(),
        "model": recipe.model.name,
        "network": found.loop.network,
        "dtype": precision_name(recipe),
        "memory_format": "channels_last" if recipe.channels_last else "contiguous",
        "compiled": recipe.compile,
        "batch_size": rows,
        "size": recipe.data.crop_size,
        "cudnn_benchmark": found.loop.cudnn_benchmark,
        "step_ms": 1e3 * rows / images_per_s,
        "peak_mb": found.peak_mb,
        "peak_of": "this loop's tensors on the device" if device.type == "cuda" else "the whole process, resident",
        "flop_utilization": flops_per_s / floor.rates.matrix_flops,
        "of_unfused_floor": images_per_s * floor.bytes_s("unfused"),
        "floor": floor.as_details(),
    }
    if found.loop.trainer is not None:
        make_ready(found.loop, recipe, device)
        details["parts_ms"] = parts_ms(found.loop.trainer, found.batch, _PARTS_STEPS, partial(synchronize, device))
    return details


def _notes(found: Contender, details: Mapping[str, Any], device: torch.device) -> str:
    borrowed = found.loop.trainer is None and found.loop.network == our_network(found.recipe)
    words = [
        *([f"trains {found.loop.network}"] if borrowed else []),
        f"{figure(details['step_ms'])} ms",
        # A CPU's is the whole process, with all loops built so far: no figure of this one.
        *([f"{figure(details['peak_mb'])} MB"] if device.type == "cuda" else []),
        f"{details['flop_utilization']:.0%} of the matrix rate",
        f"{details['of_unfused_floor']:.0%} of the bytes floor",
    ]
    return ", ".join(words)
