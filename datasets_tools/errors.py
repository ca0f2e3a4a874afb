"""Errors of the store and of conversions.

    DataError
    ├── SourceError          what the user points `convert` at cannot be read as that layout
    ├── PictureError         one picture cannot be decoded; carries its key and the reason
    ├── ConversionError      the run as a whole failed: bad pictures, no space, a worker died
    ├── MissingPackageError  a package or extension that a feature needs is not installed
    └── StoreError           a store (or a file of it) is missing, damaged, or of another version
        └── DamagedSampleError   one sample's stored bytes fail their checksum; carries its id

Every message says where, what was found, what is allowed, and what to do.
"""

from __future__ import annotations

import errno
from pathlib import Path


class DataError(Exception):
    """Base of everything `datasets_tools` raises for bad input."""


class SourceError(DataError):
    """The source folder or file does not hold what its layout promises."""


class PictureError(DataError):
    """One picture cannot be used.

    Args:
        key: the picture's name in its source, for example `train/n01440764/n01440764_18.JPEG`.
        reason: one short sentence without the key, for example `ends early: 120 of 375 rows decoded`.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str]]:
        return PictureError, (self.key, self.reason)


class ConversionError(DataError):
    """A conversion failed; nothing was left that could be taken for a whole store."""


class MissingPackageError(DataError):
    """A package or extension that a feature needs is not installed; the message has the line that installs it."""


class StoreError(DataError):
    """A store, or one of its files, is missing, damaged, or of another version."""


# Where the file is as good as ever, and what keeps it from being read is elsewhere.
_REMEDIES = {
    errno.EMFILE: "Raise the limit (ulimit -n).",
    errno.ENFILE: "Close other programs, or raise the machine's limit (fs.file-max).",
    errno.EACCES: "Give this user the right to read it.",
    errno.EPERM: "Give this user the right to read it.",
    errno.EIO: "The disk or its connection failed: read the system's log (dmesg).",
}


def unreadable(path: Path, error: OSError) -> StoreError:
    """Return what is to be raised where the system does not let a file of a store be read.

    Args:
        path: of the file.
        error: the system's.
    """
    remedy = _REMEDIES.get(error.errno or 0, "Copy it again, or convert the store again from its source.")
    return StoreError(f"{path}: cannot be read: {error.strerror or error}. {remedy}")


def remedy_of_version(found: object, known: int) -> str:
    """Return what to do about a store, or a file of one, whose format is of another version.

    Args:
        found: its version, or what stands in its place.
        known: the version that this fastbot reads.
    """
    if isinstance(found, int) and found > known:
        return "A newer fastbot wrote it. Upgrade fastbot."
    return "Convert the store again with this fastbot."


class DamagedSampleError(StoreError):
    """A sample's stored bytes are not those that were written.

    Args:
        sample_id: the sample's id in its split.
        message: where, what was found, what to do.
    """

    def __init__(self, sample_id: int, message: str) -> None:
        super().__init__(message)
        self.sample_id = sample_id

    def __reduce__(self) -> tuple[type[DamagedSampleError], tuple[int, str]]:
        return DamagedSampleError, (self.sample_id, str(self))
