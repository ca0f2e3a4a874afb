from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping

import pytest
from jpeg_oddities import stray_bytes
from jpegs import PICTURE, JpegMaker
from PIL import Image
from sources import encoded, pixels

from datasets_tools import jpeg
from datasets_tools.jpeg import JpegError, Subsampling


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    return JpegMaker(tmp_path_factory.mktemp("native")).taken()


@pytest.mark.parametrize(
    ("subsampling", "named"),
    [("4:4:4", Subsampling.S444), ("4:2:2", Subsampling.S422), ("4:2:0", Subsampling.S420)],
)
def test_subsampling_size_and_components(subsampling: str, named: Subsampling) -> None:
    header = jpeg.inspect(encoded(PICTURE, subsampling=subsampling))
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
    assert jpeg.inspect(data).subsampling == named


@pytest.mark.parametrize(("mode", "components", "named"), [("L", 1, Subsampling.GREY), ("CMYK", 4, Subsampling.S444)])
def test_grey_and_cmyk(mode: str, components: int, named: Subsampling) -> None:
    header = jpeg.inspect(encoded(PICTURE.convert(mode)))
    assert (header.components, header.subsampling) == (components, named)


@pytest.mark.parametrize("progressive", [False, True])
def test_progressive_agrees_with_pillow(progressive: bool) -> None:
    data = encoded(PICTURE, progressive=progressive)
    assert jpeg.inspect(data).progressive == progressive
    assert ("progressive" in Image.open(io.BytesIO(data)).info) == progressive


def test_arithmetic_progressive_is_progressive(kinds: Mapping[str, bytes]) -> None:
    assert b"\xff\xca" in kinds["arithmetic progressive"]
    assert jpeg.inspect(kinds["arithmetic progressive"]).progressive
    assert not jpeg.inspect(kinds["arithmetic"]).progressive


def test_arithmetic_coding_is_not_huffman(kinds: Mapping[str, bytes]) -> None:
    for name, data in kinds.items():
        assert jpeg.inspect(data).huffman == ("arithmetic" not in name)


@pytest.mark.parametrize(("blocks", "interval"), [(0, 0), (3, 3)])
def test_restart_interval(blocks: int, interval: int) -> None:
    assert jpeg.inspect(encoded(PICTURE, restart_marker_blocks=blocks)).restart_interval == interval


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
    assert jpeg.inspect(data).orientation == orientation


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "packing"), [(3, "Hxx"), (4, "I")], ids=["SHORT", "LONG"])
def test_orientation_may_be_short_or_long(kind: int, packing: str, order: str) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    exif = mark + struct.pack(f"{order}IHHHI{packing}I", 8, 1, 0x0112, kind, 1, 6, 0)
    data = encoded(PICTURE, exif=b"Exif\0\0" + exif)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert jpeg.inspect(data).orientation == 6


def test_no_orientation_and_an_absurd_one_are_zero() -> None:
    exif = Image.Exif()
    exif[0x0112] = 42
    assert jpeg.inspect(encoded(PICTURE)).orientation == 0
    assert jpeg.inspect(encoded(PICTURE, exif=exif)).orientation == 0


def test_an_exif_directory_that_points_nowhere_is_harmless() -> None:
    for directory in (b"II*\0\xff\xff\xff\x7f", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"MM\0*", b""):
        assert jpeg.inspect(encoded(PICTURE, exif=b"Exif\0\0" + directory)).orientation == 0


def test_the_frame_is_found_behind_stray_bytes(kinds: Mapping[str, bytes]) -> None:
    for data in kinds.values():
        whole = jpeg.inspect(data)
        for dirty in (data, stray_bytes(data, b"\xff\xdb"), data[:2] + b"\xff\x00" + data[2:]):
            header = jpeg.frame(dirty)
            assert (header.height, header.width, header.components) == (whole.height, whole.width, whole.components)
            if dirty is not data:
                with pytest.raises(JpegError, match="should begin a marker"):
                    jpeg.inspect(dirty)


@pytest.mark.parametrize("marker", [b"\xff\x01", b"\xff\xd0", b"\xff\xd7"], ids=["TEM", "RST0", "RST7"])
def test_markers_without_a_segment_belong_into_scans(marker: bytes, kinds: Mapping[str, bytes]) -> None:
    for name, data in kinds.items():
        place = data.index(b"\xff\xda")
        with pytest.raises(JpegError, match=f"marker 0x{marker[1]:02x} before byte {place + 2} is in no scan"):
            jpeg.inspect(data[:place] + marker + data[place:])
        assert jpeg.frame(data[:2] + marker + data[2:]).height == 45, name


def test_missing_huffman_tables_are_seen() -> None:
    whole = encoded(PICTURE)
    tables = [match.start() for match in re.finditer(b"\xff\xc4", whole)]
    assert len(tables) == 4
    for place in tables:
        lacking = whole[:place] + whole[place + 2 + int.from_bytes(whole[place + 2 : place + 4], "big") :]
        with pytest.raises(JpegError, match="its scan 1 has no Huffman tables"):
            jpeg.inspect(lacking)
        assert jpeg.frame(lacking).height == 45
        assert jpeg.check(lacking)  # libjpeg has the standard's tables at hand, which Pillow used


def test_a_thumbnail_inside_exif_is_not_taken_for_the_picture() -> None:
    exif = b"Exif\0\0" + encoded(pixels(8, 8))
    assert jpeg.inspect(encoded(PICTURE, exif=exif)).height == 45


@pytest.mark.parametrize("progressive", [False, True])
def test_complete_means_that_the_end_marker_is_reached(progressive: bool) -> None:
    data = encoded(PICTURE, progressive=progressive)
    assert data.endswith(b"\xff\xd9")
    for cut in (data[:-2], data[:-1], data[: len(data) * 2 // 3]):
        assert not jpeg.inspect(cut).complete
    assert jpeg.inspect(data + b"trailing bytes").complete


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG", "is no JPEG"),
        (b"\xff\xd8\xff", "no frame header"),
        (b"\xff\xd8\xff\xd9", "no frame header"),
        (b"\xff\xd8\x00\x00", "byte 2 should begin a marker and is 0x00"),
        (b"\xff\xd8\xff\xe0\x00\x10JF", "inside a marker segment"),
        (b"\xff\xd8\xff\xe0\x00\x01", "inside a marker segment"),
        (b"\xff\xd8\xff\xe0\x00", "inside a marker segment"),
        (b"\xff\xd8\xff\xc0\x00\x08\x08\x00\x01\x00\x01\x03", "frame header has a wrong length"),
        (b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x00\x00\x01\x01\x01\x11\x00", "its size is 1 x 0"),
    ],
)
def test_broken_markers_are_named(data: bytes, message: str) -> None:
    with pytest.raises(JpegError, match=message):
        jpeg.inspect(data)
