"""The picture policy of JPEGs: what is kept, rewritten and decoded; see also test_pictures_damage and test_decoding."""

from __future__ import annotations

import io
import pickle
import zlib

import jpeg_oddities
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from prepared import KEEP, PICTURE, RAW, opened, raw, reason
from sources import encoded, jpeg

from datasets_tools.errors import PictureError
from datasets_tools.jpeg import Subsampling
from datasets_tools.pictures import Policy, prepare
from datasets_tools.store.index import Flag, StoredFormat

BASELINE = encoded(PICTURE, quality=90)
PROGRESSIVE = encoded(PICTURE, quality=90, progressive=True)
NAMES = {"4:4:4": Subsampling.S444, "4:2:0": Subsampling.S420}


def with_orientation(orientation: int, picture: Image.Image = PICTURE, kind: str = "JPEG", **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, kind, exif=exif, **options)


def area_means(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """Shrink by area, from its definition: the integral over each output pixel, by differences of cumulative sums."""
    result = image.astype(np.float64)
    for length in (height, width):  # rows, then columns as rows
        sums = np.concatenate([np.zeros_like(result[:1]), np.cumsum(result, axis=0)])
        edges = np.linspace(0, len(result), length + 1)
        columns = sums.reshape(len(sums), -1)
        at_edges = np.stack([np.interp(edges, np.arange(len(sums)), column) for column in columns.T], axis=1)
        means = np.diff(at_edges, axis=0) / np.diff(edges)[:, None]
        result = means.reshape(length, *result.shape[1:])
        result = result.swapaxes(0, 1)
    return result


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    "data",
    [
        BASELINE,
        encoded(PICTURE, subsampling="4:4:4"),
        encoded(PICTURE, subsampling="4:2:2"),
        encoded(PICTURE, keep_rgb=True),
        encoded(PICTURE.convert("L")),
        encoded(PICTURE, restart_marker_rows=1),
        BASELINE + b"trailing bytes",
        with_orientation(6),
        with_orientation(9),
        encoded(PICTURE, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        encoded(PICTURE, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"),
        jpeg_oddities.flat([(2, 1), (1, 1), (2, 1)]),
    ],
    ids="baseline 444 422 rgb grey restarts trailing turned no-such-turn broken-exif cut-exif odd-sampling".split(),
)
def test_a_jpeg_that_needs_no_change_keeps_its_bytes(data: bytes, check: bool) -> None:
    picture = prepare("a", data, Policy(check=check))
    assert picture.data == data
    assert (picture.width, picture.height) == Image.open(io.BytesIO(data)).size
    assert picture.reencoded is None
    assert picture.info.crc32 == zlib.crc32(data)
    assert picture.info.flags == Flag(0)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"]
)
def test_imagenet_broken_exif_is_no_exif(exif: bytes) -> None:
    data = encoded(PICTURE, exif=exif)
    for policy in (KEEP, Policy(exif="apply")):
        picture = prepare("a", data, policy)
        assert picture.data == data
        assert picture.info.orientation == 0


def test_imagenet_jpeg_with_trailing_bytes_is_kept() -> None:
    data = BASELINE + b"\0" * 100 + b"\xff\xd8\xff"
    assert prepare("a", data, KEEP).data == data


def test_imagenet_grey_jpegs_are_kept_grey() -> None:
    picture = prepare("a", encoded(PICTURE.convert("L")), KEEP)
    assert (picture.info.components, picture.info.subsampling) == (1, Subsampling.GREY)


def test_imagenet_png_named_jpeg_is_taken_for_what_it_is() -> None:
    """n02105855_2933.JPEG is a PNG."""
    assert prepare("n02105855/n02105855_2933.JPEG", encoded(PICTURE, "PNG"), KEEP).reencoded == "png"


@pytest.mark.parametrize(
    "data",
    [
        jpeg_oddities.stray_bytes(BASELINE, b"\xff\xdb"),
        jpeg_oddities.stray_bytes(BASELINE, b"\xff\xc4"),
        jpeg_oddities.stray_bytes(PROGRESSIVE, b"\xff\xda"),
        jpeg_oddities.left_over(BASELINE, bytes(60)),
        jpeg_oddities.left_over(encoded(PICTURE.convert("L")), bytes(60)),
    ],
    ids=["before the frame", "before a table", "before a scan", "padding", "grey, padding"],
)
@pytest.mark.parametrize("transcode", [True, False])
def test_imagenet_stray_bytes_are_left_out_without_loss(data: bytes, transcode: bool) -> None:
    """DALI refuses the picture; libjpeg skips them."""
    picture = prepare("a", data, Policy(transcode=transcode))
    assert picture.info.flags == Flag.TRANSCODED
    assert picture.reencoded is None
    np.testing.assert_array_equal(opened(picture.data), opened(data))
    assert prepare("a", bytes(picture.data), KEEP).data == picture.data


def test_imagenet_cmyk_jpegs_become_rgb_as_pillow_has_them() -> None:
    data = encoded(PICTURE.convert("CMYK"), quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    picture = prepare("a", data, RAW)
    assert picture.reencoded == "jpeg cmyk"
    np.testing.assert_array_equal(raw(picture), opened(data))
    stored = prepare("a", data, Policy(quality=95, subsampling="4:4:4"))
    assert (stored.reencoded, stored.info.components) == ("jpeg cmyk", 3)
    np.testing.assert_allclose(
        opened(stored.data), opened(encoded(Image.fromarray(opened(data)), quality=95, subsampling="4:4:4")), atol=2
    )


def test_the_index_record_says_what_the_jpeg_is() -> None:
    data = with_orientation(6, progressive=True, subsampling="4:2:2", restart_marker_blocks=3)
    info = prepare("a", data, Policy(transcode=False)).info
    assert (info.key, info.components, info.subsampling, info.orientation) == ("a", 3, Subsampling.S422, 6)
    assert (info.restart_interval, info.flags) == (3, Flag.PROGRESSIVE)


@pytest.mark.parametrize("options", [{}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"mode": "L"}])
def test_a_progressive_jpeg_becomes_baseline_without_loss(options: dict[str, str]) -> None:
    source = PICTURE.convert(options.pop("mode", "RGB"))
    data = encoded(source, progressive=True, **options)
    picture = prepare("a", data, KEEP)
    stored = Image.open(io.BytesIO(picture.data))
    assert "progressive" not in stored.info
    np.testing.assert_array_equal(np.asarray(stored), np.asarray(Image.open(io.BytesIO(data))))
    assert picture.info.flags == Flag.TRANSCODED
    assert picture.reencoded is None
    assert picture.info.crc32 == zlib.crc32(picture.data)
    mcu = 8 if source.mode == "L" or options.get("subsampling") == "4:4:4" else 16
    assert picture.info.restart_interval == 64 // mcu
    assert prepare("a", data, Policy(transcode=False)).data == data


@pytest.mark.parametrize("orientation", [0, 6])
def test_the_orientation_of_what_is_rewritten_is_the_sources(orientation: int) -> None:
    for data in (
        with_orientation(orientation, progressive=True),
        jpeg_oddities.stray_bytes(with_orientation(orientation), b"\xff\xda"),
        jpeg_oddities.stray_bytes(with_orientation(orientation), b"\xff\xe1"),
    ):
        picture = prepare("a", data, KEEP)
        assert picture.info.flags == Flag.TRANSCODED
        assert picture.info.orientation == orientation
        assert Image.open(io.BytesIO(picture.data)).getexif().get(0x0112, 0) == orientation
        np.testing.assert_array_equal(opened(picture.data), opened(data))


def test_transcoding_checks_even_where_checks_are_off() -> None:
    assert "ends early" in reason(PROGRESSIVE[: len(PROGRESSIVE) // 2] + b"\xff\xd9", Policy(check=False))


def test_arithmetic_coding_is_reencoded() -> None:
    picture = prepare("a", jpeg_oddities.ARITHMETIC, RAW)
    assert picture.reencoded == "jpeg arithmetic"
    np.testing.assert_array_equal(raw(picture), opened(jpeg_oddities.ARITHMETIC))
    picture = prepare("a", jpeg_oddities.ARITHMETIC, KEEP)
    assert picture.info.flags == Flag.REENCODED
    assert prepare("a", bytes(picture.data), KEEP).data == picture.data


def test_a_sampling_that_libjpeg_cannot_upsample_is_refused() -> None:
    """Its coefficients are sound: reading them is not enough."""
    assert reason(jpeg_oddities.flat([(3, 1), (2, 1), (1, 1)]))


def test_exif_orientation_is_ignored() -> None:
    for policy, size in ((KEEP, (48, 64)), (Policy(max_side=32), (24, 32))):
        picture = prepare("a", with_orientation(6), policy)
        assert (picture.height, picture.width) == size
        assert opened(picture.data).shape[:2] == size
        assert not picture.info.flags & Flag.ROTATED


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_where_asked(kind: str, orientation: int) -> None:
    data = with_orientation(orientation, kind=kind)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    picture = prepare("a", data, Policy(exif="apply", raw_share=1))
    np.testing.assert_array_equal(raw(picture), expected)
    assert picture.info.orientation == 0
    if kind != "TIFF":
        assert bool(picture.info.flags & Flag.ROTATED) == (orientation > 1)


def test_a_turned_jpeg_is_encoded_without_exif() -> None:
    picture = prepare("a", with_orientation(6), Policy(exif="apply"))
    assert (picture.height, picture.width, picture.reencoded) == (64, 48, "jpeg")
    assert picture.info.flags == Flag.ROTATED | Flag.REENCODED
    assert not Image.open(io.BytesIO(picture.data)).getexif()


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_encoding_is_of_the_quality_and_subsampling_asked_for(subsampling: str) -> None:
    """Against Pillow's encoder: the same quantization tables and sampling factors."""
    data = encoded(PICTURE, "PNG")
    picture = prepare("a", data, Policy(quality=77, subsampling=subsampling))  # type: ignore[arg-type]
    ours = Image.open(io.BytesIO(picture.data))
    pillows = Image.open(io.BytesIO(encoded(PICTURE, quality=77, subsampling=subsampling)))
    assert ours.quantization == pillows.quantization
    assert ours.layer == pillows.layer
    assert picture.info.subsampling is NAMES[subsampling]
    np.testing.assert_allclose(np.asarray(ours), np.asarray(pillows), atol=1)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("max_side", [63, 31, 7, 1])
def test_resizing_is_area_filtering(mode: str, max_side: int) -> None:
    source = encoded(PICTURE.convert(mode), quality=100)
    picture = prepare("a", source, Policy(max_side=max_side, raw_share=1))
    assert picture.info.flags == Flag.RESIZED | Flag.REENCODED
    expected = area_means(opened(source), picture.height, picture.width)
    assert np.abs(raw(picture) - expected).max() <= 0.5001


def test_a_resized_picture_is_stored_as_a_jpeg_of_as_many_components() -> None:
    for mode, components in (("RGB", 3), ("L", 1)):
        picture = prepare("a", encoded(PICTURE.convert(mode)), Policy(max_side=32))
        assert (picture.height, picture.width, picture.reencoded) == (24, 32, "jpeg")
        assert picture.info.components == components
        assert Image.open(io.BytesIO(picture.data)).size == (32, 24)


def test_small_pictures_are_never_enlarged() -> None:
    for policy in (Policy(max_side=64), Policy(short_side=48), Policy(max_side=1000, min_side=500)):
        assert prepare("a", BASELINE, policy).data == BASELINE


def test_raw_pixels_are_pillows() -> None:
    for data in (BASELINE, PROGRESSIVE, encoded(PICTURE.convert("L"))):
        picture = prepare("a", data, RAW)
        np.testing.assert_array_equal(raw(picture), opened(data))
        assert (picture.info.components, picture.info.subsampling) == (3, Subsampling.S444)
        assert (picture.reencoded, picture.info.flags) == ("jpeg", Flag.REENCODED)
        assert picture.info.crc32 == zlib.crc32(picture.data)


def test_a_share_of_the_pictures_is_raw() -> None:
    data = jpeg(8, 8)
    pictures = [prepare(f"{k}.jpg", data, Policy(raw_share=0.3)) for k in range(400)]
    num_raw = sum(picture.info.stored_format is StoredFormat.RAW for picture in pictures)
    assert abs(num_raw - 120) < 4 * np.sqrt(400 * 0.3 * 0.7)
    assert all(picture.data == data for picture in pictures if picture.info.stored_format is StoredFormat.JPEG)


@pytest.mark.parametrize("policy", [KEEP, Policy(max_side=32), Policy(raw_share=0.5), Policy(exif="apply")])
def test_the_result_is_a_pure_function_that_travels_between_processes(policy: Policy) -> None:
    for data in (with_orientation(3), PROGRESSIVE, encoded(PICTURE, "PNG")):
        picture = prepare("a", data, policy)
        assert prepare("a", data, pickle.loads(pickle.dumps(policy))) == picture
        assert pickle.loads(pickle.dumps(picture)) == picture


def test_keys_that_an_index_has_no_place_for() -> None:
    assert "name of 65,536 bytes; at most 65,535" in reason(BASELINE, key="a" * 65_536)
    prepare("a" * 65_535, BASELINE, KEEP)
    with pytest.raises(PictureError, match="not valid Unicode") as caught:
        prepare("a\udcff.jpg", BASELINE, KEEP)
    assert caught.value.key == "a\\udcff.jpg"
