"""Whatever a file holds: a picture that decodes, or a `PictureError`; and no damage that libjpeg warns of is stored."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import replace

import jpeg_oddities
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jpeg_damage import WarningCounter
from PIL import Image
from sources import encoded, pixels

from datasets_tools.errors import PictureError
from datasets_tools.pictures import Picture, Policy, prepare
from datasets_tools.store.index import Flag, StoredFormat

SMALL = pixels(17, 23)
MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\x20\0\0\0WEBP",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P5",
    b"P6",
    b"GIF89a",
)
ANIMATED = encoded(SMALL, "GIF", save_all=True, append_images=[pixels(17, 23, 1)])
PICTURES = [
    encoded(SMALL),
    encoded(SMALL, progressive=True, restart_marker_rows=1),
    encoded(
        SMALL, subsampling="4:4:4", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    ),
    encoded(SMALL.convert("L")),
    encoded(SMALL.convert("CMYK")),
    jpeg_oddities.ARITHMETIC,
    *(encoded(SMALL, kind) for kind in ("PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")),
    encoded(SMALL, "TIFF", compression="tiff_lzw"),
    encoded(SMALL, "TIFF", compression="jpeg"),
    encoded(SMALL.convert("RGBA"), "PNG"),
    ANIMATED,
]
JPEGS = [picture for picture in PICTURES if picture.startswith(b"\xff\xd8") and picture != jpeg_oddities.ARITHMETIC]
POLICIES = st.builds(
    Policy,
    max_side=st.sampled_from([None, 1, 16, 100]),
    quality=st.sampled_from([1, 90, 100]),
    subsampling=st.sampled_from(["4:2:0", "4:4:4"]),
    exif=st.sampled_from(["ignore", "apply"]),
    raw_share=st.sampled_from([0.0, 0.5, 1.0]),
    transcode=st.booleans(),
    check=st.booleans(),
    repair=st.booleans(),
    max_pixels=st.sampled_from([400, 100_000]),
)
EDITS = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "delete", "cut"]), st.floats(0, 1), st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, content in edits:
        place = int(where * len(data))
        if kind == "cut":
            data = data[:place]
        elif kind == "insert":
            data = data[:place] + content + data[place:]
        elif kind == "delete":
            data = data[:place] + data[place + len(content) :]
        else:
            data = data[:place] + content + data[place + len(content) :]
    return data


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> WarningCounter:
    return WarningCounter(tmp_path_factory.mktemp("native"))


def is_undamaged(data: bytes, counter: WarningCounter) -> bool:
    """Whether libjpeg decodes a JPEG without a warning of its scans, but for zeros before the marker that ends one."""
    unpadded = re.sub(rb"(?<=[^\xff])\0+(?=\xff[^\0\xd0-\xd7])", b"", data)
    return 0 in counter.count([data, unpadded])


def holds(key: str, data: bytes, policy: Policy) -> Picture | None:
    """Prepare it, and hold what came out against Pillow's reading of the stored bytes; None if it was refused."""
    try:
        picture = prepare(key, data, policy)
    except PictureError:
        return None
    assert prepare(key, data, policy) == picture
    assert picture.info.crc32 == zlib.crc32(picture.data)
    assert picture.height * picture.width <= policy.max_pixels
    if picture.info.stored_format is StoredFormat.RAW:
        assert len(picture.data) == picture.height * picture.width * 3
        return picture
    is_kept = not picture.info.flags & ~Flag.PROGRESSIVE
    assert (picture.data == data) == is_kept
    if policy.check or not is_kept:
        stored = Image.open(io.BytesIO(picture.data))
        stored.load()
        assert stored.size == (picture.width, picture.height)
        assert len(stored.getbands()) == picture.info.components
    return picture


@settings(deadline=None, max_examples=150)
@given(st.sampled_from((b"", *MAGIC)), st.binary(max_size=200), POLICIES)
def test_random_bytes_are_no_pictures(magic: bytes, rest: bytes, policy: Policy) -> None:
    holds("a", magic + rest, policy)


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(PICTURES), EDITS, POLICIES)
@example(PICTURES[0], [("cut", 0.999, b"\0")], Policy(repair=True))
@example(PICTURES[1], [("cut", 0.5, b"\0")], Policy(repair=True))
def test_damaged_pictures_are_refused_or_repaired(
    counter: WarningCounter, data: bytes, edits: list[tuple[str, float, bytes]], policy: Policy
) -> None:
    damaged = edited(data, edits)
    picture = holds("a", damaged, policy)
    if picture is None or not damaged.startswith(b"\xff\xd8"):
        return
    is_decoded = policy.check or picture.info.flags & (Flag.TRANSCODED | Flag.REENCODED)
    if is_decoded and not picture.info.flags & Flag.REPAIRED:
        assert is_undamaged(damaged, counter)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(JPEGS), st.floats(0, 1), st.integers(0, 7), POLICIES)
def test_flipped_bits_are_refused_or_repaired_where_libjpeg_sees_them(
    counter: WarningCounter, data: bytes, where: float, bit: int, policy: Policy
) -> None:
    scan = data.index(b"\xff\xda") + 14
    place = scan + int(where * (len(data) - 3 - scan))
    damaged = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
    policy = replace(policy, check=True, max_pixels=100_000)
    picture = holds("a", damaged, policy)
    is_sound = picture is not None and not picture.info.flags & Flag.REPAIRED
    assert is_sound == is_undamaged(damaged, counter)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(PICTURES), POLICIES)
def test_every_policy_holds_for_sound_pictures(data: bytes, policy: Policy) -> None:
    assert (holds("a", data, policy) is None) == (data == ANIMATED)
