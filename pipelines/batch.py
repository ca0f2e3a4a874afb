"""The types that travel through a pipeline: what the plan decided, and the batch a model receives."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Everything random about one rank's rows of one global batch, decided before a pixel is touched.

    Row k of rank r is position `positions[k] = r + k * world_size` of the global batch. All arrays have n rows.

    Geometry: a picture's `window` is the integer rectangle that resampling may read, its `box` the (possibly
    fractional) rectangle that becomes the output. A training crop has box == window: pixels outside do not exist
    for it, as in crop-then-resize. An eval crop has the whole picture as its window, as in resize-then-crop; its box
    is such that the window, scaled by output / box, has whole pixels and the box starts at a whole pixel of that.

    Attributes:
        epoch, step: which global batch.
        output_size: height and width of the output in pixels, the same for every row.
        positions: int64 (n,), position in the global batch.
        ids: int64 (n,), sample ids.
        weight: float32 (n,), 1 for a sample that counts, 0 for padding.
        windows: int32 (n, 4), top, left, height, width in stored pixels (EXIF orientation ignored).
        boxes: float64 (n, 4), top, left, height, width in stored pixels.
        flip: bool (n,), mirror left-right after the crop.
        jitter: float32 (n, 3), factors: (hue, saturation, brightness) or (brightness, contrast, saturation).
        jitter_order: int8 (n, 3), the order in which those three apply (HSV jitter is one step and ignores it).
        lighting: float32 (n, 3), PCA-lighting coefficients alpha, before the eigenvalues.
        partner: int64 (n,), the *row* (of this rank) each row mixes with; itself where nothing mixes.
        lam: float32 (n,), the row's own share; 1 where nothing mixes.
    """

    epoch: int
    step: int
    output_size: tuple[int, int]
    positions: NDArray[np.int64]
    ids: NDArray[np.int64]
    weight: NDArray[np.float32]
    windows: NDArray[np.int32]
    boxes: NDArray[np.float64]
    flip: NDArray[np.bool_]
    jitter: NDArray[np.float32]
    jitter_order: NDArray[np.int8]
    lighting: NDArray[np.float32]
    partner: NDArray[np.int64]
    lam: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training or evaluation step receives; every batch of a run has the same shape.

    Attributes:
        images: (n, 3, H, W), float32 or a half type, channels-last, on the device, normalized.
        labels: int64 (n,), each row's own label.
        targets: what the loss compares with: `labels` itself, or float32 (n, K) once mixed.
        ids: int64 (n,), sample ids, on the CPU.
        weight: float32 (n,), on the device; 0 marks padding. Losses and metrics are weighted sums.
    """

    images: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor
    ids: NDArray[np.int64]
    weight: torch.Tensor


class Plan(Protocol):
    """A pure function of (epoch, step): nothing else changes what it returns."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the same on every rank."""
        ...

    @property
    def rows(self) -> int:
        """Rows of each of this rank's batches."""
        ...

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of every output picture, in pixels."""
        ...

    def batch(self, epoch: int, step: int) -> BatchPlan:
        """Return this rank's share of global batch `step` (from 0) of `epoch` (from 0)."""
        ...


class Backend(Protocol):
    """Executes the geometry of plans: encoded bytes and boxes in, pixels out. It decides nothing."""

    name: str

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[torch.Tensor]:
        """Yield one uint8 (n, H, W, 3) RGB tensor per plan, in the order of `plans`, decoding ahead.

        A tensor is valid until the next one is requested. Closing the iterator, exhausting it, or an error in it
        stops every thread it started. `plans` is consumed lazily, a bounded number ahead.

        Raises:
            BadPictureError: a picture cannot be decoded.
            DamagedSampleError: a sample's bytes fail their checksum.
        """
        ...

    def close(self) -> None:
        """Release threads, pipelines and buffers; may be called twice."""
        ...
