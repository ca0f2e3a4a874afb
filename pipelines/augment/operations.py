"""RandAugment's and TrivialAugment's operations on the CPU: the compiled kernels, spread over threads.

The kernels hold no GIL and are called from plain Python threads, for the reason that `cpu` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.augment import affine_kernels, nearest_kernels, operation_kernels
from pipelines.augment.affine import GEOMETRIC, affine_matrices
from pipelines.augment.reference_operations import Sampling
from pipelines.batch import BatchPlan, Operation
from pipelines.recycling import RecycledMemory
from pipelines.spec import Fill

# Operations differ in cost: threads that are done earlier take another of these.
_CHUNKS_A_THREAD = 4


class CpuOperations:
    """Mirror 8-bit pictures and apply each layer of a plan's operations, equal to `reference_operations`.

    Args:
        interpolation: of the geometric operations.
        fill: the colour of what comes from outside, RGB.
    """

    def __init__(self, interpolation: Sampling, fill: Fill) -> None:
        self._transform = _transform(interpolation)
        self._fill = np.array(fill, np.uint8)
        self._memory = RecycledMemory()

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the pictures after all layers; `pixels` is not changed.

        Args:
            pixels: uint8 (n, H, W, 3) RGB, contiguous, on the CPU.
            plan: n rows.

        Returns:
            uint8 of the same shape, contiguous.
        """
        assert pixels.dtype == torch.uint8
        assert pixels.is_contiguous()
        assert len(pixels) == len(plan.ids)
        pictures = self._memory.empty(pixels.shape, torch.uint8)
        num, height, width, channels = pixels.shape
        source, out = (x.numpy().reshape(num, height, width * channels) for x in (pixels, pictures))
        flip, layers = plan.flip.copy(), _layers(plan, (height, width))

        def run(rows: slice) -> None:
            operation_kernels.copy(source[rows], flip[rows], out[rows])
            for layer in layers:
                self._apply(layer, rows, out)

        chunks = _chunks(num, torch.get_num_threads())
        if len(chunks) == 1:
            run(chunks[0])
        else:
            with ThreadPoolExecutor(torch.get_num_threads(), "operations") as pool:
                list(pool.map(run, chunks))
        return pictures

    def _apply(self, layer: _Layer, rows: slice, out: NDArray[np.uint8]) -> None:
        """Each kernel skips the rows that the other one serves."""
        changed = rows.start + np.flatnonzero(layer.adjusts[rows])
        operation_kernels.adjust(out, changed, layer.operations[changed], layer.arguments[changed])
        moved = rows.start + np.flatnonzero(layer.moves[rows])
        self._transform(out, moved, layer.matrices[moved], self._fill)


def _transform(interpolation: Sampling) -> Callable[..., None]:
    """Return the kernel for (pictures, rows, matrices, fill)."""
    method = {"bilinear": affine_kernels.BILINEAR, "bicubic": affine_kernels.BICUBIC}
    kernel: Callable[..., None] = nearest_kernels.transform
    return kernel if interpolation == "nearest" else partial(affine_kernels.transform, method[interpolation])


@dataclass(frozen=True, slots=True)
class _Layer:
    """One operation a picture.

    Attributes:
        operations: int64 (n,).
        arguments: float32 (n,).
        matrices: float64 (n, 6).
        moves: bool (n,), which pictures an affine transform changes.
        adjusts: bool (n,), which pictures another operation changes.
    """

    operations: NDArray[np.int64]
    arguments: NDArray[np.float32]
    matrices: NDArray[np.float64]
    moves: NDArray[np.bool_]
    adjusts: NDArray[np.bool_]


def _layers(plan: BatchPlan, size: tuple[int, int]) -> list[_Layer]:
    layers = []
    for operations, arguments in zip(plan.operations.T, plan.arguments.T, strict=True):
        moves = np.isin(operations, GEOMETRIC)
        layers.append(
            _Layer(
                operations=operations.astype(np.int64),
                arguments=arguments,
                matrices=affine_matrices(operations, arguments, size),
                moves=moves,
                adjusts=~moves & (operations != Operation.IDENTITY),
            )
        )
    return layers


def _chunks(num: int, num_threads: int) -> list[slice]:
    num_chunks = 1 if num_threads == 1 else min(num_threads * _CHUNKS_A_THREAD, num)
    bounds = np.linspace(0, num, num_chunks + 1).astype(int).tolist()
    return [slice(first, last) for first, last in pairwise(bounds)]
