"""Other people's loaders in their documented settings, over the same JPEG bytes, for the same work: RRC to uint8.

Each function returns a callable that runs one epoch and returns how many pictures it delivered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision.transforms.v2 as transforms
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from datasets_tools.store import Split

Epoch = Callable[[], int]


def extract(split: Split, folder: Path) -> list[Path]:
    """Write a split's pictures as files, one class folder, and return their paths: what file readers need."""
    target = folder / "all"
    target.mkdir(parents=True, exist_ok=True)
    files = [target / f"{sample_id:08d}.jpg" for sample_id in range(len(split))]
    for sample_id, file in enumerate(files):
        file.write_bytes(split.encoded(sample_id).tobytes())
    return files


class _Files(Dataset[torch.Tensor]):
    def __init__(self, files: list[Path], size: int) -> None:
        self._files = [str(file) for file in files]
        self._crop = transforms.RandomResizedCrop(size, antialias=True)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> torch.Tensor:
        picture = decode_jpeg(read_file(self._files[index]), mode=ImageReadMode.RGB)
        return self._crop(picture)  # type: ignore[no-any-return]


def torchvision_dataloader(files: list[Path], size: int, batch_size: int, num_workers: int) -> DataLoader[torch.Tensor]:
    """torchvision: `decode_jpeg`, `v2.RandomResizedCrop`, a `DataLoader` with persistent worker processes."""
    return DataLoader(
        _Files(files, size),
        batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=True,
        drop_last=True,
    )


def torchvision_loader(files: list[Path], size: int, batch_size: int, num_workers: int) -> Epoch:
    """An epoch of `torchvision_dataloader`."""
    loader = torchvision_dataloader(files, size, batch_size, num_workers)
    return lambda: sum(len(pixels) for pixels in loader)


def dali_loader(
    folder: Path,
    count: int,
    size: int,
    batch_size: int,
    num_threads: int,
    *,
    fancy_upsampling: bool = False,
    hardware_load: float | None = None,
) -> Epoch:
    """DALI: `readers.file`, `decoders.image_random_crop`, `resize`, as in its ResNet-50 example.

    `fancy_upsampling` is off by default in DALI; on, its chroma is libjpeg's, as ours and everybody else's is. With a
    `hardware_load` it decodes on the GPU, so much of it on the JPEG engine; without, on the CPU.
    """
    from nvidia.dali import fn, pipeline_def, types

    on_gpu: dict[str, Any] = {} if hardware_load is None else {"device": "mixed", "hw_decoder_load": hardware_load}

    @pipeline_def(batch_size=batch_size, num_threads=num_threads, device_id=0 if on_gpu else None)
    def pipeline() -> object:
        encoded, _ = fn.readers.file(file_root=str(folder), random_shuffle=True)
        pixels = fn.decoders.image_random_crop(
            encoded,
            random_area=[0.08, 1.0],
            random_aspect_ratio=[3 / 4, 4 / 3],
            num_attempts=10,
            output_type=types.RGB,
            jpeg_fancy_upsampling=fancy_upsampling,
            **on_gpu,
        )
        return fn.resize(pixels, size=[size, size], interp_type=types.INTERP_LINEAR)

    built = pipeline()
    built.build()
    built.schedule_run()  # the first of all begins several batches: dropped here
    while not built.empty():
        built.outputs()
    steps, depth = count // batch_size, 2  # depth: DALI's own

    def epoch() -> int:
        # As `run` does, but each epoch begins and ends with nothing under way: every other loader's does.
        for step in range(steps + depth):
            if step >= depth:
                built.outputs()
            if step < steps:
                built.schedule_run()
        return steps * batch_size

    return epoch


def ffcv_loader(beton: Path, size: int, batch_size: int, num_workers: int) -> Epoch:
    """FFCV: its `Loader` with `RandomResizedCropRGBImageDecoder`, from the operating system's cache."""
    threads = torch.get_num_threads()
    from benchmarks.peers.stock_ffcv import Loader, OrderOption  # isort: skip  # before ffcv
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.transforms import ToTensor

    pipelines = {"image": [RandomResizedCropRGBImageDecoder((size, size)), ToTensor()], "label": None}
    loader = Loader(
        str(beton),
        batch_size=batch_size,
        num_workers=num_workers,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=True,
        pipelines=pipelines,
    )
    torch.set_num_threads(threads)  # FFCV sets it for the whole process

    def epoch() -> int:
        delivered = sum(len(pixels) for (pixels,) in loader)
        torch.set_num_threads(threads)
        return delivered

    return epoch


def page_in(path: Path) -> None:
    """Read a file once, so that no case pays for a cold disk."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        while file.read(1 << 24):
            pass
