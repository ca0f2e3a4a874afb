"""What lies behind a URL, by way of fsspec: its file system, errors that say what is really wrong, and patience."""

from __future__ import annotations

import errno
import io
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import fsspec

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Pause = Callable[[float], object]
_Result = TypeVar("_Result")

# Packages that fsspec needs for the protocols that data sets are usually kept behind.
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
    "hf": "huggingface_hub",
    **dict.fromkeys(("http", "https"), "'fsspec[http]'"),
}
# HTTP's answers that say that something is not there: Not Found and Gone.
_ABSENT_STATUS = frozenset({404, 410})
# HTTP's answers that accuse the request, but mean the moment: Request Timeout, Too Early, Too Many Requests.
_PASSING_STATUS = frozenset({408, 425, 429})
# Between attempts, half to one and a half times as long: many clients that failed together must not return together.
_PAUSES_S = (1.0, 4.0, 16.0)
# Full, read-only or forbidden: waiting does not help.
_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}


@contextmanager
def reached(url: str) -> Iterator[tuple[Any, str]]:
    """Give fsspec's file system for a URL and the path in it; every error inside becomes an OSError that names it."""
    try:
        opened = cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    except Exception as error:
        raise _named(url, _why_unusable(url, error)) from error
    with errors_named(url):
        yield opened


@contextmanager
def errors_named(url: str) -> Iterator[None]:
    """Turn every error of a file system into an OSError that names the URL, and whose cause is what really failed."""
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        if isinstance(cause, FileNotFoundError):
            raise FileNotFoundError(f"{url}: no such file or folder") from cause
        raise _named(url, f"{type(cause).__name__}: {cause}") from cause


def open_remote(url: str) -> BinaryIO:
    """Open a file behind a URL for reading, seekable.

    Raises:
        OSError: it cannot be read; so does whatever reads from it.
    """

    def opened() -> BinaryIO:
        with reached(url) as (file_system, path):
            return cast(BinaryIO, file_system.open(path, "rb"))

    return io.BufferedReader(_RemoteFile(url, persistently(opened)))


def persistently(
    attempt: Callable[[], _Result], pause: Pause = time.sleep, progress: Callable[[], int] = lambda: 0
) -> _Result:
    """Try something until it succeeds, or has failed once more than there are pauses.

    Args:
        attempt: what to try; an OSError is a failure.
        pause: how to wait so many seconds.
        progress: how far it is: failures before it moved on are forgiven.

    Raises:
        OSError: the last failure, or the first that cannot pass.
    """
    failures, before = 0, progress()
    while True:
        try:
            return attempt()
        except OSError as error:
            if is_permanent(error):
                raise
            failures, before = 1 + failures * (progress() == before), progress()
            if failures > len(_PAUSES_S):
                raise _given_up(error, failures) from error
        pause(_PAUSES_S[failures - 1] * random.uniform(0.5, 1.5))


def is_permanent(error: OSError) -> bool:
    """Return whether an error, or the file system's own behind it, stays however long one waits."""
    return any(_stays(reason) for reason in (error, error.__cause__))


def _stays(reason: BaseException | None) -> bool:
    kinds = (FileNotFoundError, PermissionError, NotADirectoryError, ImportError, ValueError)
    status = getattr(reason, "status", None)
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in _PASSING_STATUS
    return isinstance(reason, kinds) or getattr(reason, "errno", None) in _PERMANENT or is_refused


def _given_up(error: OSError, failures: int) -> OSError:
    given_up = OSError(f"{error} (tried {failures} times)")
    if error.strerror is not None:
        given_up.strerror = f"{error.strerror} (tried {failures} times)"
    return given_up


class _RemoteFile(io.RawIOBase):
    """A file behind a URL, read with patience, and with errors that name it."""

    def __init__(self, url: str, file: BinaryIO) -> None:
        super().__init__()
        self._url, self._file = url, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with errors_named(self._url):
            return self._file.seek(offset, whence)

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        start = self.tell()

        def attempt() -> bytes:
            with errors_named(self._url):
                self._file.seek(start)
                return self._file.read(len(view))

        data = persistently(attempt)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _named(url: str, reason: str) -> OSError:
    """Return an error that names the URL, and whose reason (`why`) does not, for callers that name it themselves."""
    error = OSError(f"{url}: {reason}")
    error.strerror = reason
    return error


def _why_unusable(url: str, error: Exception) -> str:
    """Say why fsspec has no file system for a URL."""
    protocol = url.partition("://")[0].rpartition("::")[2]
    if protocol not in fsspec.available_protocols():
        return f"there is no protocol {protocol}://"
    said = str(error).rstrip(".")
    if not isinstance(error, ImportError):
        return f"{type(error).__name__}: {said}"
    package = _PACKAGES.get(protocol)
    hint = f"pip install {package}" if package else f"install the fsspec package of that protocol ({said})"
    return f"{protocol}:// needs one more package: {hint}"


def _cause(error: Exception) -> BaseException:
    """Return what really failed: fsspec calls a web server that refuses or does not answer an absent file too."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or cause is None or isinstance(cause, FileNotFoundError):
        return error
    is_failure = isinstance(cause, OSError) or getattr(cause, "status", 404) not in _ABSENT_STATUS
    return cause if is_failure else error
