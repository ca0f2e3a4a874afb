"""What every source offers to a conversion.

A source lists its pictures without reading them: `Entries` is a compact table of keys and labels (a million pictures
are a few dozen megabytes), and `Entries.runs` cuts it into `Run`s, small picklable orders that a worker process carries
out: consecutive pictures, read in one go where the layout allows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets_tools.errors import PictureError, SourceError

Options = Mapping[str, str | int | float | bool]
# Pictures in a run: few keep the window of work in flight small, more than one amortize the cost of a task.
RUN_LENGTH = 16
# Bytes of an encoded picture. A picture of Pillow's limit of 179 million pixels is half of this as plain RGB; a larger
# file is no photograph, and every worker would hold it whole.
MAX_PICTURE_BYTES = 1 << 30


class Run(Protocol):
    """Consecutive pictures of one split, to be read by one worker. Picklable and small."""

    def __len__(self) -> int: ...

    @property
    def first_key(self) -> str:
        """The first picture's key, for messages about the run as a whole."""
        ...

    def read(self) -> Iterator[tuple[str, bytes | PictureError]]:
        """Yield each picture's key and encoded bytes, or why this one picture cannot be had.

        Raises:
            OSError: the source itself cannot be read (any more).
        """
        ...


class KeyedRun:
    """What runs have in common that carry their pictures' keys."""

    __slots__ = ()
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def first_key(self) -> str:
        """The first picture's key."""
        return self.keys[0]


class Entries(Protocol):
    """The pictures of one split, in the order of their sample ids; listed, not read."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes, int64 (N,): indices into the source's class names."""
        ...

    def __len__(self) -> int: ...

    def key(self, index: int) -> str:
        """Return a picture's name in the source, unique in its split, for example `n01440764/n01440764_18.JPEG`."""
        ...

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """Yield runs that together are pictures `start` to `stop`, in order, each as long as suits the layout."""
        ...


class Source(Protocol):
    """Pictures and labels in some layout."""

    @property
    def name(self) -> str:
        """The layout, as `fastbot convert` calls it."""
        ...

    @property
    def options(self) -> Options:
        """What decided the content besides the files themselves; goes into the manifest. No paths, no times."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """Names by label."""
        ...

    @property
    def splits(self) -> Mapping[str, Entries]:
        """Entries by split name: `train`, `val`, then others."""
        ...

    @property
    def label_sets(self) -> Mapping[str, Mapping[str, Sequence[Sequence[int]]]]:
        """Further labels: by split, by name of the set (`real`), for each entry the list of its right classes."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was recognised, passed over, or is unusual; one line each, for the user."""
        ...


class Names:
    """A sequence of strings in one block of UTF-8: 8 bytes a string besides its text, where `str` takes 50.

    Args:
        names: the strings.

    Raises:
        UnicodeEncodeError: one is not valid Unicode (a file name of undecodable bytes).
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._text = bytearray()
        self._ends = array("Q", [0])
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a string at the end."""
        self._text += name.encode()
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._text[self._ends[index] : self._ends[index + 1]].decode()


def check_name(name: str, where: str) -> None:
    """Refuse a name that a list of names, one a line and in UTF-8, could not hold.

    Args:
        name: of a file, a folder or a class.
        where: what to call its place in the message.

    Raises:
        SourceError: it holds a line break, or is not valid Unicode (undecodable bytes of a file name).
    """
    if name.splitlines() != [name]:
        raise SourceError(f"{where}: {name!r} is empty or holds a line break. Rename it.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"{where}: {name!r} is not UTF-8. Rename it.") from error


def first_duplicate(names: Sequence[str] | Names) -> tuple[int, int] | None:
    """Return the indices of a name's first two occurrences, or None where all names differ.

    Sorts 8 bytes of hash a name, where a set of them would take a hundred and more.
    """
    hashes = np.fromiter((hash(names[index]) for index in range(len(names))), np.int64, len(names))
    order = np.argsort(hashes, kind="stable")
    is_repeated = hashes[order][1:] == hashes[order][:-1]
    # All of one hash lie together; different names hardly ever share one, so the candidates are few.
    candidates = np.unique(np.concatenate([order[1:][is_repeated], order[:-1][is_repeated]]))
    seen: dict[str, int] = {}
    for index in candidates.tolist():
        first = seen.setdefault(names[index], index)
        if first != index:
            return first, index
    return None


def too_large(key: str, size: int) -> PictureError | None:
    """Return the error for an encoded picture of more than `MAX_PICTURE_BYTES`, else None: to be asked before reading.

    Args:
        key: the picture's name.
        size: in bytes.
    """
    if size <= MAX_PICTURE_BYTES:
        return None
    return PictureError(key, f"is too large: {size:,} bytes, where at most {MAX_PICTURE_BYTES:,} are allowed")


def cuts(start: int, stop: int, length: int = RUN_LENGTH) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges of at most `length` that together are `start` to `stop`."""
    for first in range(start, stop, length):
        yield first, min(first + length, stop)


class Entry(Protocol):
    """One picture that can be read alone. Picklable: it travels to a worker process, which reads it."""

    @property
    def key(self) -> str:
        """Its name in the source, unique in its split."""
        ...

    @property
    def label(self) -> int:
        """Its class."""
        ...

    def read(self) -> bytes:
        """Return the encoded picture.

        Raises:
            PictureError: this picture alone cannot be had.
            OSError: the source cannot be read.
        """
        ...


AnyEntry = TypeVar("AnyEntry", bound=Entry)


@dataclass(frozen=True, slots=True)
class EntryRun:
    """A run of pictures that are read one by one."""

    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def first_key(self) -> str:
        """The first picture's key."""
        return self.entries[0].key

    def read(self) -> Iterator[tuple[str, bytes | PictureError]]:
        """Yield each picture's key and bytes, or its error."""
        for entry in self.entries:
            try:
                yield entry.key, entry.read()
            except PictureError as error:
                yield entry.key, error


class EntryList(Generic[AnyEntry]):
    """Entries that are Python objects: for small data sets, made-up ones, and tests.

    Args:
        entries: in the order of their sample ids.
    """

    def __init__(self, entries: Sequence[AnyEntry]) -> None:
        self.entries = entries
        self.labels: NDArray[np.int64] = np.array([entry.label for entry in entries], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.entries)

    def key(self, index: int) -> str:
        """Return a picture's name."""
        return self.entries[index].key

    def runs(self, start: int, stop: int) -> Iterator[EntryRun]:
        """Yield runs of at most `RUN_LENGTH` entries."""
        for first, last in cuts(start, stop):
            yield EntryRun(self.entries[first:last])
