"""Members of tar files, nested ones included, listed and read where they lie: nothing is unpacked.

A walk over the 512-byte headers finds each member's bytes; Python's `tarfile` decodes the few that are not plain
(base-256 sizes, path prefixes, unusual checksums). One rule decides what a hostile or odd archive gets: an archive that
is cut off, or holds a name that leads elsewhere or that no manifest can hold, is refused with the member named; members
that are no regular files (links, devices) are passed over and counted.
"""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.tar_headers import EXTENSIONS, OTHER_KINDS, REGULAR, WITHOUT_DATA, Extended, plain_header

BLOCK = 512
# A long name or a pax header is a few hundred bytes; tarfile itself would read any size into memory.
_MAX_EXTENSION = 1 << 20
# Tar files end with two zero blocks, and most writers pad with zeros to a record of 20 blocks.
_PADDING = 20 * BLOCK
# Remote archives are listed by reading them through in pieces of this size: one request for each header would be
# a million round trips.
_REMOTE_PIECE = 4 << 20
# Linux's PATH_MAX.
_MAX_NAME = 4096
_NO_NAMES = frozenset({"", ".", ".."})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


class Member(NamedTuple):
    """A regular file in an archive: its name, and its first byte and size in the archive's file."""

    name: str
    start: int
    size: int


class TarArchive:
    """List the members of a tar file, or of a tar file that lies in a tar file.

    Args:
        location: the outermost file, a path or URL.
        inner: the member to list instead, itself a tar file.

    Attributes:
        name: what messages call it.

    Raises:
        SourceError: it cannot be read, or is compressed.
    """

    def __init__(self, location: str, inner: Member | None = None) -> None:
        self.location = location
        self.name = f"{location}: {inner.name}" if inner else location
        self._passed_over: Counter[str] = Counter()
        try:
            whole = files.size(location)
            self._start, self._stop = (inner.start, inner.start + inner.size) if inner else (0, whole)
            self._read: Callable[[int, int], bytes] = partial(files.read_range, location)
            if files.is_remote(location):
                self._read = _ReadAhead(location, self._stop).read
            self._check_uncompressed()
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {files.why(error)}") from error

    def __iter__(self) -> Iterator[Member]:
        """Yield the regular files in the archive's order.

        Raises:
            SourceError: the archive is cut off or damaged, or holds a name that is refused.
        """
        try:
            yield from self._members()
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {files.why(error)}") from error

    @property
    def notes(self) -> tuple[str, ...]:
        """What was passed over; complete after a full listing."""
        return tuple(f"{self.name}: {count:,} {kind} are passed over" for kind, count in self._passed_over.items())

    def read(self, member: Member) -> bytes:
        """Return a member's content.

        Raises:
            SourceError: it cannot be read.
        """
        try:
            return self._read(member.start, member.size)
        except OSError as error:
            raise SourceError(f"{self.name}: {member.name} cannot be read: {files.why(error)}") from error

    def _check_uncompressed(self) -> None:
        head = self._read(self._start, min(BLOCK, self._stop - self._start))
        for magic, kind in _COMPRESSED.items():
            if head.startswith(magic) and plain_header(head) is None:  # a member may be called BZh.jpg
                raise SourceError(
                    f"{self.name}: is compressed ({kind}), so its members cannot be read where they lie. "
                    "Decompress it first, for example with gunzip, and name the plain .tar file."
                )

    def _members(self) -> Iterator[Member]:
        position, extended = self._start, Extended()
        read, frombuf = self._read, self._decoded
        while True:
            if position + BLOCK > self._stop:
                raise self._cut_off(position)
            header = read(position, BLOCK)
            plain = plain_header(header)
            if plain is None and not header.strip(b"\0"):
                self._check_end(position)
                return
            position += BLOCK
            raw_name, size, kind = plain or frombuf(header, position)
            if kind in EXTENSIONS:
                extended.add(kind, self._extension(position, size, raw_name), self.name)
                position += _blocks(size)
                continue
            raw_name, size = extended.name or raw_name, size if extended.size is None else extended.size
            member = self._member(raw_name, position, size, kind, sparse=extended.sparse)
            if member is not None:
                yield member
            if kind not in WITHOUT_DATA:
                position += _blocks(size)
            extended = Extended()

    def _decoded(self, header: bytes, position: int) -> tuple[bytes, int, bytes]:
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise SourceError(
                f"{self.name}: is no tar file, or is damaged: at byte {position - BLOCK - self._start:,}: {error}. "
                "Get it again."
            ) from error
        name = info.name.encode("utf-8", "surrogateescape")
        if info.size < 0:
            raise SourceError(
                f"{self.name}: the size of {name!r} is {info.size}: the archive is damaged. Get it again."
            )
        return name, info.size, info.type

    def _extension(self, position: int, size: int, name: bytes) -> bytes:
        if size > _MAX_EXTENSION:
            raise SourceError(
                f"{self.name}: the extended header {name!r} has {size:,} bytes; at most {_MAX_EXTENSION:,} are read. "
                "The archive is damaged: get it again."
            )
        if position + size > self._stop:
            raise self._cut_off(position)
        return self._read(position, size)

    def _member(self, raw_name: bytes, start: int, size: int, kind: bytes, *, sparse: bool) -> Member | None:
        """Return a regular file's entry, or nothing for a folder or a member that is passed over."""
        name = _checked_name(self.name, raw_name)
        if kind == tarfile.DIRTYPE or raw_name.endswith(b"/"):
            return None
        if sparse or kind == tarfile.GNUTYPE_SPARSE:
            raise SourceError(f"{self.name}: {name} is stored as a sparse file. Pack the archive without --sparse.")
        if kind not in REGULAR:
            self._passed_over[OTHER_KINDS.get(kind, "members of unknown type")] += 1
            return None
        if start + size > self._stop:
            raise SourceError(
                f"{self.name}: ends early: {name} has {size:,} bytes, of which {max(0, self._stop - start):,} are "
                "there. Get the archive again."
            )
        return Member(name, start, size)

    def _check_end(self, position: int) -> None:
        rest = self._read(position, min(_PADDING, self._stop - position))
        if rest.strip(b"\0"):
            raise SourceError(
                f"{self.name}: holds more after its end mark, at byte {position - self._start:,}: archives glued "
                "together are not read beyond the first. Pack their members into one archive."
            )

    def _cut_off(self, position: int) -> SourceError:
        return SourceError(
            f"{self.name}: ends early, at byte {self._stop - self._start:,}, without an end mark. Get it again; if "
            f"only the mark is missing because its writer was never closed, add it: "
            f"head -c {2 * BLOCK} /dev/zero >> FILE."
        )


def _checked_name(archive: str, raw: bytes) -> str:
    """Return a member's name without `./`, or refuse the archive."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise _refused(archive, repr(raw), "is not UTF-8") from None
    if _CONTROL.search(name):
        raise _refused(archive, repr(name), "holds a control character")
    if len(raw) > _MAX_NAME:
        raise _refused(archive, f"{name[:60]}...", f"is longer than {_MAX_NAME:,} bytes")
    if name.startswith("/"):
        raise _refused(archive, name, "is an absolute path")
    if "/" not in name and name not in _NO_NAMES:
        return name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts and not name.endswith("/"):
        raise _refused(archive, repr(name), "is no name of a file")
    if ".." in parts:
        raise _refused(archive, name, "leads out of the archive")
    return "/".join(parts)


def _refused(archive: str, name: str, why: str) -> SourceError:
    return SourceError(f"{archive}: holds a member whose name {why}: {name}. Pack the archive again without it.")


def _blocks(size: int) -> int:
    """Return the space that `size` bytes take in an archive."""
    return -(-size // BLOCK) * BLOCK


class _ReadAhead:
    """A remote file's bytes, read in large pieces of which the last is kept."""

    def __init__(self, location: str, stop: int) -> None:
        self._location = location
        self._stop = stop
        self._start = 0
        self._piece = b""

    def read(self, start: int, count: int) -> bytes:
        """Return `count` bytes from `start`."""
        offset = start - self._start
        if not 0 <= offset <= len(self._piece) - count:
            self._start, offset = start, 0
            self._piece = files.read_range(self._location, start, max(count, min(_REMOTE_PIECE, self._stop - start)))
        return self._piece[offset : offset + count]
