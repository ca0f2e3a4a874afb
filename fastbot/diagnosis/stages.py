"""How fast pictures are decoded, augmented, and copied to the device."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count, cycle, islice

import numpy as np
import torch
from numpy.typing import NDArray

from fastbot.diagnosis.clock import images_per_s
from pipelines.augment.build import build_augment
from pipelines.batch import Backend, BatchPlan
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec, NoMix, Shuffle

# Batches that a backend works on when the first is taken; it reaches its pace once these have gone by.
_IN_FLIGHT = 3

# Plans that augmentation takes turns with, so that no branch is learned by heart.
_NUM_PLANS = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """Some pictures of a split, which stand for all.

    Attributes:
        ids: int64 (n,), n at least 1.
        heights, widths: int32 (n,), in pixels.
    """

    ids: NDArray[np.int64]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class DecodeRate:
    """What decoding came to.

    Attributes:
        images_per_s: of pictures that could be decoded.
        num_failed: pictures that could not.
        on_gpu: whether the pixels were made there.
    """

    images_per_s: float
    num_failed: int
    on_gpu: bool


def plans(spec: DataSpec, sample: Sample, rows: int) -> Iterator[BatchPlan]:
    """Yield plans for ever that do to the pictures of a sample what training does to all.

    Args:
        spec: what training does. Its order does not matter here, and a ramp of sizes is at its end.
        sample: fewer pictures than `rows` are repeated.
        rows: pictures a batch.
    """
    times = -(-rows // len(sample.ids))
    ids, heights, widths = np.tile(sample.ids, times), np.tile(sample.heights, times), np.tile(sample.widths, times)
    mix = spec.mix if isinstance(spec.mix, NoMix) else spec.mix.model_copy(update={"group": rows})
    here = spec.model_copy(update={"global_batch_size": rows, "order": Shuffle(), "size_ramp": None, "mix": mix})
    plan = TrainPlan(here, heights, widths, seed=0)
    for epoch in count():
        for step in range(plan.steps_per_epoch):
            drawn = plan.batch(epoch, step)
            yield replace(drawn, ids=ids[drawn.ids])


def decode_rate(backend: Backend, planned: Iterator[BatchPlan], budget_s: float) -> DecodeRate:
    """Decode, crop and resize until the budget is spent; the backend is closed.

    Args:
        backend: what decodes.
        planned: endless.
        budget_s: seconds; see `images_per_s` for what may take longer.

    Raises:
        DataError, PipelineError: not one picture of a batch could be decoded.
    """
    num_failed, on_gpu = 0, False

    def batches() -> Generator[int]:
        nonlocal num_failed, on_gpu
        with closing(backend.pixels(planned)) as stream:
            for decoded in stream:
                if len(decoded.failed) == len(decoded.pixels):
                    raise next(iter(decoded.failed.values()))
                num_failed += len(decoded.failed)
                on_gpu = decoded.pixels.device.type == "cuda"
                yield len(decoded.pixels) - len(decoded.failed)

    with closing(backend), closing(batches()) as running:
        rate = images_per_s(running, budget_s, warmups=_IN_FLIGHT, synchronize=synchronize)
    return DecodeRate(rate, num_failed, on_gpu)


def augment_rate(
    spec: DataSpec,
    backend: Backend,
    planned: Iterator[BatchPlan],
    device: torch.device,
    dtype: torch.dtype,
    budget_s: float,
) -> float:
    """Augment, normalize and mix one batch of real pixels again and again; return pictures per second.

    Args:
        spec: what augments.
        backend: makes the pixels; it is closed.
        planned: endless, all for the same number of pictures.
        device: where it happens.
        dtype: of the images.
        budget_s: seconds.
    """
    chosen = list(islice(planned, _NUM_PLANS))
    with closing(backend), closing(backend.pixels(iter(chosen[:1]))) as stream:
        pixels = next(stream).pixels.to(device, copy=True)
    augment = build_augment(spec, device=device, dtype=dtype, train=True)
    batches = (len(augment(pixels, plan)) for plan in cycle(chosen))
    return images_per_s(batches, budget_s, warmups=_NUM_PLANS, synchronize=synchronize)


def copies_per_s(num_bytes: int, device: torch.device, budget_s: float) -> float:
    """Copy from pinned memory to a CUDA device again and again; return copies per second.

    Args:
        num_bytes: of a copy.
        device: where to.
        budget_s: seconds.
    """
    host = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(num_bytes, dtype=torch.uint8, device=device)

    def copies() -> Iterator[int]:
        while True:
            there.copy_(host, non_blocking=True)
            yield 1

    return images_per_s(copies(), budget_s, warmups=1, synchronize=synchronize)


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """Let PyTorch, and what follows its setting, use so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize() -> None:
    """Wait for the GPU, if there is one in use."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
