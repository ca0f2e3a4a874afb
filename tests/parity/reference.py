"""What every backend's pixels are compared with: Pillow's decoder (or the raw pixels) and Pillow's resampling."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_tools.store import Split
from datasets_tools.store.index import StoredFormat
from pipelines.batch import BatchPlan

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def reference_pixels(split: Split, plan: BatchPlan) -> NDArray[np.uint8]:
    """Return uint8 (n, H, W, 3): each row's window cut out, and its box in it resized."""
    rows = zip(plan.ids.tolist(), plan.windows.tolist(), plan.boxes.tolist(), strict=True)
    return np.stack(
        [
            _row(_picture(split, sample_id), window, box, plan.output_size, RESAMPLING[plan.interpolation])
            for sample_id, window, box in rows
        ]
    )


def _picture(split: Split, sample_id: int) -> Image.Image:
    data = split.encoded(sample_id).tobytes()
    if split.formats[sample_id] == StoredFormat.RAW:
        return Image.frombytes("RGB", (int(split.widths[sample_id]), int(split.heights[sample_id])), data)
    return Image.open(io.BytesIO(data)).convert("RGB")  # opening does not apply EXIF orientation


def _row(
    picture: Image.Image,
    window: list[int],
    box: list[float],
    output_size: tuple[int, int],
    resampling: Image.Resampling,
) -> NDArray[np.uint8]:
    top, left, height, width = window
    region = picture.crop((left, top, left + width, top + height))
    start_y, start_x = box[0] - top, box[1] - left
    size = output_size[1], output_size[0]
    inside = (start_x, start_y, start_x + box[3], start_y + box[2])
    return np.asarray(region.resize(size, resampling, box=inside))
