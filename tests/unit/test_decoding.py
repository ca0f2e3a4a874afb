"""Formats other than JPEG: what they become, against Pillow's `convert`, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from prepared import KEEP, PICTURE, RAW, opened, raw, reason
from sources import encoded, jpeg, pixels

from datasets_tools.errors import PictureError
from datasets_tools.pictures import Policy, prepare
from datasets_tools.store.index import Flag

KINDS = ["PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"]
# 0 to 65,535 in steps that do not divide 256: every rule for 16 bits gives another result.
DEEP = (np.arange(48 * 64, dtype=np.int64) * 21 % 65_536).astype(np.uint16).reshape(48, 64)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def transparent(mode: str) -> Image.Image:
    """Pixels that are seen through, under which there are colours."""
    picture = PICTURE.convert("P") if mode == "P" else PICTURE.convert(mode)
    if mode == "P":
        picture.info["transparency"] = bytes(range(256))
    else:
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


@pytest.mark.parametrize(
    ("kind", "mode", "components"),
    [
        ("PNG", "RGB", 3),
        ("PNG", "P", 3),
        ("PNG", "L", 1),
        ("PNG", "1", 1),
        ("BMP", "RGB", 3),
        ("BMP", "P", 3),
        ("BMP", "L", 1),
        ("WEBP", "RGB", 3),
        ("TIFF", "RGB", 3),
        ("TIFF", "L", 1),
        ("TIFF", "CMYK", 3),
        ("TIFF", "YCbCr", 3),
        ("PPM", "RGB", 3),
        ("PPM", "L", 1),
        ("GIF", "P", 3),
    ],
)
def test_other_formats_become_what_pillow_makes_of_them(kind: str, mode: str, components: int) -> None:
    data = encoded(PICTURE.convert(mode), kind)
    picture = prepare("named.jpg", data, RAW)
    np.testing.assert_array_equal(raw(picture), opened(data))
    stored = prepare("named.jpg", data, KEEP)
    assert stored.reencoded == picture.reencoded == kind.lower()
    assert stored.info.flags == picture.info.flags == Flag.REENCODED
    assert (stored.info.components, picture.info.components) == (components, 3)
    target = "L" if components == 1 else "RGB"
    pillows = encoded(Image.open(io.BytesIO(data)).convert(target), quality=90)
    np.testing.assert_allclose(opened(stored.data), opened(pillows), atol=1)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("WEBP", "RGBA"), ("TIFF", "RGBA")]
)
def test_transparency_is_dropped(kind: str, mode: str) -> None:
    data = encoded(transparent(mode), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(raw(prepare("a", data, RAW)), np.asarray(transparent(mode).convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_sixteen_grey_bits_the_high_byte_is_taken(kind: str) -> None:
    data = encoded(Image.fromarray(DEEP), kind)
    picture = prepare("a", data, RAW)
    np.testing.assert_array_equal(raw(picture), np.repeat(DEEP[..., None] // 256, 3, axis=2))
    assert prepare("a", data, KEEP).info.components == 1


def test_of_sixteen_colour_bits_too() -> None:
    """Written by hand: Pillow writes no such PNG."""
    deep = np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]], axis=-1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    picture = prepare("a", b"\x89PNG\r\n\x1a\n" + chunks, RAW)
    np.testing.assert_array_equal(raw(picture), deep // 256)


@pytest.mark.parametrize(
    "image",
    [Image.fromarray(DEEP.astype(np.float32)), Image.fromarray(DEEP.astype(np.int32)), Image.new("LAB", (8, 8))],
    ids=["float", "32 bits", "lab"],
)
def test_samples_without_one_rule_are_refused(image: Image.Image) -> None:
    for policy in (KEEP, Policy(repair=True)):
        assert reason(encoded(image, "TIFF"), policy).startswith("has samples of a kind without one rule for 8 bits")


def test_twelve_bits_are_refused() -> None:
    """Pillow opens them in the mode of 16 bits, unscaled: they would be stored nearly black."""
    data = bytearray(encoded(Image.fromarray(DEEP), "TIFF"))
    entry = data.index(struct.pack("<HHI", 258, 3, 1))
    data[entry + 8] = 12
    assert Image.open(io.BytesIO(data)).mode == "I;16"
    assert "without one rule for 8 bits" in reason(bytes(data))


def test_no_picture_and_an_empty_file_are_named() -> None:
    assert reason(b"") == "is empty"
    assert reason(b"\x01\x02\x03\x04random") == (
        "is no picture (it begins with 01 02 03 04); JPEG, PNG, WebP, BMP, TIFF, PPM and GIF are taken"
    )
    assert reason(b"RIFF....WAVE").startswith("is no picture")


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_cut_in_half_is_refused(kind: str) -> None:
    data = encoded(PICTURE, kind)
    assert f"cannot be decoded as {kind}: " in reason(data[: len(data) // 2])


@pytest.mark.parametrize(("kind", "count"), [("PNG", "3"), ("WEBP", "3"), ("GIF", "3"), ("TIFF", "several")])
def test_an_animation_is_refused(kind: str, count: str) -> None:
    frames = [pixels(16, 16, seed) for seed in range(3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    for policy in (KEEP, Policy(repair=True)):
        assert reason(data, policy) == f"holds {count} pictures; only files of one picture are taken"


@pytest.mark.parametrize("kind", ["JPEG", *KINDS])
def test_more_pixels_than_allowed_are_refused_before_decoding(kind: str) -> None:
    """Even of a picture whose pixels are gone, and also where repair is asked for."""
    data = encoded(PICTURE, kind)
    assert prepare("a", data, Policy(max_pixels=48 * 64)).width == 64
    limited = Policy(max_pixels=48 * 64 - 1, repair=True)
    message = "has 64 x 48 pixels, a decompression bomb or a very large picture; at most 3,071 are taken"
    assert message in reason(data, limited)
    if kind in ("JPEG", "PNG", "BMP"):
        assert message in reason(data[: len(data) * 3 // 4], limited)


def test_absurd_dimensions_are_refused() -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    assert "2,147,483,647 x 2,147,483,647" in reason(b"\x89PNG\r\n\x1a\n" + chunks, Policy(repair=True))


def test_a_larger_limit_than_pillows_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("JPEG", *KINDS):
        assert prepare("a", encoded(PICTURE, kind), KEEP).width == 64
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_side_that_libjpeg_has_no_number_for_is_refused() -> None:
    for side, policy in (
        (65_501, KEEP),
        (65_501, RAW),
        (65_501, Policy(max_side=1000)),
        (100_000, Policy(repair=True)),
    ):
        data = encoded(Image.new("L", (side, 2)), "PNG")
        assert reason(data, policy) == f"has {side:,} x 2 pixels; at most 65,500 a side are taken: crop it first"
    picture = prepare("a", encoded(Image.new("L", (65_500, 2)), "PNG"), Policy(max_side=1000))
    assert (picture.height, picture.width) == (1, 1000)


def test_repair_stores_what_can_be_decoded() -> None:
    whole = encoded(PICTURE, "PNG")
    data = whole[: len(whole) * 3 // 4]
    picture = prepare("a", data, Policy(repair=True, raw_share=1))
    assert picture.info.flags == Flag.REPAIRED | Flag.REENCODED
    assert picture.reencoded == "png"
    np.testing.assert_array_equal(raw(picture)[:16], opened(whole)[:16])
    assert prepare("a", whole, Policy(repair=True)).info.flags == Flag.REENCODED


def test_repair_of_nothing_is_refused() -> None:
    data = encoded(PICTURE, "PNG")
    assert "cannot be repaired" in reason(data[: data.index(b"IDAT") + 8], Policy(repair=True))


def test_broken_exif_is_no_exif() -> None:
    for kind in ("PNG", "WEBP"):
        data = encoded(PICTURE, kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
        assert prepare("a", data, Policy(exif="apply")).height == 48


def test_pillows_global_tolerance_is_neither_used_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(PICTURE, "PNG")
    assert "cannot be decoded as PNG" in reason(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    prepare("a", data[: len(data) // 2], Policy(repair=True))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_small_pictures_of_every_format_are_resized() -> None:
    for kind in KINDS:
        picture = prepare("a", encoded(PICTURE, kind), Policy(max_side=32))
        assert opened(picture.data).shape == (24, 32, 3)
        assert picture.info.flags == Flag.REENCODED | Flag.RESIZED
    assert prepare("a", jpeg(48, 64), Policy(short_side=24)).width == 32


def tiff(tags: dict[int, tuple[int, int]], data: bytes) -> bytes:
    """A TIFF of one directory, each tag a type (3 short, 4 long) and a value, its data at the end (tag -> -1)."""
    start = 8 + 2 + 12 * len(tags) + 4
    fields = [(tag, kind, start if value < 0 else value) for tag, (kind, value) in sorted(tags.items())]
    directory = b"".join(
        struct.pack("<HHIHH", tag, kind, 1, value, 0) if kind == 3 else struct.pack("<HHII", tag, kind, 1, value)
        for tag, kind, value in fields
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + data


def test_a_tile_larger_than_allowed_is_refused_before_decoding() -> None:
    """The decoder takes memory for a whole tile, however small the picture."""
    side = 512
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: side, 323: side}
    shorts = {tag: (3, value) for tag, value in tags.items()}
    data = tiff({**shorts, 324: (4, -1), 325: (4, side * side)}, bytes(range(256)) * (side * side // 256))
    assert prepare("a", data, Policy()).height == 16
    with pytest.raises(PictureError, match="512 x 512"):
        prepare("a", data, Policy(max_pixels=side * side - 1))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_in_which_zero_is_white_is_no_negative(bits: int) -> None:
    values = np.linspace(0, 2**bits - 1, 64).reshape(8, 8).astype(f"<u{bits // 8}")

    def grey(photometric: int) -> list[int]:
        tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 278: 8}
        shorts = {tag: (3, value) for tag, value in tags.items()}
        data = tiff({**shorts, 273: (4, -1), 279: (4, values.nbytes)}, values.tobytes())
        return list(prepare("a", data, Policy(raw_share=1)).data[::3])

    assert grey(1) == (values >> (bits - 8)).ravel().tolist()
    assert grey(0) == [255 - value for value in grey(1)]
