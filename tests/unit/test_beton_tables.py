from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from datasets_tools.errors import StoreError
from datasets_tools.store import beton
from datasets_tools.store.beton_tables import read_tables
from datasets_tools.store.writer import BetonWriter

PATH = Path("x.beton")


@pytest.fixture
def written(tmp_path: Path) -> tuple[np.ndarray, int]:
    """A file of three samples, and the checksum its writer gave."""
    with BetonWriter(tmp_path / "x.beton", 4) as writer:
        for k in range(3):
            writer.append(b"data" * (k + 1), height=k + 1, width=9, label=5 - k, raw=k == 1)
        checksum = writer.finish()
    return np.fromfile(tmp_path / "x.beton", dtype=np.uint8), checksum


def put(data: np.ndarray, field: str, value: int) -> np.ndarray:
    data[: beton.HEADER.itemsize].view(beton.HEADER)[field] = value
    return data


def test_the_tables_and_their_checksum_are_the_writers(written: tuple[np.ndarray, int]) -> None:
    data, checksum = written
    tables = read_tables(PATH, data)
    assert tables.crc32 == checksum
    assert tables.page_size == 2**21
    np.testing.assert_array_equal(tables.rows["label"], [5, 4, 3])
    np.testing.assert_array_equal(tables.rows["image"]["height"], [1, 2, 3])
    np.testing.assert_array_equal(tables.rows["image"]["mode"], [0, 1, 0])
    np.testing.assert_array_equal(tables.allocations["size"], [4, 8, 12])


def test_a_file_without_samples_has_empty_tables(tmp_path: Path) -> None:
    with BetonWriter(tmp_path / "x.beton", 0) as writer:
        checksum = writer.finish()
    data = np.fromfile(tmp_path / "x.beton", dtype=np.uint8)
    tables = read_tables(PATH, data)
    assert (len(tables.rows), len(tables.allocations), tables.crc32) == (0, 0, checksum)
    assert checksum == zlib.crc32(data.tobytes())


@pytest.mark.parametrize("kept", [0, 1, 30, beton.METADATA_START - 1])
def test_what_is_no_ffcv_file_is_refused(written: tuple[np.ndarray, int], kept: int) -> None:
    with pytest.raises(StoreError, match="is not an FFCV file of version 2"):
        read_tables(PATH, written[0][:kept])


def test_another_version_is_refused(written: tuple[np.ndarray, int]) -> None:
    with pytest.raises(StoreError, match="is not an FFCV file of version 2"):
        read_tables(PATH, put(written[0], "version", 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_samples", 2),
        ("num_samples", 4),
        ("num_samples", 2**64 - 1),
        ("num_samples", 2**59),
        ("alloc_table_ptr", 0),
        ("alloc_table_ptr", 2**64 - 1),
    ],
)
def test_tables_that_do_not_fit_into_the_file_are_refused(
    written: tuple[np.ndarray, int], field: str, value: int
) -> None:
    with pytest.raises(StoreError, match="do not fit a file of"):
        read_tables(PATH, put(written[0], field, value))


def test_a_cut_file_is_refused(written: tuple[np.ndarray, int]) -> None:
    data, _ = written
    for kept in (data.size - 1, data.size - 24, beton.METADATA_START, beton.METADATA_START + 30):
        with pytest.raises(StoreError, match=r"x\.beton: is cut short or damaged"):
            read_tables(PATH, data[:kept])


@pytest.mark.parametrize(("num_fields", "found"), [(0, "none"), (1, "'image': RGBImageField"), (65_535, "'image'")])
def test_another_number_of_fields_is_refused(written: tuple[np.ndarray, int], num_fields: int, found: str) -> None:
    with pytest.raises(StoreError, match=rf"has {num_fields} fields \({found}.*; fastbot reads files of one"):
        read_tables(PATH, put(written[0], "num_fields", num_fields))


def test_other_fields_are_named(written: tuple[np.ndarray, int]) -> None:
    data, _ = written
    data[24], data[24 + 1041] = 3, 77
    with pytest.raises(StoreError, match="2 fields \\('image': BytesField, 'label': type 77\\)"):
        read_tables(PATH, data)
    data[24], data[24 + 1041] = 2, 2
    with pytest.raises(StoreError, match="'label': RGBImageField"):
        read_tables(PATH, data)
