"""One picture: sniff what it is, check that it decodes, and keep, convert or resize it.

A store holds 8-bit Huffman-coded JPEGs with one or three components. A picture that is one already keeps its bytes;
anything else that Pillow reads becomes an RGB JPEG, as `Image.convert("RGB")` makes it: transparency is dropped, CMYK
is inverted where Adobe's marker says so. That is ImageNet practice (torchvision's loader does the same).

Stricter than Pillow in two ways, because what is kept must decode in every backend: a JPEG without an end-of-image
marker, or with bytes between its segments, is refused (DALI fails the whole batch on it), and so are samples of more
than 8 bits (`convert` would clip them).
"""

from __future__ import annotations

import io
import warnings
import zlib
from dataclasses import dataclass

from PIL import Image

from datasets_tools.errors import PictureError
from datasets_tools.index import Flag, SampleInfo
from datasets_tools.jpeg_header import JpegHeader, parse_jpeg

# The first bytes of each format, by Pillow's name for it; WebP also says WEBP at byte 8.
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"RIFF": "WEBP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"P5": "PPM",
    b"P6": "PPM",
    b"GIF8": "GIF",
}
_FORMATS = "JPEG, PNG, WebP, BMP, TIFF and PPM are"
# Modes whose samples are 8 bits or fewer; the others (I, I;16, F, ...) would be clipped by convert("RGB").
_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
# libjpeg's own default and ImageNet's usual subsampling.
_SUBSAMPLING = "4:2:0"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are stored.

    Attributes:
        max_side: pictures with a longer side are resized to it, in pixels; None keeps every size.
        quality: of JPEGs that must be encoded, 1 to 95, libjpeg's scale.
    """

    max_side: int | None = None
    quality: int = 90


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it goes into a store.

    Attributes:
        data: the JPEG.
        height, width: in pixels.
        info: the index's record of it.
        reencoded: what the source held, where the bytes are not the source's: `jpeg`, `jpeg cmyk`, `png`, ...
        resized: it was made smaller.
    """

    data: bytes
    height: int
    width: int
    info: SampleInfo
    reencoded: str | None = None
    resized: bool = False


def prepare(key: str, data: bytes, encoding: Encoding) -> Picture:
    """Check one picture by a full decode and return it as it is to be stored.

    Args:
        key: the picture's name in its source.
        data: the encoded picture, in any format.
        encoding: size and quality asked for.

    Raises:
        PictureError: it cannot be decoded, or is of a kind that a store does not take.
    """
    name = _sniff(key, data)
    header = _parse(key, data) if name == "JPEG" else None
    image = _decode(key, data, name)
    size = _fitted(image.size, encoding.max_side)
    if header is not None and size == image.size and _keepable(header):
        return _picture(key, data, header)
    stored = _encode(image, size, encoding.quality)
    return _picture(
        key,
        stored,
        parse_jpeg(stored),
        reencoded=_origin(name, image, header),
        resized=size != image.size,
    )


def _sniff(key: str, data: bytes) -> str:
    if not data:
        raise PictureError(key, "is empty")
    name = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if name == "GIF":
        raise PictureError(key, f"is a GIF; {_FORMATS} taken")
    if name is None or (name == "WEBP" and data[8:12] != b"WEBP"):
        raise PictureError(key, f"is no picture (it begins with {data[:4].hex(' ')}); {_FORMATS} taken")
    return name


def _parse(key: str, data: bytes) -> JpegHeader:
    try:
        header = parse_jpeg(data)
    except ValueError as error:
        raise PictureError(key, f"is a damaged JPEG: {error}") from error
    if not header.complete:
        raise PictureError(key, "ends early: the JPEG has no end-of-image marker")
    if header.precision != 8:
        raise PictureError(key, f"is a JPEG of {header.precision} bits; 8 bits are taken")
    return header


def _decode(key: str, data: bytes, name: str) -> Image.Image:
    """Decode fully. Pillow's plugins raise nearly anything on hostile bytes, so all of it counts as the picture's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata, which is not used
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=(name,))
            frames = getattr(image, "n_frames", 1) if name != "JPEG" else 1
            image.load()
        except MemoryError:
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise PictureError(key, f"cannot be decoded as {name}: {reason}") from error
    if frames > 1:
        raise PictureError(key, f"holds {frames} pictures; one is taken")
    if image.mode not in _MODES:
        raise PictureError(key, f"has samples of more than 8 bits (mode {image.mode}); convert it to 8 bits first")
    return image


def _fitted(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return width and height scaled so that the longer side is at most `max_side`, rounded, at least one pixel."""
    longest = max(size)
    if max_side is None or longest <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longest)) for side in size)
    return width, height


def _keepable(header: JpegHeader) -> bool:
    return header.huffman and header.components in (1, 3)


def _encode(image: Image.Image, size: tuple[int, int], quality: int) -> bytes:
    rgb = image.convert("RGB")
    if size != rgb.size:
        # Area filtering: every source pixel counts by the share of it that an output pixel covers.
        rgb = rgb.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=quality, subsampling=_SUBSAMPLING)
    return buffer.getvalue()


def _origin(name: str, image: Image.Image, header: JpegHeader | None) -> str:
    if header is None:
        return name.lower()
    if image.mode == "CMYK":
        return "jpeg cmyk"
    return "jpeg" if header.huffman else "jpeg arithmetic"


def _picture(
    key: str, data: bytes, header: JpegHeader, *, reencoded: str | None = None, resized: bool = False
) -> Picture:
    flags = Flag.PROGRESSIVE if header.progressive else Flag(0)
    info = SampleInfo(
        key=key,
        crc32=zlib.crc32(data),
        components=header.components,
        subsampling=header.subsampling,
        orientation=header.orientation,
        restart_interval=header.restart_interval,
        flags=flags | (Flag.REENCODED if reencoded else Flag(0)),
    )
    return Picture(data, header.height, header.width, info, reencoded, resized)
