"""`fastbot doctor --data`: a store, a recipe and this machine, put together, measured, and what follows from that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from datasets_tools.store import Split, Store
from datasets_tools.store.index import Flag, StoredFormat
from fastbot.cli.bars import TerminalProgress
from fastbot.cli.examination_report import Conditions, Report, print_report, write_report
from fastbot.diagnosis import examination
from fastbot.diagnosis.examination import SAMPLE_SIZE, Subject
from fastbot.diagnosis.figures import Figure
from fastbot.diagnosis.limits import Situation, diagnose
from fastbot.diagnosis.model_step import SMALLEST_BATCH, check_step
from fastbot.diagnosis.reading import Extent
from fastbot.diagnosis.stages import Sample
from fastbot.distillation import Teacher
from fastbot.distributed import cores, pick_device
from fastbot.errors import CheckpointError, ModelError, RecipeError, RunError
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe
from fastbot.specs import ModelSpec, PrecisionSpec, TeacherSpec
from fastbot.teachers import load_teacher
from pipelines.backends import choose
from pipelines.compilation import announce_compilation
from pipelines.errors import BackendUnavailable

_DEFAULT_RECIPE = "bot-efficient"

# Enough that random reading seldom meets a picture twice; an `Extent` for each of ImageNet's would take a second.
_MAX_EXTENTS = 32_768

# Of the memory that is free, that much may be the store's before it is likely that parts of it are dropped.
_MEMORY_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Request:
    """What `fastbot doctor --data` was asked for; None where an option was left out."""

    data: Path
    recipe: str | None
    model: str | None
    batch_size: int | None
    backend: str
    device: str
    threads: int | None
    json_file: Path | None


def examine(request: Request) -> None:
    """Measure this machine on a store, print what was found and what to change, and write it where asked.

    Raises:
        DataError: the store cannot be used.
        RecipeError, ModelError, SpecError: there is no such recipe, model or backend.
        BackendUnavailable: the backend cannot run here.
        RunError: the store has no pictures, or there is no folder for the JSON file.
    """
    _check_request(request)
    announce_compilation()
    device = pick_device(request.device)
    recipe = _recipe(request, device)
    store = Store(request.data)
    split = _split(store)
    choice = choose.choose(request.backend, device)
    batch_size = _batch_size(request, recipe)
    if batch_size is not None:  # says now, not in half a minute, what is wrong with it
        check_step(recipe, max(2, store.num_classes), batch_size)
    taught = _Taught() if batch_size is None else _teacher(recipe, store, device)
    random = np.random.default_rng()
    ids = random.permutation(len(split))[:_MAX_EXTENTS]
    subject = _subject(store, split, ids, recipe, choice, device, request, taught)
    situation, conditions = _situation(subject, split), Conditions.here(subject, split, store.path)
    console = Console(markup=False, highlight=False)  # paths may hold brackets
    figures = list(_measured(subject, random, console))
    report = Report(conditions, situation, figures, diagnose(figures, situation))
    print_report(console, report)
    if request.json_file is not None:
        write_report(request.json_file, report)
        console.print(f"written   {request.json_file}", soft_wrap=True)


def _check_request(request: Request) -> None:
    if request.batch_size is not None and request.model is None and request.recipe is None:
        raise typer.BadParameter("--batch-size is that of a model's step: give --model NAME or --recipe NAME with it")
    if request.json_file is not None and not os.access(folder := request.json_file.absolute().parent, os.W_OK):
        raise RunError(f"--json {request.json_file}: {folder} cannot be written to. Name a file in a folder that can")


def _recipe(request: Request, device: torch.device) -> Recipe:
    recipe = load_recipe(request.recipe or _DEFAULT_RECIPE).resolved()
    changes: dict[str, object] = {}
    if request.model is not None:
        changes["model"] = ModelSpec(name=request.model, init="default", bn_batch=recipe.model.bn_batch)
    if request.recipe is None and device.type == "cpu":
        changes["precision"] = PrecisionSpec()  # the default recipe's fp16 is for GPUs
    return recipe.model_copy(update=changes)


def _batch_size(request: Request, recipe: Recipe) -> int | None:
    """Return that of the model's step; None where no step is asked for."""
    if request.model is None and request.recipe is None:
        return None
    return request.batch_size or max(SMALLEST_BATCH, recipe.data.global_batch_size)


@dataclass(frozen=True, slots=True)
class _Taught:
    """A recipe's teacher, or why there is none although the recipe has one."""

    teacher: Teacher | None = None
    problem: str = ""


def _teacher(recipe: Recipe, store: Store, device: torch.device) -> _Taught:
    spec = recipe.distillation
    if not isinstance(spec, TeacherSpec):
        return _Taught()
    try:
        return _Taught(load_teacher(spec, store.class_names, recipe.data, device, recipe.precision.kind)[0])
    except (RecipeError, CheckpointError, ModelError) as error:  # it need not be trained yet to look at the machine
        return _Taught(problem=str(error))


def _split(store: Store) -> Split:
    """Return the training split, or else the first that has pictures."""
    names = sorted(store.splits, key=lambda name: name != "train")
    for name in names:
        if len(store.splits[name]):
            return store.splits[name]
    raise RunError(f"{store.path}: no split has pictures. Convert a source that has some")


def _subject(
    store: Store,
    split: Split,
    ids: NDArray[np.int64],
    recipe: Recipe,
    choice: choose.Choice,
    device: torch.device,
    request: Request,
    taught: _Taught,
) -> Subject:
    threads = request.threads or cores()
    return Subject(
        files=[Extent(shard.path, 0, shard.size) for shard in split.shards],
        extents=list(_extents(split, ids)),
        sample=Sample(ids, split.heights[ids], split.widths[ids]),
        mean_bytes=split.record.mean_bytes,
        num_classes=store.num_classes,
        build_backend=lambda num_threads: choose.build(choice.name, split, device=device, num_threads=num_threads),
        choice=choice,
        threads=threads,
        device=device,
        recipe=recipe,
        batch_size=_batch_size(request, recipe),
        teacher=taught.teacher,
        without_teacher=taught.problem,
    )


def _extents(split: Split, ids: NDArray[np.int64]) -> Iterator[Extent]:
    starts = np.array([shard.start for shard in split.shards])
    offsets = split.offsets[ids].astype(np.int64)
    numbers = np.searchsorted(starts, offsets, side="right") - 1
    for number, offset, size in zip(numbers.tolist(), offsets.tolist(), split.sizes[ids].tolist(), strict=True):
        yield Extent(split.shards[number].path, offset - split.shards[number].start, size)


def _situation(subject: Subject, split: Split) -> Situation:
    spec, ids = subject.recipe.data, subject.sample.ids[:SAMPLE_SIZE]
    is_progressive = [bool(split.info(sample_id).flags & Flag.PROGRESSIVE) for sample_id in ids.tolist()]
    return Situation(
        cores=cores(),
        threads=subject.threads,
        device=subject.device.type,
        gpus=torch.cuda.device_count(),
        backend=subject.choice.name,
        usable_backends=frozenset(name for name in ("turbo", "dali") if _is_usable(name, subject.device)),
        order=spec.order.kind,
        auto_augment=spec.auto_augment.kind,
        jitter=spec.jitter.kind,
        precision=subject.recipe.precision.kind,
        crop_size=spec.crop_size,
        mean_side=float(np.maximum(split.heights, split.widths).mean()),
        progressive_share=float(np.mean(is_progressive)),
        raw_share=float((split.formats == StoredFormat.RAW).mean()),
        fits_in_memory=sum(file.size for file in subject.files) < _MEMORY_SHARE * _free_memory(),
    )


def _is_usable(backend: str, device: torch.device) -> bool:
    try:
        choose.choose(backend, device)
    except BackendUnavailable:
        return False
    return True


def _free_memory() -> int:
    """Return how many bytes of memory this machine, or its container, could still fill with a store."""
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(meminfo["MemAvailable"].split()[0]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return available if text == "max" else min(available, int(text))


def _measured(subject: Subject, random: np.random.Generator, console: Console) -> Iterator[Figure]:
    """Take the steps of the examination, with a line that says which one it is."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with TerminalProgress(*columns, console=console, transient=True) as progress:
        steps = examination.steps(subject, random)
        task = progress.add_task("", total=len(steps))
        for what, measure in steps:
            progress.update(task, description=what)
            if (figure := measure()) is not None:
                yield figure
            progress.advance(task)
