"""The parts of the ffcv decoder that need no loader."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("ffcv")

from pipelines.backends.ffcv_decoder import decoding_costs, jpeg_size, share_out


def encode(height: int, width: int, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "jpeg", **options)
    return buffer.getvalue()


def size_of(data: bytes) -> tuple[int, int]:
    return jpeg_size(np.frombuffer(data, np.uint8))


@given(st.lists(st.integers(0, 10**7), max_size=60), st.integers(1, 17))
def test_work_is_shared_out_evenly(costs: list[int], num_workers: int) -> None:
    workers = share_out(np.array(costs, np.uint64), num_workers)
    loads = np.zeros(num_workers, np.int64)
    np.add.at(loads, workers, costs)
    assert loads.max() - loads.min() <= max(costs, default=0)


def test_one_jpeg_is_more_work_than_four_larger_raw_pictures() -> None:
    sizes, raw = np.array([600_000, 600_000, 100_000, 600_000, 600_000], np.uint64), np.array([1, 1, 0, 1, 1], np.bool_)
    workers = share_out(decoding_costs(sizes, raw), 2)
    assert len(set(workers[raw])) == 1
    assert workers[2] not in workers[raw]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("L", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"restart_marker_rows": 1}),
        ("RGB", {"exif": b"Exif\0\0" + bytes(3000)}),
        ("RGB", {"icc_profile": bytes(70_000)}),
        ("RGB", {"comment": encode(10, 20)}),
    ],
    ids=["baseline", "grey", "progressive", "restarts", "EXIF", "profile in two segments", "thumbnail in a comment"],
)
def test_jpeg_size_is_that_of_the_frame(mode: str, options: dict[str, object]) -> None:
    assert size_of(encode(301, 4000, mode, **options)) == (301, 4000)


def test_jpeg_size_skips_padding_before_a_marker() -> None:
    data = encode(33, 44)
    assert size_of(data[:2] + b"\xff\xff" + data[2:]) == (33, 44)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_jpeg_size_of_anything_ends(tail: bytes) -> None:
    assert min(size_of(b"\xff\xd8" + tail)) >= 0


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"GIF89a" + bytes(50), encode(5, 7)[:20]])
def test_jpeg_size_of_no_jpeg_is_zero(data: bytes) -> None:
    assert size_of(data) == (0, 0)
