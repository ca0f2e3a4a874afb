from __future__ import annotations

import torch
from plans import train_plan

from datasets_tools.store import Split
from pipelines.backends.synthetic import RING_SIZE, SyntheticBackend
from pipelines.batch import BatchPlan

CPU = torch.device("cpu")
NO_SPLIT: Split = None  # it reads none


def plans(number: int, first: int = 0) -> list[BatchPlan]:
    return [train_plan([0] * 4, [(0, 0, 40, 50)] * 4, (16, 24), step) for step in range(first, first + number)]


def batches(seed: int, number: int = RING_SIZE, first: int = 0) -> list[torch.Tensor]:
    backend = SyntheticBackend(NO_SPLIT, device=CPU, num_threads=1, seed=seed)
    return [decoded.pixels for decoded in backend.pixels(plans(number, first))]


def test_pixels_have_the_planned_shape_and_the_range_of_bytes() -> None:
    images = batches(seed=0)[0]
    assert images.shape == (4, 16, 24, 3)
    assert images.dtype == torch.uint8
    assert images.min() == 0
    assert images.max() == 255


def test_pixels_follow_from_seed_and_step() -> None:
    whole, again, other = batches(seed=3, number=7), batches(seed=3, number=2, first=5), batches(seed=4)
    assert torch.equal(torch.stack(whole[5:]), torch.stack(again))
    assert not torch.equal(whole[0], other[0])
    assert len({images.numpy().tobytes() for images in whole}) == RING_SIZE


def test_a_step_makes_no_new_memory() -> None:
    assert len({images.data_ptr() for images in batches(seed=0, number=30)}) == RING_SIZE


def test_closing_releases_the_pixels_and_they_come_back_the_same() -> None:
    backend = SyntheticBackend(NO_SPLIT, device=CPU, num_threads=1)
    (before,) = backend.pixels(plans(1))
    backend.close()
    backend.close()
    (after,) = backend.pixels(plans(1))
    assert torch.equal(before.pixels, after.pixels)
    assert before.pixels.data_ptr() != after.pixels.data_ptr()


def test_nothing_fails() -> None:
    assert not any(decoded.failed for decoded in SyntheticBackend(NO_SPLIT, device=CPU, num_threads=1).pixels(plans(3)))
