"""What of a JPEG is damage, and what is only untidy: held against libjpeg's own warnings of the same bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from jpeg_damage import DAMAGES, WarningCounter, damaged
from jpeg_oddities import left_over, stray_bytes
from jpegs import JpegMaker
from PIL import Image
from sources import encoded

from datasets_tools import jpeg
from datasets_tools.jpeg import JpegError
from datasets_tools.photographs import load

STREAMS = {
    "baseline": {},
    "restarts": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
}
NUM_DAMAGED = 40
RANDOM_SECTORS_SEEN = 0.95  # 39 of 40 of the baseline photograph, all of the others


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> WarningCounter:
    return WarningCounter(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    return JpegMaker(tmp_path_factory.mktemp("native")).taken()


@pytest.fixture(scope="module")
def photographs() -> Mapping[str, bytes]:
    photograph = Image.fromarray(load("chelsea"))
    return {name: encoded(photograph, quality=90, **options) for name, options in STREAMS.items()}


def passes(data: bytes) -> bool:
    try:
        jpeg.check(data)
    except JpegError:
        return False
    return True


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("stream", STREAMS)
def test_what_libjpeg_warns_of_is_refused_and_nothing_else(
    stream: str, damage: str, counter: WarningCounter, photographs: Mapping[str, bytes]
) -> None:
    pictures = damaged(photographs[stream], damage, NUM_DAMAGED)
    passed = np.array([passes(data) for data in pictures])
    np.testing.assert_array_equal(passed, np.array(counter.count(pictures)) == 0)
    assert np.count_nonzero(~passed) > 0
    if damage == "random sector":
        assert np.count_nonzero(~passed) >= RANDOM_SECTORS_SEEN * NUM_DAMAGED


@pytest.mark.parametrize("stream", STREAMS)
def test_decoding_and_transcoding_refuse_what_the_check_refuses(stream: str, photographs: Mapping[str, bytes]) -> None:
    for data in damaged(photographs[stream], "lost bytes", 10, seed=1):
        for function in (jpeg.decode, jpeg.transcode):
            if passes(data):
                function(data)
            else:
                with pytest.raises(JpegError):
                    function(data)


@pytest.mark.parametrize("stream", STREAMS)
def test_wrong_huffman_codes_are_damage(stream: str, photographs: Mapping[str, bytes]) -> None:
    data = bytearray(photographs[stream])
    scan = data.index(b"\xff\xda") + 14
    data[scan : scan + 60] = b"\xfe" * 60  # no Huffman code is all ones
    for function in (jpeg.check, jpeg.transcode, jpeg.decode):
        with pytest.raises(JpegError, match=r"its entropy-coded data are corrupt|ends early"):
            function(data)


def test_wrong_huffman_codes_are_located(photographs: Mapping[str, bytes]) -> None:
    data = bytearray(photographs["progressive"])
    scan = data.index(b"\xff\xda") + 14
    data[scan : scan + 60] = b"\xfe" * 60
    with pytest.raises(JpegError, match="entropy-coded data are corrupt near row 0 of 300: Corrupt JPEG data"):
        jpeg.check(data)


def test_coded_data_left_over_are_damage(kinds: Mapping[str, bytes]) -> None:
    for name in ("4:2:0", "progressive", "restarts", "separate scans", "grey, progressive False"):
        for function in (jpeg.check, jpeg.transcode, jpeg.decode):
            with pytest.raises(JpegError, match=r"are corrupt: (5\d|60) bytes are left over after row 45 of 45"):
                function(left_over(kinds[name], b"\x11\x22\x33" * 20))


def test_coded_data_left_over_before_a_restart_are_damage(kinds: Mapping[str, bytes]) -> None:
    place = kinds["restarts"].index(b"\xff\xd1")
    for content in (b"\x11" * 60, bytes(60)):
        data = kinds["restarts"][:place] + content + kinds["restarts"][place:]
        for function in (jpeg.check, jpeg.transcode, jpeg.decode):
            with pytest.raises(JpegError, match=r"60 bytes are left over after row \d+ of 45"):
                function(data)


def test_stray_bytes_and_padding_are_benign_and_gone_after_transcoding(kinds: Mapping[str, bytes]) -> None:
    for data in (kinds["4:2:0"], kinds["progressive"], kinds["restarts"]):
        headers = [stray_bytes(data, marker) for marker in (b"\xff\xdb", b"\xff\xc4", b"\xff\xda")]
        for untidy in (*headers, left_over(data, bytes(60))):
            assert jpeg.check(untidy) is False
            np.testing.assert_array_equal(jpeg.decode(untidy), jpeg.decode(data))
            clean = jpeg.transcode(untidy)
            assert jpeg.check(clean) is True
            assert clean == jpeg.transcode(data)


def test_an_odd_version_of_jfif_is_benign(kinds: Mapping[str, bytes]) -> None:
    assert jpeg.check(kinds["4:2:0"].replace(b"JFIF\0\x01\x01", b"JFIF\0\x07\x01")) is False
