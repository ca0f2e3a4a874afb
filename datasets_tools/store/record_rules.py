"""What readers rely on in an index's records: checked at opening, for all records at once."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_tools.jpeg import Subsampling
from datasets_tools.store import beton
from datasets_tools.store.index import StoredFormat


def record_faults(
    records: NDArray[Any], *, keys_size: int, data_start: int, data_end: int, num_classes: int
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Check what readers rely on, rule by rule, over all records at once.

    Args:
        records: `RECORD` (N,).
        keys_size: of all keys together, in bytes.
        data_start, data_end: where samples may lie in the `.beton` file.
        num_classes: labels are below it.

    Yields:
        What is wrong with a record that breaks a rule, and which do, bool (N,).
    """
    sizes, formats = records["size"], records["stored_format"]
    heights, widths = records["height"].astype(np.uint64), records["width"].astype(np.uint64)
    yield (
        "its bytes lie outside the samples' part of the file",
        _outside(records["offset"], sizes, data_start, data_end) | (sizes == 0),
    )
    yield "it is larger than the format allows", sizes > beton.MAX_PAGE_SIZE
    yield "its height or width is 0", (heights == 0) | (widths == 0)
    yield f"its label is not in 0 to {num_classes - 1}", (records["label"] < 0) | (records["label"] >= num_classes)
    yield "its format is unknown", ~_member(StoredFormat)[formats]
    raw = formats == StoredFormat.RAW
    yield "its size is not height x width x 3, but it is raw", raw & (sizes != heights * widths * np.uint64(3))
    yield "its key lies outside the keys", _outside(records["key_start"], records["key_size"], 0, keys_size)
    components, subsampling = records["components"], records["subsampling"]
    yield "its number of components is unknown", (components != 1) & (components != 3)
    yield "its subsampling is unknown", ~_member(Subsampling)[subsampling]
    yield "its orientation is unknown", records["orientation"] > 8


def _outside(starts: NDArray[Any], sizes: NDArray[Any], first: int, last: int) -> NDArray[np.bool_]:
    """Return which ranges leave first to last. Sums of two numbers from a file could wrap around; this cannot."""
    last = max(0, last)  # of a file that is smaller than its tables it is negative
    outside: NDArray[np.bool_] = (starts < first) | (starts > last) | (sizes > last - np.minimum(starts, last))
    return outside


def _member(kind: type[IntEnum]) -> NDArray[np.bool_]:
    """Return which bytes are values of an enumeration: bool (256,)."""
    table = np.zeros(256, dtype=np.bool_)
    table[[int(value) for value in kind]] = True
    return table
