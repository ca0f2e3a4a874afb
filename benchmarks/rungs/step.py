"""How fast is the training step alone, on pixels that cost nothing, and how near is it to what the device allows?

Images are made once on the device; what is timed is all that the trainer does in a step. Beside it run the loops of
PyTorch's ImageNet example and of timm, with the same network, precision and memory format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.measure import Effort, Result
from benchmarks.options import Device, JsonFile, Repeats, Seconds
from benchmarks.publishing import Publish, publishing
from benchmarks.rungs.step_cases import Contender, Yardsticks, contender, measured
from benchmarks.rungs.step_loops import Loop, ours, synthetic_batch
from benchmarks.rungs.step_peers import PEERS, problem_of
from benchmarks.rungs.step_recipes import (
    BATCH_SIZE,
    DEFAULT_RECIPE,
    Layout,
    PrecisionName,
    natural_precision,
    recipe_for,
    variants,
)
from benchmarks.rungs.step_turns import forget, process_switches
from benchmarks.rungs.training import refuse_teacher
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe
from pipelines.batch import Batch

OURS = "fastbot"
# Tries to find how many steps fill a turn.
WARMUPS = 2
_EFFORT = Effort(warmups=WARMUPS)


def run(
    recipes: Sequence[Recipe],
    device: torch.device,
    effort: Effort = _EFFORT,
    *,
    compiled: Sequence[bool] = (False,),
    compiled_peers: bool = False,
    leave_out: Callable[[str], object] = print,
    publish: Publish = lambda results: None,
) -> list[Result]:
    """Measure the steps of recipes, each beside its peers.

    Args:
        recipes: with everything set; their own `compile` does not count.
        device: where.
        effort: rounds, and seconds of a turn.
        compiled: whether fastbot's step runs as it is, compiled, or both.
        compiled_peers: let the peers be so, too; they run as they are otherwise.
        leave_out: is told of each case that cannot be measured, and why.
        publish: gets the results of each recipe as soon as they are measured.

    Raises:
        RunError: a recipe has a teacher, or nothing at all could be measured.
    """
    for recipe in recipes:
        refuse_teacher(recipe)
    yardsticks = Yardsticks(device)
    results: list[Result] = []
    for recipe in recipes:
        with process_switches():
            found = _beside_peers(recipe, device, effort, compiled, compiled_peers, yardsticks, leave_out)
        if found:
            publish(found)
            results += found
    forget(device)
    if not results:
        raise RunError("no case could be measured: see above why each was left out. Take a smaller --batch-size")
    return results


def _beside_peers(
    recipe: Recipe,
    device: torch.device,
    effort: Effort,
    compiled: Sequence[bool],
    compiled_peers: bool,
    yardsticks: Yardsticks,
    leave_out: Callable[[str], object],
) -> list[Result]:
    forget(device)
    yardsticks.floor(recipe)  # measures the device before loops take its memory
    try:
        batch = synthetic_batch(recipe, device)
        builds = _builds(recipe, device, compiled, compiled_peers, leave_out)
        found = [contender(whose, each, batch, device, build, leave_out) for whose, each, build in builds]
        loops = {loop.name: loop for loop in found if loop is not None}
        return measured("step", _compared(loops), loops, effort, device, yardsticks) if loops else []
    except torch.OutOfMemoryError:
        leave_out(f"{recipe.name}, {recipe.data.global_batch_size} images: more memory than {device} has")
        return []


def _builds(
    recipe: Recipe,
    device: torch.device,
    compiled: Sequence[bool],
    compiled_peers: bool,
    leave_out: Callable[[str], object],
) -> Iterator[tuple[str, Recipe, Callable[[Recipe, Batch, torch.device], Loop]]]:
    """Yield whose loops there are, what each does, and what builds it."""
    for is_compiled in compiled:
        yield OURS, recipe.model_copy(update={"compile": is_compiled}), ours
    for whose, build in PEERS.items():
        if (problem := problem_of(whose, recipe, device)) is not None:
            leave_out(f"{whose}: {problem}")
            continue
        for is_compiled in compiled if compiled_peers else (False,):
            yield whose, recipe.model_copy(update={"compile": is_compiled}), build


def _compared(loops: Mapping[str, Contender]) -> dict[str, list[str]]:
    """Return with which others each is compared: ours with every peer, compiled ones with the same not compiled."""
    peers = [name for name, loop in loops.items() if loop.loop.trainer is None]
    return {name: [name] if name in peers else [*peers, *_plain(name, loops)] or [name] for name in loops}


def _plain(name: str, loops: Mapping[str, Contender]) -> list[str]:
    own = [other for other, loop in loops.items() if loop.loop.trainer is not None and not loop.recipe.compile]
    return own if loops[name].recipe.compile else []


Compile = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="Also compiled; by default on a GPU only.")
]
Size = Annotated[int | None, typer.Option("--size", min=16, help="Of images in pixels; by default the recipe's.")]


def command(
    model: Annotated[
        list[str] | None, typer.Option(help="resnet50, resnet50b, resnet50c, resnet50d, inceptionv3, mobilenet, ...")
    ] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(help="Whose model, size, precision and optimizer; bot-efficient by default.")
    ] = None,
    precision: Annotated[
        list[PrecisionName] | None, typer.Option(help="By default the recipe's; of a --model, fp16, on a CPU fp32.")
    ] = None,
    layout: Annotated[list[Layout] | None, typer.Option(help="By default the recipe's.")] = None,
    compile_also: Compile = None,
    compiled_peers: Annotated[bool, typer.Option("--compiled-peers", help="Also the peers compiled.")] = False,
    batch_size: Annotated[list[int] | None, typer.Option(min=2, help="Images a step; 256, on a CPU 16.")] = None,
    size: Size = None,
    repeats: Repeats = 5,
    seconds: Seconds = 1.0,
    device: Device = "auto",
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]")] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure the training step alone, beside other loops and the device's own limits.

    Example: [bold]fastbot bench step --model resnet50 --model resnet50d --precision fp16 --batch-size 1024[/]
    """
    target = pick_device(device)
    named = [load_recipe(name, overrides or []) for name in recipe or ([] if model else [DEFAULT_RECIPE])]
    of_models = [recipe_for(name, overrides or []) for name in model or []]
    batch_sizes, layouts, precisions = batch_size or [BATCH_SIZE[target.type]], layout or [], precision or []
    recipes = [each for one in named for each in variants(one, batch_sizes, size, precisions, layouts)]
    recipes += [
        each
        for one in of_models
        for each in variants(one, batch_sizes, size, precisions or [natural_precision(target)], layouts)
    ]
    also = target.type == "cuda" if compile_also is None else compile_also
    left_out: list[str] = []
    title = f"training step, synthetic images on {target}"
    with publishing({"left_out": left_out}, json_file, title, device=target) as publish:
        run(
            recipes,
            target,
            Effort(repeats, seconds, WARMUPS),
            compiled=(False, True) if also else (False,),
            compiled_peers=compiled_peers,
            leave_out=tell_and_keep(left_out),
            publish=publish,
        )


def tell_and_keep(left_out: list[str]) -> Callable[[str], None]:
    """Return what tells of a case that is left out, and adds it to a list."""

    def leave_out(what: str) -> None:
        left_out.append(what)
        Console(stderr=True).print(f"left out: {what}", markup=False)

    return leave_out
