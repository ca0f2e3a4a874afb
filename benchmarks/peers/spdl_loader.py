"""SPDL: its `DataLoader` of threads; FFmpeg decodes, crops and resizes in one filter graph."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import spdl.io
import torch
from spdl.dataloader import DataLoader
from torchvision.transforms import RandomResizedCrop

from benchmarks.peers.peer import PeerInput, Running

# Loads FFmpeg's libraries, which do not come with it: RuntimeError where there are none.
spdl.io.decode_config()

# Seconds that a batch may take before it is an error: nothing hangs.
_TIMEOUT_S = 300


class _Shuffled:
    """Paths in a new order each epoch."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [str(file) for file in files]

    def __iter__(self) -> Iterator[str]:
        return iter(random.sample(self._files, len(self._files)))


def build(work: PeerInput) -> Running:
    """Build its loader over files."""

    def decoded(file: str) -> Any:
        packets = spdl.io.demux_image(file)
        codec = packets.codec
        picture = torch.empty(3, codec.height, codec.width, device="meta")
        top, left, height, width = RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3])
        return spdl.io.decode_packets(packets, crop_and_resize((top, left, height, width), work.size))

    def batched(frames: list[Any]) -> Any:
        return spdl.io.to_torch(spdl.io.convert_frames(frames))

    loader = DataLoader(
        _Shuffled(work.files),
        preprocessor=decoded,
        batch_size=work.batch_size,
        drop_last=True,
        aggregator=batched,
        num_threads=work.num_threads,
        timeout=_TIMEOUT_S,
    )
    return Running(lambda: iter(loader))  # its threads end with the epoch


def crop_and_resize(window: tuple[int, int, int, int], size: int) -> str:
    """Return a filter graph that cuts a window out, to the pixel, and resizes it with the triangle filter.

    Args:
        window: top, left, height, width.
        size: height and width of the result.
    """
    top, left, height, width = window
    crop = f"crop=w={width}:h={height}:x={left}:y={top}:exact=1"
    scale = f"scale=w={size}:h={size}:flags=bilinear"
    graph: str = spdl.io.get_video_filter_desc(filter_desc=f"{crop},{scale}", pix_fmt="rgb24")
    return graph
