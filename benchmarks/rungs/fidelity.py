"""How near are a backend's pixels to those of a full decode and an exact resize?

The reference is libjpeg's full decode (by Pillow), of which each crop is cut and resized in float32 by Pillow's
antialiasing triangle filter, never rounded. Rounding to 8 bits alone costs: no backend can reach more than 58.9 dB.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_tools.store import Split
from pipelines.batch import Backend, BatchPlan
from pipelines.plan import TrainPlan

# At the least: whole batches are compared.
NUM_CROPS = 200
_SMALLEST_ERROR = 1e-6  # of a mean square, so that a picture of one colour counts as finite


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Peak signal-to-noise ratios over crops, in dB.

    Attributes:
        mean: of the crops' own ratios.
        low: their 5th percentile.
        num_crops: how many crops.
    """

    mean: float
    low: float
    num_crops: int

    def __str__(self) -> str:
        return f"{self.mean:.1f} dB mean, {self.low:.1f} dB 5th percentile"


def fidelities(split: Split, plan: TrainPlan, backends: Mapping[str, Backend]) -> dict[str, Fidelity]:
    """Compare backends over the same crops of the first epoch, or of several where one has too few.

    Args:
        split: of JPEGs.
        plan: bilinear.
        backends: by the name that their result gets.
    """
    plans = list(_plans(plan))
    streams = {name: backend.pixels(plans) for name, backend in backends.items()}
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in backends}
    for batch in plans:
        expected = np.stack([_reference(split, batch, row) for row in range(len(batch.ids))])
        for name, stream in streams.items():
            found[name].append(psnr(next(stream).pixels.cpu().numpy(), expected))
    for stream in streams.values():
        stream.close()
    return {name: _summary(np.concatenate(ratios)) for name, ratios in found.items()}


def psnr(pixels: NDArray[np.uint8], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return each picture's ratio in dB.

    Args:
        pixels: uint8 (n, H, W, 3).
        expected: float32 (n, H, W, 3), likewise 0 to 255.
    """
    errors = np.square(pixels.astype(np.float64) - expected).mean(axis=(1, 2, 3))
    ratios: NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(errors, _SMALLEST_ERROR))
    return ratios


def _summary(ratios: NDArray[np.float64]) -> Fidelity:
    return Fidelity(float(ratios.mean()), float(np.quantile(ratios, 0.05)), len(ratios))


def _plans(plan: TrainPlan) -> Iterator[BatchPlan]:
    num_batches = -(-NUM_CROPS // plan.rows)
    return (plan.batch(*divmod(number, plan.steps_per_epoch)) for number in range(num_batches))


def _reference(split: Split, plan: BatchPlan, row: int) -> NDArray[np.float32]:
    stored = Image.open(io.BytesIO(split.encoded(int(plan.ids[row])).tobytes()))
    top, left, height, width = plan.windows[row].tolist()
    window = np.asarray(stored.convert("RGB"), np.float32)[top : top + height, left : left + width]
    box_top, box_left, box_height, box_width = (plan.boxes[row] - (top, left, 0, 0)).tolist()
    box = box_left, box_top, box_left + box_width, box_top + box_height
    size = plan.output_size[::-1]
    channels = [Image.fromarray(np.ascontiguousarray(window[:, :, channel])) for channel in range(3)]
    resized = [channel.resize(size, Image.Resampling.BILINEAR, box=box) for channel in channels]
    return np.stack([np.asarray(channel) for channel in resized], axis=2)
