"""What the ffcv backend does besides pixels on photographs, which `tests/parity/test_backends.py` compares."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from plans import geometry_plan, train_plan
from stores import StoredPicture, flip_bytes, write_split

pytest.importorskip("ffcv")

from benchmarks.peers.stock_ffcv import Loader
from datasets_tools import jpeg
from datasets_tools.errors import DamagedSampleError
from datasets_tools.store import Split
from pipelines.backends import choose
from pipelines.backends.ffcv import FfcvBackend
from pipelines.backends.ffcv_import import thread_counts_kept
from pipelines.backends.turbo import TurboBackend
from pipelines.batch import BatchPlan, Interpolation
from pipelines.errors import BackendUnavailable, BadPictureError, PipelineError, SpecError

CPU = torch.device("cpu")
SIZE = (24, 32)
AHEAD = 2

# Height, width, mode and encoding of pictures that decode; their ids are 0 to 7.
GOOD: list[tuple[int, int, str, dict[str, object]]] = [
    (90, 120, "RGB", {"subsampling": "4:2:0"}),
    (91, 121, "RGB", {"subsampling": "4:4:4"}),
    (75, 64, "RGB", {"subsampling": "4:2:2"}),
    (80, 60, "L", {}),
    (64, 99, "RGB", {"subsampling": "4:2:0", "progressive": True}),
    (7, 5, "RGB", {"subsampling": "4:2:0"}),
    (1, 1, "RGB", {"subsampling": "4:4:4"}),
    (300, 400, "RGB", {"subsampling": "4:2:0", "restart_marker_rows": 1}),
]
GOOD_IDS = list(range(len(GOOD)))
CUT_SHORT, NOISY, WRONG_SIZE, NOT_A_JPEG, DAMAGED, RAW, RAW_PIXEL = range(len(GOOD), len(GOOD) + 7)


def gradient(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A smooth picture, different for every seed: JPEG keeps it, so that a wrong picture or place is seen."""
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    y, x = np.mgrid[0:height, 0:width] / 40
    return np.stack([127 + 90 * np.sin(y * (1 + i) + x + phase[i]) for i in range(3)], axis=-1).astype(np.uint8)


def encode(height: int, width: int, mode: str, options: dict[str, object], seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(gradient(height, width, seed)).convert(mode).save(buffer, "jpeg", quality=95, **options)
    return buffer.getvalue()


def stored_pictures() -> list[StoredPicture]:
    data = [encode(*picture, seed) for seed, picture in enumerate(GOOD)]
    good = [StoredPicture(f"good {i}", data[i], GOOD[i][0], GOOD[i][1]) for i in GOOD_IDS]
    middle = len(data[0]) * 2 // 3
    return [
        *good,
        StoredPicture("cut short", data[0][:middle], 90, 120),
        StoredPicture("noisy", data[7].replace(b"\xff\xd3", b"\xff\x01"), 300, 400),
        StoredPicture("wrong size", data[0], 120, 90),
        StoredPicture("not a jpeg", b"GIF89a" + bytes(100), 90, 120),
        StoredPicture("damaged", data[1], 91, 121),
        StoredPicture("raw", gradient(90, 120, seed=0).tobytes(), 90, 120, raw=True),
        StoredPicture("raw pixel", b"\x01\x80\xff", 1, 1, raw=True),
    ]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    written = write_split(tmp_path_factory.mktemp("store"), stored_pictures(), num_shards=4)
    flip_bytes(written, DAMAGED)
    return written


@pytest.fixture(scope="module")
def backend(split: Split) -> Iterator[FfcvBackend]:
    built = FfcvBackend(split, device=CPU, num_threads=2, ahead=AHEAD)
    yield built
    built.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def whole(split: Split, ids: list[int], step: int = 0) -> BatchPlan:
    sizes = np.stack([split.heights[ids], split.widths[ids]], axis=1)
    return train_plan(ids, np.concatenate([np.zeros_like(sizes), sizes], axis=1), SIZE, step)


def collect(backend: FfcvBackend, plans: list[BatchPlan]) -> list[NDArray[np.uint8]]:
    return [decoded.pixels.numpy().copy() for decoded in backend.pixels(plans)]


def pillow(split: Split, sample_id: int) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(split.encoded(sample_id).tobytes())).convert("RGB")
    return np.asarray(image.resize(SIZE[::-1], Image.Resampling.BILINEAR))


def test_every_kind_of_jpeg_is_the_picture_that_pillow_decodes(backend: FfcvBackend, split: Split) -> None:
    (images,) = collect(backend, [whole(split, GOOD_IDS)])
    for sample_id in GOOD_IDS:
        difference = np.abs(images[sample_id].astype(int) - pillow(split, sample_id))
        assert difference.mean() < 1.5, split.key(sample_id)


def test_a_batch_of_raw_pictures_alone_needs_no_decoder(backend: FfcvBackend, split: Split) -> None:
    (images,) = collect(backend, [whole(split, [RAW, RAW_PIXEL])])
    expected = np.asarray(Image.fromarray(gradient(90, 120, seed=0)).resize(SIZE[::-1], Image.Resampling.BILINEAR))
    assert np.abs(images[0].astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(images[1], np.broadcast_to([1, 128, 255], (*SIZE, 3)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_pixels_are_turbos(backend: FfcvBackend, split: Split, interpolation: Interpolation) -> None:
    ids = [*GOOD_IDS, RAW, RAW_PIXEL]
    sizes = np.stack([split.heights[ids], split.widths[ids]], axis=1).astype(np.float64)
    windows = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    boxes = np.concatenate([sizes * 0.21, sizes * 0.63], axis=1)
    plan = replace(geometry_plan(ids, windows.astype(int).tolist(), boxes.tolist(), SIZE), interpolation=interpolation)
    (expected,) = TurboBackend(split, device=CPU, num_threads=1).pixels([plan])
    assert not expected.failed
    np.testing.assert_array_equal(collect(backend, [plan])[0], expected.pixels.numpy())


def test_yields_uint8_on_the_cpu_in_the_shape_of_the_plan(backend: FfcvBackend, split: Split) -> None:
    (decoded,) = backend.pixels([whole(split, [0, 1, 2])])
    images = decoded.pixels
    assert images.shape == (3, *SIZE, 3)
    assert images.dtype == torch.uint8
    assert images.device == CPU
    assert images.is_contiguous()


def test_a_fractional_box_in_the_whole_picture_equals_pillow(backend: FfcvBackend, split: Split) -> None:
    box = (10.4, 33.3, 41.7, 60.9)
    (images,) = collect(backend, [geometry_plan([1], [(0, 0, 91, 121)], [box], SIZE)])
    image = Image.open(io.BytesIO(split.encoded(1).tobytes()))
    corners = (box[1], box[0], box[1] + box[3], box[0] + box[2])
    expected = np.asarray(image.resize(SIZE[::-1], Image.Resampling.BILINEAR, box=corners))
    assert np.abs(images[0].astype(int) - expected).max() <= 1


def test_a_sample_may_be_repeated_with_other_crops(backend: FfcvBackend, split: Split) -> None:
    crops = [(0, 0, 300, 400), (100, 50, 80, 90), (0, 0, 300, 400)]
    (images,) = collect(backend, [train_plan([7, 7, 7], crops, SIZE)])
    np.testing.assert_array_equal(images[0], images[2])
    crop = Image.open(io.BytesIO(split.encoded(7).tobytes())).crop((50, 100, 140, 180))
    expected = np.asarray(crop.resize(SIZE[::-1], Image.Resampling.BILINEAR))
    assert np.abs(images[1].astype(int) - expected).mean() < 1.5


def test_batches_come_in_the_order_of_plans_and_the_last_may_be_short(backend: FfcvBackend, split: Split) -> None:
    expected = collect(backend, [whole(split, GOOD_IDS)])[0]
    orders = [[step % 8, (step * 3 + 1) % 8, (step * 5 + 2) % 8] for step in range(9)] + [[5]]
    batches = collect(backend, [whole(split, ids, step) for step, ids in enumerate(orders)])
    for ids, images in zip(orders, batches, strict=True):
        np.testing.assert_array_equal(images, expected[ids])


def test_epochs_follow_each_other_in_other_shapes(backend: FfcvBackend, split: Split) -> None:
    first = collect(backend, [whole(split, GOOD_IDS)])[0]
    bigger = collect(backend, [train_plan([7] * 12, [(0, 0, 300, 400)] * 12, (60, 50))])[0]
    again = collect(backend, [whole(split, GOOD_IDS)])[0]
    assert bigger.shape == (12, 60, 50, 3)
    np.testing.assert_array_equal(first, again)


def test_no_plans_give_no_batches(backend: FfcvBackend) -> None:
    assert collect(backend, []) == []


def test_one_thread_gives_the_pixels_of_two_and_thread_counts_stay(backend: FfcvBackend, split: Split) -> None:
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(3)
    try:
        alone = FfcvBackend(split, device=CPU, num_threads=1, ahead=AHEAD)
        plans = [whole(split, GOOD_IDS)]
        np.testing.assert_array_equal(collect(alone, plans), collect(backend, plans))
        assert (torch.get_num_threads(), numba.get_num_threads()) == (3, before[1])
        on_another_thread: list[int] = []
        thread = threading.Thread(target=lambda: on_another_thread.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert on_another_thread == [3]
    finally:
        torch.set_num_threads(before[0])


def test_numpys_global_generator_is_left_alone(split: Split) -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    FfcvBackend(split, device=CPU, num_threads=1).close()
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_a_stock_loader_beside_it_leaves_numbas_shared_array_types_alone(split: Split) -> None:
    """FFCV's own memory manager assigns to one; functions compiled for it are broken from then on."""
    shared = numba.uint8[::1]
    with thread_counts_kept():
        Loader(str(split.path), batch_size=1, num_workers=1, seed=0, pipelines={"image": None, "label": None})
    assert shared.mutable
    assert numba.uint8[::1] is shared


def test_a_batch_stays_whole_until_the_next_is_asked_for(backend: FfcvBackend, split: Split) -> None:
    batches = backend.pixels(whole(split, [step % 8] * 3, step) for step in range(12))
    for decoded in batches:
        at_first = decoded.pixels.clone()
        time.sleep(0.02)  # long enough for every free slot to be written
        assert torch.equal(decoded.pixels, at_first)


def test_plans_are_read_a_bounded_number_ahead(backend: FfcvBackend, split: Split) -> None:
    read: list[int] = []

    def plans() -> Iterator[BatchPlan]:
        for step in itertools.count():
            read.append(step)
            yield whole(split, [0], step)

    batches = backend.pixels(plans())
    for _ in range(3):
        next(batches)
    time.sleep(0.1)
    assert len(read) <= 3 + AHEAD + 1
    batches.close()


def test_leaving_the_loop_stops_the_threads(backend: FfcvBackend, split: Split) -> None:
    for _ in backend.pixels(whole(split, GOOD_IDS, step) for step in itertools.count()):
        break
    assert not [thread.name for thread in threading.enumerate() if "ffcv" in thread.name]


def test_close_stops_what_is_still_read_and_may_be_called_twice(backend: FfcvBackend, split: Split) -> None:
    batches = backend.pixels(whole(split, GOOD_IDS, step) for step in itertools.count())
    next(batches)
    backend.close()
    backend.close()
    with pytest.raises(PipelineError, match="closed"):
        list(batches)


@pytest.mark.timeout(60)
def test_an_error_in_the_plan_reaches_the_consumer(backend: FfcvBackend, split: Split) -> None:
    def plans() -> Iterator[BatchPlan]:
        yield whole(split, [0])
        yield whole(split, [1])
        raise ZeroDivisionError("in the plan")

    seen = []
    with pytest.raises(ZeroDivisionError, match="in the plan"):
        seen.extend(decoded.pixels.clone() for decoded in backend.pixels(plans()))
    assert len(seen) == 2


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("sample_id", "reason"),
    [
        (CUT_SHORT, "ends early"),
        (NOISY, "corrupt near row 64 of 300"),
        (WRONG_SIZE, "is 90 pixels high and 120 wide, the store says 120 and 90"),
        (NOT_A_JPEG, "is no JPEG"),
    ],
    ids=["cut short", "noisy", "wrong size", "not a jpeg"],
)
def test_a_bad_picture_is_named(backend: FfcvBackend, split: Split, sample_id: int, reason: str) -> None:
    first, second = (decoded.failed for decoded in backend.pixels([whole(split, [0, 2]), whole(split, [1, sample_id])]))
    assert first == {}
    assert list(second) == [1]
    assert isinstance(second[1], BadPictureError)
    assert reason in str(second[1])
    assert second[1].key == split.key(sample_id)


@pytest.mark.timeout(60)
def test_a_damaged_sample_is_named_by_its_checksum_even_where_it_decodes(backend: FfcvBackend, split: Split) -> None:
    (decoded,) = backend.pixels([whole(split, [0, DAMAGED])])
    assert isinstance(decoded.failed[1], DamagedSampleError)
    assert decoded.pixels[0].any()
    assert not decoded.pixels[1].any()


@pytest.mark.parametrize(
    ("sample_id", "window", "box"),
    [
        (0, (0, 0, 91, 120), (0, 0, 91, 120)),
        (0, (-1, 0, 90, 120), (0, 0, 80, 120)),
        (0, (0, 0, 90, 0), (0, 0, 90, 1)),
        (0, (10, 10, 40, 40), (9.5, 10, 40, 40)),
        (0, (10, 10, 40, 40), (10, 10, 40, 40.5)),
        (0, (0, 0, 90, 120), (0, 0, float("nan"), 120)),
        (-1, (0, 0, 1, 1), (0, 0, 1, 1)),
        (1000, (0, 0, 1, 1), (0, 0, 1, 1)),
    ],
    ids=str,
)
def test_geometry_outside_the_picture_is_refused(
    backend: FfcvBackend, sample_id: int, window: tuple[int, ...], box: tuple[float, ...]
) -> None:
    with pytest.raises(SpecError, match=f"sample {sample_id} "):
        collect(backend, [geometry_plan([sample_id], [window], [box], SIZE)])


def test_a_batch_larger_than_the_first_is_refused(backend: FfcvBackend, split: Split) -> None:
    with pytest.raises(SpecError, match="has 3 rows"):
        collect(backend, [whole(split, [0, 1]), whole(split, [0, 1, 2])])


def test_without_the_codec_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch, split: Split) -> None:
    monkeypatch.delitem(sys.modules, "pipelines.backends.ffcv")
    monkeypatch.setattr(jpeg, "problem", lambda: "the JPEG codec is not built: run pip install -e .")
    with pytest.raises(BackendUnavailable, match=r"backend ffcv cannot run here: the JPEG codec .* pip install -e \."):
        choose.build("ffcv", split, device=CPU, num_threads=1)


_IMPORT = """
import numba, torch
torch.set_num_threads(3)
numba_threads = numba.get_num_threads()
import pipelines.backends.ffcv
assert (torch.get_num_threads(), numba.get_num_threads()) == (3, numba_threads)
"""


@pytest.mark.slow
def test_importing_it_warns_of_nothing_and_sets_no_thread_count() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", _IMPORT], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "distutils" not in done.stderr
