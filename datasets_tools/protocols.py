"""What lies behind a URL, by way of fsspec: its file system, and errors that say what is really wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import fsspec

# Packages that fsspec needs for the protocols that data sets are usually kept behind.
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
    "hf": "huggingface_hub",
}
# HTTP's answers that say that something is not there: Not Found and Gone.
_ABSENT_STATUS = frozenset({404, 410})


@contextmanager
def reached(url: str) -> Iterator[tuple[Any, str]]:
    """Give fsspec's file system for a URL and the path in it; every error inside becomes an OSError that names it."""
    try:
        opened = cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    except Exception as error:
        raise _named(url, _why_unusable(url, error)) from error
    try:
        yield opened
    except Exception as error:
        cause = _cause(error)
        if isinstance(cause, FileNotFoundError):
            raise FileNotFoundError(f"{url}: no such file or folder") from error
        raise _named(url, f"{type(cause).__name__}: {cause}") from error


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
