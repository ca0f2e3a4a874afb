"""torchvision: `decode_jpeg`, `v2.RandomResizedCrop`, and PyTorch's `DataLoader` with persistent worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision.transforms.v2 as transforms
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from benchmarks.peers.peer import PeerInput, Running, running


class _Files(Dataset[torch.Tensor]):
    def __init__(self, files: Sequence[Path], size: int) -> None:
        self._files = [str(file) for file in files]
        self._crop = transforms.RandomResizedCrop(size, antialias=True)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        picture = decode_jpeg(read_file(self._files[index]), mode=ImageReadMode.RGB)
        return self._crop(picture)  # type: ignore[no-any-return]


def dataloader(files: Sequence[Path], size: int, batch_size: int, num_workers: int) -> DataLoader[torch.Tensor]:
    """Return a `DataLoader` of random resized crops, uint8 (batch_size, 3, size, size), in a random order.

    Args:
        files: of JPEGs.
        size: of the crops, in pixels.
        batch_size: pictures a batch; what is left over is dropped.
        num_workers: processes.
    """
    return DataLoader(
        _Files(files, size),
        batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=True,
        drop_last=True,
    )


def build(work: PeerInput) -> Running:
    """Build `dataloader`."""
    return running(dataloader(work.files, work.size, work.batch_size, work.num_threads))
