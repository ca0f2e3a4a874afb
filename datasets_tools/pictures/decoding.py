"""What a file is, by its first bytes, and its pixels through Pillow: every format but JPEG, and CMYK JPEGs.

Grey stays grey, everything else becomes RGB, as `Image.convert` makes it: transparency is dropped, palettes are
expanded, CMYK is inverted where Adobe's marker says so. That is ImageNet practice (torchvision's loader does the same).
Of 16-bit samples the high byte is taken, which is what Pillow does itself with 16-bit RGB.

Pillow's plugins are called by class, not through `Image.open`, which warns at its pixel limit and errs at twice it.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from datasets_tools.errors import PictureError

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
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "PPM": PpmImageFile,
    "GIF": GifImageFile,
}
_GREY = frozenset({"1", "L", "LA"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_ORIENTATION = 0x0112  # EXIF 2.32, section 4.6
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0, section 8; the tags below: section 15
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8

# libjpeg's JPEG_MAX_DIMENSION, for decoding and encoding; `jpeg.resize` is exact up to there.
_MAX_SIDE = 65_500

# Pillow's pixel limit and its tolerance of truncated files are globals of the process: ours hold for one call.
_PILLOW = threading.Lock()


class Damaged(Exception):
    """A picture cannot be decoded; the message is one short sentence without its name."""


def sniff(key: str, data: bytes) -> str:
    """Return the format of a file by its content, as Pillow calls it: `JPEG`, `PNG`, ...

    Raises:
        PictureError: it is empty, or no picture of a known format.
    """
    if not data:
        raise PictureError(key, "is empty")
    name = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
    if name is None or (name == "WEBP" and data[8:12] != b"WEBP"):
        raise PictureError(
            key,
            f"is no picture (it begins with {data[:4].hex(' ')}); JPEG, PNG, WebP, BMP, TIFF, PPM and GIF are taken",
        )
    return name


def check_size(key: str, height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture that says it has no pixels, too many, or too many a side, before any of them is decoded.

    Raises:
        PictureError: it has.
    """
    if height < 1 or width < 1:
        raise PictureError(key, f"says that it has {width} x {height} pixels")
    if height * width > max_pixels:
        raise PictureError(
            key,
            f"has {width:,} x {height:,} pixels, a decompression bomb or a very large picture; at most {max_pixels:,} "
            "are taken: raise --max-pixels if it is what it says",
        )
    if max(height, width) > _MAX_SIDE:
        raise PictureError(
            key, f"has {width:,} x {height:,} pixels; at most {_MAX_SIDE:,} a side are taken: crop it first"
        )


def decode(
    key: str, data: bytes, name: str, max_pixels: int, *, tolerant: bool = False
) -> tuple[NDArray[np.uint8], int]:
    """Decode a picture through Pillow.

    Args:
        key: its name, for errors.
        data: the encoded picture.
        name: its format, as `sniff` says.
        max_pixels: the largest size to decode.
        tolerant: decode what is there of a damaged picture, as with Pillow's `LOAD_TRUNCATED_IMAGES`.

    Returns:
        uint8 (height, width, 3), RGB, or (height, width, 1), grey; and its EXIF orientation, 1 to 8, or 0 where there
        is none or it makes no sense. (A TIFF's orientation is a part of that format, and already applied by Pillow.)

    Raises:
        Damaged: it cannot be decoded.
        PictureError: it is of a kind that is not taken: too large, more than one picture, or without a rule for RGB.
    """
    with _pillow(name, max_pixels, tolerant):
        image = _PLUGINS[name](io.BytesIO(data))
        check_size(key, image.height, image.width, max_pixels)
        if isinstance(image, TiffImageFile) and _TILE_WIDTH in image.tag_v2:
            # libtiff takes memory for a tile, which may be larger than the picture.
            check_size(key, int(image.tag_v2[_TILE_LENGTH]), int(image.tag_v2[_TILE_WIDTH]), max_pixels)
        if getattr(image, "is_animated", False):
            # Pillow needs quadratic time to count a hostile TIFF's pictures.
            frames = "several" if name == "TIFF" else image.n_frames  # type: ignore[attr-defined]
            raise PictureError(key, f"holds {frames} pictures; only files of one picture are taken")
        mode = _target_mode(key, image, name)
        image.load()
        if tolerant and not np.asarray(image).any():  # Pillow starts from zeros
            raise Damaged("holds no pixel that can be decoded")
        return _pixels(image, mode), _orientation(image)


@contextmanager
def _pillow(name: str, max_pixels: int, tolerant: bool) -> Iterator[None]:
    """Call Pillow. Its plugins raise nearly anything on hostile bytes, so all of it counts as the picture's."""
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata, which is not used
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = max_pixels, tolerant
        try:
            yield
        except (MemoryError, PictureError, Damaged):  # sizes are bounded: no memory is the machine's fault
            raise
        except Exception as error:
            raise Damaged(f"cannot be decoded as {name}: {str(error) or type(error).__name__}") from error
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _target_mode(key: str, image: ImageFile.ImageFile, name: str) -> str:
    """Return `L` or `RGB`, or `I;16` where the high byte is to be taken and is grey."""
    if image.mode in _GREY:
        return "L"
    if image.mode in _COLOUR:
        return "RGB"
    if image.mode in _SIXTEEN_BITS and _bits_per_sample(image) == 16:
        return "I;16"
    if image.mode == "I" and name == "PPM":  # Pillow scales a PPM's samples to 0..65,535
        return "I;16"
    raise PictureError(
        key, f"has samples of a kind without one rule for 8 bits (mode {image.mode}): convert it to 8-bit RGB first"
    )


def _bits_per_sample(image: ImageFile.ImageFile) -> int:
    """Return 16, or what a TIFF says: Pillow opens 12 bits in a 16-bit mode too."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[_BITS_PER_SAMPLE][0])
    return 16


def _pixels(image: ImageFile.ImageFile, mode: str) -> NDArray[np.uint8]:
    if mode == "I;16":
        grey = (np.asarray(image) >> 8).astype(np.uint8)[..., None]
        # Pillow turns a TIFF in which 0 is white into the usual grey with 8 bits only.
        is_negative = isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        return ~grey if is_negative else grey
    pixels = np.asarray(image.convert(mode))
    return pixels if mode == "RGB" else pixels[..., None]


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # broken EXIF is no EXIF: nothing else of it is used
        return 0
    return value if isinstance(value, int) and 1 <= value <= 8 else 0
