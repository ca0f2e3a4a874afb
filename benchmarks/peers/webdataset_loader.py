"""webdataset: tar shards of its `ShardWriter`, a `WebDataset` that decodes and crops, and its `WebLoader`.

Batches are put together in the workers, as its documentation advises, and the last one of each may be smaller.
"""

from __future__ import annotations

import math

import torch
import torchvision.transforms.v2 as transforms
import webdataset

from benchmarks.peers.peer import PeerInput, Running, running

# Shards a worker, so that their order can be shuffled; its documentation advises many.
_SHARDS_A_WORKER = 4
# Pictures in a worker's shuffling buffer, as in its examples.
_SHUFFLED = 1000


def build(work: PeerInput) -> Running:
    """Write shards, the same number for each worker where there are pictures enough, and build the loader."""
    shards = _written(work)
    crop = transforms.Compose([transforms.RandomResizedCrop(work.size, antialias=True), transforms.PILToTensor()])
    dataset = (
        webdataset.WebDataset(shards, shardshuffle=len(shards))
        .shuffle(_SHUFFLED)
        .decode("pil")
        .to_tuple("jpg")
        .map_tuple(crop)
        .batched(work.batch_size, collation_fn=_stacked)
    )
    return running(
        webdataset.WebLoader(dataset, batch_size=None, num_workers=work.num_threads, persistent_workers=True)
    )


def _written(work: PeerInput) -> list[str]:
    num_shards = min(work.num_threads * _SHARDS_A_WORKER, len(work.files))
    maximum = math.ceil(len(work.files) / num_shards)
    pattern = str(work.folder / "%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=maximum, verbose=0) as writer:
        for file in work.files:
            writer.write({"__key__": file.stem, "jpg": file.read_bytes()})
    return sorted(map(str, work.folder.glob("*.tar")))


def _stacked(samples: list[tuple[torch.Tensor]]) -> torch.Tensor:
    return torch.stack([pixels for (pixels,) in samples])
