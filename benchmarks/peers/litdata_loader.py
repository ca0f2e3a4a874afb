"""litdata: chunks of JPEG bytes by its `optimize`, read by its `StreamingDataset` and `StreamingDataLoader`.

All is local. It asks no server for newer versions of itself unless LITDATA_CHECK_UPDATES is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import litdata
import numpy as np
import torch
import torchvision.transforms.v2 as transforms
from torchvision.io import ImageReadMode, decode_jpeg

from benchmarks.peers.peer import PeerInput, Running

# As in its documentation; smaller where each worker would not have a chunk.
_CHUNK_BYTES = 64_000_000
_FOLDERS = "DATA_OPTIMIZER_CACHE_FOLDER", "DATA_OPTIMIZER_DATA_CACHE_FOLDER"


class _Crop:
    """Bytes to a crop, in the workers."""

    def __init__(self, size: int) -> None:
        self._crop = transforms.RandomResizedCrop(size, antialias=True)

    def __call__(self, data: bytes) -> torch.Tensor:
        encoded = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        return self._crop(decode_jpeg(encoded, mode=ImageReadMode.RGB))  # type: ignore[no-any-return]


def build(work: PeerInput) -> Running:
    """Write chunks, and build the loader."""
    chunks, cache = work.folder / "chunks", work.folder / "cache"
    num_bytes = sum(file.stat().st_size for file in work.files)
    with _working_in(work.folder / "work"):
        litdata.optimize(
            Path.read_bytes,
            list(work.files),
            output_dir=str(chunks),
            chunk_bytes=min(_CHUNK_BYTES, -(-num_bytes // work.num_threads)),
            num_workers=work.num_threads,
            start_method="fork",  # it sets the whole process's, and this is what it is
            verbose=False,
        )
    dataset = litdata.StreamingDataset(
        str(chunks), cache_dir=str(cache), shuffle=True, drop_last=True, transform=_Crop(work.size)
    )
    loader: Any = litdata.StreamingDataLoader(
        dataset, batch_size=work.batch_size, num_workers=work.num_threads, persistent_workers=True
    )

    def close() -> None:
        # Its loader and the iterator refer to each other. To the collector of cycles the queues fall first, and each
        # worker is then waited for, for five seconds, and killed: so its workers are told while there are queues.
        if (iterator := loader._iterator) is not None:
            iterator._shutdown_workers()

    return Running(lambda: iter(loader), close)


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Let it keep what it needs meanwhile in a folder instead of the user's home."""
    before = {name: os.environ.get(name) for name in _FOLDERS}
    os.environ.update({name: str(folder / name.lower()) for name in _FOLDERS})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
