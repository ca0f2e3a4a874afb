"""How fast is the training step alone, on pixels that cost nothing, and how near is it to what the device allows?

Images are made once on the device; what is timed is all that the trainer does in a step. Beside it run the loops of
PyTorch's ImageNet example and of timm, with the same network, precision and memory format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from importlib.util import find_spec
from itertools import product
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.measure import Effort, Result
from benchmarks.options import Device, JsonFile, Repeats, Seconds
from benchmarks.peers.registry import composer_problem
from benchmarks.publishing import publish
from benchmarks.rungs.step_cases import Contender, Yardsticks, contender, forget, measured
from benchmarks.rungs.step_loops import Loop, composer_loop, ours, pytorch_loop, synthetic_batch
from fastbot.build import precision_of
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe, override_recipe
from pipelines.batch import Batch

OURS = "fastbot"


def _timm_loop(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
    from benchmarks.rungs.step_timm_loop import timm_loop  # on demand: it imports timm

    return timm_loop(recipe, batch, device)


_PEERS: Mapping[str, Callable[[Recipe, Batch, torch.device], Loop]] = {
    "PyTorch's loop": pytorch_loop,
    "timm's loop": _timm_loop,
    "composer's loop": composer_loop,
}
WARMUPS = 2
_EFFORT = Effort(warmups=WARMUPS)
_DEFAULT_RECIPE = "bot-efficient"
# What the paper calls its models, and the recipes that train them; any other name is put into the default recipe.
_RECIPES = {
    "resnet50": "bot-efficient",
    "resnet50v1": "bot-efficient",
    **{f"resnet50{variant}": f"bot-resnet50{variant}" for variant in "bcd"},
    **dict.fromkeys(("inceptionv3", "inception_v3"), "bot-inceptionv3"),
    "mobilenet": "bot-mobilenet",
}
BATCH_SIZE = {"cuda": 256, "cpu": 16}


class PrecisionName(StrEnum):
    """The arithmetic of a step; fp32 is with TF32 off."""

    fp32 = "fp32"
    tf32 = "tf32"
    fp16 = "fp16"
    bf16 = "bf16"


class Layout(StrEnum):
    """How images lie in memory."""

    channels_last = "channels_last"
    contiguous = "contiguous"


def run(
    recipes: Sequence[Recipe],
    device: torch.device,
    effort: Effort = _EFFORT,
    *,
    compiled: Sequence[bool] = (False,),
    compiled_peers: bool = False,
    leave_out: Callable[[str], object] = print,
) -> list[Result]:
    """Measure the steps of recipes, each beside its peers.

    Args:
        recipes: with everything set; their own `compile` does not count.
        device: where.
        effort: rounds, and seconds of a turn.
        compiled: whether fastbot's step runs as it is, compiled, or both.
        compiled_peers: let the peers be so, too; they run as they are otherwise.
        leave_out: is told of each case that cannot be measured, and why.

    Raises:
        RunError: a recipe has a teacher, or nothing at all could be measured.
    """
    for recipe in recipes:
        refuse_teacher(recipe)
    yardsticks = Yardsticks(device)
    results = [
        result
        for recipe in recipes
        for result in _beside_peers(recipe, device, effort, compiled, compiled_peers, yardsticks, leave_out)
    ]
    forget(device)
    if not results:
        raise RunError("no case could be measured: see above why each was left out. Take a smaller --batch-size")
    return results


def refuse_teacher(recipe: Recipe) -> None:
    """Raise RunError for a recipe that distils."""
    if recipe.distillation.kind != "none":
        raise RunError(
            f"{recipe.name} distils a teacher, whose weights no benchmark has: measure a recipe without one, or add "
            "distillation.kind=none"
        )


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
    precision_of(recipe, device)  # TF32 is a switch of the process, and the peers are to have it as fastbot does
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
    for whose, build in _PEERS.items():
        if (problem := _problem(whose, recipe, device)) is not None:
            leave_out(f"{whose}: {problem}")
            continue
        for is_compiled in compiled if compiled_peers else (False,):
            yield whose, recipe.model_copy(update={"compile": is_compiled}), build


def _problem(whose: str, recipe: Recipe, device: torch.device) -> str | None:
    """Return why a peer cannot take part here and what to do about it; None where it can."""
    if whose == "timm's loop" and not find_spec("timm"):
        return "timm is not installed (pip install timm)"
    if whose == "composer's loop":
        if device.type == "cpu" and recipe.precision.kind != "fp32":
            return f"on a CPU composer trains in fp32 alone, not in {recipe.precision.kind}"
        return composer_problem()
    return None


def _compared(loops: Mapping[str, Contender]) -> dict[str, list[str]]:
    """Return with which others each is compared: ours with every peer, compiled ones with the same not compiled."""
    peers = [name for name, loop in loops.items() if loop.loop.trainer is None]
    return {name: [name] if name in peers else [*peers, *_plain(name, loops)] or [name] for name in loops}


def _plain(name: str, loops: Mapping[str, Contender]) -> list[str]:
    own = [other for other, loop in loops.items() if loop.loop.trainer is not None and not loop.recipe.compile]
    return own if loops[name].recipe.compile else []


def recipe_for(model: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe that trains a model.

    Args:
        model: the paper's, or any name of fastbot's registry, which is trained as the paper's ResNet-50 is.
        overrides: as for `fastbot train`.
    """
    if model in _RECIPES:
        return load_recipe(_RECIPES[model], overrides)
    return load_recipe(
        _DEFAULT_RECIPE, [f"model.name={model}", "model.init=default", "model.zero_gamma=false", *overrides]
    )


def variants(
    recipe: Recipe,
    batch_sizes: Sequence[int],
    size: int | None = None,
    precisions: Sequence[PrecisionName] = (),
    layouts: Sequence[Layout] = (),
) -> list[Recipe]:
    """Return a recipe in every combination of what is given; what is not stays as it has it.

    Args:
        recipe: of one model.
        batch_sizes: images a step.
        size: of the images, in pixels.
        precisions, layouts: by name.
    """
    changes = [
        [f"data.global_batch_size={batch_size}"] + ([f"data.crop_size={size}"] if size else []) + precision + layout
        for precision, layout, batch_size in product(
            list(map(_precision_keys, precisions)) or [[]],
            [[f"channels_last={str(layout is Layout.channels_last).lower()}"] for layout in layouts] or [[]],
            batch_sizes,
        )
    ]
    return [override_recipe(recipe, keys, recipe.name) for keys in changes]


def _precision_keys(name: PrecisionName) -> list[str]:
    if name is PrecisionName.tf32:
        return ["precision.kind=fp32", "precision.tf32=true"]
    return ["precision.tf32=false", f"precision.kind={name}"]


Compile = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="Also compiled; by default on a GPU only.")
]
Size = Annotated[int | None, typer.Option("--size", min=1, help="Of images in pixels; by default the recipe's.")]


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
    named = [load_recipe(name, overrides or []) for name in recipe or ([] if model else [_DEFAULT_RECIPE])]
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
    results = run(
        recipes,
        target,
        Effort(repeats, seconds, WARMUPS),
        compiled=(False, True) if also else (False,),
        compiled_peers=compiled_peers,
        leave_out=tell_and_keep(left_out),
    )
    publish(results, {"left_out": left_out}, json_file, f"training step, synthetic images on {target}")


def natural_precision(device: torch.device) -> PrecisionName:
    """Return what a device is measured in where nothing else is asked: fp16 is slower than fp32 on a CPU."""
    return PrecisionName.fp16 if device.type == "cuda" else PrecisionName.fp32


def tell_and_keep(left_out: list[str]) -> Callable[[str], None]:
    """Return what tells of a case that is left out, and adds it to a list."""

    def leave_out(what: str) -> None:
        left_out.append(what)
        Console(stderr=True).print(f"left out: {what}", markup=False)

    return leave_out
