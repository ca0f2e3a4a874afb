"""Several files as one read-only range of memory, mapped one after another: one array reaches the bytes of all.

Python's own `mmap` cannot say where a file is to be mapped, so this calls libc: one range of addresses is reserved for
all files, then each is mapped into it at the next page boundary.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_tools.errors import StoreError, unreadable

# Linux, asm-generic/mman-common.h; Python's mmap does not name it, nor the first of <bits/mman-linux.h>.
_PROT_NONE = 0
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def map_file(path: Path) -> NDArray[np.uint8]:
    """Map one file.

    Args:
        path: the file.

    Returns:
        Its bytes, uint8 (size,), read-only.

    Raises:
        StoreError: it cannot be read or mapped, or is empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path}: is no file. Name a file.")
    if not status.st_size:
        raise StoreError(f"{path}: is empty. Copy it again, or convert the store again from its source.")
    return map_files([path], [status.st_size])[0]


def map_files(paths: Sequence[Path], sizes: Sequence[int]) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Map files one after another.

    Args:
        paths: at least one file.
        sizes: of the files, in bytes, at least 1 each.

    Returns:
        Their bytes, uint8, read-only, with zeros from each file's end to the next page boundary, and where in it each
        file begins. The mapping lives as long as the array or any view of it.

    Raises:
        StoreError: a file cannot be opened or mapped, or is of another size.
    """
    lengths = [-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes]
    starts = tuple(int(start) for start in np.cumsum([0, *lengths[:-1]]))
    reserved = _Range(sum(lengths), paths[0])
    for path, size, start in zip(paths, sizes, starts, strict=True):
        _map_at(reserved.address + start, path, size)
    return np.asarray(reserved)[: starts[-1] + sizes[-1]], starts


class _Range:
    """Reserved addresses, which numpy takes as an array's memory; given back when nothing refers to them any more."""

    def __init__(self, size: int, path: Path) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self.address = _mmap(path, None, size, _PROT_NONE, flags, -1)
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "data": (self.address, True),
            "shape": (size,),
            "typestr": "|u1",
        }
        # Not at exit: threads of a decoder may still be reading then, and the kernel frees everything anyway.
        weakref.finalize(self, _libc.munmap, self.address, size).atexit = False


def _map_at(address: int, path: Path, size: int) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        found = os.fstat(descriptor).st_size
        if found != size:
            raise StoreError(f"{path}: has {found:,} bytes, not {size:,}: it changes while it is opened. Try again.")
        _mmap(path, address, size, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, descriptor)
    finally:
        os.close(descriptor)


def _mmap(path: Path, address: int | None, size: int, protection: int, flags: int, descriptor: int) -> int:
    mapped: int = _libc.mmap(address, size, protection, flags, descriptor, 0)
    if mapped == _FAILED:
        raise StoreError(
            f"{path}: {size:,} bytes cannot be mapped into memory: {os.strerror(ctypes.get_errno())}. Raise the limits "
            "of address space (ulimit -v) or of mappings (vm.max_map_count)."
        )
    return mapped
