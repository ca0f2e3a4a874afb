from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets_tools.errors import StoreError
from datasets_tools.index import Flag, Index, IndexBuilder, SampleInfo, Subsampling

RECORDS = [
    SampleInfo("n01/ä 1.jpg", 0xFFFF_FFFF, 3, Subsampling.S420, 6, 0, Flag(0)),
    SampleInfo("n01/2.jpg", 7, 1, Subsampling.GREY, 0, 65_535, Flag.PROGRESSIVE | Flag.REENCODED),
    SampleInfo("", 0, 3, Subsampling.OTHER, 8, 4, Flag.REPAIRED),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    builder = IndexBuilder(5)
    for record in RECORDS:
        builder.append(record)
    builder.write(tmp_path / "train.index", beton_crc32=0xDEAD_BEEF)
    return tmp_path / "train.index"


def test_records_come_back(path: Path) -> None:
    index = Index(path)
    assert [index[k] for k in range(index.num_samples)] == RECORDS
    assert [index.key(k) for k in range(3)] == [record.key for record in RECORDS]
    assert index.beton_crc32 == 0xDEAD_BEEF
    np.testing.assert_array_equal(index.records["crc32"], [0xFFFF_FFFF, 7, 0])


@pytest.mark.parametrize("offset", [50, -1])
def test_one_flipped_bit_is_found(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"train\.index: is damaged"):
        Index(path)


def test_a_cut_file_is_found(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"train\.index: is damaged"):
        Index(path)


def test_another_version_is_named(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"store of another version.*version 9.*reads version 1"):
        Index(path)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100])
def test_what_is_no_index_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"train\.index"):
        Index(path)
