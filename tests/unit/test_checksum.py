from __future__ import annotations

import importlib
import sys
import zlib

import pytest

from datasets_tools import checksum


def test_it_is_the_crc32_of_zlib() -> None:
    assert checksum.crc32(b"123456789") == 0xCBF43926  # the check value of CRC-32/ISO-HDLC
    for size in (0, 1, 63, 100_000):
        data = bytes(k * 7 & 255 for k in range(size))
        assert checksum.crc32(data) == zlib.crc32(data)
        assert checksum.crc32(memoryview(data), 17) == zlib.crc32(data, 17)


def test_without_isal_zlib_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "isal.isal_zlib", None)
        assert importlib.reload(checksum).crc32 is zlib.crc32
    importlib.reload(checksum)
