"""Functions of other people's libraries from one JPEG in memory to its pixels, as they document them.

Each of these libraries decodes the whole picture. A region of it is cut out of that, but for FFmpeg, whose filter graph
does it before the colours are converted. Pixels are what a library calls so: an array, a tensor, a picture in memory.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.peers.peer import reason
from benchmarks.peers.photos import Photos
from datasets_tools import jpeg
from fastbot.errors import RunError

# From pictures and the number of one to its pixels.
Decode = Callable[[Photos, int], Any]


@dataclass(frozen=True, slots=True)
class PictureDecoder:
    """A library that decodes one picture a call, and lets threads do so at once.

    Attributes:
        full: decodes the whole picture.
        region: decodes its window.
        array: from what either returns to uint8 (height, width, 3), RGB; called where no clock runs.
    """

    full: Decode
    region: Decode
    array: Callable[[Any], NDArray[np.uint8]]


def ours() -> PictureDecoder:
    """Return fastbot's codec: the whole picture; for regions `codec_decoding` is there."""
    return _cropping(lambda photos, number: jpeg.decode(photos.file(number)))


def torchvision() -> PictureDecoder:
    """Return `torchvision.io.decode_jpeg`."""

    def full(photos: Photos, number: int) -> torch.Tensor:
        return decode_jpeg(torch.from_numpy(photos.file(number)), mode=ImageReadMode.RGB)  # type: ignore[no-any-return]

    def region(photos: Photos, number: int) -> torch.Tensor:
        top, left, height, width = photos.window(number)
        rows = full(photos, number).permute(1, 2, 0)  # as they lie in memory
        return rows[top : top + height, left : left + width].contiguous().permute(2, 0, 1)

    return PictureDecoder(full, region, lambda pixels: np.asarray(pixels.permute(1, 2, 0)))


def pillow() -> PictureDecoder:
    """Return Pillow."""

    def full(photos: Photos, number: int) -> Image.Image:
        picture = Image.open(io.BytesIO(photos.file(number).data))
        picture.load()
        return picture

    def region(photos: Photos, number: int) -> Image.Image:
        top, left, height, width = photos.window(number)
        return full(photos, number).crop((left, top, left + width, top + height))

    return PictureDecoder(full, region, np.asarray)


def opencv() -> PictureDecoder:
    """Return OpenCV's `imdecode`.

    Raises:
        ImportError: it is not installed, or older than 4.11, which has no RGB.
    """
    import cv2

    try:
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    except AttributeError as error:
        raise ImportError(f"OpenCV {cv2.__version__} cannot decode to RGB") from error

    def full(photos: Photos, number: int) -> NDArray[np.uint8]:
        pixels = cv2.imdecode(photos.file(number), flags)
        if pixels is None:
            raise RunError(f"OpenCV cannot decode picture {number}: measure a sound store")
        return cast(NDArray[np.uint8], pixels)

    return _cropping(full)


def ffcv() -> PictureDecoder:
    """Return FFCV's `imdecode`, which its loader calls; it has a crop, which FFCV never uses.

    Raises:
        ImportError: it is not installed.
    """
    import_module("pipelines.backends.ffcv_import")  # before ffcv itself: it imports that without side effects
    imdecode = import_module("ffcv.libffcv").imdecode

    def full(photos: Photos, number: int) -> NDArray[np.uint8]:
        height, width = int(photos.heights[number]), int(photos.widths[number])
        pixels = np.empty((height, width, 3), np.uint8)
        imdecode(photos.file(number), pixels, height, width, height, width)
        return pixels

    return _cropping(full)


def spdl() -> PictureDecoder:
    """Return SPDL's decoding by FFmpeg.

    Raises:
        ImportError: it is not installed.
        RuntimeError: FFmpeg's libraries are not.
    """
    io_ = import_module("spdl.io")
    io_.decode_config()  # loads FFmpeg's libraries

    def decoded(photos: Photos, number: int, graph: str) -> Any:
        packets = io_.demux_image(photos.file(number))
        return io_.convert_frames(io_.decode_packets(packets, graph))

    whole = io_.get_video_filter_desc(pix_fmt="rgb24")

    def region(photos: Photos, number: int) -> Any:
        top, left, height, width = photos.window(number)
        crop = f"crop=w={width}:h={height}:x={left}:y={top}:exact=1"
        return decoded(photos, number, io_.get_video_filter_desc(filter_desc=crop, pix_fmt="rgb24"))

    return PictureDecoder(lambda photos, number: decoded(photos, number, whole), region, io_.to_numpy)


# By name: how to build it, and the command that brings it.
DECODERS: Mapping[str, tuple[Callable[[], PictureDecoder], str]] = {
    "torchvision": (torchvision, "pip install torchvision"),
    "Pillow": (pillow, "pip install pillow"),
    "OpenCV": (opencv, "pip install opencv-python"),
    "FFCV": (ffcv, 'pip install "fastbot[ffcv]"'),
    "spdl": (spdl, 'pip install "fastbot[bench]", and FFmpeg\'s libraries: apt-get install ffmpeg'),
}


def here() -> tuple[dict[str, PictureDecoder], dict[str, str]]:
    """Return the decoders that can be used, and why others cannot and what to do about it, both by name."""
    usable: dict[str, PictureDecoder] = {}
    missing: dict[str, str] = {}
    for name, (build, install) in DECODERS.items():
        try:
            usable[name] = build()
        except (ImportError, OSError, RuntimeError) as error:
            missing[name] = f"cannot be imported ({reason(error)}): {install}"
    return usable, missing


def _cropping(full: Callable[[Photos, int], NDArray[np.uint8]]) -> PictureDecoder:
    """Return a decoder to arrays, which cuts a region out of the whole picture."""

    def region(photos: Photos, number: int) -> NDArray[np.uint8]:
        top, left, height, width = photos.window(number)
        return np.ascontiguousarray(full(photos, number)[top : top + height, left : left + width])

    return PictureDecoder(full, region, lambda pixels: pixels)
