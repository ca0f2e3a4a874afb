"""The picture policy: one picture in, as any source holds it; one sample out, as a store takes it.

A store holds 8-bit Huffman-coded JPEGs of one or three components, and raw RGB pixels. What a picture is, is decided by
its content, never by its name. The first rule that fits:

| the picture                                                      | what is stored                                   |
|------------------------------------------------------------------|--------------------------------------------------|
| empty, unknown, animated; 12 bits, float, LAB                    | refused                                          |
| over `max_pixels`, or over 65,500 pixels a side                  | refused, before any of them is decoded           |
| damaged                                                          | refused; `repair`: what can be decoded, encoded  |
| to be raw (`raw_share`), smaller, or turned (`exif="apply"`)     | decoded, changed, encoded                        |
| a JPEG with CMYK or arithmetic coding; PNG, WebP, BMP, TIFF, ... | decoded, encoded                                 |
| a progressive JPEG, with `transcode`                             | rewritten without loss, baseline with restarts   |
| a JPEG that is untidy: see below                                 | rewritten without loss, baseline with restarts   |
| any other JPEG (grey, any subsampling, trailing bytes)           | its own bytes, with its EXIF                     |

Grey stays grey (a JPEG of one component) except in raw samples; everything else becomes RGB: transparency dropped,
palettes expanded, CMYK by Pillow, the high byte of 16 bits. What is encoded carries no metadata, and what is rewritten
only its EXIF orientation. Broken EXIF is none; a TIFF's orientation is a part of that format, and always applied. Area
filtering commutes with turning, exactly, so pictures are made smaller first.

An untidy JPEG has stray bytes or markers between its header segments, zeros that pad the end of a scan, or no Huffman
tables of its own: libjpeg copes, some decoders do not. Coded data that are left over at the end of a scan or a restart
interval are damage: what a wrong bit leaves behind.

With `check` off, a JPEG that keeps its bytes is judged by its markers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets_tools import jpeg
from datasets_tools.checksum import crc32
from datasets_tools.errors import PictureError
from datasets_tools.jpeg import JpegError, JpegHeader, Subsampling
from datasets_tools.pictures.decoding import Damaged, check_size, decode, sniff
from datasets_tools.pictures.policy import Policy, fitted, is_raw
from datasets_tools.store.index import Flag, SampleInfo, StoredFormat

__all__ = ["Picture", "Policy", "prepare"]

_SUBSAMPLINGS = {"4:2:0": Subsampling.S420, "4:4:4": Subsampling.S444}
_MAX_KEY_SIZE = 65_535  # the index has two bytes for it
_SCAN = b"\xff\xda"  # the marker before every scan; by chance also where a damaged file holds anything else
_MAX_SCANS = 500  # as in jpeg/codec.h
# How an EXIF orientation is turned upright: transpose first?, then the steps along rows and columns.
# Source: EXIF 2.32, section 4.6, tag 0x0112.
_TURNS = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it goes into a store.

    Attributes:
        data: the JPEG, or height x width x 3 raw pixels.
        height, width: in pixels.
        info: the index's record of it; its flags say what was done.
        reencoded: what the source held, where the pixels went through a decoder: `jpeg`, `jpeg cmyk`, `png`, ...
    """

    data: bytes | memoryview
    height: int
    width: int
    info: SampleInfo
    reencoded: str | None = None


def prepare(key: str, data: bytes, policy: Policy) -> Picture:
    """Return one picture as it is to be stored: a pure function of its arguments.

    Args:
        key: the picture's name in its source.
        data: the encoded picture, in any format.
        policy: what is asked of it.

    Raises:
        PictureError: it is damaged, or of a kind that a store does not take.
    """
    _check_key(key)
    name = sniff(key, data)
    convert = _jpeg if name == "JPEG" else _other
    try:
        return convert(key, data, name, policy, tolerant=False)
    except (JpegError, Damaged) as error:
        if not policy.repair:
            raise PictureError(key, str(error)) from error
    try:
        return convert(key, data, name, policy, tolerant=True)
    except (JpegError, Damaged) as error:
        raise PictureError(key, f"cannot be repaired: {error}") from error


def _check_key(key: str) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        printable = key.encode(errors="backslashreplace").decode()
        raise PictureError(printable, "has a name that is not valid Unicode: rename it") from error
    if size > _MAX_KEY_SIZE:
        raise PictureError(key, f"has a name of {size:,} bytes; at most {_MAX_KEY_SIZE:,} are taken: rename it")


def _jpeg(key: str, data: bytes, name: str, policy: Policy, *, tolerant: bool) -> Picture:
    header, is_regular = _header(data)
    _refuse_unsupported(key, header, policy)
    if is_regular and not header.complete and not tolerant:
        raise JpegError("ends early: the JPEG has no end-of-image marker")
    orientation = header.orientation if policy.exif == "apply" else 0
    if not tolerant and orientation < 2 and _may_keep_coefficients(key, header, policy):
        return _kept(key, data, header, policy) if is_regular else _transcoded(key, data)
    if header.components == 4:
        if not tolerant:
            jpeg.check(data)  # Pillow is silent where libjpeg only warns of damage
        elif data.count(_SCAN) > _MAX_SCANS:  # the codec counts them itself, Pillow does not
            raise JpegError(f"has over {_MAX_SCANS} scans")
        pixels, _ = decode(key, data, name, policy.max_pixels, tolerant=tolerant)
        origin = "jpeg cmyk"
    else:
        pixels = jpeg.decode(data, tolerant=tolerant)
        origin = "jpeg" if header.huffman else "jpeg arithmetic"
    return _reencoded(key, pixels, orientation, origin, policy, repaired=tolerant)


def _other(key: str, data: bytes, name: str, policy: Policy, *, tolerant: bool) -> Picture:
    pixels, orientation = decode(key, data, name, policy.max_pixels, tolerant=tolerant)
    if policy.exif == "ignore":
        orientation = 0
    return _reencoded(key, pixels, orientation, name.lower(), policy, repaired=tolerant)


def _header(data: bytes) -> tuple[JpegHeader, bool]:
    """Return what the markers say, and whether every decoder can follow them.

    Where not, they are cut off or have stray bytes between them: libjpeg, which skips these, will tell.
    """
    try:
        return jpeg.inspect(data), True
    except JpegError:
        return jpeg.frame(data), False


def _refuse_unsupported(key: str, header: JpegHeader, policy: Policy) -> None:
    if header.precision != 8:
        raise PictureError(key, f"is a JPEG of {header.precision} bits; 8 bits are taken")
    if header.components not in (1, 3, 4):
        raise PictureError(key, f"is a JPEG of {header.components} components; 1, 3 and 4 are taken")
    check_size(key, header.height, header.width, policy.max_pixels)


def _may_keep_coefficients(key: str, header: JpegHeader, policy: Policy) -> bool:
    return (
        header.huffman
        and header.components != 4
        and fitted(header.height, header.width, policy) == (header.height, header.width)
        and not is_raw(key, policy.raw_share)
    )


def _kept(key: str, data: bytes, header: JpegHeader, policy: Policy) -> Picture:
    if header.progressive and policy.transcode:
        return _transcoded(key, data)
    if policy.check and not jpeg.check(data):
        return _transcoded(key, data)
    return _jpeg_picture(key, data, header, Flag.PROGRESSIVE if header.progressive else Flag(0), None)


def _transcoded(key: str, data: bytes) -> Picture:
    stored = jpeg.transcode(data)  # which reads all coefficients: the check
    return _jpeg_picture(key, stored, jpeg.inspect(stored), Flag.TRANSCODED, None)


def _reencoded(
    key: str, pixels: NDArray[np.uint8], orientation: int, origin: str, policy: Policy, *, repaired: bool
) -> Picture:
    """Shrink, turn and store decoded pixels, uint8 (height, width, 1 or 3)."""
    flags = Flag.REENCODED | (Flag.REPAIRED if repaired else Flag(0))
    height, width = fitted(pixels.shape[0], pixels.shape[1], policy)
    if (height, width) != pixels.shape[:2]:
        pixels = jpeg.resize(pixels, height, width)
        flags |= Flag.RESIZED
    if orientation > 1:
        pixels = _upright(pixels, orientation)
        flags |= Flag.ROTATED
    if is_raw(key, policy.raw_share):
        return _raw_picture(key, pixels, flags, origin)
    stored = jpeg.encode(pixels, quality=policy.quality, subsampling=_SUBSAMPLINGS[policy.subsampling])
    return _jpeg_picture(key, stored, jpeg.inspect(stored), flags, origin)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn pixels as an EXIF orientation of 2 to 8 says; the result is contiguous."""
    transposed, rows, columns = _TURNS[orientation]
    turned = pixels.transpose(1, 0, 2) if transposed else pixels
    return np.ascontiguousarray(turned[::rows, ::columns])


def _raw_picture(key: str, pixels: NDArray[np.uint8], flags: Flag, origin: str) -> Picture:
    height, width, components = pixels.shape
    stored = (pixels if components == 3 else pixels.repeat(3, axis=2)).tobytes()
    info = SampleInfo(
        key=key,
        crc32=crc32(stored),
        components=3,
        subsampling=Subsampling.S444,
        orientation=0,
        restart_interval=0,
        flags=flags,
        stored_format=StoredFormat.RAW,
    )
    return Picture(stored, height, width, info, origin)


def _jpeg_picture(key: str, stored: bytes, header: JpegHeader, flags: Flag, origin: str | None) -> Picture:
    info = SampleInfo(
        key=key,
        crc32=crc32(stored),
        components=header.components,
        subsampling=header.subsampling,
        orientation=header.orientation,
        restart_interval=header.restart_interval,
        flags=flags,
    )
    return Picture(stored, header.height, header.width, info, origin)
