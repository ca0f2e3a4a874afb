"""Table 3 of Bag of Tricks: what do half precision and a larger batch gain, each by itself and together?

A cell is one network trained end to end from a store by fastbot's own trainer, in one number format and with one batch
size. Each number format has the settings that are fastest with it (memory format, compiled or not). The cells of a
network take turns, so that their ratios are of one machine in one state. FP32 is float32 in all arithmetic: no TF32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
import typer

from benchmarks.corpora.identity import store_identity
from benchmarks.measure import Case, Effort, Result, measure
from benchmarks.options import Data, Device, JsonFile, Repeats
from benchmarks.publishing import Publish, publishing, table_console
from benchmarks.rungs.table3_cells import Cell, Stage, is_out_of_memory, trial
from benchmarks.rungs.table3_page import BATCH_SIZES, NETWORKS, described, headline, is_imagenet_like, page, title_of
from benchmarks.rungs.training import (
    WARM_STEPS,
    go_on,
    place_settings,
    recipe_of,
    recipe_settings,
    steady,
    synchronize,
)
from datasets_tools.store import Store
from fastbot.distributed import joined, pick_device
from fastbot.errors import RunError
from fastbot.recipe import Recipe
from fastbot.recipe_files import override_recipe
from pipelines.errors import PipelineError

_FORMATS: Mapping[str, tuple[str, ...]] = {
    "FP32": ("precision.kind=fp32", "precision.tf32=false"),
    "FP16": ("precision.kind=fp16", "precision.tf32=false"),
    "TF32": ("precision.kind=fp32", "precision.tf32=true"),
    "BF16": ("precision.kind=bf16", "precision.tf32=false"),
}
# A CPU has no TF32, and most compute FP16 far slower than FP32.
_CPU_FORMATS = ("FP32", "BF16")
_LAYOUTS = {"channels last": "true", "contiguous": "false"}
# What a turn takes at least, in seconds, where nothing else is asked: a turn of a few steps is noise on a GPU.
_SECONDS = {"cuda": 3.0, "cpu": 0.0}
# Inception-V3 sees 299 pixels where ResNet-50 sees 224; below 75 nothing is left of a picture at its last layers.
_INCEPTION_SCALE, _INCEPTION_LEAST = 299 / 224, 75


@dataclass(frozen=True, slots=True)
class Settings:
    """Which cells, and how they are measured.

    Attributes:
        models: names, keys of `NETWORKS`.
        batch_sizes: the small and the large one.
        formats: number formats, the first being what the others are compared with; None for all that the device has.
        size: of ResNet-50's crops in pixels, Inception-V3's in proportion; None for the paper's.
        backend: what decodes.
        device: `auto`, `cpu` or `cuda`.
        compile: whether a compiled network is tried as well; None for where there is a GPU.
        steps: that a cell takes before its clock is read again.
    """

    models: tuple[str, ...] = tuple(NETWORKS)
    batch_sizes: tuple[int, int] = BATCH_SIZES
    formats: tuple[str, ...] | None = None
    size: int | None = None
    backend: str = "auto"
    device: str = "auto"
    compile: bool | None = None
    steps: int = 8

    def __post_init__(self) -> None:
        """Refuse what there is not.

        Raises:
            RunError: an unknown network or number format, or batch sizes in the wrong order.
        """
        for what, given, known in (("model", self.models, NETWORKS), ("format", self.formats or (), _FORMATS)):
            for name in given:
                if name not in known:
                    raise RunError(f"{what} {name!r} is not in table 3: choose of {', '.join(known)}")
        small, large = self.batch_sizes
        if not small < large:
            raise RunError(f"the batch sizes are {small} and {large}: give a smaller and a larger one")

    def is_reduced(self, device: torch.device, store: Mapping[str, Any]) -> bool:
        """Return whether the figures are of another experiment than the paper's.

        Args:
            device: what is trained on.
            store: what `store_identity` says of what it is trained on.
        """
        own = self.size is None and self.batch_sizes == BATCH_SIZES
        return not own or device.type == "cpu" or not is_imagenet_like(store)


def run(store: Store, settings: Settings, effort: Effort, publish: Publish = lambda _: None) -> list[Result]:
    """Measure the cells of table 3, those of each network in turns.

    Args:
        store: what is trained on.
        settings: which cells, and how.
        effort: of the measurement.
        publish: gets the results of each network as soon as they are there.
    """
    results: list[Result] = []
    # A training has one shape from its first step on. Here several follow each other, and must not be compiled as one
    # graph for shapes that change, which is slower; nor may the count of graphs of one network's code run out.
    with (
        joined(settings.device) as ranks,
        torch._dynamo.config.patch(automatic_dynamic_shapes=False, recompile_limit=64),
    ):
        for model in settings.models:
            stage = Stage(store, settings.backend, ranks)
            publish(cells := _network(model, settings, effort, stage))
            results += cells
            stage.clear()
            torch.compiler.reset()
    return results


def _network(model: str, settings: Settings, effort: Effort, stage: Stage) -> list[Result]:
    """Measure the cells of one network."""
    device, place = stage.ranks.device, place_settings(settings.backend, settings.device)
    reduced = settings.is_reduced(device, store_identity(stage.store.path))
    formats = settings.formats or (_CPU_FORMATS if device.type == "cpu" else tuple(_FORMATS))
    small, _ = settings.batch_sizes
    first = title_of(model, formats[0], small)
    cells: dict[str, Cell] = {}
    details: dict[str, dict[str, Any]] = {}
    for number_format in formats:
        changes, tried = _fastest(_recipe(model, number_format, small, settings), settings, stage)
        for batch_size in settings.batch_sizes:
            name = title_of(model, number_format, batch_size)
            recipe = override_recipe(_recipe(model, number_format, batch_size, settings), changes, model)
            cells[name] = Cell(recipe, stage)
            details[name] = {"network": model, "format": number_format, **recipe_settings(recipe), "tried": tried}
    for name, cell in cells.items():  # once all of them have their memory
        cell.settle()
        details[name] |= {**place, "micro_batches": cell.micro_batches, "ranks": stage.ranks.world_size}
    cases = [
        Case(
            name,
            partial(cell.go, settings.steps),
            first,
            before=cell.prepare,
            at_once=partial(go_on, cell, settings.steps),
        )
        for name, cell in cells.items()
    ]
    try:
        results = measure("table3", cases, effort, synchronize=partial(synchronize, device))
    except (RuntimeError, MemoryError, PipelineError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"{model}: {device} had memory for each cell's first steps, and has none left after others'. Measure fewer "
            f"at a time: give --formats, or smaller --batch-sizes ({error})"
        ) from error
    return [described(result, details[result.case], reduced=reduced) for result in results]


def _recipe(model: str, number_format: str, batch_size: int, settings: Settings) -> Recipe:
    size = settings.size
    if size is not None and model == "inception_v3":
        size = max(_INCEPTION_LEAST, round(size * _INCEPTION_SCALE))
    return recipe_of(NETWORKS[model].recipe, _FORMATS[number_format], batch_size, size)


def _fastest(recipe: Recipe, settings: Settings, stage: Stage) -> tuple[list[str], Mapping[str, float]]:
    """Return the overrides that train fastest on pixels that cost nothing, and the images/s of all that were tried.

    First the memory format, then, in the better one, whether to compile.
    """
    compiles = stage.ranks.device.type == "cuda" if settings.compile is None else settings.compile
    variants = {name: [f"channels_last={value}"] for name, value in _LAYOUTS.items()}
    tried = {name: trial(override_recipe(recipe, variants[name], recipe.name), stage) for name in variants}
    if compiles:
        best = max(tried, key=tried.__getitem__)
        compiled = f"{best}, compiled"
        variants[compiled] = [*variants[best], "compile=true"]
        tried[compiled] = trial(override_recipe(recipe, variants[compiled], recipe.name), stage)
    return variants[max(tried, key=tried.__getitem__)], tried


def command(
    data: Data,
    models: Annotated[list[str] | None, typer.Option("--models", help=f"Of {', '.join(NETWORKS)}; all.")] = None,
    batch_sizes: Annotated[
        tuple[int, int], typer.Option(metavar="SMALL LARGE", help="The paper's are 256 and 1024.")
    ] = BATCH_SIZES,
    size: Annotated[int | None, typer.Option(min=16, help="ResNet-50's crop size; the paper's, if not given.")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--formats", help=f"Of {', '.join(_FORMATS)}; all that the device has.")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Try compiled networks; on a GPU, if not given.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps a turn, repeated until --seconds are full.")] = 8,
    backend: Annotated[str, typer.Option(help="Of those that `fastbot doctor` lists, or auto.")] = "auto",
    device: Device = "auto",
    repeats: Repeats = 5,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="What a turn takes at least; on a GPU 3, if not given.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure the paper's Table 3: precision and batch size, each by itself and together.

    Example: [bold]fastbot bench table3 --data corpus --size 32 --batch-sizes 4 16 --steps 2 --repeats 2[/]
    """
    chosen = tuple(formats) if formats else None
    names = tuple(models) if models else tuple(NETWORKS)
    settings = Settings(names, batch_sizes, chosen, size, backend, device, compiled, steps)
    target = pick_device(device)
    effort = steady(repeats, _SECONDS[target.type] if seconds is None else seconds)
    own = {**place_settings(backend, device), "steps": steps, "warm_steps": WARM_STEPS, "size": size}
    identity = store_identity(data)
    reduced = settings.is_reduced(target, identity)
    with publishing({**identity, **own}, json_file, headline(reduced), device=target) as publish:
        results = run(Store(data), settings, effort, publish)
        table_console().print(page(results, settings.batch_sizes, reduced=reduced))
