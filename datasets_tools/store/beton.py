"""The binary layout of an FFCV `.beton` file, version 2: dtypes, constants and address arithmetic, nothing else.

    header | field descriptors | metadata rows | zeros | page | page | ... | allocation table

Every multi-byte number is little-endian. A sample's bytes lie inside one page; pages are aligned to their size, counted
from the start of the file. Our files have two fields, `image` (a JPEG or raw RGB pixels, in a page) and `label`
(in its row).

Source: ffcv 1.0.2, `ffcv/types.py`, `ffcv/fields/rgb_image.py`, `ffcv/memory_allocator.py`.
"""

from __future__ import annotations

import numpy as np

VERSION = 2
# ffcv/types.py: TYPE_ID_HANDLER.
INT_FIELD = 1
RGB_IMAGE_FIELD = 2
# ffcv/fields/rgb_image.py: IMAGE_MODES.
JPEG_MODE = 0
RAW_MODE = 1
# ffcv/writer.py: at least one huge page, and below 4 GiB because the header keeps the size in 32 bits.
MIN_PAGE_SIZE = 1 << 21
MAX_PAGE_SIZE = 1 << 31

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FIELD_DESCRIPTOR = np.dtype([("type_id", "<u1"), ("name", "<u1", 16), ("arguments", "<u1", 1024)], align=True)
# ffcv leaves the image's own record packed and aligns only the row around it.
IMAGE_RECORD = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
METADATA_ROW = np.dtype([("image", IMAGE_RECORD), ("label", "<i8")], align=True)
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])

METADATA_START = HEADER.itemsize + 2 * FIELD_DESCRIPTOR.itemsize


def field_descriptors() -> bytes:
    """Return the descriptors of our two fields, as they stand after the header."""
    descriptors = np.zeros(2, dtype=FIELD_DESCRIPTOR)
    for descriptor, type_id, name in zip(descriptors, (RGB_IMAGE_FIELD, INT_FIELD), (b"image", b"label"), strict=True):
        descriptor["type_id"] = type_id
        descriptor["name"][: len(name)] = np.frombuffer(name, dtype=np.uint8)
    return descriptors.tobytes()


def data_region(num_samples: int, file_size: int) -> tuple[int, int]:
    """Return where samples may lie in a whole file of two fields: behind the metadata rows, before the allocations."""
    return metadata_end(num_samples), file_size - num_samples * ALLOCATION.itemsize


def metadata_end(num_samples: int) -> int:
    """Return the offset after the metadata rows of `num_samples` samples."""
    return METADATA_START + num_samples * METADATA_ROW.itemsize


def align_up(offset: int, page_size: int) -> int:
    """Return the first page boundary at or after `offset`."""
    return -(-offset // page_size) * page_size


def page_size_for(num_bytes: int) -> int:
    """Return the smallest allowed page size (a power of two) that holds a sample of `num_bytes`."""
    return max(MIN_PAGE_SIZE, 1 << (num_bytes - 1).bit_length()) if num_bytes else MIN_PAGE_SIZE
