"""`digest`: SHA-256 of files, of large ones in parts, told by hashlib and coreutils."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from datasets_tools import digest
from datasets_tools.digest import PATTERN, Digest, FileDigest

PART = 2 << 20


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "PART_BYTES", PART)


def content(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def composite(data: bytes) -> str:
    parts = [hashlib.sha256(data[start : start + PART]).digest() for start in range(0, len(data), PART)]
    return f"{hashlib.sha256(b''.join(parts)).hexdigest()}-{len(parts)}"


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART])
def test_a_small_file_has_its_plain_sha256(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(size))
    expected = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout[:64]
    assert Digest(path.read_bytes()).text() == expected
    with FileDigest(path) as file:
        assert file.text() == expected


@pytest.mark.parametrize("size", [PART + 1, 2 * PART, 5 * PART + 12345])
def test_a_large_file_has_the_digest_of_its_parts(tmp_path: Path, size: int) -> None:
    path, data = tmp_path / "file", content(size)
    path.write_bytes(data)
    assert re.fullmatch(PATTERN, composite(data))
    with FileDigest(path) as file:
        assert file.text() == composite(data)


@pytest.mark.parametrize("step", [1 << 16, PART - 1, PART, PART + 1, 3 * PART])
def test_bytes_may_come_in_any_pieces(step: int) -> None:
    data = content(3 * PART + 77)
    running = Digest()
    for start in range(0, len(data), step):
        running.update(memoryview(data)[start : start + step])
    assert running.text() == composite(data)


def test_a_growing_file_whose_start_is_written_last(tmp_path: Path) -> None:
    path, data, num_open = tmp_path / "file", content(6 * PART + 9), PART + 5
    path.write_bytes(bytes(num_open))
    with path.open("r+b") as file, FileDigest(path, num_open) as growing:
        for end in (num_open, 3 * PART - 1, 3 * PART, 5 * PART + 1, len(data)):
            file.seek(file.seek(0, 2))
            file.write(data[file.tell() : end])
            file.flush()
            growing.advance(end)
        file.seek(0)
        file.write(data[:num_open])
        file.flush()
        assert growing.text() == composite(data)


def test_parts_are_hashed_before_the_file_is_finished(tmp_path: Path) -> None:
    path, data = tmp_path / "file", content(3 * PART)
    path.write_bytes(data)
    with FileDigest(path) as growing:
        growing.advance(2 * PART)
        growing._pool.shutdown(wait=True)
        assert [growing._parts[number].result() for number in range(2)] == [
            hashlib.sha256(data[start : start + PART]).digest() for start in (0, PART)
        ]
        assert 2 not in growing._parts
