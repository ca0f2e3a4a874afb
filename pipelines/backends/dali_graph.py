"""The DALI pipeline that carries out plans: its decoder, what is allocated beforehand, how windows are resampled."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline

from datasets_tools.store import Split
from pipelines.batch import Interpolation

# JPEG or PNM bytes; then top and left, height and width of the window; then where in it the box starts and ends.
DaliInputs = tuple[
    list[NDArray[np.uint8]], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]
]
DaliSource = Callable[[], DaliInputs]
_INPUT_TYPES = [types.UINT8, types.INT32, types.INT32, types.FLOAT, types.FLOAT]

_INTERPOLATIONS = {"bilinear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}

# DALI's ResNet-50 example gives nvJPEG 211,025,920 bytes on the device and 140,544,512 on the host, a thread, for
# ImageNet's largest picture of 5980 x 6430: 5.5 and 3.7 a pixel.
_DEVICE_BYTES_PER_PX = 6
_HOST_BYTES_PER_PX = 4
# DALI's own defaults, and for a single huge picture what that example takes.
_DEVICE_PADDING = 16 << 20, 256 << 20
_HOST_PADDING = 8 << 20, 128 << 20
# The JPEG engine's memory is for whole batches of the largest picture: hints that ask for more than this are left out.
_ENGINE_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Form:
    """A way to decode on a GPU; on a CPU all loads are alike.

    Attributes:
        decoder: `window` decodes a crop's window only, `whole` the whole picture, and cuts the window out of it after.
        hardware_load: share of a batch that the GPU's JPEG engine gets where it has one, 0 to 1.
    """

    decoder: Literal["window", "whole"]
    hardware_load: float


# 0.65 is DALI's default; 0.9 was, before; see its pull request 6366.
FORMS = tuple(Form(decoder, load) for decoder in ("window", "whole") for load in (0.0, 0.65, 0.9, 1.0))
# DALI's own, and no figure of ours: what is taken where nothing was measured.
DEFAULT_FORM = Form("window", 0.65)


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What all batches of a pipeline have in common."""

    num_rows: int
    output_size: tuple[int, int]
    interpolation: Interpolation


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest picture that a pipeline will meet, in pixels; height and width need not be of one picture."""

    height: int
    width: int
    area: int

    @classmethod
    def of(cls, split: Split) -> Largest:
        """Return that of a split."""
        areas = split.heights.astype(np.int64) * split.widths
        return cls(split.record.max_height, split.record.max_width, int(areas.max(initial=0)))


_alive: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _disown() -> None:
    """Let nothing end a pipeline in a fork: DALI would join threads that are not there, and crash or wait for ever."""
    for pipeline in _alive:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(pipeline._pipe))  # for ever: its destructor joins them too
        pipeline._pipe = None


os.register_at_fork(after_in_child=_disown)


def build_pipeline(
    source: DaliSource,
    form: Form,
    shape: BatchShape,
    largest: Largest,
    *,
    device: torch.device,
    num_threads: int,
    depth: int,
) -> Pipeline:
    """Build the pipeline that makes uint8 (n, H, W, 3) RGB pixels of what `source` returns.

    Args:
        source: called once a batch; keeps what it returned until the batch is delivered.
        form: how pictures are decoded.
        shape: of the batches.
        largest: what memory is allocated for before the first batch.
        device: where pixels are made.
        num_threads: DALI's worker threads.
        depth: batches under way.
    """
    on_gpu = device.type == "cuda"
    pipeline = Pipeline(
        batch_size=shape.num_rows,
        num_threads=num_threads,
        device_id=_device_index(device) if on_gpu else None,
        prefetch_queue_depth=depth,
    )
    with pipeline:
        encoded, anchors, shapes, starts, ends = fn.external_source(
            source=source, num_outputs=5, dtype=_INPUT_TYPES, ndim=[1] * 5, no_copy=True
        )
        options = decoder_options(form, shape, largest) if on_gpu else {"device": "cpu"}
        windows = _DECODERS[form.decoder](encoded, anchors, shapes, options)
        pipeline.set_outputs(
            fn.resize(
                windows,
                size=shape.output_size,
                roi_start=starts,
                roi_end=ends,
                interp_type=_INTERPOLATIONS[shape.interpolation],
                antialias=True,
                bytes_per_sample_hint=3 * shape.output_size[0] * shape.output_size[1],
            )
        )
    pipeline.build()
    _alive.add(pipeline)
    return pipeline


_COORDINATES: Mapping[str, Any] = MappingProxyType(
    {"axes": [0, 1], "normalized_anchor": False, "normalized_shape": False}
)
_DECODING: Mapping[str, Any] = MappingProxyType(
    {
        "adjust_orientation": False,
        "jpeg_fancy_upsampling": True,  # as libjpeg does by default; DALI's own default is off
        "output_type": types.RGB,
    }
)


def _decode_windows(encoded: Any, anchors: Any, shapes: Any, options: dict[str, Any]) -> Any:
    return fn.decoders.image_slice(encoded, anchors, shapes, **_COORDINATES, **_DECODING, **options)


def _decode_wholes(encoded: Any, anchors: Any, shapes: Any, options: dict[str, Any]) -> Any:
    # Cut before it is resized: a region of interest alone would let the filter read what lies around the window, which
    # changes the crop's outermost pixels by up to 36 levels.
    return fn.slice(fn.decoders.image(encoded, **_DECODING, **options), anchors, shapes, **_COORDINATES)


_DECODERS = {"window": _decode_windows, "whole": _decode_wholes}


def decoder_options(form: Form, shape: BatchShape, largest: Largest) -> dict[str, Any]:
    """Return what the `mixed` decoders take besides: the engine's share, and memory for the largest picture."""
    options: dict[str, Any] = {
        "device": "mixed",
        "hw_decoder_load": form.hardware_load,
        "device_memory_padding": _between(_DEVICE_BYTES_PER_PX * largest.area, *_DEVICE_PADDING),
        "host_memory_padding": _between(_HOST_BYTES_PER_PX * largest.area, *_HOST_PADDING),
    }
    if form.hardware_load * shape.num_rows * 3 * largest.height * largest.width <= _ENGINE_BYTES:
        options |= {"preallocate_height_hint": largest.height, "preallocate_width_hint": largest.width}
    return options


def _between(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


def _device_index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
