from __future__ import annotations

import struct

import pytest

from datasets_tools.store import beton


def test_dtypes_have_the_sizes_of_ffcv_structs() -> None:
    assert beton.HEADER.itemsize == struct.calcsize("<HHIQQ")
    assert beton.FIELD_DESCRIPTOR.itemsize == 1 + 16 + 1024
    assert beton.METADATA_ROW.itemsize == struct.calcsize("<BHHQ3xq")
    assert beton.ALLOCATION.itemsize == 24


def test_field_descriptors_are_an_image_and_an_int() -> None:
    image, label = struct.iter_unpack("<B16s1024s", beton.field_descriptors())
    assert image == (2, b"image".ljust(16, b"\0"), bytes(1024))
    assert label == (1, b"label".ljust(16, b"\0"), bytes(1024))


@pytest.mark.parametrize(
    ("num_bytes", "page_size"),
    [(1, 2**21), (2**21, 2**21), (2**21 + 1, 2**22), (5 * 2**20, 2**23), (2**31, 2**31)],
)
def test_page_size_is_the_power_of_two_that_holds_a_sample(num_bytes: int, page_size: int) -> None:
    assert beton.page_size_for(num_bytes) == page_size


def test_align_up_goes_to_the_next_page_only_when_inside_one() -> None:
    assert [beton.align_up(offset, 8) for offset in (0, 1, 8, 9)] == [0, 8, 8, 16]


def test_samples_lie_between_the_rows_and_the_allocations() -> None:
    assert beton.data_region(10, 100_000) == (24 + 2 * 1041 + 10 * 24, 100_000 - 10 * 24)
