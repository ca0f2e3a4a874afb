"""JPEGs in memory, as every decoder gets them: one set in one order, and of each the region of a random crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Window = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Photos:
    """JPEGs with three components.

    Attributes:
        data: uint8, all files, one behind another.
        offsets, sizes: uint64 (n,), where each lies in `data`.
        heights, widths: int32 (n,), in pixels.
        windows: int32 (n, 4), top, left, height, width of the region of each that is asked for.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    windows: NDArray[np.int32]

    @classmethod
    def of(
        cls, files: Sequence[NDArray[np.uint8]], shapes: Sequence[tuple[int, int]], windows: Sequence[Window]
    ) -> Photos:
        """Put files into one piece of memory.

        Args:
            files: uint8 (size,), each a JPEG.
            shapes: height and width of each.
            windows: the region of each.
        """
        sizes = np.array([len(file) for file in files], np.uint64)
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.uint64)
        heights, widths = np.array(shapes, np.int32).T.copy()
        return cls(np.concatenate(files), offsets, sizes, heights, widths, np.array(windows, np.int32))

    def __len__(self) -> int:
        return len(self.sizes)

    def file(self, number: int) -> NDArray[np.uint8]:
        """Return one JPEG, not copied."""
        offset = int(self.offsets[number])
        return self.data[offset : offset + int(self.sizes[number])]

    def window(self, number: int) -> Window:
        """Return top, left, height and width of one region."""
        top, left, height, width = self.windows[number].tolist()
        return top, left, height, width
