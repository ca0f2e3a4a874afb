"""DALI's decoders over JPEGs in memory: `decoders.image`, and `decoders.image_slice` for regions.

A region is decoded by the same code in `image_random_crop`, which draws it itself: so that all decode the same ones,
they are given here. Upsampling of chroma is set to libjpeg's, which is everybody else's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types

from benchmarks.peers.photos import Photos

_BATCH_SIZE = 64
_DEPTH = 2  # DALI's own: batches under way


class DaliDecoding:
    """Decodes all pictures in batches.

    Args:
        photos: which.
        num_threads: of the pipeline.
        regions: the windows alone.
        mixed: on the GPU.
    """

    def __init__(self, photos: Photos, num_threads: int, *, regions: bool, mixed: bool) -> None:
        self._photos = photos
        self._starts = range(0, len(photos), _BATCH_SIZE)
        self._next = 0
        self._regions = regions
        self._pipeline = self._built(num_threads, mixed)
        self._pipeline.schedule_run()  # the first of all begins several batches: dropped here
        while not self._pipeline.empty():
            self._pipeline.outputs()

    def run(self) -> int:
        """Decode all pictures once; nothing is under way before or after."""
        self._next, steps = 0, len(self._starts)
        for step in range(steps + _DEPTH):
            if step >= _DEPTH:
                self._pipeline.outputs()
            if step < steps:
                self._pipeline.schedule_run()
        return len(self._photos)

    def pixels(self, count: int) -> list[NDArray[np.uint8]]:
        """Return the pixels of the first pictures, as many as a batch has at the most."""
        self._next = 0
        self._pipeline.schedule_run()
        (batch,) = self._pipeline.outputs()
        held = batch.as_cpu()
        return [np.array(held[number]) for number in range(min(count, _BATCH_SIZE, len(self._photos)))]

    def close(self) -> None:
        """End its threads."""
        del self._pipeline

    def _feed(self) -> tuple[Any, ...]:
        """Return the next batch: files, and for regions top and left, height and width of their windows."""
        start = self._starts[self._next % len(self._starts)]
        self._next += 1
        rows = range(start, min(start + _BATCH_SIZE, len(self._photos)))
        windows = self._photos.windows[rows.start : rows.stop].astype(np.float32)
        files = [self._photos.file(row) for row in rows]
        return (files, windows[:, :2].copy(), windows[:, 2:].copy()) if self._regions else (files,)

    def _built(self, num_threads: int, mixed: bool) -> Any:
        settings: dict[str, Any] = {
            "device": "mixed" if mixed else "cpu",
            "output_type": types.RGB,
            "adjust_orientation": False,
            "jpeg_fancy_upsampling": True,
        }

        @pipeline_def(batch_size=_BATCH_SIZE, num_threads=num_threads, device_id=0 if mixed else None)
        def pipeline() -> object:
            if not self._regions:
                (files,) = fn.external_source(self._feed, num_outputs=1, no_copy=True)
                return fn.decoders.image(files, **settings)
            files, corners, sides = fn.external_source(self._feed, num_outputs=3, no_copy=True)
            return fn.decoders.image_slice(
                files, corners, sides, normalized_anchor=False, normalized_shape=False, axis_names="HW", **settings
            )

        built = pipeline()
        built.build()
        return built
