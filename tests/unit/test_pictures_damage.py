"""JPEGs that are untidy or refused, and what repair makes of them."""

from __future__ import annotations

from pathlib import Path

import jpeg_oddities
import numpy as np
import pytest
from jpeg_damage import DAMAGES, WarningCounter, damaged
from jpegs import without_huffman_tables
from prepared import KEEP, PICTURE, RAW, opened, raw, reason
from sources import encoded, pixels

from datasets_tools.errors import PictureError
from datasets_tools.pictures import Policy, prepare
from datasets_tools.store.index import Flag

BASELINE = encoded(PICTURE, quality=90)
PROGRESSIVE = encoded(PICTURE, quality=90, progressive=True)


def is_sound(data: bytes, policy: Policy) -> bool:
    try:
        prepare("a", data, policy)
    except PictureError:
        return False
    return True


def test_a_jpeg_cut_short_is_refused() -> None:
    assert reason(BASELINE[:-2]) == "ends early: the JPEG has no end-of-image marker"
    for check in (True, False):
        for data in (BASELINE, PROGRESSIVE):
            assert "ends early" in reason(data[: len(data) // 2], Policy(check=check))
    assert "ends early" in reason(BASELINE[: len(BASELINE) // 2] + b"\xff\xd9")


def test_without_checks_markers_alone_decide() -> None:
    data = BASELINE[: len(BASELINE) // 2] + b"\xff\xd9"
    assert prepare("a", data, Policy(check=False)).data == data
    assert "ends early" in reason(data, Policy(check=False, max_side=16))


def test_without_checks_stray_bytes_between_segments_are_seen() -> None:
    data = jpeg_oddities.stray_bytes(BASELINE, b"\xff\xc4")
    assert prepare("a", data, Policy(check=False)).info.flags == Flag.TRANSCODED


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("marker", [b"\xff\x01", b"\xff\xd0", b"\xff\xd7"], ids=["TEM", "RST0", "RST7"])
@pytest.mark.parametrize("before", [b"\xff\xdb", b"\xff\xc0", b"\xff\xda"])
def test_markers_without_a_segment_are_left_out_without_loss(marker: bytes, before: bytes, check: bool) -> None:
    """Libjpeg skips them wherever they stand; Pillow and DALI do not."""
    place = BASELINE.rindex(before)
    picture = prepare("a", BASELINE[:place] + marker + BASELINE[place:], Policy(check=check))
    assert picture.info.flags == Flag.TRANSCODED
    np.testing.assert_array_equal(opened(picture.data), opened(BASELINE))


@pytest.mark.parametrize("check", [True, False])
def test_a_jpeg_without_huffman_tables_gets_its_own(check: bool) -> None:
    """Decoders that serve several pictures take the last one's tables for it."""
    picture = prepare("a", without_huffman_tables(BASELINE), Policy(check=check))
    assert picture.info.flags == Flag.TRANSCODED
    np.testing.assert_array_equal(opened(picture.data), opened(BASELINE))


def test_a_damaged_cmyk_jpeg_is_refused() -> None:
    """Pillow only sees a file that ends; libjpeg's warnings it does not pass on."""
    data = encoded(PICTURE.convert("CMYK"))
    assert "ends early" in reason(data[: len(data) // 2] + b"\xff\xd9")


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_scans_that_never_end_are_refused(mode: str) -> None:
    data = encoded(PICTURE.convert(mode), progressive=True)
    scan = data[data.rindex(b"\xff\xc4") : -2]  # the last, with its table
    bomb = data[:-2] + scan * 500 + b"\xff\xd9"
    for data in (bomb, bomb[:-2], bomb[:-2] + b"\xff\xc4\0\5\xff\xff\xff"):
        assert reason(data)
        for policy in (Policy(repair=True), Policy(repair=True, check=False, max_side=16)):
            assert reason(data, policy) == "cannot be repaired: has over 500 scans"


@pytest.mark.parametrize("stream", [{}, {"restart_marker_rows": 1}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_taken_as_sound_decodes_without_a_warning(
    damage: str, stream: dict[str, object], tmp_path: Path
) -> None:
    pictures = damaged(encoded(pixels(120, 160), quality=90, **stream), damage, 30)
    sound = [data for data in pictures if is_sound(data, KEEP)]
    assert not any(WarningCounter(tmp_path).count(sound))
    assert [data for data in pictures if is_sound(data, RAW)] == sound
    assert len(sound) < len(pictures)
    flags = {prepare("a", data, Policy(repair=True)).info.flags & Flag.REPAIRED for data in pictures}
    assert Flag.REPAIRED in flags


def test_too_many_scans_are_refused_where_nothing_is_decoded() -> None:
    scan = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xc4") : -2]
    num_scans = PROGRESSIVE.count(b"\xff\xda")
    for more, is_taken in ((500 - num_scans, True), (501 - num_scans, False)):
        data = PROGRESSIVE[:-2] + scan * more + b"\xff\xd9"
        unchecked = Policy(check=False, transcode=False)
        assert is_sound(data, unchecked) == is_taken


def test_a_jpeg_whose_tables_or_frame_are_gone_is_refused() -> None:
    for policy in (KEEP, Policy(repair=True)):
        assert reason(BASELINE[: BASELINE.index(b"\xff\xc0")] + b"\xff\xd9", policy)
        assert reason(BASELINE[:2] + BASELINE[BASELINE.index(b"\xff\xc0") :], policy)


def test_kinds_of_jpegs_that_a_store_has_no_place_for() -> None:
    frame = BASELINE.index(b"\xff\xc0")
    for policy in (KEEP, Policy(check=False), Policy(repair=True)):
        data = bytearray(BASELINE)
        data[frame + 4] = 12
        assert reason(bytes(data), policy) == "is a JPEG of 12 bits; 8 bits are taken"
        data = bytearray(BASELINE)
        data[frame + 5 : frame + 9] = (1).to_bytes(2, "big") + (65_501).to_bytes(2, "big")
        assert "65,501 x 1 pixels; at most 65,500 a side are taken" in reason(bytes(data), policy)
        data = bytearray(BASELINE)
        data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
        assert "decompression bomb" in reason(bytes(data), policy)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("mode", "progressive"), [("RGB", False), ("RGB", True), ("L", False), ("L", True), ("CMYK", False)]
)
def test_repair_stores_what_can_be_decoded(mode: str, progressive: bool, check: bool) -> None:
    whole = encoded(PICTURE.convert(mode), progressive=progressive)
    data = whole[: len(whole) * 3 // 4]
    picture = prepare("a", data, Policy(repair=True, raw_share=1, check=check))
    assert picture.info.flags == Flag.REPAIRED | Flag.REENCODED
    assert picture.reencoded == ("jpeg cmyk" if mode == "CMYK" else "jpeg")
    if progressive:  # all its rows are there from its first scan on, less sharp
        assert np.abs(raw(picture) - opened(whole).astype(int)).mean() < 10
    else:
        np.testing.assert_array_equal(raw(picture)[:8], opened(whole)[:8])
    stored = prepare("a", data, Policy(repair=True, max_side=32, check=check))
    assert stored.info.flags == Flag.REPAIRED | Flag.REENCODED | Flag.RESIZED
    assert opened(stored.data).shape == (24, 32, 3)


def test_repair_marks_only_what_is_damaged() -> None:
    assert prepare("a", BASELINE, Policy(repair=True)).data == BASELINE
    assert prepare("a", PROGRESSIVE, Policy(repair=True)).info.flags == Flag.TRANSCODED


def test_repair_of_nothing_is_refused() -> None:
    scan = BASELINE.index(b"\xff\xda")
    assert "cannot be repaired" in reason(BASELINE[: scan + 14], Policy(repair=True))
