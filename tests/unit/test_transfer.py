from __future__ import annotations

import pytest
import torch

from pipelines.transfer import build_transfer
from pipelines.upload import upload


def test_on_a_cpu_pixels_stay() -> None:
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert build_transfer(torch.device("cpu"))(pixels) is pixels


@pytest.mark.gpu
def test_reused_host_memory_does_not_reach_a_batch_on_its_way() -> None:
    """The compute stream is held up, so every copy is still to be read when the host overwrites its source."""
    device = torch.device("cuda", 0)
    transfer, pixels = build_transfer(device), torch.empty(8, 64, 64, 3, dtype=torch.uint8)
    torch.cuda._sleep(200_000_000)
    sums = []
    for value in range(20):
        pixels.fill_(value)
        sums.append(transfer(pixels).float().mean())
        pixels.fill_(255)
    assert torch.stack(sums).tolist() == list(range(20))


@pytest.mark.gpu
def test_a_device_without_an_index_is_the_same_device() -> None:
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8, device="cuda:0")
    assert build_transfer(torch.device("cuda"))(pixels) is pixels


@pytest.mark.gpu
def test_an_upload_outlives_its_source() -> None:
    import numpy as np

    torch.cuda._sleep(200_000_000)
    copies = [upload(np.full(1000, value, np.int64), torch.device("cuda", 0)) for value in range(50)]
    assert [int(copy[-1]) for copy in copies] == list(range(50))
