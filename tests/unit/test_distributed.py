from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from fastbot.distributed import Ranks, joined, pick_device
from fastbot.errors import RunError


def _fail_on(failing: int, rank: int) -> None:
    if rank == failing:
        raise OSError("no disk")


def _rank(rank: int, store: str, results: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store}
    with joined("cpu") as ranks:
        model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(5, affine=False))
        for module in (model[0], model[2]):
            module.running_mean.fill_(rank + 1.0)
            module.running_var.fill_(10.0 * (rank + 1))
        with ranks.averaged_batch_norm_statistics([model[:2], model[2]]):
            found = {"mean": model[2].running_mean.clone(), "var": model[0].running_var.clone()}
        found |= {
            "own": torch.stack([model[0].running_mean[:3], model[2].running_mean[:3]]),
            "rows": ranks.rows(torch.tensor([0.1, -7.0]) * (rank + 1)),
            "sum": ranks.sum(torch.tensor([1.0 + rank])),
            "max": ranks.max(torch.tensor([1.0 + rank, 5.0 - rank])),
            "union": torch.tensor(ranks.union([4, 1 + rank], 6)),
            "first": torch.tensor(ranks.first_says([rank + 7])),
            "each": torch.tensor(ranks.each_says(rank + 7)),
        }
        with ranks.all_or_none():
            pass
        failure, said = [(RunError, "^rank 1: no disk$"), (OSError, "^no disk$")][rank]
        with pytest.raises(failure, match=said), ranks.all_or_none():
            _fail_on(1, rank)
        torch.save(found, Path(results) / f"{rank}.pt")


def test_two_ranks_average_sum_and_agree(tmp_path: Path, unused_port: int) -> None:
    multiprocessing.spawn(_rank, (str(unused_port), str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["mean"], torch.full((5,), 1.5))
        torch.testing.assert_close(found["var"], torch.full((3,), 15.0))
        assert torch.equal(found["own"], torch.full((2, 3), rank + 1.0))
        assert torch.equal(found["rows"], torch.tensor([[0.1, -7.0], [0.2, -14.0]]))
        assert found["sum"].item() == 3
        assert found["max"].tolist() == [2, 5]
        assert found["union"].tolist() == [1, 2, 4]
        assert found["first"].tolist() == [7]
        assert found["each"].tolist() == [7, 8]


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_single_process_needs_nobody() -> None:
    with joined("cpu") as ranks:
        assert (ranks.rank, ranks.world_size, ranks.is_first) == (0, 1, True)
        assert ranks.max(torch.tensor([2.0])).item() == 2
        assert ranks.sum(torch.tensor([2.0])).item() == 2
        assert ranks.union([3, 1, 3], 4) == [1, 3]
        assert ranks.union([], 4) == []
        ranks.barrier()
        assert (ranks.first_says("a"), ranks.each_says("a")) == ("a", ["a"])
        with pytest.raises(OSError, match="^no disk$"), ranks.all_or_none():
            raise OSError("no disk")
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))


def test_what_happened_here_is_told_also_where_the_others_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise RuntimeError("gloo: connection closed")

    monkeypatch.setattr(dist, "all_gather_object", gone)
    ranks = Ranks(0, 0, 2, 2, torch.device("cpu"))
    with pytest.raises(OSError, match="^no disk$"), ranks.all_or_none():
        raise OSError("no disk")
    with pytest.raises(RuntimeError, match="gloo"), ranks.all_or_none():
        pass


def test_cuda_where_there_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(RunError, match="PyTorch sees no CUDA device here. Use --device cpu"):
        pick_device("cuda")


def test_more_ranks_than_gpus_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RunError, match="local rank 2 has no GPU: this machine has 2. Lower --nproc"):
        pick_device("auto", local_rank=2)
