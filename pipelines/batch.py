"""The types that travel through a pipeline: what the plan decided, and the batch a model receives."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Interpolation = Literal["bilinear", "bicubic"]


class Operation(IntEnum):
    """What a layer of RandAugment or TrivialAugment does to a picture of 8-bit pixels, as Pillow does it.

    The argument's unit stands behind each. Geometric ones fill what comes from outside with the spec's fill colour.
    """

    IDENTITY = 0
    AUTO_CONTRAST = 1
    EQUALIZE = 2
    INVERT = 3
    ROTATE = 4  # degrees, counter-clockwise
    POSTERIZE = 5  # bits kept, 0 to 8
    SOLARIZE = 6  # threshold: values from it on are inverted
    SOLARIZE_ADD = 7  # added, up to 255, to values below 128
    COLOR = 8  # factor, as in PIL.ImageEnhance
    CONTRAST = 9  # factor
    BRIGHTNESS = 10  # factor
    SHARPNESS = 11  # factor
    SHEAR_X = 12  # columns a row, to the left
    SHEAR_Y = 13  # rows a column, upwards
    TRANSLATE_X = 14  # pixels, to the left
    TRANSLATE_Y = 15  # pixels, upwards


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
        operations: int8 (n, L), the `Operation` of each of L layers, applied after mirroring; L may be 0.
        arguments: float32 (n, L), the argument of each, in the unit that `Operation` says.
        erase: int32 (n, 4), top, left, height, width in output pixels of what random erasing overwrites; height 0
            where nothing is erased.
        noise: uint32 (n, 2), the key of each row's own random numbers: what erased pixels become.
        partner: int64 (n,), the *row* (of this rank) each row mixes with; itself where nothing mixes. The partner's
            partner is the row itself.
        lam: float32 (n,), the row's own share; 1 where nothing mixes.
        cut: int32 (n, 4), top, left, height, width in output pixels of what CutMix takes from the partner; height 0
            where pictures are blended by `lam` instead. Where it is not, `lam` is the share of pixels outside of it.
        interpolation: how pixels are resampled, the same for every row.
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
    operations: NDArray[np.int8]
    arguments: NDArray[np.float32]
    erase: NDArray[np.int32]
    noise: NDArray[np.uint32]
    partner: NDArray[np.int64]
    lam: NDArray[np.float32]
    cut: NDArray[np.int32]
    interpolation: Interpolation


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a backend made of a plan.

    Attributes:
        pixels: uint8 (n, H, W, 3) RGB, on the host or the device.
        failed: why rows have no picture, by row; their pixels are 0.
    """

    pixels: torch.Tensor
    failed: Mapping[int, Exception]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a training or evaluation step receives; every batch of a run has the same shape.

    Attributes:
        images: (n, 3, H, W), float32 or a half type, channels-last, on the device, normalized.
        labels: int64 (n,), each row's own label.
        targets: what the loss compares with: `labels` itself, or float32 (n, K) once mixed.
        ids: int64 (n,), sample ids, on the CPU.
        weight: float32 (n,), on the device; 0 marks padding and pictures that were skipped. Losses and metrics are
            weighted sums.
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

    def output_size(self, epoch: int) -> tuple[int, int]:
        """Return height and width of the output pictures of `epoch` (from 0), in pixels."""
        ...

    def batch(self, epoch: int, step: int) -> BatchPlan:
        """Return this rank's share of global batch `step` (from 0) of `epoch` (from 0)."""
        ...

    def substituted(self, plan: BatchPlan, rows: Sequence[int], attempt: int) -> BatchPlan:
        """Return a plan of `rows` of `plan` alone, for other samples that are drawn for them.

        Args:
            plan: what `batch` returned.
            rows: whose samples cannot be used.
            attempt: from 0; each draws other samples. The same on every world size.
        """
        ...


class Backend(Protocol):
    """Executes the geometry of plans: encoded bytes and boxes in, pixels out. It decides nothing."""

    name: str

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        """Yield the pixels of each plan, in the order of `plans`, decoding ahead.

        Pixels are valid until the next are requested. A row that cannot be decoded (`BadPictureError`), or whose bytes
        fail their checksum (`DamagedSampleError`), is zeros and named in `failed`; the rows beside it are whole.
        Closing the iterator, exhausting it, or an error in it stops every thread it started. `plans` is consumed
        lazily, a bounded number ahead; all have as many rows and the same output size as the first.
        """
        ...

    def close(self) -> None:
        """Release threads, pipelines and buffers; may be called twice."""
        ...
