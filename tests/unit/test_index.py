from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path

import numpy as np
import pytest

from datasets_tools.errors import StoreError
from datasets_tools.jpeg import Subsampling
from datasets_tools.store.index import HEADER, RECORD, Flag, Index, IndexBuilder, SampleInfo, StoredFormat

INFOS = [
    SampleInfo("n01/ä 1.jpg", 0xFFFF_FFFF, 3, Subsampling.S420, 6, 0, Flag(0)),
    SampleInfo("n01/2.jpg", 7, 1, Subsampling.GREY, 0, 65_535, Flag.PROGRESSIVE | Flag.REENCODED),
    SampleInfo("", 0, 3, Subsampling.S444, 8, 4, Flag.REPAIRED, StoredFormat.RAW),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    builder = IndexBuilder(5)
    for k, info in enumerate(INFOS):
        builder.append(info, offset=2**40 + k, size=2**31 - k, height=65_535 - k, width=k + 1, label=1000 + k)
    builder.write(tmp_path / "train.index", beton_crc32=0xDEAD_BEEF)
    return tmp_path / "train.index"


def test_everything_of_a_sample_comes_back(path: Path) -> None:
    index = Index(path)
    assert [index[k] for k in range(index.num_samples)] == INFOS
    assert [index.key(k) for k in range(3)] == [info.key for info in INFOS]
    assert index.beton_crc32 == 0xDEAD_BEEF
    np.testing.assert_array_equal(index.records["crc32"], [0xFFFF_FFFF, 7, 0])
    np.testing.assert_array_equal(index.records["offset"], [2**40, 2**40 + 1, 2**40 + 2])
    np.testing.assert_array_equal(index.records["size"], [2**31, 2**31 - 1, 2**31 - 2])
    np.testing.assert_array_equal(index.records["height"], [65_535, 65_534, 65_533])
    np.testing.assert_array_equal(index.records["width"], [1, 2, 3])
    np.testing.assert_array_equal(index.records["label"], [1000, 1001, 1002])


def test_the_checksum_is_zlibs(path: Path) -> None:
    data = path.read_bytes()
    assert int.from_bytes(data[12:16], "little") == zlib.crc32(data[HEADER.itemsize :])


def test_records_are_aligned_for_whole_word_reads() -> None:
    assert HEADER.itemsize % 8 == RECORD.itemsize % 8 == 0


def test_an_existing_index_is_never_overwritten(path: Path) -> None:
    with pytest.raises(FileExistsError):
        IndexBuilder(0).write(path, 0)


def test_a_key_that_is_no_utf8_reads_escaped(tmp_path: Path) -> None:
    """The checksum only says that the bytes are those that were written, not who wrote them."""
    builder = IndexBuilder(1)
    builder.append(dataclasses.replace(INFOS[0], key="\xe4"), offset=0, size=1, height=1, width=1, label=0)
    path = tmp_path / "x.index"
    builder.write(path, 0)
    data = bytearray(path.read_bytes())
    data[-2:] = b"\xff\xfe"
    data[12:16] = zlib.crc32(data[HEADER.itemsize :]).to_bytes(4, "little")
    path.write_bytes(data)
    assert Index(path).key(0) == r"\xff\xfe"


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


@pytest.mark.parametrize("version", [1, 9])
def test_another_version_is_named(path: Path, version: int) -> None:
    data = bytearray(path.read_bytes())
    data[8] = version
    path.write_bytes(data)
    with pytest.raises(StoreError, match=rf"store of another version.*version {version}.*reads version 2") as caught:
        Index(path)
    assert ("Upgrade fastbot" if version > 2 else "Convert the store again") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100])
def test_what_is_no_index_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"train\.index"):
        Index(path)
