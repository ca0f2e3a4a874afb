"""A remote file system that is told when to fail: kept in memory, reached as faulty://..."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

Fault = Callable[[str, str], None]


class FaultyFileSystem(MemoryFileSystem):
    """Calls `fault(operation, path)` before each operation, and passes what it reads through `spoil`."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fault: ClassVar[Fault]
    spoil: ClassVar[Callable[[str, bytes], bytes]]
    operations: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self._met("put", rpath)
        super().put_file(lpath, rpath, **options)
        self._met("put done", rpath)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self._met("ls", path)
        return super().ls(path, detail, **options)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._met("pipe", path)
        super().pipe_file(path, value, mode, **options)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, **options)
        self._met("open", path)
        super()._open(path, mode, **options)  # there must be such a file
        return _FaultyFile(self, path, self.store[self._strip_protocol(path)].getvalue())

    def _met(self, operation: str, path: str) -> None:
        name = path.rsplit("/", 1)[-1]
        self.operations.append((operation, name))
        type(self).fault(operation, name)


class _FaultyFile:
    """Reads in blocks as small as a test's pictures."""

    def __init__(self, file_system: FaultyFileSystem, path: str, data: bytes) -> None:
        self._file_system, self._path = file_system, path
        self._data, self._position = data, 0

    def __enter__(self) -> _FaultyFile:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, count: int) -> bytes:
        self._file_system._met("read", self._path)
        start = self._position
        data = self._data[start : start + min(count, 4096)]
        self._position += len(data)
        return type(self._file_system).spoil(self._path.rsplit("/", 1)[-1], data)


@contextmanager
def faulty_file_system() -> Iterator[type[FaultyFileSystem]]:
    """Register the file system, empty and without faults."""
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
    FaultyFileSystem.store.clear()
    FaultyFileSystem.operations.clear()
    FaultyFileSystem.fault = staticmethod(lambda operation, name: None)
    FaultyFileSystem.spoil = staticmethod(lambda name, data: data)
    yield FaultyFileSystem
    FaultyFileSystem.store.clear()


class Times:
    """A fault that raises an error the first times that an operation on a file is met.

    Args:
        operation: that fails.
        suffix: of the file's name.
        error: what is raised.
        count: how often.
        after: how many pass before.
    """

    def __init__(self, operation: str, suffix: str, error: BaseException, count: int = 1, after: int = 0) -> None:
        self._wanted = (operation, suffix)
        self._error = error
        self._count, self._after = count, after

    def __call__(self, operation: str, name: str) -> None:
        if operation != self._wanted[0] or not name.endswith(self._wanted[1]):
            return
        self._after -= 1
        if self._after < 0 and self._count > 0:
            self._count -= 1
            raise self._error
