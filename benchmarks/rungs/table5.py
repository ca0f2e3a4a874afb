"""BoT's table 5: what the variants of ResNet-50 cost, in parameters, multiply-adds and training time.

The four are trained in one interleaved run, each by the recipe of its row, on images that are made once on the device.
The paper counts multiply-adds as "FLOPs" and says that D is 3 % slower to train than the baseline; it has no figure
for the other two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import typer

from benchmarks.measure import Effort, Result
from benchmarks.options import Device, JsonFile, Repeats, Seconds
from benchmarks.publishing import publish
from benchmarks.rungs.step import OURS, WARMUPS, Size, tell_and_keep
from benchmarks.rungs.step_cases import Yardsticks, contender, measured
from benchmarks.rungs.step_loops import NUM_CLASSES, ours, synthetic_batch
from benchmarks.rungs.step_recipes import BATCH_SIZE, PrecisionName, natural_precision, recipe_for, variants
from benchmarks.rungs.step_turns import forget, process_switches
from fastbot.build import model_on
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from fastbot.models import counting
from fastbot.recipe import Recipe

_BENCHMARK = "table5"
# Pixels of the images whose multiply-adds the paper prints, and so are counted here at any --size.
_PAPER_SIZE = 224


@dataclass(frozen=True, slots=True)
class Printed:
    """A row of the paper.

    Attributes:
        gmacs: 10^9 multiply-adds at 224 pixels; the paper's "FLOPs".
        rate: of training, relative to the baseline's; None where the paper has none.
    """

    gmacs: float
    rate: float | None = None


# He et al. 2018, arXiv 1812.01187, table 5; the rate is section 4.2's "only 3% slower". All are printed as 25 M
# parameters.
PAPER: Mapping[str, Printed] = {
    "resnet50v1": Printed(3.8, 1.0),
    "resnet50b": Printed(4.1),
    "resnet50c": Printed(4.3),
    "resnet50d": Printed(4.3, 0.97),
}
BASELINE = "resnet50v1"


def recipes(batch_size: int, size: int | None, precision: PrecisionName) -> list[Recipe]:
    """Return the recipes of the rows, the baseline's first.

    Args:
        batch_size: images a step.
        size: of the images in pixels; None for the recipes' own.
        precision: of the arithmetic.
    """
    return [recipe for name in PAPER for recipe in variants(recipe_for(name), [batch_size], size, [precision])]


def run(
    rows: Sequence[Recipe], device: torch.device, effort: Effort, leave_out: Callable[[str], object] = print
) -> list[Result]:
    """Measure the steps of all rows in turns, each compared with the first.

    Args:
        rows: of one batch size and precision.
        device: where.
        effort: rounds, and seconds of a turn.
        leave_out: is told of a row that does not fit the device's memory.

    Raises:
        RunError: the first does not fit.
    """
    yardsticks = Yardsticks(device)
    for row in rows:
        yardsticks.floor(row)  # measures the device before loops take its memory
    batch = synthetic_batch(rows[0], device)
    found = [contender(OURS, row, batch, device, ours, leave_out) for row in rows]
    loops = {loop.name: loop for loop in found if loop is not None}
    if found[0] is None:
        raise RunError(f"{rows[0].model.name}, the baseline, does not fit {device}: take a smaller --batch-size")
    with process_switches():
        results = measured(_BENCHMARK, {name: [found[0].name] for name in loops}, loops, effort, device, yardsticks)
    forget(device)
    return [_beside_the_paper(result, loops[result.case].recipe) for result in results]


def _beside_the_paper(result: Result, recipe: Recipe) -> Result:
    with torch.device("meta"):
        model = model_on(recipe, NUM_CLASSES, torch.device("meta"))
    counted, printed = counting.measure(model, _PAPER_SIZE, recipe.model.name), PAPER[recipe.model.name]
    counts = {"parameters": counted.parameters, f"multiply_adds_at_{_PAPER_SIZE}": counted.multiply_adds}
    paper = {"paper_multiply_adds": printed.gmacs * 1e9, "paper_ratio": printed.rate}
    rate = "" if printed.rate is None else f", {printed.rate:.2f} of the rate"
    notes = (
        f"{counted.parameters / 1e6:.2f} M parameters, {counted.multiply_adds / 1e9:.2f} G multiply-adds at "
        f"{_PAPER_SIZE} px (paper: 25 M, {printed.gmacs} G{rate}); {result.notes}"
    )
    return replace(result, notes=notes, details={**result.details, **counts, **paper})


def command(
    precision: Annotated[
        PrecisionName | None, typer.Option(help="Of all four; fp16 by default, on a CPU fp32.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile all four.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Images a step; 256, on a CPU 16.")] = None,
    size: Size = None,
    repeats: Repeats = 5,
    seconds: Seconds = 1.0,
    device: Device = "auto",
    json_file: JsonFile = None,
) -> None:
    """Measure what the variants of ResNet-50 cost: BoT's table 5.

    Example: [bold]fastbot bench table5 --size 64 --batch-size 8[/]
    """
    target = pick_device(device)
    rows = recipes(batch_size or BATCH_SIZE[target.type], size, precision or natural_precision(target))
    left_out: list[str] = []
    if compiled:
        rows = [row.model_copy(update={"compile": True}) for row in rows]
    results = run(rows, target, Effort(repeats, seconds, WARMUPS), tell_and_keep(left_out))
    title = f"BoT table 5, synthetic images on {target}"
    publish(results, {"left_out": left_out}, json_file, title, device=target)
