from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from jpegs import PICTURE, JpegMaker
from numpy.typing import NDArray
from PIL import Image
from sources import encoded, pixels
from torchvision.io import ImageReadMode, decode_jpeg

from datasets_tools import jpeg
from datasets_tools.jpeg import JpegError

PHOTO = np.asarray(pixels(120, 160, seed=3))


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> JpegMaker:
    return JpegMaker(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def kinds(maker: JpegMaker) -> Mapping[str, bytes]:
    return maker.taken()


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    array = np.asarray(Image.open(io.BytesIO(data)))
    return array if array.ndim == 3 else array[..., None]


def by_torchvision(data: bytes) -> NDArray[np.uint8]:
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return decode_jpeg(tensor, mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()


# Check and decode


def test_every_kind_is_clean_and_decodes_to_pillows_pixels(kinds: Mapping[str, bytes]) -> None:
    for name, data in kinds.items():
        assert jpeg.check(data) is True, name
        decoded, expected = jpeg.decode(data), by_pillow(data)
        assert decoded.shape == expected.shape, name
        assert np.abs(decoded.astype(int) - expected).max() <= 1, name


def test_any_buffer_is_taken_and_pixels_are_the_callers(kinds: Mapping[str, bytes]) -> None:
    data = kinds["4:2:0"]
    for buffer in (bytearray(data), memoryview(data), np.frombuffer(data, dtype=np.uint8)):
        decoded = jpeg.decode(buffer)
        np.testing.assert_array_equal(decoded, jpeg.decode(data))
        decoded[:] = 0
    with pytest.raises((TypeError, BufferError, ValueError)):
        jpeg.check(np.frombuffer(data, dtype=np.uint8)[::2])


def test_a_cut_is_refused_wherever_it_is_and_whatever_stands_behind_it(kinds: Mapping[str, bytes]) -> None:
    for name in ("4:2:0", "progressive", "restarts", "separate scans", "grey, progressive False", "rgb"):
        data = kinds[name]
        for share in (0.5, 0.7, 0.9):
            for end in (b"", b"\xff\xd9", b"\xff\xd9 and more"):
                cut = data[: int(len(data) * share)] + end
                for function in (jpeg.check, jpeg.transcode, jpeg.decode):
                    with pytest.raises(JpegError):
                        function(cut)


def test_how_far_a_cut_picture_goes_is_said() -> None:
    data = encoded(Image.fromarray(PHOTO), subsampling="4:2:0")
    with pytest.raises(JpegError, match=re.escape("ends early: it has no end-of-image marker")):
        jpeg.check(data[:-2])
    with pytest.raises(JpegError, match=r"ends early: (48|64|80) of 120 rows decoded"):
        jpeg.check(data[: len(data) * 6 // 10] + b"\xff\xd9")
    with pytest.raises(JpegError, match=r"ends early: \d+ of 120 rows of its scan \d+ decoded"):
        jpeg.check(encoded(Image.fromarray(PHOTO), progressive=True)[:-300])


def test_a_component_without_a_scan_is_an_early_end(kinds: Mapping[str, bytes]) -> None:
    data = kinds["separate scans"]
    second_scan = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    with pytest.raises(JpegError, match="no scan of component 2 of 3"):
        jpeg.check(data[:second_scan] + b"\xff\xd9")


def test_bytes_after_the_end_are_no_matter(kinds: Mapping[str, bytes]) -> None:
    for data in kinds.values():
        assert jpeg.check(data + b"\0\xff trailing \xff\xd8") is True


def test_scans_that_never_end_are_refused(maker: JpegMaker) -> None:
    bomb = maker.make("scans=600")
    for function in (jpeg.check, jpeg.transcode, jpeg.decode):
        with pytest.raises(JpegError, match="over 500 scans"):
            function(bomb)
    with pytest.raises(JpegError, match="over 500 scans"):
        jpeg.decode(bomb, tolerant=True)


def test_a_picture_that_needs_absurd_memory_is_refused(kinds: Mapping[str, bytes]) -> None:
    data = bytearray(kinds["progressive 4:4:4"])
    frame = data.index(b"\xff\xc2") + 5
    data[frame : frame + 4] = b"\xff\xdc\xff\xdc"  # 65,500 x 65,500
    for function in (jpeg.check, jpeg.transcode):
        with pytest.raises(JpegError, match="needs over 2047 MiB"):
            function(data)


def test_kinds_that_are_not_taken_say_so(maker: JpegMaker, kinds: Mapping[str, bytes]) -> None:
    for data in maker.cmyk().values():
        assert jpeg.check(data) is True
        for function in (jpeg.decode, jpeg.transcode):
            with pytest.raises(JpegError, match="has 4 components; 1 and 3 are taken"):
                function(data)
    deep, fractional = bytearray(kinds["4:4:4"]), bytearray(kinds["4:4:4"])
    frame = deep.index(b"\xff\xc0")
    deep[frame + 4] = 12
    fractional[frame + 11 : frame + 20 : 3] = b"\x31\x21\x11"
    for function in (jpeg.check, jpeg.decode, jpeg.transcode):
        with pytest.raises(JpegError, match=r"(?i)precision|12 bits"):
            function(deep)
        with pytest.raises(JpegError, match="3:2 x 1:1; whole ratios"):
            function(fractional)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", b"GIF89a", bytes(1000)])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    for function in (jpeg.inspect, jpeg.check, jpeg.transcode, jpeg.decode):
        with pytest.raises(JpegError):
            function(data)


# Tolerant decode


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("progressive", [False, True])
def test_tolerant_decoding_keeps_what_is_there(progressive: bool, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(PHOTO), quality=85, progressive=progressive)
    cut = data[: len(data) // 2] + end
    with pytest.raises(JpegError):
        jpeg.decode(cut)
    decoded = jpeg.decode(cut, tolerant=True)
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    expected = by_pillow(data[: len(data) // 2] + b"\xff\xd9")
    # What a progressive file has not refined is smoothed, by another rule in each version of libjpeg-turbo.
    assert np.abs(decoded.astype(int) - expected).max() <= (2 if progressive else 0)
    if not progressive:
        np.testing.assert_array_equal(decoded[:32], by_pillow(data)[:32])


def test_tolerant_decoding_of_a_whole_picture_is_decoding(kinds: Mapping[str, bytes]) -> None:
    for data in kinds.values():
        np.testing.assert_array_equal(jpeg.decode(data, tolerant=True), jpeg.decode(data))


def test_tolerant_decoding_stops_before_a_segment_that_makes_no_sense(kinds: Mapping[str, bytes]) -> None:
    data = kinds["separate scans"]
    third_scan = data.rindex(b"\xff\xda")
    broken = data[:third_scan] + b"\xff\xc4\x00\x05\xff\xff\xff" + data[third_scan:]
    with pytest.raises(JpegError, match="is a broken JPEG"):
        jpeg.decode(broken)
    decoded = jpeg.decode(broken, tolerant=True)
    np.testing.assert_array_equal(decoded, jpeg.decode(data[:third_scan] + b"\xff\xd9", tolerant=True))
    assert decoded.std() > 10


@pytest.mark.parametrize("progressive", [False, True])
def test_without_one_row_there_is_nothing_to_tolerate(progressive: bool) -> None:
    data = encoded(PICTURE, progressive=progressive)
    first_scan = data.index(b"\xff\xda") + 14
    for cut in (data[:100], data[: first_scan - 14], data[:first_scan], data[: first_scan + 20]):
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(JpegError):
                jpeg.decode(cut + end, tolerant=True)


# Transcode


def test_transcoding_changes_no_coefficient(maker: JpegMaker, kinds: Mapping[str, bytes]) -> None:
    for name, data in kinds.items():
        written = jpeg.transcode(data)
        assert maker.coefficients(written) == maker.coefficients(data), name
        if name == "progressive that ends early":  # libjpeg smooths its coarse blocks only while they are progressive
            continue
        np.testing.assert_array_equal(by_pillow(written), by_pillow(data), err_msg=name)
        if "arithmetic" not in name:  # torchvision's libjpeg has no arithmetic decoder
            np.testing.assert_array_equal(by_torchvision(written), by_torchvision(data), err_msg=name)


def test_what_is_transcoded_is_sequential_with_a_restart_after_each_row_and_without_metadata(
    kinds: Mapping[str, bytes],
) -> None:
    for name, data in kinds.items():
        before, written = jpeg.inspect(data), jpeg.transcode(data)
        header = jpeg.inspect(written)
        assert (header.height, header.width, header.components) == (before.height, before.width, before.components)
        assert header.subsampling == before.subsampling
        assert header.huffman, name
        assert header.complete, name
        assert not header.progressive, name
        assert not re.search(rb"\xff[\xe1-\xed\xfe]", written[: written.index(b"\xff\xda")]), name
    for name, width_of_mcu, height_of_mcu in (("progressive", 16, 16), ("progressive 4:4:4", 8, 8), ("exif", 16, 16)):
        written = jpeg.transcode(kinds[name])
        num_rows = -(-PICTURE.height // height_of_mcu)
        assert jpeg.inspect(written).restart_interval == -(-PICTURE.width // width_of_mcu), name
        assert len(re.findall(rb"\xff[\xd0-\xd7]", written)) == num_rows - 1, name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_metadata_the_orientation_alone_is_kept(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a camera's maker"
    data = encoded(Image.fromarray(PHOTO), progressive=True, exif=exif, comment=b"a comment", icc_profile=bytes(99))
    written = jpeg.transcode(data)
    assert jpeg.inspect(written).orientation == (orientation if orientation > 1 else 0)
    opened = Image.open(io.BytesIO(written))
    assert dict(opened.getexif()) == ({0x0112: orientation} if orientation > 1 else {})
    assert "comment" not in opened.info
    assert "icc_profile" not in opened.info
    np.testing.assert_array_equal(by_pillow(written), by_pillow(data))
    upright = jpeg.transcode(encoded(Image.fromarray(PHOTO), progressive=True))
    assert len(written) - len(upright) == (36 if orientation > 1 else 0)


def test_huffman_tables_are_optimal(kinds: Mapping[str, bytes]) -> None:
    plain = encoded(Image.fromarray(PHOTO), quality=90)
    optimal = encoded(Image.fromarray(PHOTO), quality=90, optimize=True, restart_marker_rows=1)
    assert len(optimal) < len(plain)
    assert len(jpeg.transcode(plain)) == len(optimal)


def test_tables_redefined_between_scans_are_kept_apart(maker: JpegMaker, kinds: Mapping[str, bytes]) -> None:
    data = kinds["separate scans"]
    third_scan = data.rindex(b"\xff\xda")
    redefined = data[:third_scan] + b"\xff\xdb\x00\x43\x01" + bytes(range(1, 65)) + data[third_scan:]
    assert maker.coefficients(redefined) != maker.coefficients(data)
    assert maker.coefficients(jpeg.transcode(redefined)) == maker.coefficients(redefined)


# The extension


@pytest.mark.parametrize("function", [jpeg.decode, jpeg.transcode, jpeg.check])
def test_threads_do_not_disturb_each_other(function: Callable[[bytes], object], kinds: Mapping[str, bytes]) -> None:
    damaged = kinds["4:2:0"][:900]

    def outcome(data: bytes) -> object:
        try:
            result = function(data)
        except JpegError as error:
            return str(error)
        return result.tobytes() if isinstance(result, np.ndarray) else result

    work = [*kinds.values(), damaged] * 8
    expected = [outcome(data) for data in work]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outcome, work)) == expected


def test_without_the_extension_the_package_imports_and_says_how_to_build_it() -> None:
    script = """
import sys
sys.modules["datasets_tools.jpeg._codec"] = None
from datasets_tools import jpeg
from datasets_tools.errors import MissingPackageError
for function in (jpeg.inspect, jpeg.check, jpeg.transcode, jpeg.decode):
    try:
        function(b"")
    except MissingPackageError as error:
        assert "apt-get install libjpeg-dev" in str(error)
    else:
        sys.exit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True)
