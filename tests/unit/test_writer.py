from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from datasets_tools.errors import ConversionError
from datasets_tools.store.writer import BetonWriter

MIB = 2**20


def write(path: Path, sizes: list[int], capacity: int | None = None) -> int:
    with BetonWriter(path, len(sizes) if capacity is None else capacity) as writer:
        for k, size in enumerate(sizes):
            writer.append(bytes([k + 1]) * size, height=10 + k, width=20 + k, label=k % 3)
        return writer.finish()


def parse(data: bytes) -> tuple[int, list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Read the file as ffcv documents it, with struct: page size, metadata rows, allocations."""
    version, num_fields, page_size, num_samples, table = struct.unpack_from("<HHIQQ", data)
    assert (version, num_fields) == (2, 2)
    start = 24 + 2 * (1 + 16 + 1024)
    rows = list(struct.iter_unpack("<BHHQ3xq", data[start : start + 24 * num_samples]))
    return page_size, rows, list(struct.iter_unpack("<QQQ", data[table:]))


def test_every_sample_lies_whole_in_one_page_and_in_order(tmp_path: Path) -> None:
    sizes = [700_000, 900_000, 600_000, 5, 2 * MIB, 1]
    write(tmp_path / "a.beton", sizes)
    data = (tmp_path / "a.beton").read_bytes()
    page_size, rows, allocations = parse(data)
    assert page_size == 2 * MIB
    assert [size for _, _, size in allocations] == sizes
    for k, (sample_id, start, size) in enumerate(allocations):
        assert sample_id == k
        assert rows[k] == (0, 20 + k, 10 + k, start, k % 3)
        assert start // page_size == (start + size - 1) // page_size
        assert data[start : start + size] == bytes([k + 1]) * size
    starts = [start for _, start, _ in allocations]
    # 0 and 1 fill a page, 2 and 3 the next, 4 is a page by itself.
    assert starts == [2 * MIB, 2 * MIB + 700_000, 4 * MIB, 4 * MIB + 600_000, 6 * MIB, 8 * MIB]


def test_a_larger_sample_enlarges_the_page_and_keeps_what_lies_before(tmp_path: Path) -> None:
    write(tmp_path / "a.beton", [MIB, 3 * MIB, 10, MIB])
    page_size, _, allocations = parse((tmp_path / "a.beton").read_bytes())
    assert page_size == 4 * MIB
    assert [start for _, start, _ in allocations] == [2 * MIB, 4 * MIB, 7 * MIB, 8 * MIB]


def test_fewer_samples_than_announced_give_a_shorter_table_at_the_same_addresses(tmp_path: Path) -> None:
    write(tmp_path / "full.beton", [5, 6, 7])
    write(tmp_path / "short.beton", [5, 6], capacity=3)
    _, full_rows, full_allocations = parse((tmp_path / "full.beton").read_bytes())
    _, rows, allocations = parse((tmp_path / "short.beton").read_bytes())
    assert rows == full_rows[:2]
    assert allocations == full_allocations[:2]


def test_many_rows_push_the_first_page_back(tmp_path: Path) -> None:
    write(tmp_path / "a.beton", [5], capacity=100_000)  # 2.4 MB of rows
    _, _, allocations = parse((tmp_path / "a.beton").read_bytes())
    assert allocations == [(0, 4 * MIB, 5)]


def test_finish_returns_the_checksum_of_the_tables(tmp_path: Path) -> None:
    crc32 = write(tmp_path / "a.beton", [5, 6])
    data = (tmp_path / "a.beton").read_bytes()
    (table,) = struct.unpack_from("<Q", data, 16)
    assert crc32 == zlib.crc32(data[: 24 + 2 * 1041 + 2 * 24] + data[table:])


def test_a_sample_beyond_the_largest_page_is_refused(tmp_path: Path) -> None:
    # Address space only: nothing is written of it.
    huge = np.zeros(2**31 + 1, dtype=np.uint8)
    with BetonWriter(tmp_path / "a.beton", 1) as writer, pytest.raises(ConversionError, match="--max-side"):
        writer.append(huge.data, height=1, width=1, label=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [0, 1, 3, 6])
def test_it_goes_on_after_the_samples_that_are_replayed(tmp_path: Path, first: int) -> None:
    sizes = [700_000, 900_000, 600_000, 5, 2 * MIB, 3 * MIB]
    write(tmp_path / "whole.beton", sizes)
    with BetonWriter(tmp_path / "resumed.beton", 6) as writer:
        for k, size in enumerate(sizes[:first]):
            writer.append(bytes([k + 1]) * size, height=10 + k, width=20 + k, label=k % 3)
    with (tmp_path / "resumed.beton").open("ab") as file:
        file.write(b"what a kill left" * 500_000)
    with BetonWriter(tmp_path / "resumed.beton", 6) as writer:
        for k, size in enumerate(sizes[:first]):
            writer.replay(size, height=10 + k, width=20 + k, label=k % 3)
        writer.cut()
        for k, size in enumerate(sizes[first:], first):
            writer.append(bytes([k + 1]) * size, height=10 + k, width=20 + k, label=k % 3)
        writer.finish()
    assert (tmp_path / "resumed.beton").read_bytes() == (tmp_path / "whole.beton").read_bytes()


def test_a_raw_sample_says_so(tmp_path: Path) -> None:
    with BetonWriter(tmp_path / "a.beton", 1) as writer:
        assert writer.append(bytes(6), height=1, width=2, label=0, raw=True) == 2 * MIB
        writer.finish()
    _, rows, _ = parse((tmp_path / "a.beton").read_bytes())
    assert rows == [(1, 2, 1, 2 * MIB, 0)]
