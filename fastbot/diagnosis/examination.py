"""The examination: every part of the way into the model, one after another, each within its share of a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fastbot.build import image_dtype_of
from fastbot.diagnosis import model_step, stages
from fastbot.diagnosis.figures import AT_RANDOM, IN_ORDER, Figure, Part, Resource
from fastbot.diagnosis.reading import Extent, ReadRate, page_in, pictures_at_random, pieces_in_order, read_rate
from fastbot.distillation import Teacher
from fastbot.recipe import Recipe
from pipelines.backends.choose import Choice
from pipelines.batch import Backend, BatchPlan
from pipelines.spec import DataSpec

# Seconds. Reading may take twice its budget; the rest of a minute is for building backends and the first calls of
# compiled code.
_READ_S, _PAGE_IN_S, _DECODE_S, _AUGMENT_S, _COPY_S, _STEP_S = 2.0, 2.0, 3.0, 2.0, 1.0, 10.0

# Pictures that decoding and augmentation are measured with.
SAMPLE_SIZE = 1024

# Small enough that a few batches pass within the budget on one slow core, and a whole job for every thread.
_ROWS_A_THREAD = 16
# A GPU is not filled by fewer.
_ROWS_ON_GPU = 256

Measure = Callable[[], Figure | None]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined.

    Attributes:
        files: those of the split, whole.
        extents: where the bytes of each picture of `sample` lie.
        sample: pictures that stand for all, read in this order.
        mean_bytes: of a picture of the split.
        num_classes: of the store.
        build_backend: makes the backend for a number of threads.
        choice: which backend that is.
        threads: to decode and augment with.
        device: where batches go.
        recipe: what is done to pictures, and to the model.
        batch_size: of the model's step on this device; None where that is not asked for.
        teacher: the recipe's; None where it has none, or the model's step is not asked for.
        without_teacher: why the model's step is measured without the teacher that the recipe has; else empty.
    """

    files: Sequence[Extent]
    extents: Sequence[Extent]
    sample: stages.Sample
    mean_bytes: float
    num_classes: int
    build_backend: Callable[[int], Backend]
    choice: Choice
    threads: int
    device: torch.device
    recipe: Recipe
    batch_size: int | None
    teacher: Teacher | None = None
    without_teacher: str = ""


def steps(subject: Subject, random: np.random.Generator) -> list[tuple[str, Measure]]:
    """Return what is measured, in words, and what measures it; to be called one after another.

    Args:
        subject: what is examined.
        random: which bytes are read.
    """
    examination = _InMemory(subject)
    one_thread = [] if examination.decodes_on_gpu or subject.threads == 1 else [1]
    return [
        ("reading in order", partial(_in_order, subject, random)),
        ("reading pictures at random", partial(_at_random, subject, random)),
        ("bringing pictures into memory", examination.page_in),
        *(("decoding on 1 thread", partial(examination.decode, number, decisive=False)) for number in one_thread),
        (f"decoding with {_threads(subject.threads)}", partial(examination.decode, subject.threads, decisive=True)),
        ("augmenting", examination.augment),
        ("copying to the device", examination.copy),
        ("training the model", partial(_model, subject)),
    ]


def _in_order(subject: Subject, random: np.random.Generator) -> Figure:
    rate = read_rate(pieces_in_order(subject.files, random), 1, _READ_S)
    return _reading(subject, rate, IN_ORDER, "1 thread", decisive=subject.recipe.data.order.kind == "blocks")


def _at_random(subject: Subject, random: np.random.Generator) -> Figure:
    rate = read_rate(pictures_at_random(subject.extents, random), subject.threads, _READ_S)
    decisive = subject.recipe.data.order.kind != "blocks"
    return _reading(subject, rate, AT_RANDOM, _threads(subject.threads), decisive=decisive)


def _reading(subject: Subject, rate: ReadRate, variant: str, threads: str, *, decisive: bool) -> Figure:
    return Figure(
        Part.DISK,
        variant,
        Resource.DISK,
        rate.bytes_per_s / subject.mean_bytes,
        f"{rate.bytes_per_s / 1e6:,.0f} MB/s, {threads}, {_origin(rate.cached)}",
        decisive,
        {"mb_per_s": rate.bytes_per_s / 1e6, "cached_share": rate.cached},
    )


def _origin(cached: float | None) -> str:
    if cached is None:
        return "perhaps from the page cache: the kernel tells that only to the files' owner"
    if cached > 0.95:
        return "from the page cache, which did not let go of it"
    return "from the disk" if cached < 0.05 else f"{cached:.0%} of it from the page cache"


class _InMemory:
    """What is measured on pictures that the page cache holds, so that the disk plays no part.

    Args:
        subject: what is examined.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._sample = subject.sample
        self.decodes_on_gpu = subject.device.type == "cuda" and subject.choice.name in ("dali", "synthetic")

    def page_in(self) -> None:
        """Read pictures, and go on with those that were read; no figure comes of it."""
        extents = self._subject.extents[:SAMPLE_SIZE]
        num_read = page_in(extents, self._subject.threads, _PAGE_IN_S)
        whole = self._subject.sample
        self._sample = stages.Sample(whole.ids[:num_read], whole.heights[:num_read], whole.widths[:num_read])

    def decode(self, num_threads: int, *, decisive: bool) -> Figure:
        """Measure the backend."""
        subject, size = self._subject, self._subject.recipe.data.crop_size
        rows = _ROWS_ON_GPU if self.decodes_on_gpu else _ROWS_A_THREAD * num_threads
        found = stages.decode_rate(subject.build_backend(num_threads), self._plans(rows), _DECODE_S)
        how = f"{subject.choice.name}, {_threads(num_threads)}, random crops to {size} x {size}"
        if found.num_failed:
            how += f"; {found.num_failed:,} pictures were damaged: see `fastbot store verify`"
        return Figure(
            Part.DECODE,
            _threads(num_threads),
            Resource.GPU if self.decodes_on_gpu else Resource.CPU,
            found.images_per_s,
            how,
            decisive,
            {"backend": subject.choice.name, "threads": num_threads, "failed": found.num_failed},
        )

    def augment(self) -> Figure:
        """Measure augmentation on real pixels."""
        subject, threads = self._subject, self._subject.threads
        spec, dtype = subject.recipe.data, image_dtype_of(subject.recipe, subject.device)
        on_gpu = subject.device.type == "cuda"
        planned = self._plans(_ROWS_ON_GPU if on_gpu else _ROWS_A_THREAD * threads)
        with stages.torch_threads(threads):
            rate = stages.augment_rate(spec, subject.build_backend(threads), planned, subject.device, dtype, _AUGMENT_S)
        where = "on the GPU" if on_gpu else _threads(threads)
        how = f"{', '.join(_operations(spec))}, {where}"
        details = {"dtype": str(dtype).removeprefix("torch.")}
        return Figure(Part.AUGMENT, "", Resource.GPU if on_gpu else Resource.CPU, rate, how, details=details)

    def copy(self) -> Figure:
        """Measure the bus, with what has to cross it for a picture."""
        subject = self._subject
        if subject.device.type == "cpu":
            return Figure(Part.TRANSFER, "", Resource.BUS, None, "not needed: the device is the CPU")
        pixels = 3 * subject.recipe.data.crop_size**2
        num_bytes = subject.mean_bytes if self.decodes_on_gpu else pixels
        bytes_per_s = _ROWS_ON_GPU * pixels * stages.copies_per_s(_ROWS_ON_GPU * pixels, subject.device, _COPY_S)
        what = "a JPEG" if self.decodes_on_gpu else "pixels"
        how = f"{bytes_per_s / 1e9:.1f} GB/s from pinned memory, {what} of {num_bytes / 1e3:,.0f} kB a picture"
        details = {"gb_per_s": bytes_per_s / 1e9}
        return Figure(Part.TRANSFER, "", Resource.BUS, bytes_per_s / num_bytes, how, details=details)

    def _plans(self, rows: int) -> Iterator[BatchPlan]:
        return stages.plans(self._subject.recipe.data, self._sample, rows)


def _model(subject: Subject) -> Figure:
    """Measure the training step, if it is asked for."""
    resource = Resource.GPU if subject.device.type == "cuda" else Resource.CPU
    if subject.batch_size is None:
        how = "not asked for: add --recipe NAME, or --model NAME and --batch-size N"
        return Figure(Part.MODEL, "", resource, None, how)
    recipe, asked = subject.recipe, subject.batch_size
    with stages.torch_threads(subject.threads):
        step = model_step.build_step(recipe, max(2, subject.num_classes), subject.device, subject.teacher)
        sizes = model_step.batch_sizes(recipe, asked)
        found = model_step.step_rate(step, sizes, _STEP_S, synchronize=stages.synchronize)
    what = ", ".join([recipe.model.name, recipe.precision.kind, *_tricks(subject, found.batch_size)])
    how = f"{what}, {_batch(found, asked)}{_compiled(recipe)}{_untaught(subject)}"
    details = {
        "model": recipe.model.name,
        "precision": recipe.precision.kind,
        "batch_size": found.batch_size,
        "micro_batches": recipe.micro_batches,
        "bn_batch": recipe.model.bn_batch,
        "teacher": subject.teacher is not None,
        "ema": recipe.ema is not None,
    }
    return Figure(Part.MODEL, "", resource, found.images_per_s, how, details=details)


def _batch(found: model_step.StepRate, asked: int) -> str:
    if found.images_per_s is None:
        return f"not measured: a batch of {found.batch_size} does not fit the memory"
    if found.batch_size == asked:
        return f"batch {asked}"
    why = "more do not fit the memory" if found.out_of_memory else "more would take too long here"
    return f"batch {found.batch_size} for {asked}: {why}"


def _tricks(subject: Subject, batch_size: int) -> Iterator[str]:
    """Yield what training does besides, in a few words each, at a batch of the size that was measured."""
    recipe = model_step.with_batch_size(subject.recipe, batch_size)
    if recipe.micro_batches > 1:
        yield f"{recipe.micro_batches} micro-batches of {batch_size // recipe.micro_batches}"
    if isinstance(recipe.model.bn_batch, int):
        yield f"batch norm over {recipe.model.bn_batch}"
    if subject.teacher is not None:
        yield "a teacher"
    if recipe.ema is not None:
        yield "a moving average"


def _untaught(subject: Subject) -> str:
    return f"; without its teacher: {subject.without_teacher}" if subject.without_teacher else ""


def _compiled(recipe: Recipe) -> str:
    return ", not compiled, though the recipe asks for it" if recipe.compile else ""


def _operations(spec: DataSpec) -> Iterator[str]:
    """Yield what a spec does to pixels, in a word each."""
    if spec.auto_augment.kind != "none":
        yield f"{spec.auto_augment.kind} augment"
    yield "mirror"
    if spec.jitter.kind != "none":
        yield f"{spec.jitter.kind} jitter"
    if spec.lighting_std:
        yield "lighting"
    yield "normalize"
    if spec.erasing.probability:
        yield "erase"
    if spec.mix.kind != "none":
        yield spec.mix.kind


def _threads(number: int) -> str:
    return f"{number} thread{'s' if number > 1 else ''}"
