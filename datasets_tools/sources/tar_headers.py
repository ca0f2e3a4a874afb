"""The headers of tar files: what one says of its member, and what extended headers say of the member after them."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from datasets_tools.errors import SourceError

OTHER_KINDS = {
    tarfile.LNKTYPE: "hard links",
    tarfile.SYMTYPE: "symbolic links",
    tarfile.CHRTYPE: "devices",
    tarfile.BLKTYPE: "devices",
    tarfile.FIFOTYPE: "pipes",
}
REGULAR = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
WITHOUT_DATA = frozenset(OTHER_KINDS) | {tarfile.DIRTYPE}
EXTENSIONS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
_SIZE = re.compile(rb"[0-9]{1,20}")


@dataclass(slots=True)
class Extended:
    """What extended headers say of the member that follows them."""

    name: bytes | None = None
    size: int | None = None
    sparse: bool = False

    def add(self, kind: bytes, data: bytes, archive: str) -> None:
        """Take in one extended header.

        Args:
            kind: its type flag, one of `EXTENSIONS`.
            data: its content.
            archive: what messages call the archive.

        Raises:
            SourceError: it is damaged, or speaks of all members that follow.
        """
        if kind == tarfile.GNUTYPE_LONGNAME:
            self.name = data.split(b"\0", 1)[0]
        elif kind in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            self._add_pax(dict(_pax_records(data, archive)))
        elif kind == tarfile.XGLTYPE and {b"path", b"size"} & dict(_pax_records(data, archive)).keys():
            raise SourceError(f"{archive}: a global header renames all its members. Pack it again with GNU tar.")

    def _add_pax(self, records: Mapping[bytes, bytes]) -> None:
        self.name = records.get(b"path", self.name)
        self.sparse = self.sparse or any(key.startswith(b"GNU.sparse.") for key in records)
        if b"size" in records:
            self.size = int(records[b"size"])


def _pax_records(data: bytes, archive: str) -> Iterator[tuple[bytes, bytes]]:
    r"""Yield the keys and values of a pax header: records of `length key=value\n`, the length in decimal."""
    position = 0
    while position < len(data) and data[position]:
        digits, _, _ = data[position : position + 20].partition(b" ")
        stop = position + int(digits) if digits.isdigit() else 0
        key, equals, value = data[position + len(digits) + 1 : max(0, stop - 1)].partition(b"=")
        if (
            not equals
            or stop > len(data)
            or data[stop - 1] != ord("\n")
            or (key == b"size" and not _SIZE.fullmatch(value))
        ):
            raise SourceError(f"{archive}: a pax header is damaged: {data[position : position + 40]!r}. Get it again.")
        yield key, value
        position = stop


def plain_header(header: bytes) -> tuple[bytes, int, bytes] | None:
    """Decode the header of an ordinary file, fast; nothing for any other.

    Adler-32's lower half is 1 + the sum of all bytes modulo 65521; a tar header's checksum is that sum with the
    checksum's own eight bytes taken as spaces.
    """
    kind = header[156:157]
    if (kind != b"0" and kind != b"\0") or (header[345] and header[257:263] == b"ustar\0"):
        return None
    stated = header[148:156]
    try:
        size, checksum = int(header[124:136].rstrip(b"\0"), 8), int(stated.split(b"\0", 1)[0], 8)
    except ValueError:
        return None
    if size < 0 or (checksum + sum(stated) - 8 * 32 + 1) % 65521 != zlib.adler32(header) & 0xFFFF:
        return None
    return header[:100].split(b"\0", 1)[0], size, kind
