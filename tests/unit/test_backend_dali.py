from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plans import train_plan
from stores import StoredPicture, flip_bytes, write_split

from datasets_tools.photographs import load
from datasets_tools.store import Split
from pipelines.batch import BatchPlan
from pipelines.errors import PipelineError, SpecError

pytest.importorskip("nvidia.dali")

from nvidia.dali.pipeline import Pipeline

from pipelines.backends import dali
from pipelines.backends.dali import DaliBackend
from pipelines.backends.dali_feed import DaliFeed
from pipelines.backends.dali_graph import FORMS, BatchShape, DaliSource, Form
from pipelines.backends.dali_tuning import described

CPU = torch.device("cpu")
HEIGHT, WIDTH = 60, 80


def encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """One photograph, as a JPEG and as raw pixels of that JPEG."""
    jpeg = encoded(Image.fromarray(load("chelsea")[:HEIGHT, :WIDTH]))
    raw = Image.open(io.BytesIO(jpeg)).tobytes()
    (tmp_path / "split").mkdir()
    pictures = [StoredPicture("cat.jpg", jpeg, HEIGHT, WIDTH), StoredPicture("raw", raw, HEIGHT, WIDTH, raw=True)]
    return write_split(tmp_path / "split", pictures)


@pytest.fixture
def backend(split: Split) -> DaliBackend:
    return DaliBackend(split, device=CPU, num_threads=2)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of every pipeline that is built."""
    sizes: list[int] = []

    build = dali.build_pipeline

    def counted(source: DaliSource, form: Form, shape: BatchShape, *others: object, **options: object) -> Pipeline:
        sizes.append(shape.num_rows)
        return build(source, form, shape, *others, **options)

    monkeypatch.setattr(dali, "build_pipeline", counted)
    return sizes


def images_of(backend: DaliBackend, plans: Iterable[BatchPlan]) -> list[torch.Tensor]:
    return [decoded.pixels.clone() for decoded in backend.pixels(plans)]


def plans(number: int, rows: int = 2, size: int = 16) -> list[BatchPlan]:
    return [train_plan([0] * rows, [(step, 0, 40, 50)] * rows, (size, size), step) for step in range(number)]


def test_one_pipeline_serves_every_epoch(backend: DaliBackend, builds: list[int]) -> None:
    epochs = [images_of(backend, plans(5)) for _ in range(3)]
    assert builds == [2]
    for epoch in epochs[1:]:
        assert all(torch.equal(*pair) for pair in zip(epochs[0], epoch, strict=True))


def test_a_pipeline_is_built_anew_for_another_shape_and_after_a_break(backend: DaliBackend, builds: list[int]) -> None:
    assert images_of(backend, plans(1))[0].shape == (2, 16, 16, 3)
    assert images_of(backend, plans(1, rows=3))[0].shape == (3, 16, 16, 3)
    assert images_of(backend, plans(1, rows=3, size=8))[0].shape == (3, 8, 8, 3)
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
    held = [decoded.pixels for decoded in backend.pixels(plans(6))]
    copies = [images.clone() for images in held]
    backend.close()
    assert len({images.data_ptr() for images in held}) == 6
    assert all(torch.equal(*pair) for pair in zip(held, copies, strict=True))


@pytest.mark.parametrize("other", [plans(1, rows=3), plans(1, size=8), [replace(plans(1)[0], interpolation="bicubic")]])
def test_a_plan_of_another_shape_than_the_first_is_refused(backend: DaliBackend, other: list[BatchPlan]) -> None:
    delivered = []
    with pytest.raises(SpecError, match="another call"):
        delivered.extend(decoded.pixels.clone() for decoded in backend.pixels([*plans(2), *other]))
    assert len(delivered) == 2


@pytest.mark.parametrize("decoder", ["window", "whole"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_both_decoders_give_the_same_pixels(split: Split, decoder: str, interpolation: str) -> None:
    """On a CPU, where they are the same libjpeg: what lies around a window does not get into it."""
    backend = DaliBackend(split, device=CPU, num_threads=2, form=Form(decoder, 0.9))
    default = DaliBackend(split, device=CPU, num_threads=2)
    steps = [replace(plan, interpolation=interpolation) for plan in plans(3)]
    assert all(torch.equal(*pair) for pair in zip(images_of(backend, steps), images_of(default, steps), strict=True))
    backend.close()
    default.close()


def broken(source: DaliSource, *_: object, **__: object) -> object:
    """A pipeline that fails on every batch, as one does that lacks memory."""

    class Broken:
        def run(self, stream: object) -> None:
            if not source():
                raise AssertionError
            raise RuntimeError("Critical error:\nencountered:\nout of memory\n")

    return Broken()


def test_a_batch_that_fails_for_no_pictures_fault_is_decoded_here_and_told_of(
    backend: DaliBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps = plans(4)
    expected, real = images_of(backend, steps), dali.build_pipeline
    backend.close()
    built = [broken]
    monkeypatch.setattr(dali, "build_pipeline", lambda *a, **k: (built.pop() if built else real)(*a, **k))
    found = images_of(backend, steps)
    assert "DALI failed on batch 0 of epoch 0, every picture of which can be decoded: out of memory" in caplog.text
    assert torch.equal(torch.stack(found[1:]), torch.stack(expected[1:]))
    inside = (slice(None), slice(1, -1), slice(1, -1))  # DALI repeats the crop's border where the other leaves it out
    assert (found[0][inside].int() - expected[0][inside]).abs().max() <= 1


def test_dali_failing_again_and_again_ends_the_run_in_its_words(
    backend: DaliBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dali, "build_pipeline", broken)
    with pytest.raises(PipelineError, match=r"batch 2 of epoch 0.*out of memory.*3 times in a row"):
        list(backend.pixels(plans(9)))


def test_a_picture_that_dali_alone_refuses_is_decoded_here_from_then_on(
    backend: DaliBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = dali.build_pipeline

    class Picky:
        """Refuses, with DALI's words, the row that is no placeholder."""

        def __init__(self, source: DaliSource, *others: object, **options: object) -> None:
            self._refuses = False
            self._source = source
            self._real = real(self._watched, *others, **options)

        def _watched(self) -> object:
            inputs = self._source()
            self._refuses |= inputs[0][1].size > 20
            return inputs

        def run(self, stream: object) -> object:
            outputs = self._real.run(stream)
            if self._refuses:
                raise RuntimeError("encountered:\nFailed to decode sample #1 : somewhere\n")
            return outputs

        def reset(self) -> None:
            self._real.reset()

    monkeypatch.setattr(dali, "build_pipeline", Picky)
    two = [train_plan([1, 0], [(step, 0, 40, 50)] * 2, (16, 16), step) for step in range(3)]
    batches = list(backend.pixels(two)) + list(backend.pixels(two))
    assert not any(decoded.failed for decoded in batches)
    assert caplog.text.count("sample 0 (cat.jpg) is decoded on the CPU from now on: DALI says Failed to decode") == 1
    for decoded in batches:
        difference = (decoded.pixels[0].int() - decoded.pixels[1])[1:-1, 1:-1]
        assert difference.abs().max() <= 1


def test_what_fails_its_checksum_never_reaches_dali(split: Split) -> None:
    flip_bytes(split, 1)
    fed = DaliFeed(split, depth=2).prepared(plans(1)[0])
    assert fed.withheld == []
    fed = DaliFeed(split, depth=2).prepared(train_plan([0, 1], [(0, 0, 40, 50)] * 2, (16, 16)))
    assert fed.withheld == [1]
    files, _, shapes, starts, ends = fed.inputs
    assert bytes(files[0]) == bytes(split.encoded(0))
    assert bytes(files[1]) == b"P6\n1 1\n255\n\0\0\0"
    assert (shapes[1].tolist(), starts[1].tolist(), ends[1].tolist()) == ([1, 1], [0, 0], [1, 1])


@pytest.mark.gpu
def test_a_batch_dropped_while_the_device_still_reads_it_is_not_overwritten(split: Split) -> None:
    """The consumer enqueues its reading and lets go at once, while its stream is held up."""
    steps = plans(20)
    cpu, gpu = (DaliBackend(split, device=torch.device(name), num_threads=2) for name in ("cpu", "cuda:0"))
    expected = [decoded.pixels.float().mean().item() for decoded in cpu.pixels(steps)]
    torch.cuda._sleep(500_000_000)
    found = torch.stack([decoded.pixels.float().mean() for decoded in gpu.pixels(steps)]).tolist()
    cpu.close()
    gpu.close()
    assert found == pytest.approx(expected, abs=2)  # nvJPEG and libjpeg-turbo round differently


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS, ids=described)
def test_bad_rows_do_not_spoil_a_batch_on_the_gpu(tmp_path: Path, split: Split, form: Form) -> None:
    whole = split.encoded(0).tobytes()
    data = [whole, whole[: len(whole) // 3], np.random.default_rng(0).bytes(3000), whole]
    written = write_split(
        tmp_path, [StoredPicture(f"{i}.jpg", picture, HEIGHT, WIDTH) for i, picture in enumerate(data)]
    )
    flip_bytes(written, 3)
    gpu = DaliBackend(written, device=torch.device("cuda:0"), num_threads=2, form=form)
    orders = [[0, 0, 0], [1, 0, 0], [0, 2, 3], [0, 0, 0], [3, 0, 1]]
    batches = list(gpu.pixels(train_plan(ids, [(0, 0, 40, 50)] * 3, (16, 16)) for ids in orders))
    gpu.close()
    assert [sorted(decoded.failed) for decoded in batches if decoded.failed] == [[0], [1, 2], [0, 2]]
    for ids, decoded in zip(orders, batches, strict=True):
        good = decoded.pixels[[row for row, sample_id in enumerate(ids) if sample_id == 0]]
        assert torch.equal(good, batches[0].pixels[:1].expand_as(good))
        assert not decoded.pixels[list(decoded.failed)].any()


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=described)
def test_memory_of_the_gpu_does_not_grow(pictures: Split, form: Form) -> None:
    """Over 2,000 batches, of pictures of other sizes in every batch; the first 200 may allocate."""
    backend = DaliBackend(pictures, device=torch.device("cuda:0"), num_threads=4, form=form)
    generator = np.random.default_rng(0)
    used = []
    for decoded in backend.pixels(random_crops(pictures, generator, step) for step in range(2000)):
        del decoded
        free, total = torch.cuda.mem_get_info()
        used.append(total - free)
    backend.close()
    assert max(used[200:]) <= max(used[:200]) + (16 << 20)


def random_crops(split: Split, generator: np.random.Generator, step: int) -> BatchPlan:
    ids = generator.integers(0, len(split), 16)
    crops = [(0, 0, *generator.integers(1, (split.heights[i] + 1, split.widths[i] + 1))) for i in ids]
    return train_plan(ids.tolist(), crops, (64, 64), step)


@pytest.fixture
def pictures(tmp_path: Path) -> Split:
    """Of sizes from 60 x 80 to 1000 x 1500."""
    photograph = Image.fromarray(load("chelsea"))
    sizes = [(60 + 94 * k, 80 + 142 * k) for k in range(11)]
    return write_split(
        tmp_path,
        [StoredPicture(f"{h}.jpg", encoded(photograph.resize((w, h))), h, w) for h, w in sizes],
    )
