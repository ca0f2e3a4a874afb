"""What a training loop has of its own in a process that it shares with others: switches, cuDNN's plans, memory.

PyTorch keeps a few settings for the whole process. Every loop gets in its turn what its own script would set; TF32
alone is the same for all, as it belongs to the precision that is compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from benchmarks.rungs.memory_use import release
from benchmarks.rungs.step_loops import Loop
from fastbot.build import precision_of
from fastbot.recipe import Recipe

# On a GPU: so that what a loop needs is allocated before its time begins.
_UNTIMED_STEPS = 2
# The least that a turn has. A GPU's queue runs empty between turns, which a training's never does.
_LEAST_STEPS = {"cuda": 5, "cpu": 1}


@contextmanager
def process_switches() -> Iterator[None]:
    """Put the switches of the process back, at the end, to what they are now."""
    benchmark, matmul = torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32
    convolutions = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32 = benchmark, matmul
        torch.backends.cudnn.allow_tf32 = convolutions


def make_ready(loop: Loop, recipe: Recipe, device: torch.device) -> None:
    """Make the process this loop's.

    On a GPU it also gets the memory that other loops have left in PyTorch's cache, in blocks of their sizes, and makes
    a few steps: or it would ask the driver for memory while it is timed.

    Args:
        loop: whose turn comes.
        recipe: what it does.
        device: where.
    """
    torch.backends.cudnn.benchmark = loop.cudnn_benchmark
    precision_of(recipe, device)  # sets TF32, which composer's trainer has turned on where it was built
    if device.type == "cuda":
        torch.cuda.empty_cache()
        loop.train(_UNTIMED_STEPS)


def forget(device: torch.device) -> None:
    """Let go of the memory and of all compiled code; no loop may be alive that has some."""
    # Compiled code is kept by the model's class, and past 8 versions of it PyTorch goes on without compiling.
    torch.compiler.reset()
    release(device)


def steps_of_a_turn(
    loop: Loop, seconds: float, tries: int, device: torch.device, synchronize: Callable[[], object]
) -> int:
    """Return how many steps a turn has: they are one call, since to begin a training takes some libraries long.

    Args:
        loop: that is tried; its weights move.
        seconds: that a turn takes at least.
        tries: each with as many steps as the one before it told.
        device: where.
        synchronize: waits for it.
    """
    steps = least = _LEAST_STEPS[device.type]
    for _ in range(tries):
        synchronize()
        began = time.perf_counter()
        loop.train(steps)
        synchronize()
        steps = max(least, math.ceil(steps * seconds / max(time.perf_counter() - began, 1e-9)))
    return steps


def in_a_thread_of_its_own(train: Callable[[int], object]) -> Callable[[int], object]:
    """Return the same steps, all of them made in one other thread, backward passes too.

    PyTorch keeps what cuDNN has chosen for a convolution by thread, whether it was tried out (`cudnn.benchmark`) or
    not, and a choice that is there already is taken. A loop that tries out needs a thread in which nobody chose before;
    backward passes of a GPU have one thread for all loops, unless told otherwise.

    Source: PyTorch, aten/src/ATen/native/cudnn/Conv_v8.cpp, `benchmark_cache`.
    """
    thread = ThreadPoolExecutor(max_workers=1)

    def train_there(steps: int) -> None:
        with torch.autograd.set_multithreading_enabled(False):
            train(steps)

    return lambda steps: thread.submit(train_there, steps).result()
