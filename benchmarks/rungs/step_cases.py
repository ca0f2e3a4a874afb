"""Training loops as cases of a measurement: built one by one, timed in turns, and held against the floor."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks.floor.floor import Floor
from benchmarks.floor.layers import Network, trace
from benchmarks.floor.rates import Rates, device_rates
from benchmarks.measure import Case, Effort, Result, measure
from benchmarks.rungs.step_loops import NUM_CLASSES, Loop
from benchmarks.rungs.step_memory import allocated_mb, peak_mb
from benchmarks.rungs.step_parts import parts_ms
from benchmarks.rungs.training import synchronize
from benchmarks.units import figure
from fastbot.build import model_on
from fastbot.precision import DTYPES
from fastbot.recipe import Recipe
from pipelines.batch import Batch

# Steps that are made at once. A GPU's queue runs empty in between, which a training's never does.
_STEPS = {"cuda": 5, "cpu": 1}
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
        loop, most_mb = _begun(partial(build, recipe, batch, device), device)
    except torch.OutOfMemoryError:
        leave_out(f"{name}: more memory than {device} has")
    else:
        return Contender(name, recipe, loop, batch, most_mb - (before_mb if device.type == "cuda" else 0.0))
    forget(device)
    return None


def _begun(build: Callable[[], Loop], device: torch.device) -> tuple[Loop, float]:
    """Build a loop, make its first steps, and return the peak of memory in the next."""
    loop = build()
    loop.train(_PROBE_STEPS)
    return loop, peak_mb(partial(loop.train, _PROBE_STEPS), device)


def forget(device: torch.device) -> None:
    """Let go of the memory and the compiled code of loops that nobody holds any more."""
    gc.collect()
    # Compiled code is kept by the model's class, and past 8 versions of it PyTorch goes on without compiling.
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


class Yardsticks:
    """What measured rates are held against; each is found once.

    Args:
        device: that is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rates: dict[str, Rates] = {}
        self._networks: dict[str, Network] = {}

    def floor(self, recipe: Recipe) -> Floor:
        """Return the floor of a recipe's step; the first time with a type, the device's rates are measured."""
        dtype, precision, size = DTYPES[recipe.precision.kind], precision_name(recipe), recipe.data.crop_size
        if precision not in self._rates:
            self._rates[precision] = device_rates(self._device, dtype, tf32=recipe.precision.tf32)
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
    """Time loops in turns.

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
    steps = _STEPS[device.type]

    def case(name: str, peer: str, *others: str) -> Case:
        loop, rows = by_name[name].loop, by_name[name].recipe.data.global_batch_size

        def run() -> int:
            loop.train(steps)
            return steps * rows

        return Case(name, run, peer, other_peers=others)

    cases = [case(name, *peers) for name, peers in contenders.items()]
    wait = partial(synchronize, device)
    results = measure(benchmark, cases, effort, synchronize=wait)
    rate = {result.case: result.value for result in results}
    details = {name: _details(by_name[name], rate[name], device, yardsticks) for name in contenders}
    notes = {name: _notes(found) for name, found in details.items()}
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
        "step_ms": 1e3 * rows / images_per_s,
        "peak_mb": found.peak_mb,
        "peak_of": "this loop's tensors on the device" if device.type == "cuda" else "the whole process, resident",
        "flop_utilization": flops_per_s / floor.rates.matrix_flops,
        "of_unfused_floor": images_per_s * floor.bytes_s("unfused"),
        "floor": floor.as_details(),
    }
    if found.loop.trainer is not None:
        details["parts_ms"] = parts_ms(found.loop.trainer, found.batch, _PARTS_STEPS, partial(synchronize, device))
    return details


def _notes(details: Mapping[str, Any]) -> str:
    return (
        f"{figure(details['step_ms'])} ms, {figure(details['peak_mb'])} MB, "
        f"{details['flop_utilization']:.0%} of the matrix rate, {details['of_unfused_floor']:.0%} of the bytes floor"
    )
