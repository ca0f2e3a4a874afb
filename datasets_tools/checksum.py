"""CRC-32 as zip, gzip and zlib have it: by ISA-L where the package `isal` is installed, else by zlib.

ISA-L folds with carry-less multiplication: several times faster than the zlib that most systems ship.
"""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]
