"""JPEGs that are refused, and what repair makes of them."""

from __future__ import annotations

import jpeg_oddities
import numpy as np
import pytest
from prepared import KEEP, PICTURE, opened, raw, reason
from sources import encoded

from datasets_tools.pictures import Policy, prepare
from datasets_tools.store.index import Flag

BASELINE = encoded(PICTURE, quality=90)
PROGRESSIVE = encoded(PICTURE, quality=90, progressive=True)


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


def test_a_damaged_cmyk_jpeg_is_refused() -> None:
    """Pillow only sees a file that ends; libjpeg's warnings it does not pass on."""
    data = encoded(PICTURE.convert("CMYK"))
    assert "ends early" in reason(data[: len(data) // 2] + b"\xff\xd9")


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
