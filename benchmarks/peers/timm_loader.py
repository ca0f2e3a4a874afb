"""timm: its `create_loader` over its folder dataset, with all of its augmentation but the crop left out.

What is measured is the `DataLoader` inside of its `PrefetchLoader`: uint8 batches, put together by its `fast_collate`.
The rest of it moves a batch to the device and normalizes it, which the others do not do here.
"""

from __future__ import annotations

import torch
from timm.data import create_dataset, create_loader

from benchmarks.peers.peer import PeerInput, Running, running


class _Pixels:
    """A loader's batches without their labels."""

    def __init__(self, loader: torch.utils.data.DataLoader[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._loader = loader

    def __iter__(self):  # type: ignore[no-untyped-def]  # a generator of tensors
        return (pixels for pixels, _ in self._loader)


def build(work: PeerInput) -> Running:
    """Build its loader."""
    loader = create_loader(
        create_dataset("", root=str(work.root)),
        input_size=(3, work.size, work.size),
        batch_size=work.batch_size,
        is_training=True,
        scale=(0.08, 1.0),
        ratio=(3 / 4, 4 / 3),
        hflip=0.0,
        color_jitter=None,
        interpolation="bilinear",
        num_workers=work.num_threads,
        device=torch.device("cpu"),
        persistent_workers=True,
    )
    return running(_Pixels(loader.loader))
