"""Damage as disks and networks do it to JPEGs, and an independent judge of what it did: libjpeg's own warnings."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from native_codec import build

SECTOR = 512  # of a disk, in bytes


class WarningCounter:
    """Counts libjpeg's warnings of scans.

    Args:
        folder: where its program is built.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = build("jpeg_warnings", folder)

    def count(self, pictures: Sequence[bytes]) -> list[int]:
        """Return how often libjpeg warned once each picture's first scan had begun, -1 where it could not decode it."""
        files = [self._folder / f"{number}.jpg" for number in range(len(pictures))]
        for file, data in zip(files, pictures, strict=True):
            file.write_bytes(data)
        result = subprocess.run([self._program, *files], check=True, capture_output=True, text=True)
        return [int(line) for line in result.stdout.split()]


def _replaced(data: bytes, scan: int, content: bytes, generator: random.Random) -> bytes:
    """A sector with other content, before the picture's end: zeros up to there would be padding."""
    place = generator.randrange(scan, len(data) - SECTOR - 16)
    return data[:place] + content + data[place + SECTOR :]


def random_sector(data: bytes, scan: int, generator: random.Random) -> bytes:
    return _replaced(data, scan, generator.randbytes(SECTOR), generator)


def zeroed_sector(data: bytes, scan: int, generator: random.Random) -> bytes:
    return _replaced(data, scan, bytes(SECTOR), generator)


def flipped_bit(data: bytes, scan: int, generator: random.Random) -> bytes:
    place = generator.randrange(scan, len(data) - 2)
    return data[:place] + bytes([data[place] ^ 1 << generator.randrange(8)]) + data[place + 1 :]


def lost_bytes(data: bytes, scan: int, generator: random.Random) -> bytes:
    place = generator.randrange(scan, len(data) - 66)
    return data[:place] + data[place + generator.randrange(1, 64) :]


DAMAGES: Mapping[str, Callable[[bytes, int, random.Random], bytes]] = {
    "random sector": random_sector,
    "zeroed sector": zeroed_sector,
    "flipped bit": flipped_bit,
    "lost bytes": lost_bytes,
}


def damaged(data: bytes, damage: str, count: int, seed: int = 0) -> list[bytes]:
    """Return `count` copies of a JPEG that are each damaged once behind its first scan header."""
    generator = random.Random(seed)
    scan = data.index(b"\xff\xda") + 14
    return [DAMAGES[damage](data, scan, generator) for _ in range(count)]
