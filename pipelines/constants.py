"""Arrays that every batch of a plan shares, because nothing is drawn for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


def constant(value: ArrayLike, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a read-only array of `value`, which is broadcast to `shape`."""
    array = np.full(shape, value, dtype)
    array.flags.writeable = False
    return array
