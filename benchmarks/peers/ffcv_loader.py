"""FFCV: its `Loader` with `RandomResizedCropRGBImageDecoder`, from the operating system's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
import torch

from benchmarks.peers.peer import PeerInput, Running
from benchmarks.peers.stock_ffcv import Loader, OrderOption  # before ffcv itself

from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder  # isort: skip
from ffcv.transforms import ToTensor  # isort: skip


def build(work: PeerInput) -> Running:
    """Build its loader over the store's file."""
    threads = torch.get_num_threads()
    pipelines = {"image": [RandomResizedCropRGBImageDecoder((work.size, work.size)), ToTensor()], "label": None}
    loader = Loader(
        str(work.originals.path),
        batch_size=work.batch_size,
        num_workers=work.num_threads,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        indices=np.tile(np.arange(len(work.originals), dtype=np.uint64), work.times),
        pipelines=pipelines,
    )
    torch.set_num_threads(threads)  # FFCV sets it for the whole process

    def batches() -> Iterator[Sized]:
        for (pixels,) in loader:
            yield pixels
        torch.set_num_threads(threads)

    return Running(batches)
