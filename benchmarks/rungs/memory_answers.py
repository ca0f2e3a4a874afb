"""How much memory does delivery take? Questions for processes of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import torchvision_loader
from benchmarks.rungs.delivery_answers import Setting
from benchmarks.rungs.fresh_process import Answer
from benchmarks.rungs.memory_use import device_used_mb, host_mb


def ours(setting: dict[str, Any], looks: list[int]) -> Answer:
    """Return the most memory up to each of some batches of ours.

    Args:
        setting: a `Setting`'s fields.
        looks: numbers of batches, ascending.
    """
    known = Setting(**setting)
    with known.open() as loader:
        return _looked(_endless(loader), looks, torch.device(known.device))


def stock(setting: dict[str, Any], looks: list[int], folder: str, num_files: int) -> Answer:
    """Return the same of torchvision's `DataLoader` and its workers, over so many paths; files come again and again."""
    known = Setting(**setting)
    there = [str(file) for file in sorted(Path(folder).rglob("*.jpg"))]
    # Paths of their own, as a folder's listing gives: a list of one object many times would be small.
    files = [Path(there[number % len(there)]) for number in range(num_files)]
    loader = torchvision_loader.dataloader(files, known.size, known.batch_size, known.threads)
    device = torch.device(known.device)
    return _looked((batch.to(device) for batch in _endless(loader)), looks, device)


def _looked(batches: Iterable[object], looks: list[int], device: torch.device) -> Answer:
    host, on_device, found = 0.0, 0.0, {}
    every = max(1, looks[0] // 10)  # reading a process's pages takes milliseconds
    for number, _ in enumerate(islice(batches, looks[-1]), start=1):
        if number % every == 0 or number in looks:
            host, on_device = max(host, host_mb()), max(on_device, device_used_mb(device))
        if number in looks:
            found[str(number)] = {"host_mb": host, "device_mb": on_device}
            host = on_device = 0.0
    return found


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader
