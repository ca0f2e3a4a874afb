"""JSON files of a store, which may come from anywhere: bounded in size, and refused in words."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from datasets_tools.errors import StoreError, unreadable


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file, which need not be ours.

    Raises:
        StoreError: it cannot be read, or is larger than `max_bytes`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise StoreError(f"{path}: cannot be read: it is no file. Copy it again.")
        check_size(str(path), status.st_size, max_bytes)
        with path.open("rb") as file:
            return file.read(status.st_size)
    except OSError as error:
        raise unreadable(path, error) from error


def parse_json(location: str, data: bytes) -> object:
    """Return what JSON says.

    Args:
        location: for messages.
        data: the JSON.

    Raises:
        StoreError: it cannot be parsed.
    """
    try:
        content: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{location}: cannot be parsed: {error}. Convert the store again from its source.") from error
    return content


def check_size(location: str, size: int, max_bytes: int) -> None:
    """Refuse a file that is too large to be what it is taken for.

    Raises:
        StoreError: it has more than `max_bytes`.
    """
    if size > max_bytes:
        raise StoreError(f"{location}: has {size:,} bytes; at most {max_bytes:,} are read. Copy it again.")
