"""The tables of an existing `.beton` file, ours or stock FFCV's: found, bounds-checked, never copied.

Accepted are files of one RGB image field and one integer field, of any names and in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_tools.checksum import crc32
from datasets_tools.errors import StoreError
from datasets_tools.store import beton

# ffcv/types.py: TYPE_ID_HANDLER; 255 is a field of the user's own.
_FIELD_TYPES = (
    "FloatField",
    "IntField",
    "RGBImageField",
    "BytesField",
    "NDArrayField",
    "JSONField",
    "TorchTensorField",
)


@dataclass(frozen=True, slots=True)
class Tables:
    """What a `.beton` file says of its samples.

    Attributes:
        page_size: in bytes; no sample is larger.
        rows: a record (N,) per sample: `label`, and `image` with `mode`, `height`, `width` and `data_ptr`.
        allocations: `beton.ALLOCATION` (N,), in any order.
        crc32: of the header, the field descriptors, the rows and the allocations, as `BetonWriter.finish` returns it.
    """

    page_size: int
    rows: NDArray[Any]
    allocations: NDArray[Any]
    crc32: int


def read_tables(path: Path, data: NDArray[np.uint8]) -> Tables:
    """Find the tables of a `.beton` file.

    Args:
        path: for messages.
        data: the whole file, uint8.

    Raises:
        StoreError: it is no FFCV file, has other fields, or its tables do not fit into it.
    """
    if data.size < beton.METADATA_START or data[:2].view("<u2")[0] != beton.VERSION:
        raise StoreError(f"{path}: is not an FFCV file of version {beton.VERSION}. Convert or copy it again.")
    header = data[: beton.HEADER.itemsize].view(beton.HEADER)[0]
    row = _row_type(path, int(header["num_fields"]), data)
    num_samples, allocation_start = int(header["num_samples"]), int(header["alloc_table_ptr"])
    data_start, data_end = beton.data_region(num_samples, data.size)
    if num_samples and (allocation_start != data_end or data_end < data_start):
        raise StoreError(
            f"{path}: is cut short or damaged: tables of {num_samples:,} samples, the last of them at "
            f"{allocation_start:,}, do not fit a file of {data.size:,} bytes. Convert or copy it again."
        )
    head, tail = data[:data_start], data[data_end:]
    return Tables(
        page_size=int(header["page_size"]),
        rows=head[beton.METADATA_START :].view(row),
        allocations=tail.view(beton.ALLOCATION),
        crc32=crc32(tail.data, crc32(head.data)),
    )


def _row_type(path: Path, num_fields: int, data: NDArray[np.uint8]) -> np.dtype[Any]:
    """Return the dtype of a metadata row; its size does not depend on the order of the two fields."""
    end = beton.HEADER.itemsize + num_fields * beton.FIELD_DESCRIPTOR.itemsize
    descriptors = data[beton.HEADER.itemsize : end]
    whole = descriptors[: descriptors.size // beton.FIELD_DESCRIPTOR.itemsize * beton.FIELD_DESCRIPTOR.itemsize]
    fields = whole.view(beton.FIELD_DESCRIPTOR)
    types = fields["type_id"].tolist()
    if num_fields != 2 or sorted(types) != [beton.INT_FIELD, beton.RGB_IMAGE_FIELD]:
        found = ", ".join(_describe(field) for field in fields[:8]) or "none"
        raise StoreError(
            f"{path}: has {num_fields} fields ({found}{', ...' if num_fields > 8 else ''}); fastbot reads files of one "
            "RGBImageField and one IntField. Write it again with those two."
        )
    image, label = ("image", beton.IMAGE_RECORD), ("label", np.dtype("<i8"))
    return np.dtype([image, label] if types[0] == beton.RGB_IMAGE_FIELD else [label, image], align=True)


def _describe(field: Any) -> str:
    name = field["name"].tobytes().split(b"\0")[0].decode("ascii", "backslashreplace")
    type_id = int(field["type_id"])
    return f"{name!r}: {_FIELD_TYPES[type_id] if type_id < len(_FIELD_TYPES) else f'type {type_id}'}"
