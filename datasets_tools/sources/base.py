"""What every source offers to a conversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Entry(Protocol):
    """One picture of a source, not read yet. Picklable: it travels to a worker process, which reads it."""

    @property
    def key(self) -> str:
        """Its name in the source, unique in its split, for example `n01440764/n01440764_18.JPEG`."""
        ...

    @property
    def label(self) -> int:
        """Its class, an index into the source's class names."""
        ...

    def read(self) -> bytes:
        """Return the encoded picture.

        Raises:
            OSError: it cannot be read.
        """
        ...


class Source(Protocol):
    """Pictures and labels in some layout, listed but not read."""

    @property
    def name(self) -> str:
        """The layout, as `fastbot convert` calls it."""
        ...

    @property
    def options(self) -> Mapping[str, str | int | float | bool]:
        """What decided the content besides the files themselves; goes into the manifest. No paths, no times."""
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """Names by label."""
        ...

    @property
    def splits(self) -> Mapping[str, Sequence[Entry]]:
        """Entries by split name (`train`, `val`), in the order of their sample ids."""
        ...
