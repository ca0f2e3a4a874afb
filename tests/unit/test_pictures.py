from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sources import encoded, jpeg, pixels

from datasets_tools.errors import PictureError
from datasets_tools.index import Flag, Subsampling
from datasets_tools.pictures import Encoding, Picture, prepare

PICTURE = pixels(48, 64)
KEEP = Encoding()
# What is stored has subsampled chroma: pixels are compared by their luma (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])


def decoded(picture: Picture) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))


def reason(data: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        prepare("a/b.jpg", data, KEEP)
    assert str(caught.value).startswith("a/b.jpg: ")
    return caught.value.reason


@pytest.mark.parametrize(
    "data",
    [
        encoded(PICTURE),
        encoded(PICTURE, progressive=True),
        encoded(PICTURE, subsampling="4:4:4"),
        encoded(PICTURE, keep_rgb=True),
        encoded(PICTURE.convert("L")),
        encoded(PICTURE) + b"trailing bytes",
    ],
    ids=["baseline", "progressive", "444", "rgb", "grey", "trailing"],
)
def test_a_jpeg_that_needs_no_change_keeps_its_bytes(data: bytes) -> None:
    picture = prepare("a", data, KEEP)
    assert picture.data == data
    assert (picture.height, picture.width) == (48, 64)
    assert picture.reencoded is None
    assert picture.info.crc32 == zlib.crc32(data)
    assert not picture.info.flags & Flag.REENCODED


def test_the_index_record_says_what_the_jpeg_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    info = prepare("a", encoded(PICTURE, progressive=True, exif=exif, subsampling="4:2:2"), KEEP).info
    assert (info.key, info.components, info.subsampling, info.orientation) == ("a", 3, Subsampling.S422, 6)
    assert info.flags == Flag.PROGRESSIVE


def test_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for encoding, size in ((KEEP, (48, 64)), (Encoding(max_side=32), (24, 32))):
        picture = prepare("a", encoded(PICTURE, exif=exif), encoding)
        assert (picture.height, picture.width) == size
        assert decoded(picture).shape[:2] == size


@pytest.mark.parametrize(
    ("kind", "mode", "name"),
    [
        ("PNG", "RGB", "png"),
        ("PNG", "RGBA", "png"),
        ("PNG", "P", "png"),
        ("PNG", "L", "png"),
        ("PNG", "1", "png"),
        ("BMP", "RGB", "bmp"),
        ("WEBP", "RGB", "webp"),
        ("TIFF", "RGB", "tiff"),
        ("PPM", "RGB", "ppm"),
        ("JPEG", "CMYK", "jpeg cmyk"),
    ],
)
def test_other_formats_become_rgb_jpegs_and_say_so(kind: str, mode: str, name: str) -> None:
    data = encoded(PICTURE.convert(mode), kind)
    picture = prepare("named.jpg", data, Encoding(quality=95))
    assert picture.reencoded == name
    assert picture.info.flags == Flag.REENCODED
    assert picture.info.components == 3
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float64)
    if mode not in ("P", "1"):  # dither noise is what JPEG is worst at
        assert np.abs((decoded(picture) - expected) @ LUMA).mean() < 3


def test_quality_decides_the_size() -> None:
    data = encoded(PICTURE, "PNG")
    sizes = [len(prepare("a", data, Encoding(quality=quality)).data) for quality in (30, 60, 90)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] * 2 / 3


def test_resizing_is_area_filtering() -> None:
    """Against the plain mean of each block, in float64; the JPEG in between costs little on a smooth picture."""
    source = encoded(PICTURE, quality=100, subsampling="4:4:4")
    picture = prepare("a", source, Encoding(max_side=16, quality=95))
    assert (picture.height, picture.width) == (12, 16)
    assert picture.resized
    assert picture.reencoded == "jpeg"
    pixels = np.asarray(Image.open(io.BytesIO(source)), dtype=np.float64)
    means = pixels.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
    nearest = pixels[::4, ::4]
    error = np.abs((decoded(picture) - means) @ LUMA).mean()
    assert error < 3
    assert np.abs((nearest - means) @ LUMA).mean() > 3 * error


@pytest.mark.parametrize(
    ("height", "width", "max_side", "expected"),
    [
        (48, 64, 64, (48, 64)),
        (48, 64, 63, (47, 63)),
        (64, 48, 10, (10, 8)),
        (2, 60, 10, (1, 10)),
        (90, 90, 30, (30, 30)),
    ],
)
def test_max_side_bounds_the_longer_side_and_keeps_the_shape(
    height: int, width: int, max_side: int, expected: tuple[int, int]
) -> None:
    data = jpeg(height, width)
    picture = prepare("a", data, Encoding(max_side=max_side))
    assert (picture.height, picture.width) == expected
    assert picture.resized == (expected != (height, width))
    assert (picture.data == data) == (not picture.resized)


def test_an_empty_file_random_bytes_and_a_gif_are_named() -> None:
    assert reason(b"") == "is empty"
    assert reason(b"\x01\x02\x03\x04random") == (
        "is no picture (it begins with 01 02 03 04); JPEG, PNG, WebP, BMP, TIFF and PPM are taken"
    )
    assert reason(encoded(PICTURE, "GIF")).startswith("is a GIF; JPEG, PNG")
    assert reason(b"RIFF....WAVE").startswith("is no picture")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_a_picture_cut_in_half_is_refused(kind: str) -> None:
    data = encoded(PICTURE, kind)
    assert reason(data[: len(data) // 2])


def test_a_jpeg_without_its_end_marker_is_refused() -> None:
    """DALI fails a whole batch on it."""
    assert reason(jpeg()[:-2]) == "ends early: the JPEG has no end-of-image marker"


def test_bytes_between_segments_are_refused() -> None:
    """DALI's parser refuses them; libjpeg would not."""
    data = jpeg()
    assert "byte 20 should begin a JPEG marker" in reason(data[:20] + b"\x11\x22" + data[20:])


def test_a_jpeg_whose_tables_are_gone_is_refused() -> None:
    data = jpeg()
    assert "damaged JPEG" in reason(data[: data.index(b"\xff\xc0")] + b"\xff\xd9")


def test_more_than_eight_bits_are_refused() -> None:
    deep = Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16))
    assert "more than 8 bits" in reason(encoded(deep, "PNG"))
    data = bytearray(jpeg())
    data[data.index(b"\xff\xc0") + 4] = 12
    assert reason(bytes(data)) == "is a JPEG of 12 bits; 8 bits are taken"


def test_an_animation_is_refused() -> None:
    frames = [pixels(16, 16, seed) for seed in (0, 1)]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert reason(data) == "holds 2 pictures; one is taken"


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (48 * 64 - 1, 48 * 64 // 3):  # Pillow warns above its limit, and errs above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert "decompression bomb" in reason(jpeg())


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_never_raise_anything_but_a_picture_error(seed: int) -> None:
    generator = np.random.default_rng(seed)
    kind = ["JPEG", "PNG", "BMP", "WEBP", "TIFF"][seed % 5]
    data = np.frombuffer(encoded(pixels(16, 16), kind), dtype=np.uint8).copy()
    where = generator.integers(12, len(data), 12)
    data[where] = generator.integers(0, 256, 12, dtype=np.uint8)
    try:
        picture = prepare("a", data.tobytes(), KEEP)
    except PictureError:
        return
    assert decoded(picture).shape == (picture.height, picture.width, 3)
