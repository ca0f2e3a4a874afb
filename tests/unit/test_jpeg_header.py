from __future__ import annotations

import io

import pytest
from PIL import Image
from sources import encoded, pixels

from datasets_tools.index import Subsampling
from datasets_tools.jpeg_header import parse_jpeg

PICTURE = pixels(45, 70)


@pytest.mark.parametrize(
    ("subsampling", "named"),
    [("4:4:4", Subsampling.S444), ("4:2:2", Subsampling.S422), ("4:2:0", Subsampling.S420)],
)
def test_subsampling_size_and_components(subsampling: str, named: Subsampling) -> None:
    header = parse_jpeg(encoded(PICTURE, subsampling=subsampling))
    assert header.subsampling == named
    assert (header.height, header.width, header.precision, header.components) == (45, 70, 8, 3)
    assert header.huffman
    assert header.complete


@pytest.mark.parametrize(
    ("factors", "named"),
    [
        (b"\x41\x11\x11", Subsampling.S411),
        (b"\x12\x11\x11", Subsampling.S440),
        (b"\x42\x11\x11", Subsampling.S410),
        (b"\x22\x21\x21", Subsampling.S440),  # only the ratio counts
        (b"\x22\x21\x11", Subsampling.OTHER),
        (b"\x11\x22\x22", Subsampling.OTHER),
        (b"\x11\x00\x00", Subsampling.OTHER),
    ],
)
def test_sampling_factors_that_pillow_cannot_write(factors: bytes, named: Subsampling) -> None:
    data = bytearray(encoded(PICTURE))
    first = data.index(b"\xff\xc0") + 11
    data[first : first + 9 : 3] = factors
    assert parse_jpeg(bytes(data)).subsampling == named


@pytest.mark.parametrize(("mode", "components", "named"), [("L", 1, Subsampling.GREY), ("CMYK", 4, Subsampling.S444)])
def test_grey_and_cmyk(mode: str, components: int, named: Subsampling) -> None:
    header = parse_jpeg(encoded(PICTURE.convert(mode)))
    assert (header.components, header.subsampling) == (components, named)


@pytest.mark.parametrize("progressive", [False, True])
def test_progressive_agrees_with_pillow(progressive: bool) -> None:
    data = encoded(PICTURE, progressive=progressive)
    assert parse_jpeg(data).progressive == progressive
    assert ("progressive" in Image.open(io.BytesIO(data)).info) == progressive


@pytest.mark.parametrize(("blocks", "interval"), [(0, 0), (3, 3)])
def test_restart_interval(blocks: int, interval: int) -> None:
    assert parse_jpeg(encoded(PICTURE, restart_marker_blocks=blocks)).restart_interval == interval


@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_orientation_agrees_with_pillow(order: bytes, orientation: int) -> None:
    exif = Image.Exif()
    exif.endian = "<" if order == b"II" else ">"
    exif[0x010F] = "a camera's maker, before the orientation"
    exif[0x0112] = orientation
    data = encoded(PICTURE, exif=exif)
    assert b"Exif\0\0" + order in data
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == orientation
    assert parse_jpeg(data).orientation == orientation


def test_no_orientation_and_an_absurd_one_are_zero() -> None:
    exif = Image.Exif()
    exif[0x0112] = 42
    assert parse_jpeg(encoded(PICTURE)).orientation == 0
    assert parse_jpeg(encoded(PICTURE, exif=exif)).orientation == 0


def test_an_exif_directory_that_points_nowhere_is_harmless() -> None:
    assert parse_jpeg(encoded(PICTURE, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")).orientation == 0
    assert parse_jpeg(encoded(PICTURE, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")).orientation == 0


def test_a_thumbnail_inside_exif_is_not_taken_for_the_picture() -> None:
    exif = b"Exif\0\0" + encoded(pixels(8, 8))
    assert parse_jpeg(encoded(PICTURE, exif=exif)).height == 45


@pytest.mark.parametrize("progressive", [False, True])
def test_complete_means_that_the_end_marker_is_reached(progressive: bool) -> None:
    data = encoded(PICTURE, progressive=progressive)
    assert data.endswith(b"\xff\xd9")
    for cut in (data[:-2], data[:-1], data[: len(data) * 2 // 3]):
        assert not parse_jpeg(cut).complete
    assert parse_jpeg(data + b"trailing bytes").complete


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xd8\xff", "no frame header"),
        (b"\xff\xd8\xff\xd9", "no frame header"),
        (b"\xff\xd8\x00\x00", "should begin a JPEG marker"),
        (b"\xff\xd8\xff\xe0\x00\x10JF", "inside a marker segment"),
        (b"\xff\xd8\xff\xe0\x00\x01", "inside a marker segment"),
        (b"\xff\xd8\xff\xc0\x00\x08\x08\x00\x01\x00\x01\x03", "broken frame header"),
    ],
)
def test_broken_markers_are_named(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_jpeg(data)
