"""What every backend that decodes promises: order, reading only a little ahead, errors with names, no thread left."""

from __future__ import annotations

import contextlib
import io
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plans import train_plan
from stores import StoredPicture, flip_bytes, write_split

from datasets_tools.errors import DamagedSampleError
from datasets_tools.photographs import load
from datasets_tools.store import Split
from pipelines.backends import choose
from pipelines.batch import Backend, BatchPlan
from pipelines.errors import BadPictureError, SpecError

HEIGHT, WIDTH = 90, 120
GOOD, NOISE, TRUNCATED, FLIPPED, FLIPPED_RAW = range(12), 12, 13, 14, 15
RAW = (1, 2, 5, 11, FLIPPED_RAW)
NUM_SAMPLES = 16
MAX_AHEAD = 6
PACKAGES = {"dali": "nvidia.dali", "ffcv": "ffcv"}


def encode(row: int) -> bytes:
    """Return a piece of a photograph, a different one for each `row`, as a JPEG or as it is."""
    pixels = load("coffee")[10 * row :][:HEIGHT, :WIDTH]
    if row in RAW:
        return pixels.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def data(sample_id: int) -> bytes:
    whole = encode(sample_id)
    match sample_id:
        case 12:
            return np.random.default_rng(0).bytes(len(whole))
        case 13:
            return whole[: len(whole) // 3]
        case _:
            return whole


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    pictures = [StoredPicture(f"a/{i}.jpg", data(i), HEIGHT, WIDTH, raw=i in RAW) for i in range(NUM_SAMPLES)]
    written = write_split(tmp_path_factory.mktemp("store"), pictures, num_shards=5)
    flip_bytes(written, FLIPPED)
    flip_bytes(written, FLIPPED_RAW)
    return written


@pytest.fixture(
    scope="module", params=["torch", "turbo", "dali", pytest.param("ffcv", marks=pytest.mark.slow)]
)  # FFCV compiles for seconds
def build(request: pytest.FixtureRequest, split: Split) -> Callable[[], Backend]:
    name = request.param
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])

    def build() -> Backend:
        return choose.build(name, split, device=torch.device("cpu"), num_threads=2)

    # Once through: what a package keeps for the life of the process is then there before a test counts.
    backend = build()
    for _ in backend.pixels([plan_of(0, 1)]):
        pass
    backend.close()
    return build


@pytest.fixture
def backend(build: Callable[[], Backend]) -> Iterator[Backend]:
    built = build()
    yield built
    built.close()


def plan_of(*ids: int, step: int = 0) -> BatchPlan:
    return train_plan(ids, [(7, 9, 64, 80)] * len(ids), (32, 40), step)


def images_of(backend: Backend, plans: Iterable[BatchPlan]) -> list[torch.Tensor]:
    return [decoded.pixels.clone() for decoded in backend.pixels(plans)]


def good_plans(number: int) -> list[BatchPlan]:
    return [plan_of(step % len(GOOD), (step + 1) % len(GOOD), step=step) for step in range(number)]


def num_threads() -> int:
    """Count Python's threads, and DALI's native ones, which it names.

    Those of numba's pool are left out: FFCV's loop starts one more when it first needs it, and the process keeps it.
    """
    return threading.active_count() + sum(name.startswith("[DALI]") for name in native_names())


def native_names() -> Iterator[str]:
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            yield (task / "comm").read_text()


def threads_ended(before: int) -> bool:
    """Wait until no more than `before` threads are left; one that was joined takes the system a moment to bury."""
    deadline = time.monotonic() + 10
    while num_threads() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    return num_threads() <= before


def test_batches_come_in_the_order_of_their_plans(backend: Backend) -> None:
    one_by_one = [images_of(backend, [plan])[0] for plan in good_plans(8)]
    together = images_of(backend, good_plans(8))
    assert len({images.numpy().tobytes() for images in together}) == 8
    for alone, among_others in zip(one_by_one, together, strict=True):
        assert among_others.shape == (2, 32, 40, 3)
        assert among_others.dtype == torch.uint8
        assert torch.equal(alone, among_others)


def test_plans_are_read_a_bounded_number_ahead(backend: Backend) -> None:
    read: list[int] = []

    def plans() -> Iterator[BatchPlan]:
        for plan in good_plans(40):
            read.append(plan.step)
            yield plan

    for number, _ in enumerate(backend.pixels(plans()), start=1):
        assert len(read) <= number + MAX_AHEAD
    assert number == 40


def test_no_plans_make_no_batches(backend: Backend) -> None:
    assert list(backend.pixels([])) == []


def test_threads_end_with_the_plans(build: Callable[[], Backend]) -> None:
    before = num_threads()
    backend = build()
    for _ in range(2):
        assert len([None for _ in backend.pixels(good_plans(5))]) == 5
    backend.close()
    backend.close()
    assert threads_ended(before)


def test_threads_end_when_the_consumer_breaks(backend: Backend) -> None:
    before = num_threads()
    for _ in range(3):
        for _ in backend.pixels(good_plans(30)):
            assert num_threads() > before
            break
    assert threads_ended(before)


def test_threads_end_when_the_backend_is_closed_half_way(build: Callable[[], Backend]) -> None:
    before = num_threads()
    backend = build()
    stream = backend.pixels(good_plans(30))
    next(stream)
    backend.close()
    assert threads_ended(before)


BAD = {NOISE: BadPictureError, TRUNCATED: BadPictureError, FLIPPED: DamagedSampleError, FLIPPED_RAW: DamagedSampleError}
BAD_ROWS = {
    "undecodable": [[0, 1, 2, 3], [4, NOISE, 5, 6], [7, 8, TRUNCATED, 9]],
    "damaged": [[0, 1, 2, 3], [4, FLIPPED, 5, 6], [7, 8, FLIPPED_RAW, 9]],
    "first and last row": [[NOISE, 1, 2, FLIPPED], [FLIPPED_RAW, 4, 5, TRUNCATED]],
    "two of one batch": [[0, NOISE, TRUNCATED, 1], [2, 3, 4, 5], [FLIPPED, 6, 7, NOISE]],
    "the same twice": [[NOISE, 0, NOISE, 1], [2, NOISE, 3, FLIPPED], [FLIPPED, 4, 5, 6]],
    "a whole batch": [[0, 1, 2, 3], [NOISE, TRUNCATED, FLIPPED, FLIPPED_RAW], [4, 5, 6, 7]],
    "every batch": [[step, NOISE, TRUNCATED, step + 4] for step in range(7)],
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_zeros_and_named_and_the_others_whole(backend: Backend, name: str) -> None:
    batches = BAD_ROWS[name] + [[step, step + 1, step + 2, step + 3] for step in range(8)]
    alone = dict(zip(GOOD, images_of(backend, [plan_of(sample_id) for sample_id in GOOD]), strict=True))
    blank = torch.zeros((1, 32, 40, 3), dtype=torch.uint8)
    delivered = 0
    for ids, decoded in zip(
        batches, backend.pixels(plan_of(*ids, step=k) for k, ids in enumerate(batches)), strict=True
    ):
        assert torch.equal(decoded.pixels, torch.cat([alone.get(sample_id, blank) for sample_id in ids]))
        assert {row: type(error) for row, error in decoded.failed.items()} == {
            row: BAD[sample_id] for row, sample_id in enumerate(ids) if sample_id in BAD
        }
        for row, error in decoded.failed.items():
            assert error.sample_id == ids[row]
            assert f"sample {ids[row]} (a/{ids[row]}.jpg)" in str(error)
        delivered += 1
    assert delivered == len(batches)


def test_bad_rows_hold_no_threads_and_come_again_in_the_next_epoch(backend: Backend) -> None:
    before, kept = num_threads(), []
    for _ in range(3):
        for decoded in backend.pixels([plan_of(0, 1), plan_of(5, NOISE), plan_of(FLIPPED, 2), plan_of(3, 4)]):
            kept.append(decoded.failed)
    assert [list(failed) for failed in kept] == [[], [1], [0], []] * 3
    backend.close()
    assert threads_ended(before), "the errors that are still held must not hold threads"


# Prints what the backend raises when a shard that no batch has touched yet is cut while it runs.
CUT = """
import os, pickle, sys, torch
from datasets_tools.errors import StoreError
from pipelines.backends import choose

name, split, before, after = pickle.load(sys.stdin.buffer)

def plans():
    yield before
    os.truncate(split.shards[1].path, 4096)
    yield after

try:
    for _ in choose.build(name, split, device=torch.device("cpu"), num_threads=2).pixels(plans()):
        print("a batch")
except StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_file_that_is_cut_while_it_is_read_is_named(backend: Backend, tmp_path: Path) -> None:
    """In a process of its own: reading behind a mapped file's end kills."""
    pictures = [StoredPicture(f"a/{i}.jpg", encode(i), HEIGHT, WIDTH, raw=i in RAW) for i in GOOD]
    written = write_split(tmp_path, pictures, num_shards=2)
    handed = pickle.dumps((backend.name, written, plan_of(0, 1), plan_of(2, 11, step=1)))
    done = subprocess.run([sys.executable, "-c", CUT], input=handed, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    first, error = done.stdout.decode().splitlines()
    assert first == "a batch"
    assert error.startswith(f"{written.shards[1].path}: has changed since it was opened")


@pytest.mark.parametrize("sample_id", [0, RAW[0]], ids=["JPEG", "raw"])
@pytest.mark.parametrize("window", [(0, 0, HEIGHT + 1, 10), (-1, 0, 9, 10), (0, 20, 9, WIDTH - 19)], ids=str)
def test_a_window_that_leaves_its_picture_is_refused(
    backend: Backend, window: tuple[int, int, int, int], sample_id: int
) -> None:
    with pytest.raises(SpecError, match=rf"sample {sample_id} "):
        list(backend.pixels([train_plan([sample_id], [window], (32, 40))]))


def test_an_error_of_the_plans_passes_through(backend: Backend) -> None:
    before = num_threads()

    def plans() -> Iterator[BatchPlan]:
        yield from good_plans(2)
        raise ZeroDivisionError("in the plan")

    with pytest.raises(ZeroDivisionError, match="in the plan"):
        list(backend.pixels(plans()))
    assert threads_ended(before)
