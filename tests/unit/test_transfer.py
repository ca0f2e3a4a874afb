from __future__ import annotations

import pytest
import torch

from pipelines.transfer import Transfer, build_transfer
from pipelines.upload import upload


def bring(transfer: Transfer, pixels: torch.Tensor) -> torch.Tensor:
    """Bring one batch, as the two threads do in turns."""
    with transfer.requesting():
        moved = transfer.send(pixels)
    transfer.receive(moved)
    return moved


def test_on_a_cpu_pixels_stay() -> None:
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert bring(build_transfer(torch.device("cpu")), pixels) is pixels


@pytest.mark.gpu
@pytest.mark.parametrize("pinned", [False, True])
def test_reused_host_memory_does_not_reach_a_batch_on_its_way(pinned: bool) -> None:
    """The compute stream is held up, so every copy is still to be used when the host overwrites its source."""
    device = torch.device("cuda", 0)
    transfer = build_transfer(device)
    pixels = torch.empty(8, 64, 64, 3, dtype=torch.uint8, pin_memory=pinned)
    torch.cuda._sleep(200_000_000)
    sums = []
    for value in range(20):
        with transfer.requesting():  # a backend fills its memory here
            pixels.fill_(value)
            moved = transfer.send(pixels)
        if not pinned:
            pixels.fill_(255)  # what was not pinned has been copied on the host
        transfer.receive(moved)
        sums.append(moved.float().mean())
        transfer.release()
    assert torch.stack(sums).tolist() == list(range(20))


@pytest.mark.gpu
def test_pinned_memory_is_not_copied_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.full((2, 4, 4, 3), 7, dtype=torch.uint8).pin_memory()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda *_: pytest.fail("copied"))
    assert bring(build_transfer(torch.device("cuda", 0)), pixels).sum() == 7 * pixels.numel()


@pytest.mark.gpu
def test_device_memory_is_overwritten_only_after_its_use() -> None:
    """A backend on the device writes on the stream it is asked on: that must wait for what reads the batch before."""
    device = torch.device("cuda", 0)
    transfer, pixels = build_transfer(device), torch.empty(8, 64, 64, 3, dtype=torch.uint8, device=device)
    sums = []
    for value in range(20):
        with transfer.requesting():
            pixels.fill_(value)
            assert transfer.send(pixels) is pixels
        transfer.receive(pixels)
        torch.cuda._sleep(20_000_000)
        sums.append(pixels.float().mean())
        transfer.release()
    assert torch.stack(sums).tolist() == list(range(20))


@pytest.mark.gpu
def test_a_device_without_an_index_is_the_same_device() -> None:
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8, device="cuda:0")
    assert bring(build_transfer(torch.device("cuda")), pixels) is pixels


@pytest.mark.gpu
def test_an_upload_outlives_its_source() -> None:
    import numpy as np

    torch.cuda._sleep(200_000_000)
    copies = [upload(np.full(1000, value, np.int64), torch.device("cuda", 0)) for value in range(50)]
    assert [int(copy[-1]) for copy in copies] == list(range(50))
