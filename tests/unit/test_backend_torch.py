from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plans import geometry_plan, train_plan
from stores import StoredPicture, write_split

from datasets_tools.photographs import load
from datasets_tools.store import Split
from pipelines.backends import torch as torch_backend
from pipelines.backends.torch import TorchBackend
from pipelines.errors import BadPictureError, PipelineError

HEIGHT, WIDTH = 60, 80


@pytest.fixture
def split(tmp_path: Path) -> Split:
    buffer = io.BytesIO()
    Image.fromarray(load("chelsea")[:HEIGHT, :WIDTH]).save(buffer, "jpeg", quality=90)
    whole = StoredPicture("whole.jpg", buffer.getvalue(), HEIGHT, WIDTH)
    return write_split(tmp_path, [whole, StoredPicture("other.jpg", buffer.getvalue(), HEIGHT, WIDTH + 1)])


@pytest.fixture
def backend(split: Split) -> TorchBackend:
    return TorchBackend(split, device=torch.device("cpu"), num_threads=3)


@pytest.fixture
def two_torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_torch_threads")
def test_only_the_workers_run_single_threaded(backend: TorchBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    in_workers, in_a_later_thread = [], []
    decode = torch_backend.decode_picture

    def watched(split: Split, sample_id: int) -> torch.Tensor:
        in_workers.append((threading.current_thread().name, torch.get_num_threads()))
        return decode(split, sample_id)

    monkeypatch.setattr(torch_backend, "decode_picture", watched)
    plans = [train_plan([0] * 12, [(0, 0, 30, 40)] * 12, (16, 16), step) for step in range(4)]
    for _ in backend.pixels(plans):
        later = threading.Thread(target=lambda: in_a_later_thread.append(torch.get_num_threads()))
        later.start()
        later.join()
    assert {count for _, count in in_workers} == {1}
    assert threading.current_thread().name not in {name for name, _ in in_workers}
    assert in_a_later_thread == [2] * 4
    assert torch.get_num_threads() == 2


def test_a_window_that_is_the_output_is_copied_exactly(backend: TorchBackend, split: Split) -> None:
    (decoded,) = backend.pixels([train_plan([0], [(5, 7, 32, 48)], (32, 48))])
    picture = np.asarray(Image.open(io.BytesIO(split.encoded(0).tobytes())))
    np.testing.assert_array_equal(decoded.pixels[0].numpy(), picture[5:37, 7:55])


def test_raw_pixels_give_the_very_result_of_the_jpeg_they_were_decoded_from(tmp_path: Path, split: Split) -> None:
    encoded = split.encoded(0).tobytes()
    decoded = np.asarray(Image.open(io.BytesIO(encoded)))
    raw = StoredPicture("raw", decoded.tobytes(), HEIGHT, WIDTH, raw=True)
    (tmp_path / "both").mkdir()
    both = write_split(tmp_path / "both", [StoredPicture("whole.jpg", encoded, HEIGHT, WIDTH), raw])
    crops = [(3, 5, 41, 57), (3, 5, 41, 57), (0, 0, HEIGHT, WIDTH), (0, 0, HEIGHT, WIDTH)]
    backend = TorchBackend(both, device=torch.device("cpu"), num_threads=2)
    (found,) = backend.pixels([train_plan([0, 1, 0, 1], crops, (24, 32))])
    assert torch.equal(found.pixels[0::2], found.pixels[1::2])


def test_every_batch_is_fresh_memory(backend: TorchBackend) -> None:
    crops = [(0, 0, 60, 80), (10, 20, 30, 30)]
    plans = [train_plan([0], [crop], (16, 16)) for crop in crops]
    batches = [decoded.pixels for decoded in backend.pixels(plans)]
    assert batches[0].data_ptr() != batches[1].data_ptr()
    assert not torch.equal(*batches)


def test_a_picture_of_another_size_than_the_store_says_is_named(backend: TorchBackend) -> None:
    (decoded,) = backend.pixels([train_plan([1], [(0, 0, 20, 20)], (16, 16))])
    with pytest.raises(BadPictureError, match=r"sample 1 \(other.jpg\).* 60 pixels high and 80 wide.* 60 and 81"):
        raise decoded.failed[0]


def test_a_box_between_pixels_is_refused(backend: TorchBackend) -> None:
    plan = geometry_plan([0], [(0, 0, HEIGHT, WIDTH)], [(0.3, 0, 32, 32)], (16, 16))
    with pytest.raises(PipelineError, match="needs both to be whole numbers"):
        list(backend.pixels([plan]))
