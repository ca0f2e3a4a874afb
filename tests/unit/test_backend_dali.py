from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from plans import train_plan
from stores import StoredPicture, write_split

from datasets_tools.photographs import load
from datasets_tools.store import Split
from pipelines.batch import BatchPlan
from pipelines.errors import PipelineError

pytest.importorskip("nvidia.dali")

from pipelines.backends import dali
from pipelines.backends.dali import DaliBackend

HEIGHT, WIDTH = 60, 80


@pytest.fixture
def split(tmp_path: Path) -> Split:
    buffer = io.BytesIO()
    Image.fromarray(load("chelsea")[:HEIGHT, :WIDTH]).save(buffer, "jpeg", quality=90)
    return write_split(tmp_path, [StoredPicture("cat.jpg", buffer.getvalue(), HEIGHT, WIDTH)])


@pytest.fixture
def backend(split: Split) -> DaliBackend:
    return DaliBackend(split, device=torch.device("cpu"), num_threads=2)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of every pipeline that is built."""
    sizes: list[int] = []

    class Counted(dali.Pipeline):
        def __init__(self, **options: object) -> None:
            sizes.append(options["batch_size"])
            super().__init__(**options)

    monkeypatch.setattr(dali, "Pipeline", Counted)
    return sizes


def plans(number: int, rows: int = 2, size: int = 16) -> list[BatchPlan]:
    return [train_plan([0] * rows, [(step, 0, 40, 50)] * rows, (size, size), step) for step in range(number)]


def test_one_pipeline_serves_every_epoch(backend: DaliBackend, builds: list[int]) -> None:
    epochs = [[images.clone() for images in backend.pixels(plans(5))] for _ in range(3)]
    assert builds == [2]
    for epoch in epochs[1:]:
        assert all(torch.equal(*pair) for pair in zip(epochs[0], epoch, strict=True))


def test_a_pipeline_is_built_anew_for_another_shape_and_after_a_break(backend: DaliBackend, builds: list[int]) -> None:
    assert [images.shape for images in backend.pixels(plans(1))] == [(2, 16, 16, 3)]
    assert [images.shape for images in backend.pixels(plans(1, rows=3))] == [(3, 16, 16, 3)]
    assert [images.shape for images in backend.pixels(plans(1, rows=3, size=8))] == [(3, 8, 8, 3)]
    for _ in backend.pixels(plans(9, rows=3, size=8)):
        break
    assert len(list(backend.pixels(plans(9, rows=3, size=8)))) == 9
    assert builds == [2, 3, 3, 3]


def test_another_iterator_closes_the_first(backend: DaliBackend) -> None:
    first = backend.pixels(plans(9))
    next(first)
    assert len(list(backend.pixels(plans(4)))) == 4
    with pytest.raises(StopIteration):
        next(first)


def test_batches_outlive_the_backend(backend: DaliBackend) -> None:
    held = list(backend.pixels(plans(6)))
    copies = [images.clone() for images in held]
    backend.close()
    assert len({images.data_ptr() for images in held}) == 6
    assert all(torch.equal(*pair) for pair in zip(held, copies, strict=True))


def test_a_failure_that_is_no_pictures_fault_is_told_in_dalis_words(backend: DaliBackend) -> None:
    outside = train_plan([0], [(0, 0, HEIGHT + 1, WIDTH)], (16, 16), step=7)
    with pytest.raises(PipelineError, match=r"batch 7 of epoch 0.*cropping window .* is not valid"):
        list(backend.pixels([outside]))


@pytest.mark.gpu
def test_a_batch_dropped_while_the_device_still_reads_it_is_not_overwritten(split: Split) -> None:
    """The consumer enqueues its reading and lets go at once, while its stream is held up."""
    steps = plans(20)
    cpu, gpu = (DaliBackend(split, device=torch.device(name), num_threads=2) for name in ("cpu", "cuda:0"))
    expected = [images.float().mean().item() for images in cpu.pixels(steps)]
    torch.cuda._sleep(500_000_000)
    found = torch.stack([images.float().mean() for images in gpu.pixels(steps)]).tolist()
    cpu.close()
    gpu.close()
    assert found == pytest.approx(expected, abs=2)  # nvJPEG and libjpeg-turbo round differently
