"""JPEG: header, checked decode, lossless transcode, area resize, encode, and the regions that crops need.

A C extension over the classic libjpeg interface, whose coefficient access makes the lossless transcode possible. All
functions release the interpreter's lock while they work, hold no state, and turn every libjpeg error into `JpegError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from datasets_tools.errors import MissingPackageError
from datasets_tools.jpeg.header import JpegHeader, Subsampling, header_of

__all__ = [
    "Buffer",
    "JpegError",
    "JpegHeader",
    "RegionBatch",
    "Subsampling",
    "check",
    "decode",
    "encode",
    "frame",
    "inspect",
    "problem",
    "resize",
    "transcode",
    "work_address",
]

Buffer = bytes | bytearray | memoryview | NDArray[np.uint8]

_COMPONENTS = (1, 3)
_MESSAGE_BYTES = 256  # codec.h: codec_error
_NO_MEMORY = 2  # codec.h: codec_status
_ROW_ARRAYS: tuple[tuple[str, type[np.generic], tuple[int, ...]], ...] = (
    ("offsets", np.uint64, ()),
    ("sizes", np.uint64, ()),
    ("raw", np.bool_, ()),
    ("heights", np.int32, ()),
    ("widths", np.int32, ()),
    ("windows", np.int32, (4,)),
    ("boxes", np.float64, (4,)),
    ("out", np.uint8, ()),
)
_SUBSAMPLED = {Subsampling.S420: True, Subsampling.S444: False}


class JpegError(Exception):
    """A JPEG cannot be used; the message is one short sentence without the picture's name."""


class _Absent:
    """Stands in for the extension where it was not built, or its libjpeg is gone."""

    def __init__(self, cause: ImportError) -> None:
        self.problem = (
            f"the JPEG codec is not built ({cause}). Install a fastbot wheel, which holds it, or build it: "
            "apt-get install libjpeg-dev gcc python3-dev && pip install -e ."
        )

    def __getattr__(self, name: str) -> NoReturn:
        raise MissingPackageError(self.problem)


if TYPE_CHECKING:
    from datasets_tools.jpeg import _codec
else:
    try:
        from datasets_tools.jpeg import _codec
    except ImportError as error:
        _codec = _Absent(error)


def problem() -> str | None:
    """Return why the codec cannot be used and what to do about it, None where it can."""
    return _codec.problem if isinstance(_codec, _Absent) else None


def inspect(data: Buffer) -> JpegHeader:
    """Read the markers of a JPEG, to its end-of-image marker, without decoding a pixel.

    Raises:
        JpegError: the markers are broken, or something stands between them that libjpeg alone skips: stray bytes, or
            markers without a segment (TEM, and RSTn outside of a scan). Or a scan's Huffman tables are missing, where
            libjpeg alone takes the standard's. Or it has over 500 scans.

    Source: ITU-T T.81, annex B (markers), and EXIF 2.32, section 4.6 (orientation, tag 0x0112).
    """
    return header_of(_codec.inspect(data))


def frame(data: Buffer) -> JpegHeader:
    """Read the markers of a JPEG up to its frame header, as far as libjpeg does: stray bytes between them are skipped.

    For what `inspect` refuses: it says how large the pixels are that may still be there.

    Raises:
        JpegError: there is no frame header.
    """
    return header_of(_codec.frame(data))


def check(data: Buffer) -> bool:
    """Decode every coefficient and say whether the stream is clean.

    Entropy decoding is all that can fail in a JPEG: the inverse DCT and the colour conversion are total functions, so
    they are not run.

    Returns:
        True: libjpeg had nothing to say. False: all coefficients are there, but the stream holds what other decoders
        may refuse (stray bytes between the segments of its header, zeros that pad a scan): `transcode` writes it clean.

    Raises:
        JpegError: the picture is damaged: it ends early, or its entropy-coded data are corrupt: they hold a wrong code,
            or more than the picture's rows need. Or libjpeg cannot turn it into pixels: its samples are not of 8
            bits, or its sampling ratios are no whole numbers. Arithmetic coding knows no wrong code: there only a
            missing end-of-image marker and left-over bytes are found.
    """
    return _codec.check(data)


def transcode(data: Buffer) -> bytes:
    """Rewrite a JPEG of 8 bits and 1 or 3 components as baseline with a restart marker after each row of MCUs.

    The quantized coefficients, quantization tables, sampling factors and colour space are equal; Huffman tables are
    optimal for the new file; metadata (ICC, comments, EXIF but its orientation) are left out. So every decoder gives
    the pixels it gave, but for a progressive file that stops before its last bits: libjpeg smooths its coarse blocks
    only while it is one.

    Raises:
        JpegError: as `check`.
    """
    return _codec.transcode(data)


def decode(data: Buffer, *, tolerant: bool = False) -> NDArray[np.uint8]:
    """Decode fully (slow exact inverse DCT, fancy upsampling): Pillow's and libjpeg's default pixels.

    Args:
        data: a JPEG of 1 or 3 components.
        tolerant: decode what is there: rows that are missing or damaged become libjpeg's grey or its neighbours, as
            with Pillow's `LOAD_TRUNCATED_IMAGES`; only a picture without one decodable MCU row raises.

    Returns:
        uint8 (height, width, 3), RGB, or (height, width, 1), grey.

    Raises:
        JpegError: as `check`.
    """
    height, width, _, components, *_ = _codec.frame(data)
    if components not in _COMPONENTS:
        raise JpegError(f"has {components} components; 1 and 3 are taken")
    pixels = np.empty((height, width, components), dtype=np.uint8)
    _codec.decode(data, pixels, height, width, components, tolerant)
    return pixels


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Shrink by area: every source pixel counts by the share of it that an output pixel covers.

    Args:
        pixels: uint8 (H, W, C), C-contiguous, C 1 or 3.
        height: of the result, 1 to H.
        width: of the result, 1 to W.

    Returns:
        uint8 (height, width, C), rounded to nearest.

    Source: OpenCV's `INTER_AREA`, in exact arithmetic; at whole factors Pillow's `Image.reduce`. Pillow's
    `Resampling.BOX` is another filter: it counts a pixel wholly or not at all, by where its centre lies.
    """
    _require_pixels(pixels)
    full_height, full_width, components = pixels.shape
    if not (1 <= height <= full_height and 1 <= width <= full_width):
        raise ValueError(f"a picture of {full_width} x {full_height} pixels cannot be shrunk to {width} x {height}")
    resized = np.empty((height, width, components), dtype=np.uint8)
    _codec.resize(pixels, full_height, full_width, components, resized, height, width)
    return resized


def encode(pixels: NDArray[np.uint8], *, quality: int, subsampling: Subsampling) -> bytes:
    """Encode a baseline JPEG with the exact integer DCT.

    Args:
        pixels: uint8 (H, W, 3), RGB, or (H, W, 1), grey; C-contiguous; at most 65,500 pixels a side.
        quality: 1 to 100, libjpeg's scale.
        subsampling: `S420` or `S444`; not used for grey.
    """
    _require_pixels(pixels)
    if not 1 <= quality <= 100 or subsampling not in _SUBSAMPLED:
        raise ValueError(f"quality {quality}, {subsampling!r}: quality is 1 to 100, subsampling S420 or S444")
    height, width, components = pixels.shape
    return _codec.encode(pixels, height, width, components, quality, _SUBSAMPLED[subsampling])


class RegionBatch:
    """Regions of many pictures, decoded and resized into one array by any number of threads.

    Each calls `work`, which returns when no row is left to begin. Arrays have one entry a row.

    Args:
        data: uint8 (size,), where all samples lie.
        offsets, sizes: uint64 (n,), of each sample in `data`: a JPEG of 1 or 3 components, or RGB pixels.
        raw: bool (n,), which are pixels.
        heights, widths: int32 (n,), of the whole pictures; a JPEG that says otherwise is refused.
        windows: int32 (n, 4), top, left, height, width of the pixels that may be read.
        boxes: float64 (n, 4), likewise, of what becomes the output; inside the windows.
        out: uint8 (n, H, W, 3), C-contiguous, RGB; written.
        bicubic: resample with the cubic filter, else with the triangle filter.

    Raises:
        ValueError: an array has another dtype or shape, or is not C-contiguous.

    Source: the pixels are libjpeg-turbo's (slow exact inverse DCT, fancy upsampling), where the box is at least 2, 4 or
    8 times as large as the output those of its DCT scaling; resampled as `PIL.Image.resize(box=...)` does, with
    `reducing_gap` None and 6 more bits between its two passes.
    """

    def __init__(
        self,
        data: NDArray[np.uint8],
        offsets: NDArray[np.uint64],
        sizes: NDArray[np.uint64],
        raw: NDArray[np.bool_],
        heights: NDArray[np.int32],
        widths: NDArray[np.int32],
        windows: NDArray[np.int32],
        boxes: NDArray[np.float64],
        out: NDArray[np.uint8],
        *,
        bicubic: bool = False,
    ) -> None:
        rows = len(offsets)
        self._failed = np.zeros(rows, np.uint8)
        self._messages = np.zeros((rows, _MESSAGE_BYTES), np.uint8)
        self._next = np.zeros(1, np.int64)
        self._windows = windows
        arrays: Sequence[NDArray[Any]] = (offsets, sizes, raw, heights, widths, windows, boxes, out)
        for array, (name, dtype, shape) in zip(arrays, _ROW_ARRAYS, strict=True):
            expected = (rows, *out.shape[1:3], 3) if name == "out" else (rows, *shape)
            if array.dtype != dtype or array.shape != expected or not array.flags.c_contiguous:
                wanted = f"{np.dtype(dtype)} {expected}"
                raise ValueError(f"{name} is {array.dtype} {array.shape}; it must be C-contiguous {wanted}")
        state = self._failed, self._messages, self._next
        arguments: tuple[Any, ...] = (data, *arrays, *state, *out.shape[1:3], bicubic)
        self._batch = _codec.batch(*arguments)

    @property
    def address(self) -> int:
        """Where the batch lies in memory, while this object lives; see `work_address`."""
        return _codec.address(self._batch)

    def work(self) -> None:
        """Decode rows that nobody has begun, until none is left; releases the interpreter's lock."""
        _codec.work(self._batch)

    def stop(self) -> None:
        """Let threads begin no more rows."""
        self._next[0] = len(self._failed)

    def failures(self) -> dict[int, str]:
        """Return why rows failed, by row, once every `work` has returned; their output is zeros.

        Raises:
            MemoryError: there was no memory for a row, which says nothing about its picture.
        """
        if short := np.flatnonzero(self._failed == _NO_MEMORY).tolist():
            largest = max(int(self._windows[row, 2]) * int(self._windows[row, 3]) for row in short)
            raise MemoryError(f"no memory to decode {len(short)} pictures, the largest of {largest} pixels")
        return {row: self._message(row) for row in np.flatnonzero(self._failed).tolist()}

    def _message(self, row: int) -> str:
        text: bytes = self._messages[row].tobytes()
        return text.partition(b"\0")[0].decode("utf-8", "replace")


def work_address() -> int:
    """Return where the C function lies that is `RegionBatch.work`, for compiled code that holds no interpreter lock.

    It takes a `RegionBatch.address` and returns nothing: `void (*)(const void *)`.
    """
    return _codec.work_address()


def _require_pixels(pixels: NDArray[np.uint8]) -> None:
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] not in _COMPONENTS
        or not pixels.flags.c_contiguous
    ):
        raise ValueError(
            f"pixels are {pixels.dtype} {pixels.shape}; they must be uint8 (H, W, 3) or (H, W, 1), C-contiguous"
        )
